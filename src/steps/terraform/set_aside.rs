//! Databases that a restore in place has set aside, and what one left halfway: terraform knows none of them, and the groups that they use, which
//! are terraform's, cannot go while they are there.
use std::time::Duration;

use super::{Input, verify::Check};
use crate::{
    aws::rds_in_place::DbSettings,
    database::{in_place::is_set_aside, retention::ENVIRONMENT},
    failure::Failure,
    ids::{DbInstanceId, SnapshotId},
    retry,
    steps::{Action, Change, Data, StepContext},
};

/// With its final snapshot; as long as terraform waits for the database itself.
const GONE: Duration = Duration::from_secs(3600);

/// Those of this environment; none for a stack without a database.
pub(super) async fn find(cx: &StepContext, input: &Input) -> Result<Vec<DbSettings>, Failure> {
    if !input.checks.contains(&Check::Database) {
        return Ok(Vec::new());
    }
    let database = database(cx)?;
    let tagged = cx.aws.db_instances_tagged(ENVIRONMENT).await?.into_iter();
    let ours = tagged.filter(|found| found.tags.get(ENVIRONMENT).is_some_and(|name| name == cx.environment.name.as_str()));
    Ok(ours.filter(|found| is_set_aside(&found.id, &database)).collect())
}

/// The database's own name.
pub(super) fn database(cx: &StepContext) -> Result<DbInstanceId, Failure> {
    cx.environment.db_instance_id().map_err(|e| Failure::usage("the environment's name").because(e))
}

/// As the plan shows it, protected like every other database.
pub(super) fn change(cx: &StepContext, found: &DbSettings) -> Change {
    let stays = match cx.data {
        Data::Stays => format!("snapshot {}-final stays", found.id),
        Data::Goes => "with its backups".to_owned(),
    };
    let lifted = found.kept.deletion_protection.then(|| "deletion_protection: true -> false".to_owned());
    let details = ["set aside by a restore in place".to_owned(), stays].into_iter().chain(lifted).collect();
    Change { action: Action::Delete, resource: "aws_db_instance".into(), name: found.id.to_string(), details }
}

/// Takes it away, with a last snapshot, which goes with the other backups where data goes.
pub(super) async fn delete(cx: &StepContext, found: &DbSettings) -> Result<(), Failure> {
    let id = &found.id;
    let snapshot = SnapshotId::parse(format!("{id}-final")).map_err(|e| Failure::usage(format!("a snapshot of {id}")).because(e))?;
    cx.progress(format!("{id}, set aside by a restore in place: deleting"));
    let gone = async {
        let mut pauses = retry::pauses();
        while !cx.aws.delete_db_instance(id, &snapshot).await? {
            tokio::time::sleep(pauses.next().unwrap_or_default()).await;
        }
        Ok(())
    };
    cx.wait_until(&format!("database instance {id} to be gone"), GONE, gone).await
}
