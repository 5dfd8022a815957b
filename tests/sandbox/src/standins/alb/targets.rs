//! The targets of a load balancer: pods by address, from their registration over their health to the end of their deregistration.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress};
use tokio_util::sync::CancellationToken;

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

/// How long a target that is deregistered still gets requests that are under way; the annotation and default are the controller's.
pub fn deregistration_delay(ingress: &Ingress) -> Duration {
    let attributes = ingress.metadata.annotations.as_ref().and_then(|all| all.get("alb.ingress.kubernetes.io/target-group-attributes"));
    let delay = attributes.into_iter().flat_map(|text| text.split(',')).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == "deregistration_delay.timeout_seconds").then(|| value.trim().parse().ok())?
    });
    Duration::from_secs(delay.unwrap_or(300))
}

/// Addresses of the pods behind a service's port that are ready or, held back by nothing but a readiness gate, wait to be registered; each
/// with its pod's name. `waits` says of a pod's name whether it is one of the latter.
pub fn registrable(
    backend: &Backend,
    service: Option<&Service>,
    slices: &[Arc<EndpointSlice>],
    waits: impl Fn(&str) -> bool,
) -> BTreeMap<SocketAddr, String> {
    let ports = service.and_then(|service| service.spec.as_ref()?.ports.clone()).unwrap_or_default();
    let wanted = ports.iter().find(|port| match &backend.port {
        Port::Number(number) => port.port == *number,
        Port::Name(name) => port.name.as_deref() == Some(name),
    });
    let Some(wanted) = wanted else { return BTreeMap::new() };
    let mut targets = BTreeMap::new();
    for slice in slices {
        let named = slice
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref().unwrap_or_default() == wanted.name.as_deref().unwrap_or_default());
        let Some(port) = named.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in &slice.endpoints {
            let pod = endpoint.target_ref.as_ref().and_then(|pod| pod.name.clone()).unwrap_or_default();
            let conditions = endpoint.conditions.as_ref();
            let leaves = conditions.is_some_and(|c| c.terminating == Some(true));
            if conditions.is_some_and(|c| c.ready == Some(true)) || (!leaves && waits(&pod)) {
                let addresses = endpoint.addresses.iter().filter_map(|address| Some(SocketAddr::new(address.parse().ok()?, port)));
                targets.extend(addresses.map(|address| (address, pod.clone())));
            }
        }
    }
    targets
}

/// Before a new target is looked at for the first time. On AWS a registration takes some seconds to reach a load balancer's nodes; a stand-in
/// that served at once would forgive a rollout that does not wait for it.
const REGISTERING: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Registered, and not found well yet: it gets nothing.
    Initial,
    Well,
    Unwell,
}

struct Registered {
    since: Instant,
    state: State,
    streak: u32,
}

struct Leaving {
    since: Instant,
    delay: Duration,
    cut: CancellationToken,
}

#[derive(Default)]
struct All {
    registered: HashMap<SocketAddr, Registered>,
    leaving: HashMap<SocketAddr, Leaving>,
    /// Cancelled when what is under way to a target is cut off.
    cuts: HashMap<SocketAddr, CancellationToken>,
}

/// What a load balancer knows of its targets.
#[derive(Clone, Default)]
pub struct Targets(Arc<Mutex<All>>);

impl Targets {
    /// Where requests may go now. Nobody promises how soon every node of a load balancer has heard that a target leaves: the slowest here
    /// hears of it when the delay is over, so until then such a target still gets new requests, and from then on what is under way has the
    /// delay's time. When no target is well, the unwell ones serve, as a load balancer fails open; one that was never well does not.
    pub fn choice(&self, of: &BTreeSet<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_state = |state: State| -> Vec<SocketAddr> {
            let is_so = |target: &&SocketAddr| all.registered.get(target).is_some_and(|found| found.state == state);
            of.iter().filter(is_so).copied().collect()
        };
        let (well, unwell) = (in_state(State::Well), in_state(State::Unwell));
        let leaving = all.leaving.iter().filter(|(_, found)| now - found.since < found.delay).map(|(target, _)| *target);
        let mut choice = if well.is_empty() { unwell } else { well };
        choice.extend(leaving);
        choice.sort();
        choice
    }

    /// Whether a target has been found well.
    pub fn is_well(&self, target: &SocketAddr) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).registered.get(target).is_some_and(|found| found.state == State::Well)
    }

    /// Cancelled when this target's connections are cut.
    pub fn cut(&self, target: SocketAddr) -> CancellationToken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cuts.entry(target).or_default().clone()
    }

    /// Registers the new ones, deregisters those that are no longer among them, and cuts off those whose time is over.
    pub fn register(&self, wanted: &BTreeSet<SocketAddr>, delay: Duration, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let All { registered, leaving, cuts } = &mut *all;
        for target in wanted {
            leaving.remove(target);
            registered.entry(*target).or_insert_with(|| Registered { since: now, state: State::Initial, streak: 0 });
        }
        let gone: Vec<SocketAddr> = registered.keys().filter(|target| !wanted.contains(target)).copied().collect();
        for target in gone {
            registered.remove(&target);
            let cut = cuts.entry(target).or_default().clone();
            leaving.insert(target, Leaving { since: now, delay, cut });
        }
        leaving.retain(|target, found| {
            let stays = now - found.since < found.delay * 2;
            if !stays {
                found.cut.cancel();
                cuts.remove(target);
            }
            stays
        });
    }

    /// Those that are to be asked how they are.
    pub fn to_check(&self, now: Instant) -> Vec<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.registered.iter().filter(|(_, found)| now - found.since >= REGISTERING).map(|(target, _)| *target).collect()
    }

    /// Counts one check: a new target needs one that passes, later the thresholds decide. Says whether anything has changed by it.
    pub fn count(&self, check: &HealthCheck, target: SocketAddr, passed: bool) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = all.registered.get_mut(&target) else { return false };
        let (now, threshold) = match (found.state, passed) {
            (State::Initial, true) => (State::Well, 1),
            (State::Unwell, true) => (State::Well, check.healthy),
            (State::Initial | State::Well, false) => (State::Unwell, check.unhealthy),
            (State::Well, true) | (State::Unwell, false) => {
                found.streak = 0;
                return false;
            }
        };
        found.streak += 1;
        if found.streak < threshold {
            return false;
        }
        (found.state, found.streak) = (now, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 1))
    }

    const DELAY: Duration = Duration::from_secs(15);

    #[test]
    fn a_target_falls_out_after_its_threshold_and_all_serve_when_none_is_well() {
        let check = HealthCheck::of(&Ingress::default());
        let (one, two, now) = (address(1), address(2), Instant::now());
        let (targets, both) = (Targets::default(), BTreeSet::from([one, two]));
        targets.register(&both, DELAY, now);
        assert!(targets.choice(&both, now).is_empty(), "nothing goes to a target that was never well");
        assert!(targets.count(&check, one, true) && targets.count(&check, two, true), "one check is enough for a new one");
        targets.count(&check, two, false);
        assert_eq!(targets.choice(&both, now).len(), 2);
        targets.count(&check, two, false);
        assert_eq!(targets.choice(&both, now), [one]);
        targets.count(&check, one, false);
        targets.count(&check, one, false);
        assert_eq!(targets.choice(&both, now).len(), 2);
    }

    #[test]
    fn a_target_is_asked_once_it_is_registered_and_served_until_its_deregistration_is_over() {
        let check = HealthCheck::of(&Ingress::default());
        let (one, two, begin) = (address(1), address(2), Instant::now());
        let targets = Targets::default();
        targets.register(&BTreeSet::from([one]), DELAY, begin);
        assert!(targets.to_check(begin).is_empty());
        assert_eq!(targets.to_check(begin + REGISTERING), [one]);
        targets.count(&check, one, true);
        let (cut, other) = (targets.cut(one), BTreeSet::from([two]));
        targets.register(&other, DELAY, begin);
        assert!(!targets.is_well(&one));
        assert_eq!(targets.choice(&other, begin + DELAY - REGISTERING), [one], "the slowest node has not heard of it");
        targets.register(&other, DELAY, begin + DELAY);
        assert!(targets.choice(&other, begin + DELAY).is_empty() && !cut.is_cancelled(), "what is under way goes on");
        targets.register(&other, DELAY, begin + DELAY * 2);
        assert!(cut.is_cancelled());
    }

    #[test]
    fn the_delay_is_among_the_attributes() {
        let mut ingress = Ingress::default();
        assert_eq!(deregistration_delay(&ingress), Duration::from_secs(300));
        let text = "stickiness.enabled=false,deregistration_delay.timeout_seconds=15".to_owned();
        ingress.metadata.annotations = Some([("alb.ingress.kubernetes.io/target-group-attributes".to_owned(), text)].into());
        assert_eq!(deregistration_delay(&ingress), DELAY);
    }

    #[test]
    fn codes_are_lists_and_ranges() {
        let check = HealthCheck { codes: "200,300-302".into(), ..HealthCheck::of(&Ingress::default()) };
        assert!(check.accepts(301) && check.accepts(200) && !check.accepts(404));
    }
}
