//! Events as live progress on a terminal: a line a running step, finished ones above.
use std::{collections::BTreeMap, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Renderer, lines};
use crate::{
    engine::event::{Event, EventKind},
    failure::Failure,
    ids::StepId,
    redact,
};

/// Bars by step.
pub struct Bars {
    all: MultiProgress,
    running: BTreeMap<StepId, ProgressBar>,
}

impl Bars {
    /// Draws into `all`.
    pub fn new(all: MultiProgress) -> Self {
        Self { all, running: BTreeMap::new() }
    }
    fn bar(&mut self, step: &StepId) -> &ProgressBar {
        let all = &self.all;
        self.running.entry(step.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:.bold} {wide_msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.set_prefix(step.to_string());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        })
    }
    fn end_bar(&mut self, step: &StepId) {
        if let Some(bar) = self.running.remove(step) {
            bar.finish_and_clear();
        }
    }
    fn print(&self, kind: &EventKind) {
        if let Some(line) = lines::line(kind) {
            // A terminal that cannot be written to has nobody to tell.
            drop(self.all.println(redact::mask(&line)));
        }
    }
}

impl Renderer for Bars {
    fn show(&mut self, event: &Event) -> Result<(), Failure> {
        match &event.kind {
            EventKind::StepStarted { step, phase } => self.bar(step).set_message(lines::phase_text(*phase)),
            EventKind::Progress { step, message, of } => {
                let count = of.map(|(done, all)| format!(" ({done}/{all})")).unwrap_or_default();
                self.bar(step).set_message(redact::mask(&format!("{message}{count}")));
            }
            EventKind::Waiting { step, what, deadline_seconds, .. } => {
                self.bar(step).set_message(redact::mask(&format!("waiting for {what}, at most {deadline_seconds} s")));
            }
            EventKind::StepPlanned { step, .. } | EventKind::StepFinished { step, .. } | EventKind::StepFailed { step, .. } => {
                self.end_bar(step);
                self.print(&event.kind);
            }
            other => self.print(other),
        }
        Ok(())
    }
    fn missed(&mut self, _count: u64) -> Result<(), Failure> {
        Ok(())
    }
    fn end(&mut self) {
        for bar in self.running.values() {
            bar.finish_and_clear();
        }
    }
}
