//! Pod readiness gates: a pod is ready once the load balancer has found its target well. The webhook of the real controller puts the gate into
//! pods of labelled namespaces (`eks/readiness_gates.rs`), the controller opens it.
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rules::{Backend, Port};

const PREFIX: &str = "target-health.elbv2.k8s.aws/";

/// The condition's type for a backend, after the target group as the controller names it.
pub fn name(namespace: &str, backend: &Backend) -> String {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>();
    let port = match &backend.port {
        Port::Number(number) => number.to_string(),
        Port::Name(name) => name.clone(),
    };
    let hash = hex::encode(Sha256::digest(format!("{namespace}/{}/{port}", backend.service)));
    format!("{PREFIX}k8s-{}-{}-{}", plain(namespace), plain(&backend.service), &hash[..10])
}

fn has_gate(pod: &Pod, gate: &str) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    gates.is_some_and(|gates| gates.iter().any(|found| found.condition_type == gate))
}

fn says<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// Whether nothing but this gate is missing for the pod to be ready.
pub fn waits_for(pod: &Pod, gate: &str) -> bool {
    has_gate(pod, gate) && says(pod, "ContainersReady") == Some("True")
}

/// What is to be written into the pod's status; nothing when it is there already, or the pod has no such gate.
pub fn condition(pod: &Pod, gate: &str, well: bool) -> Option<Value> {
    let status = if well { "True" } else { "False" };
    if !has_gate(pod, gate) || says(pod, gate) == Some(status) {
        return None;
    }
    let reason = if well { "Healthy" } else { "Unhealthy" };
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Some(json!({ "status": { "conditions": [{ "type": gate, "status": status, "reason": reason, "lastTransitionTime": now }] } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &str, gate: Option<&str>) -> Pod {
        let backend = Backend { service: "uploader".into(), port: Port::Name("http".into()) };
        let mut conditions = vec![json!({ "type": "ContainersReady", "status": containers })];
        conditions.extend(gate.map(|status| json!({ "type": name("apps", &backend), "status": status })));
        let pod = json!({
            "spec": { "containers": [], "readinessGates": [{ "conditionType": name("apps", &backend) }] },
            "status": { "conditions": conditions },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_gate_opens_and_shuts_with_the_targets_health_and_is_written_once() {
        let gate = name("apps", &Backend { service: "uploader".into(), port: Port::Name("http".into()) });
        assert!(waits_for(&pod("True", None), &gate) && !waits_for(&pod("False", None), &gate));
        assert_eq!(condition(&pod("True", None), &gate, true).unwrap()["status"]["conditions"][0]["status"], "True");
        assert_eq!(condition(&pod("True", Some("True")), &gate, true), None);
        assert_eq!(condition(&pod("True", Some("True")), &gate, false).unwrap()["status"]["conditions"][0]["reason"], "Unhealthy");
        assert_eq!(condition(&Pod::default(), &gate, true), None, "no gate");
    }
}
