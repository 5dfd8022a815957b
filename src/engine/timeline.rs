//! How long each part of a run took, from its journal: whoever goes on with a run sees the whole of it, with the time that nobody worked.
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    event::Outcome,
    journal::{Entry, Header},
    status::StepEvent,
};
use crate::ids::StepId;

/// Intents that begin with this word and hold a time are states that a step waited through, as in `status creating of NAME`.
const STATUS: &str = "status ";

/// The name of such an intent. What was waited for is named in it: a later run, which inherits what a dead one knew, has waited for another thing.
pub fn status_intent(status: &str, of: impl std::fmt::Display) -> String {
    format!("{STATUS}{status} of {of}")
}

fn status_in(intent: &str) -> Option<&str> {
    intent.strip_prefix(STATUS).map(|rest| rest.rsplit_once(" of ").map_or(rest, |(status, _)| status))
}

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// What was done, or waited for.
    pub name: String,
    /// From when.
    pub from: Timestamp,
    /// To when.
    pub to: Timestamp,
}

impl Phase {
    /// How long it took; a clock that was set back makes it nothing.
    pub fn took(&self) -> Duration {
        Duration::try_from(self.to.duration_since(self.from)).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Line {
    at: Timestamp,
    #[serde(flatten)]
    entry: Entry,
}

/// The journal's lines behind the first; a torn last one is what a crash leaves.
fn lines(text: &str) -> Vec<Line> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let header = whole.lines().next().and_then(|line| serde_json::from_str::<Header>(line).ok());
    header.map(|_| whole.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).collect()).unwrap_or_default()
}

/// The phases of a run whose steps follow each other, in their order and without gaps.
pub fn phases(text: &str) -> Vec<Phase> {
    let mut phases = Vec::new();
    // What goes on, and since when.
    let mut open: Option<(String, Timestamp)> = None;
    let mut last = None;
    for Line { at, entry } in lines(text) {
        let next = match entry {
            Entry::Attempt { .. } => {
                if let (Some((name, from)), Some(last)) = (open.take(), last) {
                    push(&mut phases, name, from, last);
                }
                if let Some(last) = last {
                    push(&mut phases, "nobody was at work".to_owned(), last, at);
                }
                Some("deciding".to_owned())
            }
            Entry::Step { step, event } => match event {
                StepEvent::Started { .. } => Some(format!("{step}: asking for it")),
                StepEvent::Intent { key, .. } => status_in(&key).map(|status| format!("{step}: {status}")),
                StepEvent::Applied { .. } => Some(format!("{step}: reading it back")),
                StepEvent::Succeeded | StepEvent::Unchanged { .. } | StepEvent::Skipped { .. } | StepEvent::Failed { .. } => {
                    Some("between steps".to_owned())
                }
                StepEvent::Planned { .. } => None,
            },
            Entry::Finished { .. } => Some(String::new()),
            Entry::DeclaredDead { .. } | Entry::Inherited { .. } => None,
        };
        last = Some(at);
        let Some(next) = next else { continue };
        if let Some((name, from)) = open.take() {
            push(&mut phases, name, from, at);
        }
        open = (!next.is_empty()).then_some((next, at));
    }
    if let (Some((name, from)), Some(last)) = (open, last) {
        push(&mut phases, name, from, last);
    }
    phases
}

fn push(phases: &mut Vec<Phase>, name: String, from: Timestamp, to: Timestamp) {
    // What the journal cannot tell apart took no time that anybody could notice.
    if to.duration_since(from).as_millis() > 0 {
        phases.push(Phase { name, from, to });
    }
}

/// How long a step took to have its effect, from its first start; none if it had none in this run.
pub fn took(text: &str, step: &StepId) -> Option<Duration> {
    let mut started = None;
    for Line { at, entry } in lines(text) {
        match entry {
            Entry::Step { step: of, event: StepEvent::Started { .. } } if of == *step => started = started.or(Some(at)),
            Entry::Step { step: of, event: StepEvent::Applied { outcome: Outcome::Changed, .. } } if of == *step => {
                return started.and_then(|started| Duration::try_from(at.duration_since(started)).ok());
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::{
        engine::lease::Holder,
        ids::{EnvironmentName, RunId},
        plan::selection::Selection,
        steps::Outputs,
    };

    /// Lines with the seconds at which they were written.
    fn journal(entries: &[(u32, Entry)]) -> String {
        let run = RunId::parse(uuid::Uuid::now_v7().to_string()).unwrap();
        let header = Header::new(run, EnvironmentName::parse("sandbox").unwrap(), "sha256:d".to_owned());
        let mut text = serde_json::to_string(&header).unwrap() + "\n";
        for (second, entry) in entries {
            let mut line = serde_json::to_value(entry).unwrap();
            line["at"] = format!("2026-11-29T03:00:{second:02}Z").into();
            text += &(line.to_string() + "\n");
        }
        text
    }

    fn attempt() -> Entry {
        let holder = Holder::this_process("dr restore");
        Entry::Attempt { holder, plan: "sha256:p".to_owned(), selection: Selection::default(), lease: Some(1) }
    }

    fn database(event: StepEvent) -> Entry {
        Entry::Step { step: StepId::parse("database").unwrap(), event }
    }

    fn status(status: &str) -> Entry {
        database(StepEvent::Intent { key: status_intent(status, "db-1"), value: "x".into() })
    }

    #[test]
    fn a_killed_and_resumed_run_is_told_without_gaps() {
        let applied = StepEvent::Applied { outcome: Outcome::Changed, outputs: Outputs::new() };
        let text = journal(&[
            (0, attempt()),
            (2, database(StepEvent::Started { plan: None })),
            (3, status("creating")),
            (20, attempt()),
            (21, database(StepEvent::Started { plan: None })),
            (22, status("backing-up")),
            (30, database(applied)),
            (31, database(StepEvent::Succeeded)),
            (31, Entry::Finished { succeeded: true }),
        ]) + "{\"at\":\"2026-";
        let told: Vec<(String, u64)> = phases(&text).iter().map(|phase| (phase.name.clone(), phase.took().as_secs())).collect();
        let expected = [
            ("deciding", 2),
            ("database: asking for it", 1),
            ("nobody was at work", 17),
            ("deciding", 1),
            ("database: asking for it", 1),
            ("database: backing-up", 8),
            ("database: reading it back", 1),
        ];
        assert_eq!(told, expected.map(|(name, seconds)| (name.to_owned(), seconds)));
        assert_eq!(told.iter().map(|(_, seconds)| seconds).sum::<u64>(), 31, "nothing is missing");
        assert_eq!(took(&text, &StepId::parse("database").unwrap()), Some(Duration::from_secs(28)));
        assert_eq!(took(&text, &StepId::parse("endpoint").unwrap()), None);
    }
}
