//! /healthz, /readyz and /metrics: what Kubernetes and Prometheus ask of a service.
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// Whether this process wants requests or messages. Starts as not ready; a drain makes it not ready again.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on /readyz answers 200.
    pub fn ready(&self) {
        self.0.store(true, Ordering::Release);
    }
    /// From now on /readyz answers 503.
    pub fn not_ready(&self) {
        self.0.store(false, Ordering::Release);
    }
    /// What /readyz would say.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Installs the process' metrics recorder. Durations are histograms from 5 ms to 60 s.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().set_buckets(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])?.install_recorder()
}

/// The three routes.
pub fn routes(readiness: Readiness, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(|State(readiness): State<Readiness>| async move {
                if readiness.is_ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
            }),
        )
        .with_state(readiness)
        .route("/metrics", get(move || async move { metrics.render() }))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn readiness_follows_the_drain() {
        let readiness = Readiness::default();
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let routes = routes(readiness.clone(), handle);
        let ask = |path: &'static str| {
            let routes = routes.clone();
            async move { routes.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap().status() }
        };
        assert_eq!(ask("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        readiness.ready();
        assert_eq!(ask("/readyz").await, StatusCode::OK);
        readiness.not_ready();
        assert_eq!(ask("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask("/healthz").await, StatusCode::OK);
    }
}
