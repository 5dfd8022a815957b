//! From the written plan file to the immutable plan: what is shown, confirmed, saved and applied.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ids::{AccountId, EnvironmentName, Region, StepId},
    plan::selection::Selection,
    steps::{Change, Facts, Outputs, StepPlan},
};

pub mod check;
pub mod check_with;
pub mod definition;
pub mod difference;
pub mod digest;
pub mod edit;
pub mod environment;
pub mod environment_exposure;
pub mod environment_forms;
pub mod environment_rules;
pub mod environment_types;
pub mod estimate;
pub mod file;
pub mod fresh;
mod ingress_forms;
pub mod locate;
pub mod output_type;
pub mod problem;
pub mod read;
pub mod reference;
pub mod render;
pub mod resolve;
pub mod saved;
pub mod selection;
pub mod suggest;

/// Everything that will be done, decided. Apply does this and nothing more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Where.
    pub environment: EnvironmentName,
    /// In which account.
    pub account: AccountId,
    /// In which region.
    pub region: Region,
    /// Digest of plan file and environment file.
    pub definition: String,
    /// Which part of the plan file.
    pub selection: Selection,
    /// Every step, in an order that respects what they need.
    pub steps: Vec<PlannedStep>,
}

/// A step and what was decided about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedStep {
    /// As in the plan file.
    pub id: StepId,
    /// As in the plan file.
    pub kind: String,
    /// Why apply refuses it as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What will be done.
    #[serde(flatten)]
    pub decision: Decision,
}

/// What was decided about a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "decision")]
pub enum Decision {
    /// Everything that it depends on is known.
    Planned {
        /// `with`, its references resolved.
        input: Value,
        /// What was observed: tells whether, and where, the world has moved since.
        observed: Facts,
        /// What will be done.
        plan: StepPlan,
        /// Outputs that are certain before it is applied.
        known_outputs: Option<Outputs>,
    },
    /// It can only be planned when others have been applied; until then it is bounded.
    Deferred {
        /// Outputs that are not there yet, as in `network.vpc_id`, or steps that must be applied first.
        because: Vec<String>,
        /// The resource types that it may create, and what else the plan file allows it.
        bound: Vec<String>,
    },
    /// It is not run.
    Skipped {
        /// Which flag, and why.
        reason: String,
        /// What it gave when it was last run, for the steps that need it.
        outputs: Option<Outputs>,
    },
}

impl Plan {
    /// All changes that are listed, with their steps; checks among them.
    pub fn changes(&self) -> impl Iterator<Item = (&StepId, &Change)> {
        self.steps.iter().flat_map(|step| step.changes().iter().map(move |change| (&step.id, change)))
    }
    /// Whether applying it would change anything, or may: a deferred step counts, a check does not.
    pub fn has_changes(&self) -> bool {
        self.changes().any(|(_, change)| !change.is_check())
            || self.steps.iter().any(|step| matches!(step.decision, Decision::Deferred { .. }))
    }
    /// The step of that id.
    pub fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }
    /// The steps by what was decided.
    pub fn decisions(&self) -> BTreeMap<&StepId, &Decision> {
        self.steps.iter().map(|step| (&step.id, &step.decision)).collect()
    }
}

impl PlannedStep {
    /// Its changes, as far as they are known.
    pub fn changes(&self) -> &[Change] {
        match &self.decision {
            Decision::Planned { plan, .. } => &plan.changes,
            Decision::Deferred { .. } | Decision::Skipped { .. } => &[],
        }
    }
}
