//! The end of a stack: what of it stays because data is in it, what has to be lifted or emptied first, and terraform's plan of the rest.
use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{
    Found, Input, apply_file, guards, lock, orphans, plan_now, prepare, read, set_aside,
    verify::Check,
    was_left,
    workspace::{Backend, Workspace},
    write_plan,
};
use crate::{
    aws::{Aws, rds_in_place::DbSettings},
    database::in_place::is_set_aside,
    failure::{Failure, FailureKind},
    ids::{BucketName, DbInstanceId},
    steps::{Action, Change, Data, StepContext, state_backend::Names},
    tools::terraform::{
        Direction,
        plan_json::{PlanJson, ResourceChange},
    },
};

/// A modified instance is available again in a minute or two.
const MODIFIED: Duration = Duration::from_secs(900);

/// What ends and what does not.
struct Ending {
    workspace: Workspace,
    /// terraform's plan of what goes.
    found: Found,
    /// Addresses of what stays.
    kept: Vec<String>,
    /// Databases that refuse to be deleted, with their addresses.
    protected: Vec<(String, DbInstanceId)>,
    /// Databases that terraform does not know, and that are in the way.
    set_aside: Vec<DbSettings>,
    /// Buckets that go with everything in them, each with whether it is in the DR region.
    buckets: Vec<(BucketName, Where)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Here,
    DrRegion,
}

fn deleted(plan: &PlanJson) -> impl Iterator<Item = &ResourceChange> {
    plan.resource_changes.iter().filter(|found| found.mode != "data" && found.change.actions.iter().any(|action| action == "delete"))
}

/// What of a plan to destroy everything stays.
fn kept(plan: &PlanJson, keep: &[String], data: Data) -> BTreeSet<String> {
    let stays = deleted(plan).filter(|found| data == Data::Stays && keep.contains(&found.kind));
    stays.map(|found| found.address.clone()).collect()
}

/// See [`crate::steps::Kind::would_delete`].
pub(super) async fn would_delete(cx: &StepContext, input: &Input) -> Result<Vec<Change>, Failure> {
    if !cx.aws.bucket_exists(&Names::of(&cx.environment)?.bucket).await? {
        return orphans::refuse(cx, input).await.map(|()| Vec::new());
    }
    let mut changes = plan(cx, input).await?.changes(cx);
    changes.extend(backups(cx, input).await?.iter().map(|backup| backup.change(cx)));
    Ok(changes)
}

/// See [`crate::steps::Kind::undo`].
pub(super) async fn undo(cx: &StepContext, input: &Input) -> Result<(), Failure> {
    if !cx.aws.bucket_exists(&Names::of(&cx.environment)?.bucket).await? {
        return orphans::refuse(cx, input).await;
    }
    if was_left(cx, input)? {
        let taking_nothing_over = Input { adopt: None, ..input.clone() };
        lock::settle(cx, &prepare(cx, &taking_nothing_over, Backend::Bucket).await?).await?;
    }
    let ending = plan(cx, input).await?;
    guards::check(&cx.environment.guards, &[ending.set_aside_changes(cx), ending.found.changes.clone()].concat())?;
    for address in &ending.kept {
        cx.progress(format!("{address}: stays"));
    }
    for found in &ending.set_aside {
        set_aside::delete(cx, found).await?;
    }
    if ending.found.plan.is_some() {
        ending.prepare(cx).await?;
        let file = write_plan(cx, &ending.found)?;
        apply_file(cx, &ending.workspace, &file, ending.found.changes.len()).await?;
    }
    // The last snapshot is among them now.
    for backup in backups(cx, input).await? {
        backup.delete(cx).await?;
    }
    Ok(())
}

/// Plans it, and refuses to begin where resources with our names are not in the state.
async fn plan(cx: &StepContext, input: &Input) -> Result<Ending, Failure> {
    let set_aside = set_aside::find(cx, input).await?;
    let (mut workspace, mut plan, mut file) = plan_now(cx, input, Backend::Bucket, Direction::Destroy, &[]).await?;
    let kept = kept(&plan, &input.keep, cx.data);
    let targets: Vec<String> = deleted(&plan).map(|found| found.address.clone()).filter(|address| !kept.contains(address)).collect();
    if targets.is_empty() {
        if kept.is_empty() {
            orphans::refuse(cx, input).await?;
        }
        let mut found = read(&plan, Backend::Bucket, &file)?;
        (found.changes, found.plan) = (Vec::new(), None);
        return Ok(Ending { workspace, found, kept: kept.into_iter().collect(), protected: Vec::new(), set_aside, buckets: Vec::new() });
    }
    if !kept.is_empty() {
        (workspace, plan, file) = plan_now(cx, input, Backend::Bucket, Direction::Destroy, &targets).await?;
        if let Some(lost) = deleted(&plan).find(|found| kept.contains(&found.address)) {
            let message = format!("{} would go with what it depends on, although {} is to stay", lost.address, lost.kind);
            return Err(Failure::new(FailureKind::Policy, message).next("correct `keep` of this step in plans/deploy.yaml"));
        }
    }
    let protected = deleted(&plan).filter_map(protected).collect();
    let buckets = deleted(&plan).filter_map(|found| bucket(cx, found)).collect();
    let found = read(&plan, Backend::Bucket, &file)?;
    Ok(Ending { workspace, found, kept: kept.into_iter().collect(), protected, set_aside, buckets })
}

fn protected(found: &ResourceChange) -> Option<(String, DbInstanceId)> {
    let before = &found.change.before;
    if found.kind != "aws_db_instance" || before["deletion_protection"] != Value::Bool(true) {
        return None;
    }
    Some((found.address.clone(), DbInstanceId::parse(before["identifier"].as_str()?).ok()?))
}

fn bucket(cx: &StepContext, found: &ResourceChange) -> Option<(BucketName, Where)> {
    let before = &found.change.before;
    if found.kind != "aws_s3_bucket" {
        return None;
    }
    let region = ["bucket_region", "region"].iter().find_map(|key| before[*key].as_str()).unwrap_or_default();
    let place = if region == cx.environment.aws.dr_region.as_str() { Where::DrRegion } else { Where::Here };
    Some((BucketName::parse(before["bucket"].as_str()?).ok()?, place))
}

impl Ending {
    /// What is lifted, what is emptied and what is deleted, in this order.
    fn changes(&self, cx: &StepContext) -> Vec<Change> {
        let lifted = self.protected.iter().map(|(address, _)| Change {
            action: Action::Update,
            resource: "aws_db_instance".into(),
            name: address.clone(),
            details: vec!["deletion_protection: true -> false".into()],
        });
        let emptied = self.buckets.iter().map(|(bucket, _)| Change {
            action: Action::Delete,
            resource: "objects".into(),
            name: format!("s3://{bucket}"),
            details: vec!["every version of every object".into()],
        });
        self.set_aside_changes(cx).into_iter().chain(lifted).chain(emptied).chain(self.found.changes.iter().cloned()).collect()
    }

    fn set_aside_changes(&self, cx: &StepContext) -> Vec<Change> {
        self.set_aside.iter().map(|found| set_aside::change(cx, found)).collect()
    }

    /// Lifts protection and empties buckets: terraform's plan can be applied then.
    async fn prepare(&self, cx: &StepContext) -> Result<(), Failure> {
        for (address, id) in &self.protected {
            // A terraform that was killed may have ended what it had begun since the plan was made.
            if cx.aws.db_instance(id).await?.is_none_or(|found| !found.deletion_protection) {
                continue;
            }
            cx.progress(format!("{address}: deletion protection off"));
            cx.aws.lift_deletion_protection(id).await?;
            cx.wait_until(&format!("database instance {id}"), MODIFIED, cx.aws.wait_until_db_instance_available(id, MODIFIED)).await?;
        }
        let elsewhere = cx.aws.in_region(&cx.environment.aws.dr_region);
        for (bucket, place) in &self.buckets {
            let aws: &Aws = if *place == Where::DrRegion { &elsewhere } else { &cx.aws };
            aws.empty_bucket(bucket, &cx.cancel, |done| cx.progress(format!("s3://{bucket}: {done} versions deleted"))).await?;
        }
        Ok(())
    }
}

/// What the data of a stack leaves beside it, which goes once somebody has named it: snapshots and backups of its database, in both regions.
async fn backups(cx: &StepContext, input: &Input) -> Result<Vec<Backup>, Failure> {
    if cx.data == Data::Stays || !input.checks.contains(&Check::Database) {
        return Ok(Vec::new());
    }
    let id = set_aside::database(cx)?;
    let elsewhere = cx.aws.in_region(&cx.environment.aws.dr_region);
    let arn = format!("arn:aws:rds:{}:{}:db:", cx.environment.aws.region, cx.environment.aws.account_id);
    // Also of those that were set aside, which may be gone by now.
    let is_ours = |name: &str| DbInstanceId::parse(name).is_ok_and(|name| name == id || is_set_aside(&name, &id));
    let is_of_ours = |of: &str| of.strip_prefix(&arn).is_some_and(is_ours);
    let mut found = Vec::new();
    for (aws, place) in [(&*cx.aws, Where::Here), (&elsewhere, Where::DrRegion)] {
        found.extend(aws.manual_snapshots_of(is_ours).await?.into_iter().map(|id| Backup { place, what: Kept::Snapshot(id) }));
        found.extend(aws.retained_backups(is_of_ours).await?.into_iter().map(|arn| Backup { place, what: Kept::Automated(arn) }));
    }
    Ok(found)
}

/// A copy of a database that outlives it.
struct Backup {
    place: Where,
    what: Kept,
}

enum Kept {
    Snapshot(crate::ids::SnapshotId),
    Automated(String),
}

impl Backup {
    fn change(&self, cx: &StepContext) -> Change {
        let (resource, name) = match &self.what {
            Kept::Snapshot(id) => ("db_snapshot", id.to_string()),
            Kept::Automated(arn) => ("db_automated_backup", arn.clone()),
        };
        let region = if self.place == Where::DrRegion { &cx.environment.aws.dr_region } else { &cx.environment.aws.region };
        Change { action: Action::Delete, resource: resource.into(), name, details: vec![format!("in {region}")] }
    }
    async fn delete(&self, cx: &StepContext) -> Result<(), Failure> {
        let elsewhere = cx.aws.in_region(&cx.environment.aws.dr_region);
        let aws: &Aws = if self.place == Where::DrRegion { &elsewhere } else { &cx.aws };
        cx.progress(format!("{}: deleting", self.change(cx).name));
        match &self.what {
            Kept::Snapshot(id) => aws.delete_db_snapshot(id).await,
            Kept::Automated(arn) => aws.delete_retained_backup(arn).await,
        }
    }
}

/// What stays, from the state alone.
pub(super) async fn stays(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
    if cx.data == Data::Goes || input.keep.is_empty() {
        return Ok(Vec::new());
    }
    let why =
        format!("data is in it, or cannot be read without it; deployctl destroy -e {} --include-data takes it too", cx.environment.name);
    let mut stays: Vec<String> = Vec::new();
    for resource in in_state(&super::state(cx, &Names::of(&cx.environment)?.bucket, &input.stack).await?) {
        if input.keep.contains(&resource.0) {
            stays.push(format!("{} {} stays: {why}", resource.0, resource.1));
        }
    }
    if input.checks.contains(&Check::Database) {
        let id = set_aside::database(cx)?;
        stays.push(format!("backups of {id} stay in both regions, and RDS takes a final snapshot of it: {why}"));
    }
    Ok(stays)
}

/// Type and id of every managed resource.
fn in_state(state: &Value) -> Vec<(String, String)> {
    let managed = state["resources"].as_array().into_iter().flatten().filter(|resource| resource["mode"] == "managed");
    let named = managed.flat_map(|resource| {
        let kind = resource["type"].as_str().unwrap_or_default();
        let instances = resource["instances"].as_array().into_iter().flatten();
        instances.filter_map(move |instance| Some((kind.to_owned(), instance["attributes"]["id"].as_str()?.to_owned())))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn plan() -> PlanJson {
        let change = |kind: &str, name: &str, before: Value| json!({ "address": format!("{kind}.{name}"), "mode": "managed", "type": kind, "change": { "actions": ["delete"], "before": before } });
        let changes = [
            change("aws_s3_bucket", "uploads", json!({ "bucket": "deployctl-qa-uploads" })),
            change("aws_kms_key", "data", json!({})),
            change("aws_db_instance", "database", json!({ "identifier": "deployctl-qa", "deletion_protection": true })),
            change("aws_sqs_queue", "parser", json!({})),
        ];
        PlanJson::parse(json!({ "format_version": "1.2", "resource_changes": changes }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn data_and_its_keys_stay_unless_they_are_named() {
        let keep = ["aws_s3_bucket", "aws_kms_key"].map(String::from);
        let stays: Vec<_> = kept(&plan(), &keep, Data::Stays).into_iter().collect();
        assert_eq!(stays, ["aws_kms_key.data", "aws_s3_bucket.uploads"]);
        assert!(kept(&plan(), &keep, Data::Goes).is_empty());
    }

    #[test]
    fn protection_is_read_from_what_is_there() {
        let found: Vec<_> = deleted(&plan()).filter_map(protected).collect();
        assert_eq!(found, [("aws_db_instance.database".to_owned(), DbInstanceId::parse("deployctl-qa").unwrap())]);
    }

    #[test]
    fn the_state_says_what_is_there() {
        let state = json!({ "resources": [
            { "mode": "managed", "type": "aws_s3_bucket", "instances": [{ "attributes": { "id": "a" } }, { "attributes": { "id": "b" } }] },
            { "mode": "data", "type": "aws_partition", "instances": [{ "attributes": { "id": "aws" } }] },
        ] });
        let found = in_state(&state);
        assert_eq!(found, [("aws_s3_bucket".to_owned(), "a".to_owned()), ("aws_s3_bucket".to_owned(), "b".to_owned())]);
        assert!(in_state(&Value::Null).is_empty());
    }
}
