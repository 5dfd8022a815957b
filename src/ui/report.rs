//! The end of a run: each step with its outcome and time, and the checks that were made. Collected from events.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use super::{
    Renderer,
    lines::{outcome_text, took},
};
use crate::{
    engine::event::{Event, EventKind, Events, Outcome},
    failure::Failure,
    ids::StepId,
};

/// What came of one step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepReport {
    /// Changed, Unchanged, Skipped; nothing if it failed or never started.
    pub outcome: Option<Outcome>,
    /// The failure's first line.
    pub failure: Option<String>,
    /// How long it took.
    pub millis: u64,
    /// Checks that passed, with their times.
    pub checks: Vec<(String, u64)>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// In their order.
    pub order: Vec<StepId>,
    /// By step.
    pub steps: BTreeMap<StepId, StepReport>,
    /// Whether every step ended well.
    pub succeeded: bool,
    /// How long the run took.
    pub millis: u64,
}

/// Collects a report while a run goes on.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Report>>);

impl Collector {
    /// Starts to collect.
    pub fn start(events: &Events, renderers: &mut super::Renderers) -> Self {
        let collector = Self::default();
        renderers.add(events, collector.clone());
        collector
    }
    /// What was collected.
    pub fn report(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Renderer for Collector {
    fn show(&mut self, event: &Event) -> Result<(), Failure> {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.kind {
            EventKind::RunStarted { steps } => *report = Report { order: steps.clone(), ..Report::default() },
            EventKind::Checked { step, what, millis } => report.steps.entry(step.clone()).or_default().checks.push((what.clone(), *millis)),
            EventKind::StepFinished { step, outcome, millis, .. } => {
                let of = report.steps.entry(step.clone()).or_default();
                (of.outcome, of.millis) = (Some(outcome.clone()), *millis);
            }
            EventKind::StepFailed { step, chain, millis } => {
                let of = report.steps.entry(step.clone()).or_default();
                (of.failure, of.millis) = (chain.first().cloned(), *millis);
            }
            EventKind::RunFinished { succeeded, millis } => (report.succeeded, report.millis) = (*succeeded, *millis),
            _ => {}
        }
        Ok(())
    }
    fn missed(&mut self, _count: u64) -> Result<(), Failure> {
        Ok(())
    }
}

impl Report {
    /// As text.
    pub fn human(&self) -> String {
        let widest = self.order.iter().map(|step| step.as_str().len()).max().unwrap_or_default();
        let mut text = String::from("\n");
        for id in &self.order {
            let step = self.steps.get(id);
            let what = match step {
                None => "not started".to_owned(),
                Some(StepReport { failure: Some(failure), .. }) => format!("FAILED: {failure}"),
                Some(StepReport { outcome: Some(outcome), .. }) => outcome_text(outcome),
                Some(_) => "did not end".to_owned(),
            };
            let time = step.map(|step| took(step.millis)).unwrap_or_default();
            text.push_str(&format!("  {:widest$}  {time:>12}  {what}\n", id.as_str()));
            for (check, millis) in step.map(|step| step.checks.as_slice()).unwrap_or_default() {
                text.push_str(&format!("  {:widest$}  {:>12}    checked {check}\n", "", took(*millis)));
            }
        }
        let changed = self.steps.values().filter(|step| step.outcome == Some(Outcome::Changed)).count();
        let end = match (self.succeeded, changed) {
            (false, _) => "Stopped".to_owned(),
            (true, 0) => "Nothing had to be changed".to_owned(),
            (true, 1) => "Done, 1 step changed".to_owned(),
            (true, changed) => format!("Done, {changed} steps changed"),
        };
        text.push_str(&format!("\n{end} ({}).\n", took(self.millis)));
        text
    }
}
