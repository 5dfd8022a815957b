//! The server of the webhooks, TLS on loopback.
use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use axum::{Router, routing::post};
use tokio_util::sync::CancellationToken;

use super::{Eks, pod_identity_webhook, readiness_gates, token_webhook};
use crate::tls;

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
    let acceptor = tls::acceptor(&webhooks.certificate, &webhooks.key).context("the webhooks' certificate")?;
    let router = Router::new()
        .route("/token", post(token_webhook::review))
        .route("/pod-identity", post(pod_identity_webhook::review))
        .route("/readiness-gates", post(readiness_gates::review))
        .with_state(eks);
    let listener = tokio::net::TcpListener::bind(webhooks.listen)
        .await
        .with_context(|| format!("the webhooks cannot listen on {}", webhooks.listen))?;
    tls::serve(listener, acceptor, router, stop).await;
    Ok(())
}
