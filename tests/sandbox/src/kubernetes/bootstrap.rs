//! Objects that a new cluster needs before anybody uses it: rights of its own parts, and the webhooks.
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::Inner;

/// As whom the API server calls kubelet.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";
/// As whom CoreDNS reads services.
pub const COREDNS: &str = "system:coredns";

/// Writes them; what is there already is left as it is.
pub async fn apply(kubernetes: &Inner) -> Result<()> {
    let (client, webhooks) = (kubernetes.client().await?, kubernetes.layout.webhooks());
    let role = json!({ "rules": [
        { "apiGroups": [""], "resources": ["services", "namespaces", "pods", "endpoints"], "verbs": ["list", "watch"] },
        { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
    ] });
    put::<ClusterRole>(&client, COREDNS, role).await?;
    put::<ClusterRoleBinding>(&client, COREDNS, binding(COREDNS, COREDNS)).await?;
    put::<ClusterRoleBinding>(&client, KUBELET_CLIENT, binding("system:kubelet-api-admin", KUBELET_CLIENT)).await?;
    put::<MutatingWebhookConfiguration>(&client, "pod-identity-webhook", pod_identity(webhooks, &kubernetes.pki.ca_pem)).await?;
    put::<MutatingWebhookConfiguration>(&client, "aws-load-balancer-webhook", readiness_gates(webhooks, &kubernetes.pki.ca_pem)).await
}

fn binding(role: &str, user: &str) -> Value {
    json!({
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    })
}

/// As EKS has it, with one thing to know: where the webhook does not answer, a pod starts without its role.
fn pod_identity(webhooks: SocketAddr, ca_pem: &str) -> Value {
    json!({ "webhooks": [{
        "name": "pod-identity-webhook.amazonaws.com",
        "admissionReviewVersions": ["v1"],
        "clientConfig": { "url": format!("https://{webhooks}/pod-identity"), "caBundle": BASE64_STANDARD.encode(ca_pem) },
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "reinvocationPolicy": "IfNeeded",
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced" }],
    }] })
}

/// As the AWS Load Balancer Controller's chart has it, but for `Ignore` where that says `Fail`: the daemon that answers may be killed here.
fn readiness_gates(webhooks: SocketAddr, ca_pem: &str) -> Value {
    json!({ "webhooks": [{
        "name": "mpod.elbv2.k8s.aws",
        "admissionReviewVersions": ["v1"],
        "clientConfig": { "url": format!("https://{webhooks}/readiness-gates"), "caBundle": BASE64_STANDARD.encode(ca_pem) },
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "namespaceSelector": { "matchExpressions": [{ "key": "elbv2.k8s.aws/pod-readiness-gate-inject", "operator": "In", "values": ["enabled"] }] },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced" }],
    }] })
}

async fn put<K>(client: &kube::Client, name: &str, mut object: Value) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    object["metadata"] = json!({ "name": name });
    let api: Api<K> = Api::all(client.clone());
    let params = PatchParams::apply("deployctl-sandbox").force();
    api.patch(name, &params, &Patch::Apply(object)).await.with_context(|| format!("writing {} {name}", K::kind(&())))?;
    Ok(())
}
