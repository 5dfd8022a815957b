//! The server of the two webhooks, TLS on loopback. Its certificate is its own authority; the API server is given that file.
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use axum::{Router, routing::post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;

use super::{Eks, pod_identity_webhook, token_webhook};

/// Where the webhooks listen and where their certificate is.
pub struct Webhooks {
    pub listen: SocketAddr,
    /// The certificate to trust (PEM), written by `prepare`.
    pub certificate: PathBuf,
    key: rcgen::KeyPair,
    der: rcgen::Certificate,
}

impl Webhooks {
    /// Makes the certificate and writes its public part, so that a control plane can be started before the webhooks listen.
    pub fn prepare(listen: SocketAddr, certificate: PathBuf) -> Result<Self> {
        let key = rcgen::KeyPair::generate().context("the webhooks' key")?;
        let params = rcgen::CertificateParams::new(vec![listen.ip().to_string(), "localhost".to_owned()]).context("the webhooks' certificate")?;
        let der = params.self_signed(&key).context("the webhooks' certificate")?;
        if let Some(folder) = certificate.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::write(&certificate, der.pem()).with_context(|| certificate.display().to_string())?;
        Ok(Self { listen, certificate, key, der })
    }
}

/// Serves `/token` and `/pod-identity` until `stop`.
pub async fn serve(eks: Arc<Eks>, webhooks: Webhooks, stop: CancellationToken) -> Result<()> {
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(webhooks.key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![webhooks.der.der().clone()], key.into())
        .context("the webhooks' certificate")?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let router = Router::new().route("/token", post(token_webhook::review)).route("/pod-identity", post(pod_identity_webhook::review)).with_state(eks);
    let listener = tokio::net::TcpListener::bind(webhooks.listen).await.with_context(|| format!("the webhooks cannot listen on {}", webhooks.listen))?;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a webhook connection");
                    continue;
                }
            },
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let stream = match acceptor.accept(stream).await {
                Ok(stream) => stream,
                Err(error) => return tracing::debug!(%error, "a webhook handshake"),
            };
            let service = hyper_util::service::TowerToHyperService::new(router);
            let served = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            if let Err(error) = served {
                tracing::debug!("a webhook connection: {error}");
            }
        });
    }
}
