//! What the journal may say about a step, and what follows from it: the typed transitions. Anything else is an error.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Outcome;
use crate::{
    failure::{FailureKind, LeftBehind},
    ids::StepId,
    steps::Outputs,
};

/// Something that happened to a step, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum StepEvent {
    /// It is about to have an effect.
    Started {
        /// Digest of the plan that it follows; a deferred step has none before it is planned again.
        plan: Option<String>,
    },
    /// A deferred step has been planned, and its plan was allowed.
    Planned {
        /// Digest of that plan.
        plan: String,
    },
    /// A value that a resumed run must know, on disk before the call that uses it.
    Intent {
        /// Its name, unique in the step.
        key: String,
        /// The value.
        value: Value,
    },
    /// The effect is there; not verified yet.
    Applied {
        /// Changed, unchanged or skipped.
        #[serde(flatten)]
        outcome: Outcome,
        /// For later steps.
        outputs: Outputs,
    },
    /// Verified: later steps may start.
    Succeeded,
    /// Nothing was to be done, and nothing was.
    Unchanged {
        /// For later steps.
        outputs: Outputs,
    },
    /// Not done, and why.
    Skipped {
        /// A sentence.
        reason: String,
    },
    /// It failed.
    Failed {
        /// Decides the exit code.
        kind: FailureKind,
        /// The failure and its causes, outermost first.
        chain: Vec<String>,
        /// What it left behind.
        #[serde(flatten)]
        left_behind: LeftBehind,
    },
}

/// Where a step stands within one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nothing has happened.
    #[default]
    Pending,
    /// An effect may be there.
    Started,
    /// The effect is there, and nobody has looked at it yet.
    Applied,
    /// Done.
    Succeeded,
    /// Not done, on purpose.
    Skipped,
    /// Failed.
    Failed,
}

/// An event that cannot follow the status.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot say `{event}` of a step that is {status:?}")]
pub struct IllegalTransition {
    status: Status,
    event: &'static str,
}

impl StepEvent {
    fn word(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Planned { .. } => "planned",
            Self::Intent { .. } => "intent",
            Self::Applied { .. } => "applied",
            Self::Succeeded => "succeeded",
            Self::Unchanged { .. } => "unchanged",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// The status that follows, or an error; total over both.
pub fn next_status(status: Status, event: &StepEvent) -> Result<Status, IllegalTransition> {
    match (status, event) {
        (Status::Pending, StepEvent::Started { .. }) => Ok(Status::Started),
        (Status::Pending, StepEvent::Unchanged { .. }) => Ok(Status::Succeeded),
        (Status::Pending, StepEvent::Skipped { .. }) => Ok(Status::Skipped),
        (Status::Started, StepEvent::Planned { .. } | StepEvent::Intent { .. }) => Ok(Status::Started),
        (Status::Started, StepEvent::Applied { .. }) => Ok(Status::Applied),
        (Status::Applied, StepEvent::Succeeded) => Ok(Status::Succeeded),
        (Status::Started | Status::Applied, StepEvent::Failed { .. }) => Ok(Status::Failed),
        (status, event) => Err(IllegalTransition { status, event: event.word() }),
    }
}

/// Everything that a run's journal says about one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepRecord {
    /// In the newest attempt.
    pub status: Status,
    /// In the last attempt before it that touched the step.
    pub before: Status,
    /// How it ended, once applied.
    pub outcome: Option<Outcome>,
    /// The last outputs that were recorded.
    pub outputs: Option<Outputs>,
    /// Values that a repeated attempt must use again.
    pub intents: BTreeMap<String, Value>,
    /// Why it failed, if it did.
    pub failure: Vec<String>,
}

impl StepRecord {
    /// Follows one event.
    pub fn follow(&mut self, event: &StepEvent) -> Result<(), IllegalTransition> {
        self.status = next_status(self.status, event)?;
        match event {
            StepEvent::Started { .. } => self.failure.clear(),
            StepEvent::Intent { key, value } => {
                self.intents.insert(key.clone(), value.clone());
            }
            StepEvent::Applied { outcome, outputs } => {
                self.outcome = Some(outcome.clone());
                self.outputs = Some(outputs.clone());
            }
            StepEvent::Unchanged { outputs } => {
                self.outcome = Some(Outcome::Unchanged);
                self.outputs = Some(outputs.clone());
            }
            StepEvent::Skipped { reason } => self.outcome = Some(Outcome::Skipped { reason: reason.clone() }),
            StepEvent::Failed { chain, .. } => self.failure.clone_from(chain),
            // A finished step's tokens have done their work: doing it again is a new effect.
            StepEvent::Succeeded => self.intents.clear(),
            StepEvent::Planned { .. } => {}
        }
        Ok(())
    }
    /// A new attempt begins: what was in flight is not known to have ended.
    pub fn begin_attempt(&mut self) {
        if !matches!(self.status, Status::Pending | Status::Skipped) {
            self.before = self.status;
        }
        self.status = Status::Pending;
    }
    /// The last thing known, whichever attempt said it.
    pub fn last_status(&self) -> Status {
        match (self.status, self.before) {
            (Status::Pending | Status::Skipped, before) if before != Status::Pending => before,
            (status, _) => status,
        }
    }
    /// Whether an effect may be there that nobody has verified.
    pub fn is_unverified(&self) -> bool {
        matches!(self.last_status(), Status::Started | Status::Applied | Status::Failed)
    }
}

/// Records by step.
pub type StepRecords = BTreeMap<StepId, StepRecord>;

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
