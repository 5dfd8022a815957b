//! A pod that never starts: Pod Identity takes tokens only that are bound to a pod of the account, and an account may have no pod yet.
use k8s_openapi::api::{authentication::v1::BoundObjectReference, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Cluster, FIELD_MANAGER};
use crate::failure::Failure;

/// Nobody opens it, so no node gets the pod and no image is pulled.
const GATE: &str = "deployctl.io/never-started";

impl Cluster {
    /// Does something with a token for this audience that is bound to a pod of the account. `name` is the pod's: it is made for this, or found
    /// there as a killed deployctl has left it, and goes afterwards.
    pub async fn with_pod_token<T, F>(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        name: &str,
        work: impl FnOnce(SecretString) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let pods: Api<Pod> = Api::namespaced(self.client().await?, namespace);
        let (what, params) = (format!("making the pod {namespace}/{name}, which never starts"), PatchParams::apply(FIELD_MANAGER).force());
        let patch = Patch::Apply(idle(namespace, account, name));
        let made = self.answered(&what, pods.patch(name, &params, &patch)).await?.map_err(|e| self.failed(what, e))?;
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: made.metadata.name,
            uid: made.metadata.uid,
        };
        let done = async { work(self.token(namespace, account, audience, Some(bound)).await?).await }.await;
        let removed = self.remove_pod(&pods, namespace, name).await;
        // What went wrong first says more.
        let done = done?;
        removed.map(|()| done)
    }

    async fn remove_pod(&self, pods: &Api<Pod>, namespace: &str, name: &str) -> Result<(), Failure> {
        let what = format!("removing the pod {namespace}/{name}");
        match self.answered(&what, pods.delete(name, &DeleteParams::default())).await? {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(|e| self.failed(what, e)),
        }
    }
}

/// It passes the standard `restricted`, as any pod in these namespaces must.
fn idle(namespace: &str, account: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app.kubernetes.io/managed-by": "deployctl" } },
        "spec": {
            "serviceAccountName": account,
            "schedulingGates": [{ "name": GATE }],
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "none",
                "image": "none",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}
