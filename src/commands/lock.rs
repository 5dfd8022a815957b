//! `lock status` and `lock release`: who is changing an environment, and what to do about one who died where nobody can see it. With `--dr` in the
//! DR region, where a lost `dr prepare` has left its terraform.
use std::sync::Arc;

use serde_json::json;

use super::{
    dr,
    session::{self, Purpose, Session},
};
use crate::{
    cli::{Globals, LockArgs, LockCommand},
    engine::{
        apply,
        journal::{Entry, Journal, NoIntents},
        lease,
    },
    failure::{Failure, exit},
    ids::EnvironmentName,
    ui::{Output, Ui, confirm::Consent},
};

/// Runs one of them.
pub async fn run(command: LockCommand, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let name = session::environment(globals, &session::project(globals)?)?;
    match command {
        LockCommand::Status(args) => status(args, &name, globals, ui).await,
        LockCommand::Release(args) => release(args, &name, globals, ui).await,
    }
}

async fn open(args: LockArgs, name: &EnvironmentName, purpose: Purpose, globals: &Globals, ui: &Ui) -> Result<Session, Failure> {
    if args.dr { dr::prepare::session(purpose, globals, ui).await } else { Session::open(globals, name, purpose, ui).await }
}

async fn status(args: LockArgs, name: &EnvironmentName, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let session = open(args, name, Purpose::Plan, globals, ui).await?;
    session.tidy();
    let found = lease::read(&*session.records).await?;
    let waiting = apply::in_flight_elsewhere(&session.work, &session.history).map(|run| (run.header.run.clone(), run.in_flight()));
    let record = found.as_ref().map(|(record, _)| record);
    let holder = record.and_then(|record| record.holder.as_ref());
    let silent = found.as_ref().and_then(|(_, object)| object.age).map(|age| age.as_secs());
    if ui.output == Output::Json {
        let in_flight = waiting.as_ref().map(|(run, steps)| json!({ "run": run, "steps": steps }));
        let number = record.map(|record| record.number);
        return ui
            .json(&json!({ "environment": name, "number": number, "holder": holder, "silent_seconds": silent, "in_flight_elsewhere": in_flight }))
            .map(|()| exit::DONE);
    }
    let number = record.map_or(0, |record| record.number);
    let silence = silent.map_or_else(String::new, |seconds| format!(", last sign of life {seconds} s ago"));
    let mut text = match holder {
        Some(holder) => {
            format!("{name} is held by {holder}, number {number}{silence}; without one it ends after {} s\n", lease::LIFE.as_secs())
        }
        None if record.is_some() => format!("{name} is free; its last holder had number {number}\n"),
        None => format!("{name} was never held: it has no lease in {}\n", session.records.place()),
    };
    if let Some((run, steps)) = waiting {
        let steps: Vec<&str> = steps.iter().map(crate::ids::StepId::as_str).collect();
        text.push_str(&format!("run {run} was left on another machine with terraform in flight: {}\n", steps.join(", ")));
        let dr = if args.dr { " --dr" } else { "" };
        text.push_str(&format!("next: make sure that it has ended there, then: deployctl lock release{dr} -e {name}\n"));
    }
    ui.data(&text).map(|()| exit::DONE)
}

/// A lease ends by itself; what a person must say is that a terraform which cannot be seen from here has ended.
async fn release(args: LockArgs, name: &EnvironmentName, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    // Refused for as long as the holder may live: nobody can declare it dead against its own signs of life.
    let session = open(args, name, Purpose::Once("lock release"), globals, ui).await?;
    let result = declare(&session, name, globals, ui).await;
    session.tidy();
    session.end(result).await
}

async fn declare(session: &Session, name: &EnvironmentName, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let Some(run) = apply::in_flight_elsewhere(&session.work, &session.history) else {
        ui.data(&format!("{name} is free, and nothing is in flight that cannot be seen from here\n"))?;
        return Ok(exit::DONE);
    };
    let (lease, holder) = session.held()?;
    let last = run.attempts.last().map(ToString::to_string).unwrap_or_default();
    let consent = if globals.yes { Consent::Given } else { Consent::Ask };
    ui.confirm(&format!("Have you made sure that no terraform of {last} runs any more?"), consent)?;
    let journal = Journal::resume(&session.state.run(name, &run.header.run))?;
    journal.append(&Entry::DeclaredDead { by: holder.clone() })?;
    journal.mirror_with(lease, &session.work.events).await?;
    journal.end().await?;
    let work = &session.work;
    for id in run.in_flight() {
        // A step that the plan file no longer has holds nothing that this plan file's stacks would meet.
        let Ok(step) = work.definition.step(&id) else { continue };
        let host = run.attempts.last().map_or("", |holder| holder.process.host.as_str());
        let cx = work.context(&id, None, Arc::new(NoIntents))?;
        for line in work.registry.require(&step.kind)?.declared_dead(&cx, &step.with, host).await.map_err(|failure| failure.in_step(&id))? {
            ui.data(&format!("{id}: {line}\n"))?;
        }
    }
    let command = run.command();
    ui.data(&format!("recorded in run {}; next: deployctl {command} -e {name}\n", run.header.run)).map(|()| exit::DONE)
}
