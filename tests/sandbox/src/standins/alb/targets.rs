//! The targets of a load balancer: ready pods by address, and of these the ones that pass its health check.
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress};

use super::rules::{Backend, Port};

/// How a target proves that it is well; the annotations and defaults are the AWS Load Balancer Controller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy: u32,
    pub unhealthy: u32,
    pub codes: String,
}

impl HealthCheck {
    /// Reads `alb.ingress.kubernetes.io/healthcheck-*`.
    pub fn of(ingress: &Ingress) -> Self {
        let annotations = ingress.metadata.annotations.clone().unwrap_or_default();
        let text = |name: &str, default: &str| {
            annotations.get(&format!("alb.ingress.kubernetes.io/{name}")).cloned().unwrap_or_else(|| default.to_owned())
        };
        let number = |name: &str, default: u32| text(name, "").parse().unwrap_or(default);
        Self {
            path: text("healthcheck-path", "/"),
            interval: Duration::from_secs(number("healthcheck-interval-seconds", 15).into()),
            timeout: Duration::from_secs(number("healthcheck-timeout-seconds", 5).into()),
            healthy: number("healthy-threshold-count", 2),
            unhealthy: number("unhealthy-threshold-count", 2),
            codes: text("success-codes", "200"),
        }
    }

    /// `200`, `200,204` or `200-299`.
    pub fn accepts(&self, status: u16) -> bool {
        self.codes.split(',').any(|range| match range.trim().split_once('-') {
            Some((low, high)) => low.parse().is_ok_and(|low: u16| low <= status) && high.parse().is_ok_and(|high: u16| status <= high),
            None => range.trim().parse() == Ok(status),
        })
    }
}

/// Addresses of the ready pods behind a service's port.
pub fn ready(backend: &Backend, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) -> BTreeSet<SocketAddr> {
    let ports = service.and_then(|service| service.spec.as_ref()?.ports.clone()).unwrap_or_default();
    let wanted = ports.iter().find(|port| match &backend.port {
        Port::Number(number) => port.port == *number,
        Port::Name(name) => port.name.as_deref() == Some(name),
    });
    let Some(wanted) = wanted else { return BTreeSet::new() };
    let mut targets = BTreeSet::new();
    for slice in slices {
        let named = slice
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref().unwrap_or_default() == wanted.name.as_deref().unwrap_or_default());
        let Some(port) = named.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|c| c.ready == Some(true))) {
            targets.extend(endpoint.addresses.iter().filter_map(|address| Some(SocketAddr::new(address.parse().ok()?, port))));
        }
    }
    targets
}

#[derive(Default)]
struct Seen {
    well: bool,
    streak: u32,
}

/// What the health checks have found, by target.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<HashMap<SocketAddr, Seen>>>);

impl Health {
    /// The well ones of these; all of them when none is, as a load balancer fails open.
    pub fn well(&self, targets: &BTreeSet<SocketAddr>) -> Vec<SocketAddr> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let well: Vec<SocketAddr> = targets.iter().filter(|target| seen.get(target).is_some_and(|seen| seen.well)).copied().collect();
        if well.is_empty() { targets.iter().copied().collect() } else { well }
    }

    /// Counts one check; the first decides at once, later ones by the thresholds.
    pub fn count(&self, check: &HealthCheck, target: SocketAddr, passed: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = all.get_mut(&target) else {
            all.insert(target, Seen { well: passed, streak: 0 });
            return;
        };
        seen.streak = if passed == seen.well { 0 } else { seen.streak + 1 };
        if seen.streak >= if passed { check.healthy } else { check.unhealthy } {
            *seen = Seen { well: passed, streak: 0 };
        }
    }

    /// Forgets targets that are gone.
    pub fn keep(&self, targets: &BTreeSet<SocketAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|target, _| targets.contains(target));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_falls_out_after_its_threshold_and_all_serve_when_none_is_well() {
        let check = HealthCheck::of(&Ingress::default());
        let (one, two) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let (health, both) = (Health::default(), BTreeSet::from([one, two]));
        health.count(&check, one, true);
        health.count(&check, two, true);
        health.count(&check, two, false);
        assert_eq!(health.well(&both).len(), 2);
        health.count(&check, two, false);
        assert_eq!(health.well(&both), [one]);
        health.count(&check, one, false);
        health.count(&check, one, false);
        assert_eq!(health.well(&both).len(), 2);
    }

    #[test]
    fn codes_are_lists_and_ranges() {
        let check = HealthCheck { codes: "200,300-302".into(), ..HealthCheck::of(&Ingress::default()) };
        assert!(check.accepts(301) && check.accepts(200) && !check.accepts(404));
    }
}
