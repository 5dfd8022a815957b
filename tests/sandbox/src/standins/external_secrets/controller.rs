//! The controller's own identity, for stores that name no account: what its pods would get from the Pod Identity agent. This stand-in is no pod, so
//! it makes one that never starts, for the token to be bound to.
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use aws_sdk_sts::config::Credentials;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde::Deserialize;
use serde_json::json;

use crate::{eks::POD_IDENTITY_AUDIENCE, layout::Layout};

/// The namespace and the service account that plans/deploy.yaml gives it.
const NAMESPACE: &str = "external-secrets";
const ACCOUNT: &str = "external-secrets";
/// The pod that a token is bound to.
const POD: &str = "stand-in-external-secrets";

/// What the agent answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: jiff::Timestamp,
}

/// A new session.
pub async fn session(client: &Client) -> Result<Credentials> {
    let token = token(client).await?;
    let agent = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().context("an HTTP client")?;
    let answer = agent.get(Layout::POD_IDENTITY_AGENT_URL).header("authorization", token).send().await;
    let answer = answer.context("the Pod Identity agent does not answer: is its add-on installed?")?;
    let status = answer.status();
    let text = answer.text().await.context("the Pod Identity agent's answer")?;
    if !status.is_success() {
        bail!("the Pod Identity agent refuses {NAMESPACE}/{ACCOUNT}: {text}");
    }
    let given: Given = serde_json::from_str(&text).context("the Pod Identity agent's answer")?;
    let end = SystemTime::from(given.expiration);
    Ok(Credentials::new(given.access_key_id, given.secret_access_key, Some(given.token), Some(end), "Pod Identity"))
}

async fn token(client: &Client) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = pods.patch(POD, &PatchParams::apply("deployctl-sandbox").force(), &Patch::Apply(never_started())).await;
    let pod = pod.with_context(|| format!("the pod {NAMESPACE}/{POD} for the controller's token"))?;
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name,
        uid: pod.metadata.uid,
    };
    let spec = TokenRequestSpec {
        audiences: vec![POD_IDENTITY_AUDIENCE.to_owned()],
        bound_object_ref: Some(bound),
        expiration_seconds: Some(600),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let made = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.context("a token for the controller")?;
    Ok(made.status.context("the API server answered without a token")?.token)
}

/// Held back by a gate that nobody opens; it passes `restricted` all the same, as its namespace asks.
fn never_started() -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": POD, "namespace": NAMESPACE, "labels": { "app.kubernetes.io/name": POD } },
        "spec": {
            "serviceAccountName": ACCOUNT,
            "schedulingGates": [{ "name": "deployctl.io/never-started" }],
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "none",
                "image": "none",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}
