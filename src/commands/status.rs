//! `status`: where a run stands, step by step, as its journal says.
use super::{
    elsewhere::{self, Wanted},
    history::result,
    session,
};
use crate::{
    cli::{Globals, StatusArgs},
    engine::{
        history::History,
        journal::RunRecord,
        status::{Status, StepRecord},
        workplace::StateFolder,
    },
    failure::{Failure, exit},
    ui::{Output, Ui, lines::outcome_text},
};

/// Asks the state bucket, and shows one run.
pub async fn run(args: &StatusArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = session::environment(globals, &project)?;
    let wanted = args.run.as_ref().map_or(Wanted::Newest(1), Wanted::Run);
    elsewhere::bring(&project, &environment, &StateFolder::of_this_user()?, wanted, ui).await;
    show(args, globals, ui)
}

/// Shows one run.
pub fn show(args: &StatusArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = session::environment(globals, &project)?;
    let history = History::read(&StateFolder::of_this_user()?, &environment)?;
    let run = match &args.run {
        Some(id) => history.runs.iter().find(|run| run.header.run == *id).ok_or_else(|| {
            Failure::usage(format!("no run {id} of {environment} is known here")).next(format!("deployctl history -e {environment}"))
        })?,
        None => match history.runs.last() {
            Some(run) => run,
            None if !history.unreadable.is_empty() => return Err(history.damaged()),
            None => {
                ui.note(&format!("no run of {environment} is known here yet"));
                return Ok(exit::DONE);
            }
        },
    };
    if ui.output == Output::Json {
        return ui.json(run).map(|()| exit::DONE);
    }
    ui.data(&text(run)).map(|()| exit::DONE)
}

fn text(run: &RunRecord) -> String {
    let started = run.started.map(|at| at.to_string()).unwrap_or_default();
    let mut text = format!("run {} on {}, begun {started}: {}\n", run.header.run, run.header.environment, result(run));
    if let Some(holder) = run.attempts.last() {
        text.push_str(&format!("attempt {} by {holder}\n", run.attempts.len()));
    }
    if let Some(reason) = &run.selection.reason {
        text.push_str(&format!("a part only: {reason}\n"));
    }
    let widest = run.steps.keys().map(|id| id.as_str().len()).max().unwrap_or_default();
    for (id, step) in &run.steps {
        text.push_str(&format!("  {:widest$}  {}\n", id.as_str(), describe(step)));
        text.extend(step.failure.iter().map(|line| format!("  {:widest$}    {line}\n", "")));
    }
    if run.is_unfinished() {
        text.push_str(&format!("next: deployctl {} -e {}   (goes on from here)\n", run.command(), run.header.environment));
    }
    text
}

fn describe(step: &StepRecord) -> String {
    match (step.status, &step.outcome) {
        (Status::Succeeded | Status::Skipped, Some(outcome)) => outcome_text(outcome),
        (Status::Applied, _) => "applied, not verified".to_owned(),
        (Status::Started, _) => "in flight".to_owned(),
        (Status::Failed, _) => "failed".to_owned(),
        (Status::Pending, _) if step.before != Status::Pending => "not looked at again yet".to_owned(),
        _ => "pending".to_owned(),
    }
}
