//! A router behind TLS: the webhooks, and load balancers that have a certificate.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{Extension, Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A caller that takes longer is none.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a server shows; `certificate` is PEM, the server's own first.
pub fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the key")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_no_client_auth()
        .with_single_cert(chain.context("the certificate")?, key)
        .context("the certificate and its key")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop`. Handlers may ask for `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection");
                    continue;
                }
            },
        };
        tokio::spawn(connection(stream, peer, acceptor.clone(), router.clone(), stop.clone()));
    }
}

async fn connection(stream: tokio::net::TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake"),
        Err(late) => return tracing::debug!(%late, "a handshake"),
    };
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo::<SocketAddr>(peer))));
    let builder = Builder::new(TokioExecutor::new());
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection: {error}");
    }
}
