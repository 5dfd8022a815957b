//! `db undo`: takes back the newest migration by the undo file that was written for it, after a snapshot.
use serde::Serialize;

use super::{Command, Deployed, deployed, snapshot::take_one};
use crate::{
    cli::UndoArgs,
    commands::session::{Purpose, Session},
    database::version::Version,
    failure::{Failure, FailureKind, LeftBehind, exit},
    ids::{SnapshotId, StepId},
    steps::service::{Migrations, migration},
    ui::{Output, confirm::Consent},
};

/// What was done.
#[derive(Debug, Serialize)]
struct Undone {
    step: StepId,
    /// None if it had been taken back before.
    ran: Option<String>,
    snapshot: Option<SnapshotId>,
    version: Option<String>,
}

pub(super) async fn run(args: UndoArgs, command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let session = Session::open(command.globals, &command.environment, Purpose::Once("db undo"), ui).await?;
    let result = undo(&session, args.version, command).await;
    session.tidy();
    let undone = session.end(result).await?;
    match ui.output {
        Output::Json => ui.json(&undone)?,
        Output::Human => ui.data(&told(&undone))?,
    }
    Ok(exit::DONE)
}

fn told(undone: &Undone) -> String {
    let version = undone.version.as_deref().unwrap_or("none");
    match &undone.ran {
        Some(file) => format!(
            "{}: {file} ran; schema version {version}. The next apply runs the migration again unless its file is taken out of the folder.\n",
            undone.step
        ),
        None => format!("{}: nothing to take back; schema version {version}\n", undone.step),
    }
}

async fn undo(session: &Session, wanted: Option<Version>, command: &Command<'_>) -> Result<Undone, Failure> {
    let mut all = deployed(session, command)?.into_iter().filter_map(|one| Some((one.input.migrations.clone()?, one)));
    let (Some((migrations, one)), None) = (all.next(), all.next()) else {
        return Err(Failure::usage("several steps of the plan file have migrations; `db undo` does not know which is meant"));
    };
    let step = one.cx.step.clone();
    one_step(one, migrations, wanted, command, session).await.map_err(|failure| failure.in_step(&step))
}

async fn one_step(
    one: Deployed,
    migrations: Migrations,
    wanted: Option<Version>,
    command: &Command<'_>,
    session: &Session,
) -> Result<Undone, Failure> {
    let Deployed { cx, input } = one;
    let (cluster, agent) = (cx.cluster(&input.cluster).await?, input.agent()?);
    let renderers = command.ui.render(&session.work.events)?;
    let before = migration::observe(&cx, &cluster, agent, &input.service, &migrations).await?;
    if let Some(why) = before.unknown {
        return Err(Failure::step(format!("nobody knows which version is the newest: {why}")).next("deployctl db status"));
    }
    let applied = before.version.as_deref().and_then(Version::parse);
    let undone = |ran, snapshot, version: Option<String>| Undone { step: cx.step.clone(), ran, snapshot, version };
    let named = wanted.is_some();
    let version = match (wanted, applied) {
        // The same command once more, after it was killed or its answer was lost.
        (Some(wanted), Some(applied)) if wanted > applied => return Ok(undone(None, None, before.version)),
        (_, None) => return Ok(undone(None, None, None)),
        (Some(wanted), Some(applied)) if wanted < applied => {
            return Err(Failure::usage(format!("version {wanted} is not the newest: {applied} is, and must be taken back first")));
        }
        (_, Some(applied)) => applied,
    };
    let Some(file) = before.undo else {
        let message = format!("there is no undo file for version {version}: U{version}__….sql in {}", migrations.folder.display());
        return Err(Failure::new(FailureKind::Preflight, message)
            .next("write one, or write a new migration that takes back what it did, or restore the snapshot: deployctl db list"));
    };
    if command.globals.yes && !named {
        return Err(Failure::usage("--yes does not say which version is meant; nothing was done").next(format!("add --version {version}")));
    }
    let consent = if command.globals.yes { Consent::Given } else { Consent::Ask };
    command.ui.confirm(&format!("Take back version {version} by {file}, after a snapshot?"), consent)?;
    let snapshot = match &input.snapshot {
        Some(snapshot) => Some(take_one(&cx, snapshot, "before-undo", None).await?),
        None => None,
    };
    let left = |failure: Failure| match (&failure.left_behind, &snapshot) {
        (LeftBehind::Nothing, Some(id)) => failure.left(LeftBehind::Partial(vec![format!("snapshot {id}")])),
        _ => failure,
    };
    let ran = migration::undo(&cx, &cluster, agent, &input.service, &migrations, &version).await.map_err(left)?;
    let after = migration::observe(&cx, &cluster, agent, &input.service, &migrations).await?;
    renderers.finish().await?;
    if after.version.as_deref().and_then(Version::parse).is_some_and(|after| after >= version) {
        return Err(Failure::verification(format!("the schema is still at version {}", after.version.unwrap_or_default()))
            .next("deployctl db status"));
    }
    Ok(undone(ran, snapshot, after.version))
}
