//! What happens, as it happens: the only thing that progress bars, plain lines, the JSON stream, the report and the traces see.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::{ids::StepId, redact};

/// The phases of a step; words of the design, §10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Reads what is there.
    Observe,
    /// Decides what will be done; pure.
    Plan,
    /// Does it.
    Apply,
    /// Reads back what was done.
    Verify,
    /// Takes it away.
    Undo,
}

/// How a step ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// Something was made, changed or deleted.
    Changed,
    /// Everything was already as asked.
    Unchanged,
    /// Not done, and why.
    Skipped {
        /// A sentence for the reader.
        reason: String,
    },
}

/// One thing that happened. The JSON stream is these, one a line, after a first line that names the version.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum EventKind {
    /// A run begins: these steps, in an order that respects what they need.
    RunStarted {
        /// Ids of the steps.
        steps: Vec<StepId>,
    },
    /// A phase of a step begins.
    StepStarted {
        /// Which step.
        step: StepId,
        /// Which phase.
        phase: Phase,
    },
    /// Something worth a line happened inside a step.
    Progress {
        /// Which step.
        step: StepId,
        /// A fragment such as "aws_vpc.this: creating".
        message: String,
        /// How much of how much, in whatever unit the step counts.
        #[serde(skip_serializing_if = "Option::is_none")]
        of: Option<(u64, u64)>,
    },
    /// A step waits; sent at least every 10 s while it does.
    Waiting {
        /// Which step.
        step: StepId,
        /// What for.
        what: String,
        /// Since when, in seconds.
        seconds: u64,
        /// When it gives up, in seconds from its start.
        deadline_seconds: u64,
    },
    /// A check was made and passed: a smoke hop, a target up, a trust policy read back.
    Checked {
        /// Which step.
        step: StepId,
        /// What was checked.
        what: String,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// A step has been observed and planned.
    StepPlanned {
        /// Which step.
        step: StepId,
        /// How many changes; nothing if it is deferred.
        changes: Option<usize>,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// A step ended well.
    StepFinished {
        /// Which step.
        step: StepId,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
        /// How long it took, in milliseconds.
        millis: u64,
        /// What later steps may read; never a secret.
        outputs: BTreeMap<String, serde_json::Value>,
    },
    /// A step failed.
    StepFailed {
        /// Which step.
        step: StepId,
        /// Its failure and causes, outermost first.
        chain: Vec<String>,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// The first Ctrl-C or SIGTERM: what runs comes to an end, nothing new starts.
    Interrupted {
        /// Which of the two.
        signal: String,
        /// The steps that are being waited for.
        running: Vec<StepId>,
    },
    /// Something that does not stop the run and should be known.
    Warning {
        /// A sentence.
        message: String,
    },
    /// The run ended.
    RunFinished {
        /// Whether every step ended well.
        succeeded: bool,
        /// How long it took, in milliseconds.
        millis: u64,
    },
}

impl EventKind {
    /// The step that it is about; none for what is about the run.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::StepStarted { step, .. }
            | Self::Progress { step, .. }
            | Self::Waiting { step, .. }
            | Self::Checked { step, .. }
            | Self::StepPlanned { step, .. }
            | Self::StepFinished { step, .. }
            | Self::StepFailed { step, .. } => Some(step),
            Self::RunStarted { .. } | Self::Interrupted { .. } | Self::Warning { .. } | Self::RunFinished { .. } => None,
        }
    }
    /// Masks secrets in every text that a step has put in.
    fn mask(&mut self) {
        match self {
            Self::Progress { message: text, .. }
            | Self::Waiting { what: text, .. }
            | Self::Checked { what: text, .. }
            | Self::Warning { message: text } => *text = redact::mask(text),
            Self::StepFinished { outputs, .. } => outputs.values_mut().for_each(redact::mask_json),
            Self::StepFailed { chain, .. } => chain.iter_mut().for_each(|line| *line = redact::mask(line)),
            Self::RunStarted { .. }
            | Self::StepStarted { .. }
            | Self::StepPlanned { .. }
            | Self::Interrupted { .. }
            | Self::RunFinished { .. } => {}
        }
    }
}

/// An event with its number and time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by one.
    pub index: u64,
    /// When, by RFC 3339.
    #[schemars(with = "String")]
    pub at: jiff::Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Where steps and the engine put their events. Cheap to clone; sending never blocks and never fails.
#[derive(Clone, Debug)]
pub struct Events {
    next: std::sync::Arc<std::sync::atomic::AtomicU64>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { next: std::sync::Arc::default(), sender: broadcast::channel(4096).0 }
    }
}

impl Events {
    /// Emits one event.
    pub fn emit(&self, mut kind: EventKind) {
        kind.mask();
        let index = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Nobody listening is fine: events are told, not kept. What must be kept goes to the journal.
        drop(self.sender.send(Event { index, at: crate::clock::now(), kind }));
    }
    /// A renderer's end.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}
