//! The RDS snapshot before a migration, and its copy in the region that this one is restored in when it is lost.
use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    migration::Schema,
    paused::{self, Pause},
};
use crate::{
    aws::rds::{DbSnapshot, Started},
    failure::{Failure, LeftBehind},
    ids::{DbInstanceId, KmsKeyId, ServiceName, SnapshotId},
    retry,
    steps::StepContext,
};

/// What is snapshotted.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The RDS instance.
    pub instance: DbInstanceId,
    /// The key, of the DR region, that its copy is encrypted with; RDS' own there if it is left out.
    #[serde(default)]
    pub dr_key: Option<KmsKeyId>,
    /// Nobody may write while it is taken, for no longer than so many seconds: what each table holds is taken down, and a restore is held against
    /// that. Left out, everybody goes on.
    #[serde(default)]
    pub pause_seconds: Option<u64>,
    /// Longest time that a snapshot, and then its copy, may take.
    #[serde(default = "two_hours")]
    pub deadline_seconds: u64,
}

fn two_hours() -> u64 {
    7200
}

impl Snapshot {
    /// The key that the copy is encrypted with.
    pub fn key(&self) -> Result<KmsKeyId, Failure> {
        let own = || KmsKeyId::parse("alias/aws/rds").map_err(|e| Failure::step("the key of the snapshot's copy").because(e));
        self.dr_key.clone().map_or_else(own, Ok)
    }
}

fn tags(cx: &StepContext, service: &ServiceName, schema: &Schema) -> BTreeMap<String, String> {
    let mut tags = cx.environment.tags.clone();
    let run = cx.run.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let version = schema.version.clone().unwrap_or_else(|| "none".into());
    for (key, value) in
        [("environment", cx.environment.name.to_string()), ("service", service.to_string()), ("schema", version), ("run", run)]
    {
        tags.insert(format!("deployctl:{key}"), value);
    }
    tags
}

/// Waits until the instance can be snapshotted.
pub(super) async fn available(cx: &StepContext, snapshot: &Snapshot, deadline: Duration) -> Result<(), Failure> {
    let what = format!("database instance {} to be available for a snapshot", snapshot.instance);
    let waiting = cx.aws.wait_until_db_instance_available(&snapshot.instance, deadline);
    cx.wait_until(&what, deadline + Duration::from_secs(30), waiting).await.map(drop)
}

/// Takes a snapshot under this name, with writes paused if that is asked for, and waits until it is there.
pub async fn taken(
    cx: &StepContext,
    snapshot: &Snapshot,
    id: &SnapshotId,
    tags: &BTreeMap<String, String>,
    pause: Option<&Pause<'_>>,
) -> Result<DbSnapshot, Failure> {
    let deadline = Duration::from_secs(snapshot.deadline_seconds);
    // Nobody is kept from writing for the sake of a nightly backup: with writes paused it was waited for before.
    let patience = if pause.is_some() { Duration::ZERO } else { deadline };
    let taking = async {
        let (started, mut pauses) = (tokio::time::Instant::now(), retry::pauses());
        // A call that makes something is never given up half-way, only the waiting for it.
        while let Started::Not(busy) = cx.aws.start_db_snapshot(&snapshot.instance, id, tags).await? {
            let rest = patience.saturating_sub(started.elapsed());
            if rest.is_zero() {
                return Err(*busy);
            }
            available(cx, snapshot, rest).await.map_err(|failure| failure.evidence(busy.chain().join(": ")))?;
            tokio::time::sleep(pauses.next().unwrap_or_default()).await;
        }
        let progress = |found: &DbSnapshot| cx.progress(format!("snapshot {}: {} {} %", found.id, found.status, found.percent));
        let waiting = cx.aws.wait_until_db_snapshot_available(id, deadline, progress);
        let left = |failure: Failure| failure.left(LeftBehind::Partial(vec![format!("snapshot {id}")]));
        cx.wait_until(&format!("snapshot {id}"), deadline + Duration::from_secs(30), waiting).await.map_err(left)
    };
    match pause {
        None => taking.await,
        Some(pause) => paused::taken(cx, pause, snapshot, id, taking).await,
    }
}

/// Takes the snapshot and starts its copy. The name follows from environment, schema and run, so that a resumed run finds what it has made.
pub async fn take(
    cx: &StepContext,
    snapshot: &Snapshot,
    pause: Option<&Pause<'_>>,
    service: &ServiceName,
    schema: &Schema,
) -> Result<DbSnapshot, Failure> {
    let version = schema.version.as_deref().unwrap_or("0").replace('.', "-");
    let run = cx.run.as_ref().map(|run| run.as_str().replace('-', "")).unwrap_or_default();
    let tail = run.get(run.len().saturating_sub(12)..).unwrap_or_default();
    let name = format!("deployctl-{}-{service}-v{version}-{tail}", cx.environment.name);
    let recorded = cx.intents.once(&cx.step, "snapshot", json!(name)).await?;
    let name = recorded.as_str().unwrap_or(&name).trim_end_matches('-').to_owned();
    let id = SnapshotId::parse(name).map_err(|e| Failure::step("a name for the snapshot").because(e))?;
    let tags = tags(cx, service, schema);
    let taken = taken(cx, snapshot, &id, &tags, pause).await?;
    let left = |failure: Failure| failure.left(LeftBehind::Partial(vec![format!("snapshot {id}")]));
    let there = cx.aws.in_region(&cx.environment.aws.dr_region);
    there.start_db_snapshot_copy(&taken.arn, &id, &snapshot.key()?, &tags).await.map_err(left)?;
    Ok(taken)
}

/// Waits until the copy in the DR region can be restored.
pub async fn wait_for_copy(cx: &StepContext, snapshot: &Snapshot, taken: &DbSnapshot) -> Result<(), Failure> {
    let there = cx.aws.in_region(&cx.environment.aws.dr_region);
    let deadline = Duration::from_secs(snapshot.deadline_seconds);
    let progress =
        |found: &DbSnapshot| cx.progress(format!("copy of {} in {}: {} {} %", found.id, there.region(), found.status, found.percent));
    let waiting = there.wait_until_db_snapshot_available(&taken.id, deadline, progress);
    let started = tokio::time::Instant::now();
    let what = format!("the copy of snapshot {} in {}", taken.id, there.region());
    cx.wait_until(&what, deadline + Duration::from_secs(30), waiting).await?;
    cx.checked(what, started.elapsed());
    Ok(())
}
