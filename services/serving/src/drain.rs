//! SIGTERM: first say "not ready", then keep working until the load balancer has noticed, then finish what is in flight.
use std::{net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::operations::Readiness;

/// The service could not listen or answer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("can't listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The listener broke.
    #[error("stopped serving")]
    Serve(#[source] std::io::Error),
    /// Work was still in flight when the time was up.
    #[error("requests were still in flight {} s after the drain began", .0.as_secs())]
    Unfinished(Duration),
}

/// SIGTERM and SIGINT, taken from the moment it is made: make it before a slow start.
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Takes both signals over.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
    /// Returns with the first of them.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How long a drain takes. `delay` must be longer than the load balancer's deregistration notice, and the sum shorter than
/// terminationGracePeriodSeconds.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Not ready any more, but still answering.
    pub delay: Duration,
    /// For what is in flight after that.
    pub finish: Duration,
}

/// Serves until `stop` is cancelled and drains. Binds before it returns its future's first await, so a taken port fails at once.
pub async fn serve(
    address: SocketAddr,
    app: Router,
    readiness: Readiness,
    stop: CancellationToken,
    drain: Drain,
) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen(address, error))?;
    readiness.ready();
    tracing::info!(%address, "listening");
    let accept_no_more = CancellationToken::new();
    let shutdown = accept_no_more.clone();
    let mut server =
        tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(async move { shutdown.cancelled().await }).await });
    tokio::select! {
        () = stop.cancelled() => {}
        ended = &mut server => return flatten(ended),
    }
    readiness.not_ready();
    tracing::info!(delay_s = drain.delay.as_secs(), "draining: not ready any more");
    tokio::time::sleep(drain.delay).await;
    accept_no_more.cancel();
    // axum's own drain has no bound; a client that never finishes must not hold the pod until SIGKILL.
    match tokio::time::timeout(drain.finish, &mut server).await {
        Ok(ended) => flatten(ended),
        Err(_) => {
            server.abort();
            Err(ServeError::Unfinished(drain.finish))
        }
    }
}

fn flatten(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), ServeError> {
    ended.map_err(std::io::Error::other).and_then(|served| served).map_err(ServeError::Serve)
}
