//! What kinds `manifests`, `service` and `chart` share: one step's objects, compared with the cluster, applied, waited for, pruned.
mod bound;
mod jobs;
mod reached;
mod values;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use bound::{bound_of, template_bound};
pub use jobs::{AgentCommand, Findings, Shown};
pub use reached::Reached;
pub use values::{authorities_are_there, template_values, text_list, values_of};

use super::{
    Action, Change, Facts, StepContext,
    live::{self, Retired},
};
use crate::{
    cluster::{ApplySet, Cluster, Verdict},
    engine::event::Outcome,
    failure::{Failure, FailureKind},
    ids::ClusterName,
    manifests::{CrdSchemas, Object, ObjectKey, exposure, render},
    plan::digest,
};

/// How long the objects of one step may take to become what they are asked to be.
const CURRENT: Duration = Duration::from_secs(600);

/// How long a plan may look at the cluster; each call has its own, shorter deadline.
pub const LOOKED_AT: Duration = Duration::from_secs(300);

/// One step's objects and what would become of them; part of the saved plan.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Release {
    /// Name and namespace of the ApplySet's parent.
    pub set: (String, String),
    /// Everything that was rendered and is not skipped.
    pub objects: Vec<Object>,
    /// Those that differ from the cluster; nothing else is sent.
    pub changed: Vec<ObjectKey>,
    /// Those that are in the cluster and no longer rendered.
    pub pruned: Vec<ObjectKey>,
    /// The diff.
    pub changes: Vec<Change>,
    /// Folders that were rendered and validated but are not applied here, each with the reason.
    pub skipped: BTreeMap<String, String>,
    /// Tags of images that nothing needs once everything has rolled out.
    #[serde(default)]
    pub retired: Vec<Retired>,
    /// How each object was found in the cluster; what apply does follows from the rest.
    #[serde(skip)]
    pub found: Facts,
}

/// What is in the cluster and no longer rendered, and a line of the plan if that cannot be seen.
async fn prunable(cluster: &Cluster, set: &ApplySet, objects: &[Object]) -> Result<(Vec<ObjectKey>, Option<Change>), Failure> {
    match cluster.prunable(set, objects).await {
        Err(failure) if failure.kind == FailureKind::Credentials => {
            let details = vec![format!("unknown: {}", failure.message)];
            let name = format!("{}/{}", set.namespace, set.name);
            Ok((Vec::new(), Some(Change { action: Action::Update, resource: "ApplySet".into(), name, details })))
        }
        found => Ok((found?, None)),
    }
}

/// An object that goes counts like any other deletion.
pub fn deletion(key: &ObjectKey, why: &str) -> Change {
    Change { action: Action::Delete, resource: key.kind.clone(), name: key.to_string(), details: vec![why.to_owned()] }
}

fn named(key: &ObjectKey) -> String {
    format!("{} {key}", key.kind)
}

/// Renders the folders. One whose last name is a key of `skip` is rendered and validated, but its objects are left out.
pub fn render_folders(
    cx: &StepContext,
    folders: &[PathBuf],
    values: &serde_json::Value,
    skip: &BTreeMap<String, String>,
) -> Result<(Vec<Object>, BTreeMap<String, String>), Failure> {
    let mut crds = CrdSchemas::default();
    let known = cx.project.join("templates/platform/crds");
    if known.is_dir() {
        crds.learn(&render(&known, values, &CrdSchemas::default())?);
    }
    let (mut objects, mut skipped) = (Vec::new(), BTreeMap::new());
    for folder in folders {
        let rendered = render(&cx.project.join(folder), values, &crds)?;
        crds.learn(&rendered);
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match skip.get(&name) {
            Some(reason) => drop(skipped.insert(name, reason.clone())),
            None => objects.extend(rendered),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = objects.iter().find(|object| !seen.insert(&object.key)) {
        let (file, line) = (twice.file.display(), twice.line);
        return Err(Failure::usage(format!("{file}:{line}: {} {} is rendered twice", twice.key.kind, twice.key)));
    }
    Ok((objects, skipped))
}

impl Release {
    /// Compares the objects with the cluster.
    pub async fn observe(
        cx: &StepContext,
        cluster: &Cluster,
        set: &ApplySet,
        mut objects: Vec<Object>,
        skipped: BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        exposure::refuse(&objects)?;
        set.mark(&mut objects);
        let compared =
            async { tokio::try_join!(cluster.diff(&objects), prunable(cluster, set, &objects), live::retirable(cx, cluster, &objects)) };
        let (diffs, (pruned, hidden), retired) =
            cx.wait_until(&format!("{} objects to be compared", objects.len()), LOOKED_AT, compared).await?;
        if let Some(Verdict::Unknown(reason)) = diffs.iter().map(|d| &d.verdict).find(|verdict| matches!(verdict, Verdict::Unknown(_)))
            && cx.run.is_some()
        {
            // A plan shows what it cannot know; an apply must know what it does.
            return Err(Failure::new(FailureKind::Credentials, reason.clone())
                .next("give this identity the access policy that allows it, in cluster.access_entries of the environment file"));
        }
        let changed = diffs.iter().filter(|d| d.verdict != Verdict::Unchanged).map(|d| d.key.clone()).collect();
        let found = diffs.iter().map(|diff| match &diff.verdict {
            // What was planned without knowing does not hold for whoever knows.
            Verdict::Unknown(reason) => (named(&diff.key), serde_json::json!({ "unknown": reason })),
            _ => (named(&diff.key), diff.live.clone()),
        });
        let found = found.collect();
        let mut changes: Vec<Change> = diffs.iter().filter_map(crate::cluster::Diff::change).collect();
        changes.extend(hidden);
        changes.extend(pruned.iter().map(|key| deletion(key, "no longer rendered")));
        changes.extend(retired.iter().map(Retired::change));
        Ok(Self { set: (set.name.clone(), set.namespace.clone()), objects, changed, pruned, changes, skipped, retired, found })
    }

    /// How each object was found, what is in the cluster and no longer rendered, and a digest of each that was rendered.
    pub fn facts(&self) -> Result<Facts, Failure> {
        let mut facts = self.found.clone();
        facts.extend(self.pruned.iter().map(|key| (named(key), "no longer rendered".into())));
        let rendered = self.objects.iter().map(|object| Ok((named(&object.key), digest::of(&object.value)?.into())));
        facts.insert("templates".to_owned(), serde_json::Value::Object(rendered.collect::<Result<_, Failure>>()?));
        Ok(facts)
    }

    /// Reads it back from a plan's payload.
    pub fn from_payload(payload: &serde_json::Value) -> Result<Self, Failure> {
        serde_json::from_value(payload.clone()).map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of this step").because(e))
    }

    fn apply_set(&self) -> ApplySet {
        ApplySet { name: self.set.0.clone(), namespace: self.set.1.clone() }
    }

    /// Sends what differs, waits until everything is Current, then prunes.
    pub async fn apply(&self, cx: &StepContext, cluster: &Cluster) -> Result<Outcome, Failure> {
        let set = self.apply_set();
        let changed: Vec<Object> = self.objects.iter().filter(|o| self.changed.contains(&o.key)).cloned().collect();
        if !changed.is_empty() || !self.pruned.is_empty() {
            // The parent must say what the set may hold before it holds it; its namespace may be among the objects.
            let home: Vec<Object> = changed.iter().filter(|o| o.key.kind == "Namespace" && o.key.name == set.namespace).cloned().collect();
            cluster.apply(&home, |_| {}).await?;
            cluster.widen(&set, &self.objects, &self.pruned).await?;
            cluster.apply(&changed, |key| cx.progress(format!("{} {key}: applied", key.kind))).await?;
        }
        self.wait(cx, cluster).await?;
        if !self.pruned.is_empty() {
            cluster.prune(&set, &self.objects, &self.pruned).await?;
            self.pruned.iter().for_each(|key| cx.progress(format!("{} {key}: deleted", key.kind)));
        }
        live::retire(cx, &self.retired).await?;
        Ok(match (self.changes.is_empty(), self.objects.is_empty(), self.skipped.first_key_value()) {
            (_, true, Some((name, reason))) => Outcome::Skipped { reason: format!("{name}: {reason}") },
            (true, ..) => Outcome::Unchanged,
            (false, ..) => Outcome::Changed,
        })
    }

    /// Waits until everything is Current.
    pub async fn wait(&self, cx: &StepContext, cluster: &Cluster) -> Result<(), Failure> {
        let keys: Vec<ObjectKey> = self.objects.iter().map(|o| o.key.clone()).collect();
        let what = format!("{} objects to be current", keys.len());
        let progress = |line: &str| cx.progress(line);
        // The inner deadline comes first: it knows what is missing and gathers the evidence.
        cx.wait_until(&what, CURRENT + Duration::from_secs(60), cluster.wait_until_current(&keys, CURRENT, progress)).await
    }

    /// Where the first Ingress' service is reached, once a load balancer has given it an address.
    pub async fn reached(&self, cluster: &Cluster) -> Result<Option<Reached>, Failure> {
        let Some(ingress) = self.objects.iter().find(|o| o.key.kind == "Ingress") else { return Ok(None) };
        let live = cluster.get(&ingress.key).await?.unwrap_or_default();
        let entry = live.pointer("/status/loadBalancer/ingress/0").cloned().unwrap_or_default();
        let load_balancer = entry["hostname"].as_str().or(entry["ip"].as_str());
        Ok(load_balancer.map(|load_balancer| Reached::at(&ingress.value, load_balancer)))
    }

    /// What [`Release::undo`] would delete.
    pub async fn would_delete(cx: &StepContext, cluster: &ClusterName, set: &ApplySet) -> Result<Vec<Change>, Failure> {
        let Some(cluster) = cx.standing_cluster(cluster).await? else { return Ok(Vec::new()) };
        Ok(cluster.prunable(set, &[]).await?.iter().map(|key| deletion(key, "its step is taken away")).collect())
    }

    /// Deletes every member of the set. With its cluster everything has gone already; namespaces, claims and CustomResourceDefinitions go with it.
    pub async fn undo(cx: &StepContext, cluster: &ClusterName, set: &ApplySet) -> Result<Vec<String>, Failure> {
        let Some(cluster) = cx.standing_cluster(cluster).await? else { return Ok(Vec::new()) };
        let members = cluster.prunable(set, &[]).await?;
        // Ingresses first: their controller must still be there to take the load balancer away.
        let (first, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(|key| key.kind == "Ingress");
        for key in first.iter().chain(&rest) {
            cluster.delete(key).await?;
        }
        for key in &first {
            cluster.wait_until_gone(key, CURRENT).await?;
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::{Value, json};

    use super::*;
    use crate::{engine::limits::check_guards, ids::StepId, plan::fresh::differing};

    fn map(text: &str) -> Object {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "a"}, "data": {"key": text}});
        Object::new(value, "a.yaml".into(), 1).unwrap()
    }

    fn release(rendered: &str, found: Value, pruned: &[ObjectKey]) -> Release {
        let found = Facts::from([("ConfigMap a/b".to_owned(), found)]);
        Release { objects: vec![map(rendered)], pruned: pruned.to_vec(), found, ..Release::default() }
    }

    /// Which object and which field, or which template, or what is no longer rendered.
    #[test]
    fn what_has_moved_in_the_cluster_and_in_the_templates_is_named() {
        let then = release("1", json!({"data": {"key": "1"}}), &[]).facts().unwrap();
        let moved = |now: Release| differing(&then, &now.facts().unwrap());
        assert_eq!(moved(release("1", json!({"data": {"key": "2"}}), &[])), ["ConfigMap a/b data.key: \"1\" -> \"2\""]);
        assert_eq!(moved(release("1", Value::Null, &[])), ["ConfigMap a/b: {\"data\":{\"key\":\"1\"}} -> (none)"]);
        let rendered = moved(release("2", json!({"data": {"key": "1"}}), &[]));
        assert!(matches!(&rendered[..], [line] if line.starts_with("templates [ConfigMap a/b]: \"sha256:")), "{rendered:?}");
        let old = ObjectKey { name: "old".into(), ..map("").key };
        assert_eq!(moved(release("1", json!({"data": {"key": "1"}}), &[old])), ["ConfigMap a/old is new"]);
    }

    /// The saved plan has what is applied; how it was found is beside it.
    #[test]
    fn the_payload_has_the_rendered_objects_and_nothing_that_was_found() {
        let payload = serde_json::to_value(release("1", json!({"data": {"key": "live"}}), &[])).unwrap();
        assert_eq!(payload["objects"][0]["value"]["data"]["key"], "1");
        assert!(!payload.to_string().contains("live"));
        assert_eq!(Release::from_payload(&payload).unwrap().objects[0].value, map("1").value);
    }

    #[test]
    fn what_is_pruned_counts_as_deleted_and_can_be_protected() {
        let step = StepId::parse("config").unwrap();
        let gone: Vec<Change> = (0..2).map(|_| deletion(&map("").key, "no longer rendered")).collect();
        let guards = |max_deletions, protected: &[&str]| crate::plan::environment::Guards {
            max_deletions,
            protected: protected.iter().map(ToString::to_string).collect(),
        };
        let all = || gone.iter().map(|change| (&step, change));
        check_guards(&guards(2, &[]), all()).unwrap();
        assert_eq!(check_guards(&guards(1, &[]), all()).unwrap_err().kind, FailureKind::Policy);
        let refused = check_guards(&guards(9, &["ConfigMap"]), all()).unwrap_err();
        assert_eq!(refused.evidence[0], "config: delete ConfigMap a/b");
    }
}
