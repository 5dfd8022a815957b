//! `db snapshot`: a snapshot of each database, and its copy in the DR region.
use std::{collections::BTreeMap, time::Duration};

use super::{Command, Deployed, with_databases};
use crate::{
    cli::SnapshotArgs,
    clock,
    commands::session::{Purpose, Session},
    failure::{Failure, FailureKind, LeftBehind, exit},
    ids::SnapshotId,
    steps::{
        StepContext,
        service::{Pause, Snapshot, snapshot::taken},
    },
    ui::Output,
};

pub(super) async fn run(args: SnapshotArgs, command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let session = Session::open(command.globals, &command.environment, Purpose::Once("db snapshot"), ui).await?;
    let result = take(&session, args, command).await;
    session.tidy();
    let taken = session.end(result).await?;
    match ui.output {
        Output::Json => ui.json(&taken)?,
        Output::Human => taken.iter().try_for_each(|(id, regions)| ui.data(&format!("{id} in {}\n", regions.join(" and "))))?,
    }
    Ok(exit::DONE)
}

/// Takes a snapshot of each instance once, and copies it to the DR region: a lost region copies nothing.
async fn take(session: &Session, args: SnapshotArgs, command: &Command<'_>) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let renderers = command.ui.render(&session.work.events)?;
    let mut taken = BTreeMap::new();
    for Deployed { cx, input } in with_databases(session, command)? {
        let Some(snapshot) = &input.snapshot else { continue };
        let taking = async {
            let Some(limit) = args.pause_writes else { return take_one(&cx, snapshot, "manual", None).await };
            let cluster = cx.cluster(&input.cluster).await?;
            let pause = input.pause(&cluster, limit.unsigned_abs())?;
            take_one(&cx, snapshot, "manual", Some(&pause)).await
        };
        let name = taking.await.map_err(|failure| failure.in_step(&cx.step))?;
        let aws = &cx.environment.aws;
        taken.insert(name.to_string(), vec![aws.region.to_string(), aws.dr_region.to_string()]);
    }
    renderers.finish().await?;
    Ok(taken)
}

/// One instance; `why` becomes part of the name.
pub(super) async fn take_one(cx: &StepContext, snapshot: &Snapshot, why: &str, pause: Option<&Pause<'_>>) -> Result<SnapshotId, Failure> {
    // The second in the name makes it unique: the lease lets nobody else take one meanwhile.
    let at = clock::now().strftime("%Y%m%d%H%M%S").to_string();
    let id = SnapshotId::parse(format!("{}-{why}-{at}", snapshot.instance))
        .map_err(|error| Failure::new(FailureKind::Internal, "a name for the snapshot").because(error))?;
    let mut tags = cx.environment.tags.clone();
    tags.insert("deployctl:environment".to_owned(), cx.environment.name.to_string());
    tags.insert("deployctl:by".to_owned(), format!("db {why}"));
    let deadline = Duration::from_secs(snapshot.deadline_seconds);
    let patience = deadline + Duration::from_secs(30);
    let left = |failure: Failure| failure.left(LeftBehind::Partial(vec![format!("snapshot {id}")]));
    let taken = taken(cx, snapshot, &id, &tags, pause).await?;
    let there = cx.aws.in_region(&cx.environment.aws.dr_region);
    there.start_db_snapshot_copy(&taken.arn, &id, &snapshot.key()?, &tags).await.map_err(left)?;
    let waiting =
        there.wait_until_db_snapshot_available(&id, deadline, |found| cx.progress(format!("copy: {} {} %", found.status, found.percent)));
    cx.wait_until(&format!("the copy of {id} in {}", there.region()), patience, waiting).await.map_err(left)?;
    Ok(id)
}
