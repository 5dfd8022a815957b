//! The pod identity webhook: pods of a service account with a role get its name and a projected token, as EKS' own webhook does it,
//! and one thing more, the endpoint, because there is no DNS for AWS in a sandbox.
use std::sync::Arc;

use axum::extract::State as Shared;
use base64::Engine;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use serde_json::{Value, json};

use super::{Eks, bindings};

const ROLE: &str = "eks.amazonaws.com/role-arn";
const AUDIENCE: &str = "eks.amazonaws.com/audience";
const EXPIRATION: &str = "eks.amazonaws.com/token-expiration";
const SKIP: &str = "eks.amazonaws.com/skip-containers";
const FOLDER: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
const VOLUME: &str = "aws-iam-token";

/// Answers an AdmissionReview; it never refuses a pod, as the real one does not.
pub async fn review(Shared(eks): Shared<Arc<Eks>>, axum::Json(review): axum::Json<Value>) -> axum::Json<Value> {
    let request = &review["request"];
    let patch = match eks.role_of(request).await {
        Ok(Some(identity)) => patch(&request["object"], &identity),
        Ok(None) => Vec::new(),
        Err(error) => {
            tracing::warn!("a pod's service account: {error:#}");
            Vec::new()
        }
    };
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    if !patch.is_empty() {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(Value::from(patch).to_string()));
    }
    axum::Json(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

/// What a service account's annotations ask for.
struct Identity {
    role: String,
    audience: String,
    seconds: i64,
    region: String,
    endpoint: String,
}

impl Eks {
    async fn role_of(&self, request: &Value) -> anyhow::Result<Option<Identity>> {
        let namespace = request["namespace"].as_str().unwrap_or("default");
        let account = request["object"]["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let api: Api<ServiceAccount> = Api::namespaced(bindings::admin(self).await?, namespace);
        let Some(found) = api.get_opt(account).await? else { return Ok(None) };
        let annotations = found.metadata.annotations.unwrap_or_default();
        let Some(role) = annotations.get(ROLE).cloned() else { return Ok(None) };
        let region = self.store.read(|state| state.region.clone());
        Ok(Some(Identity {
            role,
            audience: annotations.get(AUDIENCE).cloned().unwrap_or_else(|| "sts.amazonaws.com".to_owned()),
            seconds: annotations.get(EXPIRATION).and_then(|text| text.parse().ok()).unwrap_or(86_400).clamp(600, 86_400),
            region,
            endpoint: self.layout.endpoint_url(),
        }))
    }
}

fn patch(pod: &Value, identity: &Identity) -> Vec<Value> {
    let mut patch = Vec::new();
    let add = |path: String, value: Value| json!({ "op": "add", "path": path, "value": value });
    let token = json!({ "serviceAccountToken": { "audience": identity.audience, "expirationSeconds": identity.seconds, "path": "token" } });
    let volume = json!({ "name": VOLUME, "projected": { "sources": [token] } });
    let has = |list: &Value, name: &str| list.as_array().into_iter().flatten().any(|item| item["name"] == name);
    if !has(&pod["spec"]["volumes"], VOLUME) {
        match pod["spec"]["volumes"].as_array() {
            Some(_) => patch.push(add("/spec/volumes/0".to_owned(), volume)),
            None => patch.push(add("/spec/volumes".to_owned(), json!([volume]))),
        }
    }
    let environment = [
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional".to_owned()),
        ("AWS_DEFAULT_REGION", identity.region.clone()),
        ("AWS_REGION", identity.region.clone()),
        ("AWS_ROLE_ARN", identity.role.clone()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", format!("{FOLDER}/token")),
        ("AWS_ENDPOINT_URL", identity.endpoint.clone()),
    ];
    let skipped = pod["metadata"]["annotations"][SKIP].as_str().unwrap_or_default();
    for kind in ["containers", "initContainers"] {
        for (index, container) in pod["spec"][kind].as_array().into_iter().flatten().enumerate() {
            let name = container["name"].as_str().unwrap_or_default();
            if skipped.split(',').any(|skip| skip.trim() == name) {
                continue;
            }
            let path = format!("/spec/{kind}/{index}");
            let missing = environment.iter().filter(|(name, _)| !has(&container["env"], name));
            let missing: Vec<Value> = missing.map(|(name, value)| json!({ "name": name, "value": value })).collect();
            match container["env"].as_array() {
                Some(_) => patch.extend(missing.into_iter().map(|item| add(format!("{path}/env/-"), item))),
                None if missing.is_empty() => {}
                None => patch.push(add(format!("{path}/env"), Value::from(missing))),
            }
            let mounted = container["volumeMounts"].as_array().into_iter().flatten().any(|mount| mount["mountPath"] == FOLDER);
            if !mounted {
                let mount = json!({ "name": VOLUME, "mountPath": FOLDER, "readOnly": true });
                match container["volumeMounts"].as_array() {
                    Some(_) => patch.push(add(format!("{path}/volumeMounts/-"), mount)),
                    None => patch.push(add(format!("{path}/volumeMounts"), json!([mount]))),
                }
            }
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            role: "arn:aws:iam::111122223333:role/r".into(),
            audience: "sts.amazonaws.com".into(),
            seconds: 86_400,
            region: "us-east-1".into(),
            endpoint: "http://198.18.0.2:4566".into(),
        }
    }

    #[test]
    fn a_pod_gets_the_token_and_keeps_what_it_sets_itself() {
        let pod = json!({ "spec": { "containers": [{ "name": "a", "env": [{ "name": "AWS_REGION", "value": "mars" }] }] } });
        let patch = patch(&pod, &identity());
        let text = Value::from(patch.clone()).to_string();
        assert!(text.contains("AWS_WEB_IDENTITY_TOKEN_FILE") && text.contains("sts.amazonaws.com"));
        assert!(!patch.iter().any(|step| step["value"]["name"] == "AWS_REGION"));
        assert_eq!(patch[0]["path"], "/spec/volumes");
    }

    #[test]
    fn a_container_can_be_left_out() {
        let pod = json!({ "metadata": { "annotations": { SKIP: "b" } }, "spec": { "containers": [{ "name": "b" }] } });
        assert_eq!(patch(&pod, &identity()).len(), 1);
    }
}
