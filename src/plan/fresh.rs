//! Whether a saved plan still holds: what it was made from is what is there today, or what differs is this plan's own doing. Pure.
use jiff::Timestamp;

use super::{
    Decision, Plan, PlannedStep,
    difference::{Difference, differences},
    saved::Saved,
};
use crate::{
    engine::{
        dag::Dag,
        history::History,
        limits::beyond_shown,
        status::{Status, StepRecord},
    },
    failure::{Failure, FailureKind},
    ids::StepId,
    steps::Facts,
};

/// What runs of the same definition have done about a step since the plan was made: their journals explain what has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Nothing.
    Untouched,
    /// It was begun, and did not end well.
    Begun,
    /// It ended well.
    Done,
}

/// The saved plan, with today's in the place of steps that a run of it has done since. Anything else that has moved makes it stale, and
/// is named.
pub fn freshen(saved: &Saved, now: &Plan, history: &History, dag: &Dag) -> Result<Plan, Failure> {
    let shown = &saved.plan;
    let mut moved = Vec::new();
    if (&shown.environment, &shown.account, &shown.region) != (&now.environment, &now.account, &now.region) {
        moved.push(format!(
            "it is for {} in {} {}, not for {} in {} {}",
            shown.environment, shown.account, shown.region, now.environment, now.account, now.region
        ));
    }
    if shown.definition != now.definition {
        moved.push("the plan file or the environment file has changed".to_owned());
    }
    let own = |step: &StepId| since(history, &shown.definition, saved.made_at, step);
    let mut fresh = shown.clone();
    for step in &mut fresh.steps {
        let Some(today) = now.step(&step.id) else {
            moved.push(format!("{}: the plan file has no such step any more", step.id));
            continue;
        };
        let needs = dag.all_needs(&step.id).iter().map(own).find(|since| *since != Since::Untouched).unwrap_or(Since::Untouched);
        let lines = freshen_step(step, today, own(&step.id), needs);
        moved.extend(lines.into_iter().map(|line| format!("{}: {line}", step.id)));
    }
    if moved.is_empty() {
        return Ok(fresh);
    }
    let mut failure = Failure::new(FailureKind::PlanStale, "the saved plan is stale; nothing was done")
        .next(format!("make a new one: deployctl plan -e {} --out FILE", shown.environment));
    failure.evidence = moved;
    Err(failure)
}

fn since(history: &History, definition: &str, made_at: Timestamp, step: &StepId) -> Since {
    let of_it = history.runs.iter().rev().filter(|run| run.header.definition == definition);
    let later = of_it.filter(|run| run.attempts.last().is_some_and(|holder| holder.since >= made_at));
    let mut ends = later.filter_map(|run| run.steps.get(step)).map(StepRecord::last_status);
    match ends.find(|status| !matches!(status, Status::Pending | Status::Skipped)) {
        None => Since::Untouched,
        Some(Status::Succeeded) => Since::Done,
        Some(_) => Since::Begun,
    }
}

/// What has moved under one step; `own` and `needs` say what runs of this plan have done about it and about what it needs.
fn freshen_step(step: &mut PlannedStep, today: &PlannedStep, own: Since, needs: Since) -> Vec<String> {
    let (then, asked, shown) = match &step.decision {
        Decision::Planned { observed, input, plan, .. } => (observed, input, plan),
        // A deferred step is planned and held against its bound when it runs, whatever could be known now.
        Decision::Deferred { .. } | Decision::Skipped { .. } => return Vec::new(),
    };
    let Decision::Planned { observed, input, plan, .. } = &today.decision else {
        let Decision::Deferred { because, .. } = &today.decision else { return Vec::new() };
        let waits = !shown.changes.is_empty() && (own, needs) == (Since::Untouched, Since::Untouched);
        return if waits { vec![format!("cannot be planned any more, waits for {}", because.join(", "))] } else { Vec::new() };
    };
    if then == observed && asked == input {
        return Vec::new();
    }
    let beyond = beyond_shown(&shown.changes, &plan.changes);
    if own != Since::Untouched && beyond.is_empty() {
        step.decision = today.decision.clone();
        return Vec::new();
    }
    // Half of it may be there: the kind goes on with what was shown, and its input is followed once more when it runs.
    if own == Since::Begun || (own == Since::Untouched && needs != Since::Untouched && asked != input) {
        return Vec::new();
    }
    let mut moved: Vec<String> = differences(asked, input).iter().map(|found| format!("asks for something else: {found}")).collect();
    moved.extend(differing(then, observed));
    moved.extend(beyond.iter().map(|change| format!("would now also {} {} {}", change.action, change.resource, change.name)));
    moved
}

/// The things that have moved, field by field.
pub fn differing(then: &Facts, now: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    let things: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for thing in things {
        match (then.get(thing), now.get(thing)) {
            (Some(before), Some(after)) => lines.extend(differences(before, after).iter().map(|found| line(thing, found))),
            (Some(_), None) => lines.push(format!("{thing} is gone")),
            (None, _) => lines.push(format!("{thing} is new")),
        }
    }
    lines
}

fn line(thing: &str, found: &Difference<'_>) -> String {
    if found.path.is_empty() { format!("{thing}: {found}") } else { format!("{thing} {found}") }
}

#[cfg(test)]
#[path = "fresh_tests.rs"]
mod tests;
