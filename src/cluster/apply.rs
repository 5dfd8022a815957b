//! Server-side apply in waves: what others stand on goes first, and inside a wave everything goes at once.
use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::Value;

use super::{Cluster, FIELD_MANAGER, PARALLEL, again, read::to_value};
use crate::{
    failure::{Failure, LeftBehind},
    manifests::{Object, ObjectKey},
};

/// What the next wave stands on must be there before it is sent: a CRD before its objects, and a Secret before the pods that mount it, for
/// kubelet tries a failed mount again only after a pause that grows to two minutes.
const FIRST: [&str; 2] = ["CustomResourceDefinition", "ExternalSecret"];
/// How long the next wave is held back for that.
const FIRST_CURRENT: Duration = Duration::from_secs(120);

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As in `.spec.replicas`.
    pub field: String,
    /// As in `conflict with "kubectl-client-side-apply" using apps/v1`.
    pub owner: String,
}

/// What Argo Rollouts adds to the selector of a Service, and to the labels of pods.
pub(super) const VERSION: &str = "rollouts-pod-template-hash";

/// Which wave a kind belongs to.
fn wave(kind: &str) -> u8 {
    match kind {
        "Namespace" | "CustomResourceDefinition" | "PriorityClass" | "StorageClass" | "IngressClass" => 0,
        "ServiceAccount" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => 1,
        "ConfigMap"
        | "Secret"
        | "SecretStore"
        | "ClusterSecretStore"
        | "ExternalSecret"
        | "NetworkPolicy"
        | "AnalysisTemplate"
        | "PersistentVolumeClaim"
        | "ResourceQuota"
        | "LimitRange" => 2,
        "Service" | "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" | "Pod" => 3,
        _ => 4,
    }
}

/// The parameters of every apply: our field manager, unknown fields refused, nothing taken from another owner.
fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).validation_strict()
}

impl Cluster {
    /// Applies the objects, wave after wave; returns each as the API server now has it. `done` hears of each one.
    pub async fn apply(&self, objects: &[Object], done: impl Fn(&ObjectKey) + Sync) -> Result<Vec<Value>, Failure> {
        let mut waves: BTreeMap<u8, Vec<&Object>> = BTreeMap::new();
        for object in objects {
            waves.entry(wave(&object.key.kind)).or_default().push(object);
        }
        let mut applied = Vec::with_capacity(objects.len());
        for members in waves.values() {
            let sent: Vec<_> = members.iter().map(|object| self.apply_one(object)).collect();
            let results = stream::iter(sent).buffer_unordered(PARALLEL);
            let mut results = std::pin::pin!(results);
            let mut failed: Option<Failure> = None;
            // A failure stops the next wave, not what is already in flight: that is waited for, so that we know what was left behind.
            while let Some(result) = results.next().await {
                match result {
                    Ok(value) => {
                        if let Some(key) = ObjectKey::of(&value) {
                            done(&key);
                        }
                        applied.push(value);
                    }
                    Err(failure) if failed.is_none() => failed = Some(failure),
                    Err(failure) => failed = failed.map(|first| first.evidence(failure.message)),
                }
            }
            if let Some(failure) = failed {
                let mut names = applied.iter().filter_map(ObjectKey::of).map(|key| format!("{} {key}", key.kind)).collect::<Vec<_>>();
                if let (LeftBehind::Unknown(what), false) = (&failure.left_behind, names.is_empty()) {
                    names.push(format!("perhaps {what}"));
                }
                return Err(if names.is_empty() { failure } else { failure.left(LeftBehind::Partial(names)) });
            }
            let first: Vec<_> = members.iter().filter(|o| FIRST.contains(&o.key.kind.as_str())).map(|o| o.key.clone()).collect();
            self.wait_until_current(&first, FIRST_CURRENT, |_| {}).await?;
        }
        Ok(applied)
    }

    pub(super) async fn apply_one(&self, object: &Object) -> Result<Value, Failure> {
        let asked = self.sent(object, &params()).await;
        let unknown = || LeftBehind::Unknown(format!("{} {}", object.key.kind, object.key));
        match asked.map_err(|silent| silent.left(unknown()))? {
            Ok(applied) => to_value(&applied),
            Err(e) if again::may_have_arrived(&e) => Err(self.refused(object, e).left(unknown())),
            Err(e) => Err(self.refused(object, e)),
        }
    }

    /// What an apply would make of the object; nothing is stored.
    pub(super) async fn dry_run(&self, object: &Object) -> Result<Result<Value, kube::Error>, Failure> {
        match self.sent(object, &params().dry_run()).await? {
            Ok(applied) => to_value(&applied).map(Ok),
            Err(e) => Ok(Err(e)),
        }
    }

    /// Once, and once more where Argo Rollouts has taken over which version of its pods a Service leads to.
    async fn sent(&self, object: &Object, params: &PatchParams) -> Result<kube::Result<DynamicObject>, Failure> {
        let api = self.api(&object.key).await?;
        let send = async |value: &Value| {
            let patch = Patch::Apply(value);
            self.repeated(applying(object), || api.patch(&object.key.name, params, &patch)).await
        };
        match send(&object.value).await? {
            Err(e) if object.key.kind == "Service" && matches!(&conflicts(&e)[..], [one] if one.field == ".spec.selector") => {
                let live = self.get(&object.key).await?;
                match live.and_then(|live| with_its_version(&object.value, &live)) {
                    Some(value) => send(&value).await,
                    None => Ok(Err(e)),
                }
            }
            answered => Ok(answered),
        }
    }

    /// Says where the object was written, and whose fields it wanted.
    pub(super) fn refused(&self, object: &Object, error: kube::Error) -> Failure {
        let what = applying(object);
        let conflicts = conflicts(&error);
        if conflicts.is_empty() {
            return self.failed(what, error);
        }
        let mut failure = Failure::step(format!("{what}: {} of its fields belong to somebody else", conflicts.len()));
        for conflict in &conflicts {
            failure = failure.evidence(format!("{}: {}", conflict.field, conflict.owner));
        }
        failure.next(format!(
            "take the field out of the template, or the other owner's hands off it: kubectl get {} {} {} -o yaml --show-managed-fields",
            object.key.kind.to_lowercase(),
            object.key.name,
            object.key.namespace.as_ref().map(|n| format!("-n {n}")).unwrap_or_default()
        ))
    }

    /// Applies everything of `objects` without telling anybody; for a handful of objects that belong to no template.
    pub async fn apply_quietly(&self, objects: &[Object]) -> Result<(), Failure> {
        let sent: Vec<_> = objects.iter().map(|object| self.apply_one(object)).collect();
        stream::iter(sent).buffer_unordered(PARALLEL).try_for_each(|_| async { Ok(()) }).await
    }
}

/// The Service with the version that it leads to now: a selector is one field, and its other half is ours. None if it has none of Argo Rollouts'.
fn with_its_version(service: &Value, live: &Value) -> Option<Value> {
    let mut service = service.clone();
    let version = live["spec"]["selector"].get(VERSION)?.clone();
    service["spec"]["selector"].as_object_mut()?.insert(VERSION.to_owned(), version);
    Some(service)
}

/// The call and where its object was written.
fn applying(object: &Object) -> String {
    format!("applying {} {} ({}:{})", object.key.kind, object.key, object.file.display(), object.line)
}

fn conflicts(error: &kube::Error) -> Vec<Conflict> {
    let kube::Error::Api(status) = error else { return Vec::new() };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| Conflict { field: cause.field.clone(), owner: cause.message.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_goes_on_leading_to_the_version_that_it_leads_to() {
        let service = json!({ "spec": { "selector": { "name": "a" } } });
        let live = json!({ "spec": { "selector": { "name": "b", VERSION: "1" } } });
        assert_eq!(with_its_version(&service, &live), Some(json!({ "spec": { "selector": { "name": "a", VERSION: "1" } } })));
        assert_eq!(with_its_version(&service, &service), None);
    }
}
