//! Takes away what a step no longer renders: an ApplySet (KEP-3659, v1), whose parent is a ConfigMap of the step.
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Cluster;
use crate::{
    failure::{Failure, FailureKind},
    manifests::{Object, ObjectKey},
};

const PART_OF: &str = "applyset.kubernetes.io/part-of";
const ID: &str = "applyset.kubernetes.io/id";
const TOOLING: &str = "applyset.kubernetes.io/tooling";
const GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
/// The first half of the tooling annotation; another tool's set is refused.
const TOOL: &str = "deployctl";
/// Never pruned, whoever rendered them: with them goes everything that is in them.
const KEPT: [&str; 4] = ["Namespace", "PersistentVolumeClaim", "PersistentVolume", "CustomResourceDefinition"];

/// Helm's own mark of what outlives its release.
const HELM_POLICY: &str = "helm.sh/resource-policy";

/// The objects that one step owns, so that one taken out of its templates can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplySet {
    /// Name of the parent ConfigMap.
    pub name: String,
    /// Namespace of the parent.
    pub namespace: String,
}

impl ApplySet {
    /// The set of a step; its parent lives in `namespace`.
    pub fn new(step: &str, namespace: &str) -> Self {
        Self { name: format!("deployctl-applyset-{step}"), namespace: namespace.to_owned() }
    }
    /// As the specification computes it.
    pub fn id(&self) -> String {
        let hash = Sha256::digest(format!("{}.{}.ConfigMap.", self.name, self.namespace));
        format!("applyset-{}-v1", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash))
    }
    /// Labels an object as a member. Must be done before a diff, for the label is part of what is applied.
    pub fn mark(&self, objects: &mut [Object]) {
        let id = self.id();
        objects.iter_mut().for_each(|object| object.label(PART_OF, &id));
    }
    fn key(&self) -> ObjectKey {
        ObjectKey { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: Some(self.namespace.clone()), name: self.name.clone() }
    }
    fn parent(&self, group_kinds: &BTreeSet<String>, namespaces: &BTreeSet<String>) -> Result<Object, Failure> {
        let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        let others: BTreeSet<String> = namespaces.iter().filter(|n| **n != self.namespace).cloned().collect();
        let value = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": self.name, "namespace": self.namespace,
                "labels": { ID: self.id() },
                "annotations": {
                    TOOLING: format!("{TOOL}/{}", env!("CARGO_PKG_VERSION")),
                    GROUP_KINDS: join(group_kinds),
                    NAMESPACES: join(&others),
                },
            },
        });
        Object::new(value, "(applyset)".into(), 0)
    }
}

impl Cluster {
    /// Members that are in the cluster and no longer among `objects`.
    pub async fn prunable(&self, set: &ApplySet, objects: &[Object]) -> Result<Vec<ObjectKey>, Failure> {
        let Some(parent) = self.get(&set.key()).await? else { return Ok(Vec::new()) };
        let annotation = |key: &str| parent["metadata"]["annotations"][key].as_str().unwrap_or_default().to_owned();
        let tooling = annotation(TOOLING);
        if tooling.split('/').next() != Some(TOOL) {
            return Err(Failure::new(
                FailureKind::Policy,
                format!("the ApplySet {}/{} belongs to {tooling:?}, not to deployctl", set.namespace, set.name),
            ));
        }
        let versions: BTreeMap<String, String> = objects.iter().map(|o| (o.key.group_kind(), o.key.api_version.clone())).collect();
        let wanted: BTreeSet<(String, Option<String>, String)> =
            objects.iter().map(|o| (o.key.group_kind(), o.key.namespace.clone(), o.key.name.clone())).collect();
        let mut namespaces: BTreeSet<String> = annotation(NAMESPACES).split(',').filter(|n| !n.is_empty()).map(String::from).collect();
        namespaces.insert(set.namespace.clone());
        let mut found = Vec::new();
        for group_kind in annotation(GROUP_KINDS).split(',').filter(|gk| !gk.is_empty()) {
            let (kind, group) = group_kind.split_once('.').unwrap_or((group_kind, ""));
            if KEPT.contains(&kind) {
                continue;
            }
            let Some(api_version) = versions.get(group_kind).cloned().or(self.preferred(group).await?) else { continue };
            for value in self.list(&api_version, kind, None, &format!("{PART_OF}={}", set.id())).await? {
                let Some(key) = ObjectKey::of(&value).filter(|_| value["metadata"]["annotations"][HELM_POLICY] != "keep") else { continue };
                // The label could be anybody's; only namespaces that the parent names are the set's.
                let inside = key.namespace.as_ref().is_none_or(|namespace| namespaces.contains(namespace));
                if inside && !wanted.contains(&(group_kind.to_owned(), key.namespace.clone(), key.name.clone())) {
                    found.push(key);
                }
            }
        }
        Ok(found)
    }

    /// The version of a group that its API server prefers; none if it has no such group.
    async fn preferred(&self, group: &str) -> Result<Option<String>, Failure> {
        if group.is_empty() {
            return Ok(Some("v1".into()));
        }
        let what = "listing API groups";
        let client = self.client().await?;
        let groups = self.answered(what, client.list_api_groups()).await?.map_err(|e| self.failed(what, e))?;
        let found = groups.groups.into_iter().find(|g| g.name == group);
        Ok(found.and_then(|g| g.preferred_version.or_else(|| g.versions.into_iter().next())).map(|v| v.group_version))
    }

    /// Writes, before anything is applied, which kinds and namespaces the set may hold: those it has and those it will have.
    pub async fn widen(&self, set: &ApplySet, objects: &[Object], pruned: &[ObjectKey]) -> Result<(), Failure> {
        let keys = || objects.iter().map(|o| &o.key).chain(pruned);
        let group_kinds = keys().map(ObjectKey::group_kind).collect();
        let namespaces = keys().filter_map(|k| k.namespace.clone()).collect();
        self.apply_quietly(&[set.parent(&group_kinds, &namespaces)?]).await
    }

    /// Deletes what the plan lists and then writes what the set still holds.
    pub async fn prune(&self, set: &ApplySet, objects: &[Object], pruned: &[ObjectKey]) -> Result<(), Failure> {
        for key in pruned {
            if KEPT.contains(&key.kind.as_str()) {
                return Err(Failure::new(FailureKind::Policy, format!("{} {key} is never pruned", key.kind)));
            }
            // Between plan and apply somebody may have taken the object over: without the label it is not ours to delete.
            let ours = self.get(key).await?.is_some_and(|live| live["metadata"]["labels"][PART_OF] == Value::String(set.id()));
            if ours {
                self.delete(key).await?;
            }
        }
        self.widen(set, objects, &[]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_specifications() {
        // sha256("name.namespace.kind.group"), URL-safe base64 without padding.
        let id = ApplySet { name: "a".into(), namespace: "b".into() }.id();
        let hash = Sha256::digest("a.b.ConfigMap.");
        assert_eq!(id, format!("applyset-{}-v1", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash)));
        assert!(id.len() <= 63, "a label holds at most 63 characters");
    }
}
