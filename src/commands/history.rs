//! `history`: the runs of an environment, newest first.
use super::{
    elsewhere::{self, Wanted},
    session,
};
use crate::{
    cli::{Globals, HistoryArgs},
    engine::{
        event::Outcome,
        history::History,
        journal::RunRecord,
        workplace::{StateFolder, millis},
    },
    failure::{Failure, exit},
    ui::{Output, Ui, lines::took},
};

/// Asks the state bucket, and lists them.
pub async fn run(args: &HistoryArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = session::environment(globals, &project)?;
    elsewhere::bring(&project, &environment, &StateFolder::of_this_user()?, Wanted::Newest(args.limit), ui).await;
    show(args, globals, ui)
}

/// Lists them.
pub fn show(args: &HistoryArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = session::environment(globals, &project)?;
    let history = History::read(&StateFolder::of_this_user()?, &environment)?;
    for unreadable in &history.unreadable {
        ui.note(unreadable);
    }
    let runs: Vec<&RunRecord> = history.runs.iter().rev().take(args.limit).collect();
    if ui.output == Output::Json {
        return ui.json(&runs).map(|()| exit::DONE);
    }
    if runs.is_empty() && history.unreadable.is_empty() {
        ui.note(&format!("no run of {environment} is known here yet"));
    }
    let text: String = runs.iter().map(|run| line(run)).collect();
    ui.data(&text).map(|()| exit::DONE)
}

/// How a run ended, in a word.
pub fn result(run: &RunRecord) -> &'static str {
    match run.finished {
        Some(true) => "succeeded",
        Some(false) => "failed",
        None => "unfinished",
    }
}

fn line(run: &RunRecord) -> String {
    let changed = run.steps.values().filter(|step| step.outcome == Some(Outcome::Changed)).count();
    let started = run.started.map(|at| at.to_string()).unwrap_or_default();
    let time = match (run.started, run.ended) {
        (Some(from), Some(to)) => took(millis(to.duration_since(from).unsigned_abs())),
        _ => String::new(),
    };
    let owner = run.attempts.last().map(|holder| holder.owner.clone()).unwrap_or_default();
    format!("{}  {started}  {:10}  {time:>10}  {changed} changed  {owner}\n", run.header.run, result(run))
}
