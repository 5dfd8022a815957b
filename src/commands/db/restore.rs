//! `db restore --in-place`: a snapshot in the database's place, by renaming; the old one stays. The same command goes on after a kill.
use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{Command, databases, given};
use crate::{
    aws::rds_in_place::DbSettings,
    cli::RestoreArgs,
    clock,
    commands::session::{Purpose, Session},
    database::in_place::{InPlace, Look, Repeat},
    engine::journal::NoIntents,
    failure::{Failure, exit},
    ids::{DbInstanceId, SnapshotId},
    plan::{reference::Resolved, resolve},
    steps::{
        Kind as _, StepContext,
        service::Snapshot,
        terraform::{self, exchanged},
    },
    ui::Output,
};

/// What was done.
#[derive(Debug, Serialize)]
struct Restored {
    instance: DbInstanceId,
    snapshot: SnapshotId,
    /// The instance that had the name; none if an earlier call has done all.
    before: Option<DbInstanceId>,
    /// What terraform's state was told.
    state: Vec<String>,
}

pub(super) async fn run(args: RestoreArgs, command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let session = Session::open(command.globals, &command.environment, Purpose::Once("db restore"), ui).await?;
    let result = restore(&session, &args, command).await;
    session.tidy();
    let restored = session.end(result).await?;
    match ui.output {
        Output::Json => ui.json(&restored)?,
        Output::Human => ui.data(&told(&restored))?,
    }
    Ok(exit::DONE)
}

fn told(restored: &Restored) -> String {
    let Restored { instance, snapshot, before, state } = restored;
    let mut text = format!("{instance} is restored from {snapshot}\n");
    if let Some(before) = before {
        text += &format!("the instance that had the name is {before}: it runs, costs, and keeps what was written since the snapshot\n");
    }
    text += &state.iter().map(|line| format!("terraform's state of {line}\n")).collect::<String>();
    text + "next: deployctl apply   (gives the roles their passwords again, points the stacks at the new instance, checks everything)\n"
}

async fn restore(session: &Session, args: &RestoreArgs, command: &Command<'_>) -> Result<Restored, Failure> {
    let ui = command.ui;
    let all = databases(session, command)?;
    let [(cx, database)] = all.as_slice() else {
        return Err(Failure::usage("the plan file has several databases; `db restore` does not know which is meant"));
    };
    let asked = InPlace {
        instance: database.instance.clone(),
        snapshot: args.snapshot.clone(),
        dr_key: database.key()?,
        deadline: Duration::from_secs(database.deadline_seconds),
        repeat: if args.again { Repeat::Yes } else { Repeat::No },
    };
    let (new, before) = exchange(cx, &asked, database, args, command, session).await?;
    let mut state = Vec::new();
    for (cx, with) in stacks(session)? {
        let followed = exchanged::follow(&cx, &with, &new).await.map_err(|failure| {
            failure.in_step(&cx.step).next(format!("deployctl db restore --in-place --snapshot {}   (goes on from there)", args.snapshot))
        })?;
        state.extend(followed);
    }
    ui.note("terraform's state knows the instance");
    Ok(Restored { instance: database.instance.clone(), snapshot: args.snapshot.clone(), before, state })
}

async fn exchange(
    cx: &StepContext,
    asked: &InPlace,
    database: &Snapshot,
    args: &RestoreArgs,
    command: &Command<'_>,
    session: &Session,
) -> Result<(DbSettings, Option<DbInstanceId>), Failure> {
    let ui = command.ui;
    let exchange = match asked.look(&cx.aws, clock::now()).await? {
        Look::Done(new) => {
            ui.note(&format!("{} is restored from {} already; --again does it once more", database.instance, args.snapshot));
            return Ok((*new, None));
        }
        Look::ToDo(exchange) => *exchange,
    };
    let begun = exchange.new.is_some();
    ui.note(&format!(
        "{}: snapshot {} is restored as {}, set up as {} is; then {} becomes {}, and {} becomes {}. What was written since the snapshot is in {} only.",
        if begun { "goes on" } else { "in place" },
        asked.snapshot,
        exchange.beside,
        asked.instance,
        asked.instance,
        exchange.before,
        exchange.beside,
        asked.instance,
        exchange.before,
    ));
    ui.confirm_name(&command.environment, args.confirm.as_deref())?;
    let renderers = ui.render(&session.work.events)?;
    let dr = cx.aws.in_region(&cx.environment.aws.dr_region);
    let tell = |line: String| cx.progress(line);
    // Each of its waits has a deadline of its own; there are five.
    let patience = asked.deadline * 5;
    let doing = asked.carry_out(&cx.aws, &dr, exchange, &tell);
    let done = cx.wait_until(&format!("{} to be restored in place", asked.instance), patience, doing).await;
    renderers.finish().await?;
    let again =
        format!("deployctl db restore --in-place --snapshot {} --confirm {}   (goes on from there)", asked.snapshot, command.environment);
    let done = done.map_err(|failure| failure.next(again))?;
    Ok((done.new, Some(done.old.id)))
}

/// The steps whose stacks may hold the instance, with what they are given.
fn stacks(session: &Session) -> Result<Vec<(StepContext, serde_json::Value)>, Failure> {
    let (definition, given) = (&session.work.definition, given(session));
    let mut stacks = Vec::new();
    for step in definition.file.steps.iter().filter(|step| step.kind == terraform::Terraform::NAME) {
        if let Resolved::Value(with) = resolve::input(definition, step, &given)? {
            stacks.push((session.work.context(&step.id, None, Arc::new(NoIntents))?, with));
        }
    }
    Ok(stacks)
}
