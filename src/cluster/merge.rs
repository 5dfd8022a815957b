//! A single field of somebody's object, set without taking the rest of it over: how pods are replaced, and how a controller is asked to look.
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Cluster, again};
use crate::{
    failure::{Failure, LeftBehind},
    manifests::ObjectKey,
};

/// Not [`super::FIELD_MANAGER`]: what that one applies without a field loses the field.
const MANAGER: &str = "deployctl-restart";

impl Cluster {
    /// Replaces the pods of a Deployment, Rollout, StatefulSet or DaemonSet, in its own way of rolling out, unless they carry this annotation already.
    pub async fn restart(&self, workload: &ObjectKey, annotation: &str, value: &str) -> Result<(), Failure> {
        let template = json!({ "spec": { "template": { "metadata": { "annotations": { annotation: value } } } } });
        self.merge(workload, &template).await
    }

    /// Sets an annotation of an object.
    pub async fn annotate(&self, key: &ObjectKey, annotation: &str, value: &str) -> Result<(), Failure> {
        self.merge(key, &json!({ "metadata": { "annotations": { annotation: value } } })).await
    }

    async fn merge(&self, key: &ObjectKey, patch: &Value) -> Result<(), Failure> {
        let what = format!("annotating {} {key}", key.kind);
        let api = self.api(key).await?;
        let patch = Patch::Merge(patch);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        // The same value twice is the same object.
        let asked = self.repeated(&what, || api.patch(&key.name, &params, &patch)).await;
        let unknown = || LeftBehind::Unknown(format!("{} {key}", key.kind));
        match asked.map_err(|silent| silent.left(unknown()))? {
            Ok(_) => Ok(()),
            Err(e) if again::may_have_arrived(&e) => Err(self.failed(what, e).left(unknown())),
            Err(e) => Err(self.failed(what, e)),
        }
    }
}
