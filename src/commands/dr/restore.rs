//! `dr restore`: one command at three in the morning. What it decided is in the journal, so that the same command goes on with it.
use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{RESTORE, answer, carry_out, subject};
use crate::{
    aws::recovery::Wanted,
    cli::{DrLimits, DrRestoreArgs, Globals},
    clock,
    commands::session::{Purpose, Session},
    engine::{
        journal::{self, RunRecord},
        status::Status,
        timeline,
    },
    failure::{Failure, exit},
    ids::StepId,
    plan::Plan,
    steps::restore::{
        choice::{Chosen, age_seconds},
        intent,
    },
    ui::{Output, Ui},
};

/// The step of plans/restore-rds.yaml that makes the database.
const DATABASE: &str = "database";
/// So many of the newest restores say how long one takes.
const EARLIER: usize = 5;

fn wanted(args: &DrRestoreArgs) -> Wanted {
    match (&args.snapshot, args.at) {
        (Some(id), _) => Wanted::Snapshot(id.clone()),
        (None, Some(at)) => Wanted::At(at),
        (None, None) => Wanted::Latest,
    }
}

/// The command that goes on with this one.
fn again(args: &DrRestoreArgs) -> String {
    let point = match wanted(args) {
        Wanted::Latest => "--latest".to_owned(),
        Wanted::Snapshot(id) => format!("--snapshot {id}"),
        Wanted::At(at) => format!("--at {at}"),
    };
    format!("deployctl dr restore --to {} {point}", args.to)
}

/// Plans, asks, restores, says what came of it.
pub async fn run(args: DrRestoreArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let subject = subject(globals, RESTORE, BTreeMap::from([("point", json!(wanted(&args)))]))?;
    let environment = &subject.definition.environment;
    let name = environment.name.clone();
    if args.to != environment.aws.region {
        return Err(Failure::usage(format!("{name} is restored in {}: nothing of it is kept in {}", environment.aws.region, args.to))
            .next(format!("deployctl dr restore --to {}", environment.aws.region)));
    }
    let mut session = Session::open_on(globals, subject, Purpose::Resume("dr restore"), ui).await?;
    let result = in_session(&mut session, &args, globals, ui).await;
    if result.is_ok() {
        session.tidy();
    }
    session.end(result).await.map_err(|failure| failure.in_environment(&name))
}

async fn in_session(session: &mut Session, args: &DrRestoreArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    if !session.records.exists().await? {
        let place = session.records.place();
        ui.note(&format!(
            "warning: {place} is not there, so that only this machine can go on with the restore, and no other one is kept out"
        ));
    }
    let answer = carried_out(session, &wanted(args), &again(args), &args.limits, globals, ui).await?;
    answer.within_limits().map(|()| exit::DONE)
}

/// Restores and tells what came of it, on the terminal and in two files.
pub(super) async fn carried_out(
    session: &mut Session,
    wanted: &Wanted,
    again: &str,
    limits: &DrLimits,
    globals: &Globals,
    ui: &Ui,
) -> Result<answer::Answer, Failure> {
    recall(session, wanted)?;
    let (plan, ended) = carry_out(session, again, globals, ui).await?;
    let text = std::fs::read_to_string(&ended.journal).map_err(|error| {
        Failure::step(format!("the database is restored, but its journal {} cannot be read", ended.journal.display())).because(error)
    })?;
    let (record, _) = journal::read_text(text.as_bytes(), &ended.journal)?;
    let answer = answer::Answer::of(&session.work.definition.environment, &record, changed(&plan), &text, limits)?;
    let beside = ended.journal.parent().unwrap_or(Path::new("."));
    let files = answer.write(limits.report.as_deref().unwrap_or(beside))?;
    match ui.output {
        Output::Human => ui.data(&answer.human())?,
        Output::Json => ui.json(&answer)?,
    }
    ui.note(&format!("report: {}", files.map(|file| file.display().to_string()).join(" and ")));
    Ok(answer)
}

/// Whether this run makes the database, or finds it made.
fn changed(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| step.id.as_str() == DATABASE && !step.changes().is_empty())
}

/// What this run has decided already, and how long a restore took before.
fn recall(session: &mut Session, wanted: &Wanted) -> Result<(), Failure> {
    let step = StepId::parse(DATABASE).map_err(|e| Failure::usage("the restore's step").because(e))?;
    let decided = session.history.runs.iter().find(|run| run.header.run == session.run).and_then(|run| decided(run, &step, wanted));
    let usual = usual_seconds(session, &step);
    let definition = Arc::make_mut(&mut session.work.definition);
    if let Some(decided) = decided {
        definition.recall("point", decided);
    }
    definition.recall("usual_seconds", json!(usual));
    Ok(())
}

fn decided(run: &RunRecord, step: &StepId, wanted: &Wanted) -> Option<Value> {
    let record = run.steps.get(step)?;
    let given = || record.outputs.as_ref().filter(|_| record.last_status() == Status::Succeeded)?.get("point");
    record.intents.get(&intent(wanted)).or_else(given).cloned()
}

/// The median of the newest restores that were carried out in this region; none if there was none.
pub(super) fn usual_seconds(session: &Session, step: &StepId) -> Option<u64> {
    let name = &session.work.definition.environment.name;
    let texts = session.history.runs.iter().rev().filter_map(|run| {
        // A journal that has gone meanwhile says nothing about how long a restore takes.
        std::fs::read_to_string(journal::path_in(&session.state.run(name, &run.header.run))).ok()
    });
    let mut seconds: Vec<u64> = texts.filter_map(|text| timeline::took(&text, step)).take(EARLIER).map(|took| took.as_secs()).collect();
    seconds.sort_unstable();
    seconds.get(seconds.len() / 2).copied()
}

/// A point for people, with its age.
pub(super) fn point_text(chosen: &Chosen) -> String {
    format!("{}, which holds everything until {} ({})", chosen.source_text(), chosen.at, answer::span(age_seconds(clock::now(), chosen.at)))
}
