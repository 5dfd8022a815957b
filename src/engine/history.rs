//! The runs of an environment, read from their journals: what `history` shows, what a resumed run goes on from.
use std::{collections::BTreeMap, path::Path};

use super::{
    journal::{self, RunRecord},
    status::{Status, StepRecord},
    workplace::StateFolder,
};
use crate::{
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, RunId, StepId},
    steps::Outputs,
};

/// All runs, oldest first. Run ids sort by time.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Those that could be read.
    pub runs: Vec<RunRecord>,
    /// Those that could not, and why.
    pub unreadable: Vec<String>,
}

fn run_ids(folder: &Path) -> Result<Vec<RunId>, Failure> {
    let fail =
        |error: std::io::Error| Failure::new(FailureKind::Internal, format!("cannot read the runs in {}", folder.display())).because(error);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        ids.extend(name.to_str().and_then(|name| RunId::parse(name).ok()));
    }
    ids.sort();
    Ok(ids)
}

impl History {
    /// Reads every journal of the environment on this machine.
    pub fn read(state: &StateFolder, environment: &EnvironmentName) -> Result<Self, Failure> {
        let mut history = Self::default();
        for id in run_ids(&state.runs(environment))? {
            let path = journal::path_in(&state.run(environment, &id));
            if !path.exists() {
                // Planning makes a folder too; a run exists from its journal on.
                continue;
            }
            match journal::read(&path) {
                Ok((record, _)) => history.runs.push(record),
                Err(failure) => history.unreadable.push(failure.chain().join(": ")),
            }
        }
        Ok(history)
    }
    /// Why nothing may be built on this history.
    pub fn damaged(&self) -> Failure {
        let mut failure = Failure::new(FailureKind::Preflight, "a journal cannot be read, and it may hold what a resumed run must know")
            .next("move the damaged file away once you know that its run has ended; the next apply observes everything again");
        failure.evidence.clone_from(&self.unreadable);
        failure
    }
    /// The newest run, if it has not ended well.
    pub fn unfinished(&self) -> Option<&RunRecord> {
        self.runs.last().filter(|run| run.is_unfinished())
    }
    /// The newest record of a step that says more than that it was skipped.
    pub fn step(&self, step: &StepId) -> Option<&StepRecord> {
        self.runs
            .iter()
            .rev()
            .filter_map(|run| run.steps.get(step))
            .find(|record| !matches!(record.last_status(), Status::Pending | Status::Skipped))
    }
    /// What a step gave when it last ended well.
    pub fn outputs(&self, step: &StepId) -> Option<&Outputs> {
        self.runs
            .iter()
            .rev()
            .filter_map(|run| run.steps.get(step))
            .find(|record| record.last_status() == Status::Succeeded)?
            .outputs
            .as_ref()
    }
    /// What a step has ever given last, even if it was taken away since: enough to look for what is left of it.
    pub fn last_given(&self, step: &StepId) -> Outputs {
        let mut recorded = self.runs.iter().rev().filter_map(|run| run.steps.get(step)?.outputs.as_ref());
        recorded.find(|outputs| !outputs.is_empty()).cloned().unwrap_or_default()
    }
    /// What each of these steps gave when it last ended well.
    pub fn given<'s>(&self, steps: impl IntoIterator<Item = &'s StepId>) -> BTreeMap<StepId, Outputs> {
        steps.into_iter().filter_map(|id| Some((id.clone(), self.outputs(id)?.clone()))).collect()
    }
    /// Whether it must be verified again although nothing is to be done: nobody on this machine has seen it end well.
    pub fn is_unverified(&self, step: &StepId) -> bool {
        self.step(step).is_none_or(StepRecord::is_unverified)
    }
}
