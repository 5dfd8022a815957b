//! The server of the webhooks, TLS on loopback.
use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use axum::{Router, routing::post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_util::sync::CancellationToken;

use super::{Eks, pod_identity_webhook, readiness_gates, token_webhook};

/// Where the webhooks listen and with which certificate; the API server was given the authority that signed it.
pub struct Webhooks {
    /// Loopback of the sandbox's namespace.
    pub listen: SocketAddr,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

/// Serves `/token`, `/pod-identity` and `/readiness-gates` until `stop`.
pub async fn serve(eks: Arc<Eks>, webhooks: Webhooks, stop: CancellationToken) -> Result<()> {
    let key = PrivateKeyDer::from_pem_slice(webhooks.key.as_bytes()).context("the webhooks' key")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(webhooks.certificate.as_bytes()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_no_client_auth()
        .with_single_cert(chain.context("the webhooks' certificate")?, key)
        .context("the webhooks' certificate")?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let router = Router::new()
        .route("/token", post(token_webhook::review))
        .route("/pod-identity", post(pod_identity_webhook::review))
        .route("/readiness-gates", post(readiness_gates::review))
        .with_state(eks);
    let listener = tokio::net::TcpListener::bind(webhooks.listen)
        .await
        .with_context(|| format!("the webhooks cannot listen on {}", webhooks.listen))?;
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
            let served =
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            if let Err(error) = served {
                tracing::debug!("a webhook connection: {error}");
            }
        });
    }
}
