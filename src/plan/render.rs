//! The plan as people read it: one diff over everything, with what is deferred, why, and its bound. Pure.
use std::{collections::BTreeMap, fmt::Write};

use super::{Decision, Plan, PlannedStep};
use crate::steps::{Action, Change};

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Terminal escapes.
    Ansi,
    /// None.
    Plain,
}

impl Colour {
    /// Wraps a text in an escape sequence, if allowed.
    pub fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

fn sign(change: &Change, colour: Colour) -> String {
    let (code, sign) = match change.action {
        Action::Create => ("32", "+"),
        Action::Update => ("33", "~"),
        Action::Replace => ("35", "-/+"),
        Action::Delete => ("31", "-"),
        Action::Run if change.is_check() => ("36", "?"),
        Action::Run => ("36", ">"),
    };
    colour.paint(code, sign)
}

fn done(action: Action) -> &'static str {
    match action {
        Action::Create => "to create",
        Action::Update => "to update",
        Action::Replace => "to replace",
        Action::Delete => "to delete",
        Action::Run => "to run",
    }
}

fn counts<'a>(changes: impl Iterator<Item = &'a Change>) -> Vec<String> {
    let mut by_action = BTreeMap::new();
    let mut checks = 0;
    for change in changes {
        if change.is_check() {
            checks += 1;
        } else {
            *by_action.entry(change.action).or_insert(0usize) += 1;
        }
    }
    let mut counts: Vec<String> = by_action.into_iter().map(|(action, count)| format!("{count} {}", done(action))).collect();
    if checks > 0 {
        counts.push(format!("{checks} to check"));
    }
    counts
}

/// The whole plan.
pub fn human(plan: &Plan, colour: Colour) -> String {
    let mut text = format!("Plan for {} (account {}, {})\n\n", plan.environment, plan.account, plan.region);
    let widest = plan.steps.iter().map(|step| step.id.as_str().len()).max().unwrap_or_default();
    for step in &plan.steps {
        render_step(&mut text, step, widest, colour);
    }
    text.push('\n');
    text.push_str(&summary(plan));
    text.push('\n');
    text
}

fn render_step(text: &mut String, step: &PlannedStep, widest: usize, colour: Colour) {
    let what = match &step.decision {
        Decision::Planned { plan, .. } if plan.changes.is_empty() => colour.paint("2", "no changes"),
        Decision::Planned { plan, .. } => counts(plan.changes.iter()).join(", "),
        Decision::Deferred { because, .. } if because.is_empty() => format!("{}: not observed", colour.paint("36", "deferred")),
        Decision::Deferred { because, .. } => {
            format!("{}: planned again when {} is there", colour.paint("36", "deferred"), because.join(", "))
        }
        Decision::Skipped { reason, .. } => format!("skipped ({reason})"),
    };
    push(text, &format!("  {}  {what}", colour.paint("1", &format!("{:widest$}", step.id.as_str()))));
    if let Some(refused) = &step.refused {
        push(text, &format!("    {} apply refuses this: {refused}", colour.paint("31", "!")));
    }
    for change in step.changes() {
        push(text, &format!("    {} {} {}", sign(change, colour), change.resource, change.name));
        for detail in &change.details {
            push(text, &format!("        {detail}"));
        }
    }
    if let Decision::Deferred { bound, .. } = &step.decision {
        let allowed = if bound.is_empty() { "nothing".to_owned() } else { bound.join(", ") };
        for (at, line) in wrap(&allowed, 92).iter().enumerate() {
            push(text, &format!("    {}{line}", if at == 0 { "creates at most: " } else { "                 " }));
        }
    }
}

fn push(text: &mut String, line: &str) {
    // Writing into a String cannot fail.
    writeln!(text, "{}", line.trim_end()).unwrap_or_default();
}

/// Breaks at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The last line.
pub fn summary(plan: &Plan) -> String {
    let deferred = plan.steps.iter().filter(|step| matches!(step.decision, Decision::Deferred { .. })).count();
    let mut parts = counts(plan.changes().map(|(_, change)| change));
    if deferred > 0 {
        parts.push(format!("{deferred} {} deferred", if deferred == 1 { "step" } else { "steps" }));
    }
    if !plan.has_changes() {
        parts.insert(0, "no changes".to_owned());
    }
    format!("Plan: {}.", parts.join(", "))
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
