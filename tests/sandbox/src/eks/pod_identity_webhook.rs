//! The pod identity webhook, as EKS' own does it: pods of an associated service account are told where the agent is, pods of an annotated one get
//! the role's name; both get a projected token, and here one thing more, the endpoint, because there is no DNS for AWS in a sandbox.
use std::sync::Arc;

use axum::extract::State as Shared;
use base64::Engine;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use serde_json::{Value, json};

use super::{Eks, bindings, pod_token};
use crate::layout::Layout;

const ROLE: &str = "eks.amazonaws.com/role-arn";
const AUDIENCE: &str = "eks.amazonaws.com/audience";
const EXPIRATION: &str = "eks.amazonaws.com/token-expiration";
const SKIP: &str = "eks.amazonaws.com/skip-containers";
const DAY: i64 = 86_400;

/// Answers an AdmissionReview; it never refuses a pod, as the real one does not.
pub async fn review(Shared(eks): Shared<Arc<Eks>>, axum::Json(review): axum::Json<Value>) -> axum::Json<Value> {
    let request = &review["request"];
    let patch = match eks.told(request).await {
        Ok(Some(told)) => patch(&request["object"], &told),
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

/// What a pod gets: a projected token, and variables by which an SDK finds it.
struct Told {
    volume: &'static str,
    folder: &'static str,
    file: &'static str,
    audience: String,
    seconds: i64,
    variables: Vec<(&'static str, String)>,
}

impl Told {
    /// By an association: the agent's address and what it wants to see.
    fn of_association() -> Self {
        let (folder, file) = ("/var/run/secrets/pods.eks.amazonaws.com/serviceaccount", "eks-pod-identity-token");
        Self {
            volume: "eks-pod-identity-token",
            folder,
            file,
            audience: pod_token::AUDIENCE.to_owned(),
            seconds: DAY,
            variables: vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Layout::POD_IDENTITY_AGENT_URL.to_owned()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", format!("{folder}/{file}")),
            ],
        }
    }

    /// By an annotation: the role, for AssumeRoleWithWebIdentity.
    fn of_role(role: String, audience: Option<String>, seconds: Option<i64>) -> Self {
        let (folder, file) = ("/var/run/secrets/eks.amazonaws.com/serviceaccount", "token");
        Self {
            volume: "aws-iam-token",
            folder,
            file,
            audience: audience.unwrap_or_else(|| "sts.amazonaws.com".to_owned()),
            seconds: seconds.unwrap_or(DAY).clamp(600, DAY),
            variables: vec![("AWS_ROLE_ARN", role), ("AWS_WEB_IDENTITY_TOKEN_FILE", format!("{folder}/{file}"))],
        }
    }

    /// And what both get.
    fn in_region(mut self, region: &str, endpoint: String) -> Self {
        self.variables.extend([
            ("AWS_STS_REGIONAL_ENDPOINTS", "regional".to_owned()),
            ("AWS_DEFAULT_REGION", region.to_owned()),
            ("AWS_REGION", region.to_owned()),
            ("AWS_ENDPOINT_URL", endpoint),
        ]);
        self
    }
}

impl Eks {
    async fn told(&self, request: &Value) -> anyhow::Result<Option<Told>> {
        let namespace = request["namespace"].as_str().unwrap_or("default");
        let account = request["object"]["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let told = match self.association_of(namespace, account) {
            // It wins over an annotation, as in the real one.
            Some(_) => Some(Told::of_association()),
            None => self.annotated(namespace, account).await?,
        };
        let region = self.store.read(|state| state.region.clone());
        Ok(told.map(|told| told.in_region(&region, self.layout.endpoint_url())))
    }

    async fn annotated(&self, namespace: &str, account: &str) -> anyhow::Result<Option<Told>> {
        let api: Api<ServiceAccount> = Api::namespaced(bindings::admin(self).await?, namespace);
        let Some(found) = api.get_opt(account).await? else { return Ok(None) };
        let annotations = found.metadata.annotations.unwrap_or_default();
        let Some(role) = annotations.get(ROLE).cloned() else { return Ok(None) };
        let seconds = annotations.get(EXPIRATION).and_then(|text| text.parse().ok());
        Ok(Some(Told::of_role(role, annotations.get(AUDIENCE).cloned(), seconds)))
    }
}

fn patch(pod: &Value, told: &Told) -> Vec<Value> {
    let mut patch = Vec::new();
    let add = |path: String, value: Value| json!({ "op": "add", "path": path, "value": value });
    let token = json!({ "serviceAccountToken": { "audience": told.audience, "expirationSeconds": told.seconds, "path": told.file } });
    let volume = json!({ "name": told.volume, "projected": { "sources": [token] } });
    let has = |list: &Value, name: &str| list.as_array().into_iter().flatten().any(|item| item["name"] == name);
    if !has(&pod["spec"]["volumes"], told.volume) {
        match pod["spec"]["volumes"].as_array() {
            Some(_) => patch.push(add("/spec/volumes/0".to_owned(), volume)),
            None => patch.push(add("/spec/volumes".to_owned(), json!([volume]))),
        }
    }
    let skipped = pod["metadata"]["annotations"][SKIP].as_str().unwrap_or_default();
    for kind in ["containers", "initContainers"] {
        for (index, container) in pod["spec"][kind].as_array().into_iter().flatten().enumerate() {
            let name = container["name"].as_str().unwrap_or_default();
            if skipped.split(',').any(|skip| skip.trim() == name) {
                continue;
            }
            let path = format!("/spec/{kind}/{index}");
            let missing = told.variables.iter().filter(|(name, _)| !has(&container["env"], name));
            let missing: Vec<Value> = missing.map(|(name, value)| json!({ "name": name, "value": value })).collect();
            match container["env"].as_array() {
                Some(_) => patch.extend(missing.into_iter().map(|item| add(format!("{path}/env/-"), item))),
                None if missing.is_empty() => {}
                None => patch.push(add(format!("{path}/env"), Value::from(missing))),
            }
            let mounted = container["volumeMounts"].as_array().into_iter().flatten().any(|mount| mount["mountPath"] == told.folder);
            if !mounted {
                let mount = json!({ "name": told.volume, "mountPath": told.folder, "readOnly": true });
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

    fn role() -> Told {
        let told = Told::of_role("arn:aws:iam::111122223333:role/r".into(), None, None);
        told.in_region("us-east-1", "http://198.18.0.2:4566".into())
    }

    fn association() -> Told {
        Told::of_association().in_region("us-east-1", "http://198.18.0.2:4566".into())
    }

    #[test]
    fn a_pod_gets_the_token_and_keeps_what_it_sets_itself() {
        let pod = json!({ "spec": { "containers": [{ "name": "a", "env": [{ "name": "AWS_REGION", "value": "mars" }] }] } });
        let patch = patch(&pod, &role());
        let text = Value::from(patch.clone()).to_string();
        assert!(text.contains("AWS_WEB_IDENTITY_TOKEN_FILE") && text.contains("sts.amazonaws.com"));
        assert!(!patch.iter().any(|step| step["value"]["name"] == "AWS_REGION"));
        assert_eq!(patch[0]["path"], "/spec/volumes");
    }

    #[test]
    fn an_associated_pod_is_told_of_the_agent_and_of_no_role() {
        let pod = json!({ "spec": { "containers": [{ "name": "a" }] } });
        let text = Value::from(patch(&pod, &association())).to_string();
        for wanted in ["http://169.254.170.23/v1/credentials", "pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token", "AWS_REGION"]
        {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
        assert!(!text.contains("AWS_ROLE_ARN") && !text.contains("sts.amazonaws.com"), "{text}");
    }

    #[test]
    fn a_container_can_be_left_out() {
        let pod = json!({ "metadata": { "annotations": { SKIP: "b" } }, "spec": { "containers": [{ "name": "b" }] } });
        assert_eq!(patch(&pod, &role()).len(), 1);
    }
}
