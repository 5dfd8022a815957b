//! What kinds `manifests`, `service` and `chart` share: one step's objects, compared with the cluster, applied, waited for, pruned.
mod bound;
mod jobs;
mod values;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use bound::{bound_of, template_bound};
pub use jobs::{AgentCommand, Findings, Shown};
pub use values::{authorities_are_there, template_values, text_list};

use super::{
    Action, Change, StepContext,
    live::{self, Retired},
};
use crate::{
    cluster::{ApplySet, Cluster, Verdict},
    engine::event::Outcome,
    failure::{Failure, FailureKind},
    manifests::{CrdSchemas, Object, ObjectKey, render},
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
        set.mark(&mut objects);
        let compared =
            async { tokio::try_join!(cluster.diff(&objects), cluster.prunable(set, &objects), live::retirable(cx, cluster, &objects)) };
        let (diffs, pruned, retired) = cx.wait_until(&format!("{} objects to be compared", objects.len()), LOOKED_AT, compared).await?;
        let changed = diffs.iter().filter(|d| d.verdict != Verdict::Unchanged).map(|d| d.key.clone()).collect();
        let mut changes: Vec<Change> = diffs.iter().filter_map(crate::cluster::Diff::change).collect();
        changes.extend(pruned.iter().map(|key| Change {
            action: Action::Delete,
            resource: key.kind.clone(),
            name: key.to_string(),
            details: vec!["no longer rendered".into()],
        }));
        changes.extend(retired.iter().map(Retired::change));
        Ok(Self { set: (set.name.clone(), set.namespace.clone()), objects, changed, pruned, changes, skipped, retired })
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

    /// The address that a load balancer gave to the first Ingress, if there is one.
    pub async fn address(&self, cluster: &Cluster) -> Result<Option<String>, Failure> {
        let Some(ingress) = self.objects.iter().find(|o| o.key.kind == "Ingress") else { return Ok(None) };
        let live = cluster.get(&ingress.key).await?.unwrap_or_default();
        let entry = live.pointer("/status/loadBalancer/ingress/0").cloned().unwrap_or_default();
        Ok(entry["hostname"].as_str().or(entry["ip"].as_str()).map(String::from))
    }

    /// Deletes what the set holds, except what is never pruned; says what stays.
    pub async fn undo(cluster: &Cluster, set: &ApplySet) -> Result<Vec<String>, Failure> {
        let members = cluster.prunable(set, &[]).await?;
        // Ingresses first: their controller must still be there to take the load balancer away.
        let (first, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(|key| key.kind == "Ingress");
        for key in first.iter().chain(&rest) {
            cluster.delete(key).await?;
        }
        for key in &first {
            cluster.wait_until_gone(key, CURRENT).await?;
        }
        Ok(vec!["namespaces, volume claims and CustomResourceDefinitions: never deleted with a step".into()])
    }
}
