//! Events as plain lines: for logs, CI and terminals without escapes.
use super::{Renderer, to_stderr};
use crate::{
    engine::event::{Event, EventKind, Outcome, Phase},
    failure::Failure,
};

/// Writes a line an event.
pub struct Lines;

/// A duration as people say it.
pub fn took(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        10_000..120_000 => format!("{} s", millis / 1000),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// The line of an event; none for those that say nothing by themselves.
pub fn line(event: &EventKind) -> Option<String> {
    Some(match event {
        EventKind::StepStarted { step, phase: Phase::Apply } => format!("{step}: applying"),
        EventKind::StepStarted { step, phase: Phase::Undo } => format!("{step}: taking away"),
        EventKind::StepStarted { .. } | EventKind::RunStarted { .. } => return None,
        EventKind::StepPlanned { step, changes, millis } => match changes {
            None => format!("{step}: deferred"),
            Some(0) => format!("{step}: no changes ({})", took(*millis)),
            Some(1) => format!("{step}: 1 change ({})", took(*millis)),
            Some(changes) => format!("{step}: {changes} changes ({})", took(*millis)),
        },
        EventKind::Progress { step, message, of: None } => format!("{step}: {message}"),
        EventKind::Progress { step, message, of: Some((done, all)) } => format!("{step}: {message} ({done}/{all})"),
        EventKind::Waiting { step, what, seconds, deadline_seconds } => {
            format!("{step}: waiting for {what} ({seconds} s of at most {deadline_seconds} s)")
        }
        EventKind::Checked { step, what, millis } => format!("{step}: checked {what} ({})", took(*millis)),
        EventKind::StepFinished { step, outcome, millis, .. } => format!("{step}: {} ({})", outcome_text(outcome), took(*millis)),
        EventKind::StepFailed { step, chain, millis } => {
            format!("{step}: failed: {} ({})", chain.first().map(String::as_str).unwrap_or_default(), took(*millis))
        }
        EventKind::Interrupted { signal, running } if running.is_empty() => format!("{signal}: stopping"),
        EventKind::Interrupted { signal, running } => {
            let steps: Vec<&str> = running.iter().map(crate::ids::StepId::as_str).collect();
            format!("{signal}: waiting for {} to end safely; nothing new starts; once more leaves at once", steps.join(", "))
        }
        EventKind::Warning { message } => format!("warning: {message}"),
        EventKind::RunFinished { succeeded: true, millis } => format!("done ({})", took(*millis)),
        EventKind::RunFinished { succeeded: false, millis } => format!("stopped ({})", took(*millis)),
    })
}

/// What a phase does, in a word or two.
pub fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Observe => "observing",
        Phase::Plan => "planning",
        Phase::Apply => "applying",
        Phase::Verify => "verifying",
        Phase::Undo => "taking away",
    }
}

/// An outcome in a word or a sentence.
pub fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Changed => "changed".to_owned(),
        Outcome::Unchanged => "unchanged".to_owned(),
        Outcome::Skipped { reason } => format!("skipped: {reason}"),
    }
}

impl Renderer for Lines {
    fn show(&mut self, event: &Event) -> Result<(), Failure> {
        if let Some(line) = line(&event.kind) {
            to_stderr(&line);
        }
        Ok(())
    }
    fn missed(&mut self, count: u64) -> Result<(), Failure> {
        to_stderr(&format!("({count} events came too fast to be shown)"));
        Ok(())
    }
}
