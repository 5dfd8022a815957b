//! `db list`: every snapshot of the databases, in both regions, and what `db prune` would do about it.
use jiff::Timestamp;
use serde::Serialize;

use super::{Command, databases, prune};
use crate::{
    aws::rds_snapshots::ManualSnapshot,
    commands::session::{Purpose, Session},
    database::retention::Verdict,
    failure::{Failure, exit},
    ids::{DbInstanceId, Region},
    ui::Output,
};

/// One snapshot in one region.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Listed {
    pub instance: DbInstanceId,
    pub region: Region,
    #[serde(flatten)]
    pub snapshot: ManualSnapshot,
    #[serde(flatten)]
    pub verdict: Verdict,
}

pub(super) async fn run(command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let session = Session::open(command.globals, &command.environment, Purpose::Plan, ui).await?;
    let retention = session.work.definition.environment.database.snapshots;
    let listed = async { prune::judge(&session, &databases(&session, command)?, retention).await }.await;
    session.tidy();
    let listed = listed?;
    match ui.output {
        Output::Json => ui.json(&listed)?,
        Output::Human if listed.is_empty() => ui.data("there are no snapshots\n")?,
        Output::Human => listed.iter().try_for_each(|one| ui.data(&line(one)))?,
    }
    Ok(exit::DONE)
}

/// A line for people; what it was taken of and why stands in its tags.
pub(super) fn line(one: &Listed) -> String {
    let Listed { region, snapshot, verdict, .. } = one;
    let taken = snapshot.taken.map_or_else(|| "not yet".to_owned(), |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let schema = snapshot.tags.get("deployctl:schema").map_or_else(String::new, |version| format!("  schema {version}"));
    format!("{}  {region}  {taken}  {}  {} GiB{schema}  {verdict}\n", snapshot.id, snapshot.status, snapshot.storage_gib)
}
