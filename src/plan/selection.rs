//! Which part of a plan file is run: --only, --from, --skip, and why.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::suggest;
use crate::{engine::dag::Dag, failure::Failure, ids::StepId};

/// Which steps are run. Recorded in plan, journal and report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Only these; empty means all.
    pub only: Vec<StepId>,
    /// This one and everything that needs it.
    pub from: Option<StepId>,
    /// All but these.
    pub skip: Vec<StepId>,
    /// Why, in the words of whoever asked for it.
    pub reason: Option<String>,
}

impl Selection {
    /// The steps that are not run, each with the reason.
    pub fn skipped(&self, dag: &Dag) -> Result<BTreeMap<StepId, String>, Failure> {
        for named in self.only.iter().chain(&self.skip).chain(&self.from) {
            if !dag.order().contains(named) {
                let near = suggest::nearest(named.as_str(), dag.order().iter().map(StepId::as_str));
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let steps: Vec<&str> = dag.order().iter().map(StepId::as_str).collect();
                return Err(Failure::usage(format!("the plan file has no step `{named}`{hint}"))
                    .next(format!("its steps are {}", steps.join(", "))));
            }
        }
        let from = self.from.as_ref().map(|from| (from, dag.with_dependents(from)));
        let why = |flag: String| self.reason.as_ref().map_or_else(|| flag.clone(), |reason| format!("{flag}: {reason}"));
        let list = |ids: &[StepId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut skipped = BTreeMap::new();
        for id in dag.order() {
            let reason = if self.skip.contains(id) {
                Some(why(format!("--skip {id}")))
            } else if !self.only.is_empty() && !self.only.contains(id) {
                Some(why(format!("--only {}", list(&self.only))))
            } else {
                from.as_ref().filter(|(_, wanted)| !wanted.contains(id)).map(|(from, _)| why(format!("--from {from}")))
            };
            if let Some(reason) = reason {
                skipped.insert(id.clone(), reason);
            }
        }
        Ok(skipped)
    }
}
