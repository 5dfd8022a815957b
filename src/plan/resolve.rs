//! From what was asked for and what was found to the plan: pure, so that every case can be tested without a cloud.
use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::{
    Decision, Plan, PlannedStep,
    definition::Definition,
    file::StepDeclaration,
    output_type::OutputType,
    reference::{self, Resolved},
    selection::Selection,
};
use crate::{
    failure::Failure,
    ids::StepId,
    steps::{
        Outputs,
        registry::{Considered, Registry},
    },
};

/// What is known about a step once its needs were looked at.
#[derive(Clone, Debug)]
pub enum Found {
    /// It was observed and planned, with this input.
    Considered(Value, Box<Considered>),
    /// These outputs are missing, or these steps must be applied before it can be observed.
    Waits(Vec<String>),
    /// It is not run.
    Skipped(String, Option<Outputs>),
}

/// Follows a step's references, or says what it waits for.
pub fn input(definition: &Definition, step: &StepDeclaration, outputs: &BTreeMap<StepId, Outputs>) -> Result<Resolved, Failure> {
    reference::resolve(&step.with, &definition.known(outputs))
        .map_err(|error| Failure::usage(format!("step {}: {error}", step.id)).in_step(&step.id))
}

/// What a deferred step may do at most: what its kind says and what the plan file allows besides.
pub fn bound(step: &StepDeclaration, registry: &Registry, project: &Path) -> Result<Vec<String>, Failure> {
    let mut bound = registry.require(&step.kind)?.bound(&step.with, project);
    bound.extend(step.allow.iter().cloned());
    bound.sort();
    bound.dedup();
    Ok(bound)
}

/// The plan: every step with its decision, in the graph's order.
pub fn plan(
    definition: &Definition,
    selection: &Selection,
    registry: &Registry,
    project: &Path,
    mut found: BTreeMap<StepId, Found>,
) -> Result<Plan, Failure> {
    let mut steps = Vec::new();
    for id in definition.dag.order() {
        let step = definition.step(id)?;
        let decision = match found.remove(id).unwrap_or_else(|| Found::Waits(step.needs.iter().map(ToString::to_string).collect())) {
            Found::Skipped(reason, outputs) => Decision::Skipped { reason, outputs },
            Found::Waits(because) => Decision::Deferred { because, bound: bound(step, registry, project)? },
            Found::Considered(input, considered) => {
                Decision::Planned { input, observed: considered.observed, plan: considered.plan, known_outputs: considered.known_outputs }
            }
        };
        steps.push(PlannedStep { id: id.clone(), kind: step.kind.clone(), decision });
    }
    Ok(Plan {
        environment: definition.environment.name.clone(),
        account: definition.environment.aws.account_id.clone(),
        region: definition.environment.aws.region.clone(),
        definition: definition.digest.clone(),
        selection: selection.clone(),
        steps,
    })
}

/// Refuses outputs that are missing or of another type than declared; drops those that nobody declared.
pub fn declared_outputs(step: &StepDeclaration, mut outputs: Outputs) -> Result<Outputs, Failure> {
    let mut declared = Outputs::new();
    for (name, written) in &step.outputs {
        let wanted: OutputType = written.parse().map_err(|error: super::output_type::NoType| Failure::usage(error.to_string()))?;
        let Some(value) = outputs.remove(name) else {
            return Err(Failure::step(format!("gave no output `{name}`, which the plan file declares")).in_step(&step.id));
        };
        if !wanted.fits(&value) {
            return Err(Failure::step(format!("gave an output `{name}` that is no {wanted}, as the plan file declares")).in_step(&step.id));
        }
        declared.insert(name.clone(), value);
    }
    Ok(declared)
}
