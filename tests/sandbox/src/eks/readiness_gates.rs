//! The webhook of the AWS Load Balancer Controller: a pod behind an Ingress that has its load balancer gets a readiness gate, in namespaces that
//! are labelled for it (the configuration's selector, `kubernetes/bootstrap.rs`). Served here because the stand-in has no certificate.
use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State as Shared;
use base64::Engine;
use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use super::{Eks, bindings};
use crate::standins::alb::gates;

/// Answers an AdmissionReview; it never refuses a pod.
pub async fn review(Shared(eks): Shared<Arc<Eks>>, axum::Json(review): axum::Json<Value>) -> axum::Json<Value> {
    let request = &review["request"];
    let missing = match eks.gates_of(request).await {
        Ok(wanted) => {
            let has = |gate: &String| {
                request["object"]["spec"]["readinessGates"].as_array().into_iter().flatten().any(|g| g["conditionType"] == **gate)
            };
            wanted.into_iter().filter(|gate| !has(gate)).collect()
        }
        Err(error) => {
            tracing::warn!("a pod's readiness gates: {error:#}");
            Vec::new()
        }
    };
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    if !missing.is_empty() {
        let patch = patch(&request["object"], &missing);
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch.to_string()));
    }
    axum::Json(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

impl Eks {
    /// The gates that a new pod needs: one for each backend, of an Ingress with a load balancer, whose Service selects it.
    async fn gates_of(&self, request: &Value) -> anyhow::Result<Vec<String>> {
        let namespace = request["namespace"].as_str().unwrap_or("default");
        let labels: BTreeMap<String, String> = serde_json::from_value(request["object"]["metadata"]["labels"].clone()).unwrap_or_default();
        let client = bindings::admin(self).await?;
        let mut gates = Vec::new();
        for ingress in Api::<Ingress>::namespaced(client.clone(), namespace).list(&ListParams::default()).await? {
            for backend in crate::standins::alb::served_backends(&ingress) {
                let service = Api::<Service>::namespaced(client.clone(), namespace).get_opt(&backend.service).await?;
                let selector = service.and_then(|service| service.spec?.selector).unwrap_or_default();
                if !selector.is_empty() && selector.iter().all(|pair| labels.get(pair.0) == Some(pair.1)) {
                    gates.push(gates::name(namespace, &backend));
                }
            }
        }
        gates.sort();
        gates.dedup();
        Ok(gates)
    }
}

fn patch(pod: &Value, missing: &[String]) -> Value {
    let gates = missing.iter().map(|gate| json!({ "conditionType": gate }));
    match pod["spec"]["readinessGates"].as_array() {
        Some(_) => gates.map(|gate| json!({ "op": "add", "path": "/spec/readinessGates/-", "value": gate })).collect(),
        None => json!([{ "op": "add", "path": "/spec/readinessGates", "value": gates.collect::<Vec<_>>() }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_added_beside_those_that_a_pod_has() {
        let gate = ["target-health.elbv2.k8s.aws/k8s-a-b-c".to_owned()];
        assert_eq!(patch(&json!({ "spec": {} }), &gate)[0]["value"][0]["conditionType"], gate[0]);
        let own = json!({ "spec": { "readinessGates": [{ "conditionType": "own" }] } });
        assert_eq!(patch(&own, &gate), json!([{ "op": "add", "path": "/spec/readinessGates/-", "value": { "conditionType": gate[0] } }]));
    }
}
