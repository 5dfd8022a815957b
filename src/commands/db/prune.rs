//! `db prune`: deletes deployctl's own snapshots that are beyond count and age, in both regions, with what was taken down of them; never the last
//! good one, never one that a run needs.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    Command, databases,
    list::{Listed, line},
};
use crate::{
    cli::PruneArgs,
    clock,
    commands::session::{Purpose, Session},
    database::retention::{Rules, Verdict},
    engine::{
        journal::{self, RunRecord},
        mirror,
    },
    failure::{Failure, LeftBehind, exit},
    ids::{Region, RunId, SnapshotId},
    plan::environment::SnapshotRetention,
    steps::{StepContext, service::Snapshot, state_backend::Names, verification::record_key},
    ui::{Output, confirm::Consent},
};

/// On a snapshot that a run took.
const RUN: &str = "deployctl:run";
/// The intent by which a run's journal names its snapshot.
const INTENT: &str = "snapshot";

pub(super) async fn run(args: PruneArgs, command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let session = Session::open(command.globals, &command.environment, Purpose::Once("db prune"), ui).await?;
    let asked = session.work.definition.environment.database.snapshots;
    let retention = SnapshotRetention { keep: args.keep.unwrap_or(asked.keep), days: args.days.unwrap_or(asked.days) };
    let result = prune(&session, command, retention).await;
    session.tidy();
    let deleted = session.end(result).await?;
    match ui.output {
        Output::Json => ui.json(&deleted)?,
        Output::Human => ui.data(&format!("{} snapshots deleted\n", deleted.len()))?,
    }
    Ok(exit::DONE)
}

async fn prune(session: &Session, command: &Command<'_>, retention: SnapshotRetention) -> Result<Vec<Listed>, Failure> {
    let ui = command.ui;
    let judged = judge(session, &databases(session, command)?, retention).await?;
    if ui.output == Output::Human {
        judged.iter().try_for_each(|one| ui.data(&line(one)))?;
    }
    let (doomed, kept): (Vec<Listed>, Vec<Listed>) = judged.into_iter().partition(|one| matches!(one.verdict, Verdict::Delete(_)));
    if doomed.is_empty() {
        return Ok(doomed);
    }
    let consent = if command.globals.yes { Consent::Given } else { Consent::Ask };
    ui.confirm(&format!("Delete {} snapshots?", doomed.len()), consent)?;
    for (done, one) in doomed.iter().enumerate() {
        let aws = session.work.aws.in_region(&one.region);
        let left =
            || LeftBehind::Partial(doomed[..done].iter().map(|one| format!("{} in {} is deleted", one.snapshot.id, one.region)).collect());
        aws.delete_db_snapshot(&one.snapshot.id).await.map_err(|failure| if done > 0 { failure.left(left()) } else { failure })?;
        ui.note(&format!("deleted {} in {}", one.snapshot.id, one.region));
    }
    let environment = &session.work.definition.environment;
    let (bucket, there) = (Names::of(environment)?.dr_bucket, session.work.aws.in_region(&environment.aws.dr_region));
    for key in unrestorable(&doomed, &kept, &environment.aws.dr_region).into_iter().map(record_key) {
        // Most snapshots were taken without pausing anybody, and have none.
        if there.get_object(&bucket, &key).await?.is_none() {
            continue;
        }
        let left = || LeftBehind::Partial(vec![format!("s3://{bucket}/{key}, which nothing can be held against any more")]);
        there.delete_object(&bucket, &key).await.map_err(|failure| failure.left(left()))?;
        ui.note(&format!("deleted s3://{bucket}/{key}"));
    }
    Ok(doomed)
}

/// Snapshots that no restore in the DR region can start from any more: what was taken down of them is read there and nowhere else.
fn unrestorable<'a>(doomed: &'a [Listed], kept: &[Listed], dr_region: &Region) -> BTreeSet<&'a SnapshotId> {
    let is_kept = |id: &SnapshotId| kept.iter().any(|one| one.region == *dr_region && one.snapshot.id == *id);
    doomed.iter().map(|one| &one.snapshot.id).filter(|id| !is_kept(id)).collect()
}

/// Every snapshot of these databases, in both regions, with what becomes of it and why.
pub(super) async fn judge(
    session: &Session,
    databases: &[(StepContext, Snapshot)],
    retention: SnapshotRetention,
) -> Result<Vec<Listed>, Failure> {
    let environment = &session.work.definition.environment;
    let mut found = Vec::new();
    for (_, database) in databases {
        for region in [&environment.aws.region, &environment.aws.dr_region] {
            found.push((
                database.instance.clone(),
                region.clone(),
                session.work.aws.in_region(region).manual_snapshots(&database.instance).await?,
            ));
        }
    }
    let mut needed = needed_by_runs(session, found.iter().flat_map(|(_, _, snapshots)| snapshots)).await?;
    // A copy reads its original until it is done.
    for copy in found.iter().flat_map(|(_, _, snapshots)| snapshots).filter(|one| !["available", "failed"].contains(&one.status.as_str())) {
        needed.entry(copy.id.clone()).or_insert_with(|| "it is being made or copied".to_owned());
    }
    let rules = Rules { environment: &environment.name, retention, needed: &needed, now: clock::now() };
    let mut listed = Vec::new();
    for (instance, region, snapshots) in &found {
        listed.extend(rules.judge(snapshots).into_iter().map(|(snapshot, verdict)| Listed {
            instance: instance.clone(),
            region: region.clone(),
            snapshot: snapshot.clone(),
            verdict,
        }));
    }
    Ok(listed)
}

/// The snapshots that unfinished runs have named in their journals, and those whose run's journal nobody can read any more.
async fn needed_by_runs<'a>(
    session: &Session,
    snapshots: impl Iterator<Item = &'a crate::aws::rds_snapshots::ManualSnapshot>,
) -> Result<BTreeMap<SnapshotId, String>, Failure> {
    let mut runs: BTreeMap<RunId, RunRecord> = session.history.runs.iter().map(|run| (run.header.run.clone(), run.clone())).collect();
    let mut needed = BTreeMap::new();
    for snapshot in snapshots {
        let Some(run) = snapshot.tags.get(RUN).and_then(|run| RunId::parse(run.as_str()).ok()) else { continue };
        if runs.contains_key(&run) {
            continue;
        }
        // Older than what a machine brings from the bucket by itself.
        let key = mirror::key(&run);
        match session.records.read(&key).await? {
            Some(object) => {
                let (record, _) = journal::read_text(&object.body, Path::new(&format!("{}/{key}", session.records.place())))?;
                runs.insert(run, record);
            }
            None => drop(needed.insert(
                snapshot.id.clone(),
                format!("the journal of its run {run} is nowhere to be found, so nobody knows whether it is needed"),
            )),
        }
    }
    let settled = runs.values().filter(|run| !run.is_unfinished()).map(|run| &run.header.run).max();
    // An unfinished run may be gone on with, or be restored from, until a later one has ended well.
    for run in runs.values().filter(|run| run.is_unfinished() && settled.is_none_or(|settled| *settled < run.header.run)) {
        let named = run.steps.values().filter_map(|step| step.intents.get(INTENT)?.as_str());
        for id in named.filter_map(|name| SnapshotId::parse(name.trim_end_matches('-')).ok()) {
            needed.insert(id, format!("run {} has not ended well and needs it", run.header.run));
        }
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::{aws::rds_snapshots::ManualSnapshot, ids::DbInstanceId};

    #[test]
    fn what_was_taken_down_goes_with_the_copy_that_it_is_held_against() {
        let listed = |id: &str, region: &str| Listed {
            instance: DbInstanceId::parse("deployctl-x").unwrap(),
            region: Region::parse(region).unwrap(),
            snapshot: ManualSnapshot {
                id: SnapshotId::parse(id).unwrap(),
                status: "available".into(),
                taken: None,
                storage_gib: 20,
                tags: BTreeMap::new(),
            },
            verdict: Verdict::Delete(String::new()),
        };
        let (home, dr) = ("us-east-1", "eu-west-1");
        let doomed = [listed("a", home), listed("a", dr), listed("b", home), listed("c", home)];
        let kept = [listed("b", dr), listed("d", dr)];
        let gone: Vec<&str> = unrestorable(&doomed, &kept, &Region::parse(dr).unwrap()).into_iter().map(SnapshotId::as_str).collect();
        assert_eq!(gone, ["a", "c"], "b's copy can still be restored, and held against its record");
    }
}
