//! /healthz, /readyz and /metrics: what Kubernetes and Prometheus ask of a service.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// Whether this process wants requests or messages, and reaches what it needs for them. Starts as not ready; a drain makes it so again.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    serving: bool,
    answers: BTreeMap<&'static str, bool>,
}

impl Readiness {
    /// It serves: /readyz answers 200 as soon as every dependency answers.
    pub fn ready(&self) {
        self.known().serving = true;
    }
    /// From now on /readyz answers 503.
    pub fn not_ready(&self) {
        self.known().serving = false;
    }
    /// Something without which the process can't work. It counts as silent until it is said to answer.
    pub fn dependency(&self, name: &'static str) -> Dependency {
        self.known().answers.insert(name, false);
        Dependency { name, readiness: self.clone() }
    }
    /// Nothing if it is ready, else what keeps it from it.
    pub fn missing(&self) -> Vec<&'static str> {
        let known = self.known();
        let silent = known.answers.iter().filter(|(_, answers)| !**answers).map(|(name, _)| *name);
        (!known.serving).then_some("it does not serve").into_iter().chain(silent).collect()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One dependency, told of by whoever speaks to it.
#[derive(Clone, Debug)]
pub struct Dependency {
    name: &'static str,
    readiness: Readiness,
}

impl Dependency {
    /// It has just answered.
    pub fn answers(&self) {
        self.readiness.known().answers.insert(self.name, true);
    }
    /// Whether it did when it was last asked.
    pub fn answered(&self) -> bool {
        self.readiness.known().answers.get(self.name).copied().unwrap_or(false)
    }
    /// It has not.
    pub fn is_gone(&self) {
        self.readiness.known().answers.insert(self.name, false);
    }
}

/// Between two times that durations are sorted into their buckets: until then each is kept for itself.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the process' metrics recorder, inside a runtime. Durations are histograms from 5 ms to 60 s.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
    let metrics = PrometheusBuilder::new().set_buckets(&buckets)?.install_recorder()?;
    let kept = metrics.clone();
    // A scrape would do it too, but memory must not depend on somebody asking.
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            kept.run_upkeep();
        }
    });
    Ok(metrics)
}

/// The three routes.
pub fn routes(readiness: Readiness, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(|State(readiness): State<Readiness>| async move {
                match readiness.missing() {
                    missing if missing.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
                    missing => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))),
                }
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

    #[test]
    fn a_dependency_that_is_gone_is_named() {
        let readiness = Readiness::default();
        let (queue, database) = (readiness.dependency("queue"), readiness.dependency("database"));
        readiness.ready();
        assert_eq!(readiness.missing(), ["database", "queue"], "silent until one of them answers");
        queue.answers();
        database.answers();
        assert!(readiness.missing().is_empty());
        queue.is_gone();
        assert_eq!(readiness.missing(), ["queue"]);
        readiness.not_ready();
        assert_eq!(readiness.missing(), ["it does not serve", "queue"]);
    }
}
