//! From what was asked for and what was found to the plan: pure, so that every case can be tested without a cloud.
use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::{
    Decision, Plan, PlannedStep,
    definition::Definition,
    file::StepDeclaration,
    output_type::OutputType,
    reference::{self, DeadReference, Known, Piece, Resolved},
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

/// `with` as far as its references need no step: a key that needs one stays as it is written.
pub fn known(definition: &Definition, step: &StepDeclaration) -> Result<Value, Failure> {
    let nothing = BTreeMap::new();
    let known = definition.known(&nothing);
    let follow = |value: &Value| match reference::resolve(value, &known) {
        Ok(Resolved::Value(value)) => Ok(value),
        Ok(Resolved::Waits(_)) => Ok(value.clone()),
        Err(error) => Err(Failure::usage(format!("step {}: {error}", step.id)).in_step(&step.id)),
    };
    match &step.with {
        Value::Object(with) => {
            with.iter().map(|(key, value)| Ok((key.clone(), follow(value)?))).collect::<Result<_, _>>().map(Value::Object)
        }
        other => follow(other),
    }
}

/// `with` for eyes only: what steps would give is named in its place, as in `steps-cluster-outputs-cluster_name`.
pub fn with_names(definition: &Definition, step: &StepDeclaration) -> Result<Value, Failure> {
    let nothing = BTreeMap::new();
    named(&step.with, &definition.known(&nothing)).map_err(|error| Failure::usage(format!("step {}: {error}", step.id)).in_step(&step.id))
}

fn named(value: &Value, known: &Known<'_>) -> Result<Value, DeadReference> {
    match (value, reference::resolve(value, known)?) {
        (_, Resolved::Value(value)) => Ok(value),
        (Value::Object(map), _) => {
            map.iter().map(|(key, value)| Ok((key.clone(), named(value, known)?))).collect::<Result<_, _>>().map(Value::Object)
        }
        (Value::Array(items), _) => items.iter().map(|item| named(item, known)).collect(),
        (Value::String(text), _) => {
            let mut joined = String::new();
            for piece in reference::parse(text).unwrap_or_default() {
                let (written, bare) = match piece {
                    Piece::Text(text) => (text.clone(), text),
                    Piece::Reference(reference) => {
                        (reference.to_string(), reference.to_string().trim_matches(['$', '{', '}']).replace(['.', '/'], "-"))
                    }
                };
                match reference::resolve(&Value::String(written), known)? {
                    Resolved::Value(Value::String(text)) => joined.push_str(&text),
                    Resolved::Value(other) => joined.push_str(&other.to_string()),
                    Resolved::Waits(_) => joined.push_str(&bare),
                }
            }
            Ok(Value::String(joined))
        }
        (other, _) => Ok(other.clone()),
    }
}

/// Why a step does nothing in this environment; nothing if it does.
pub fn left_out(definition: &Definition, step: &StepDeclaration, registry: &Registry) -> Result<Option<String>, Failure> {
    Ok(registry.require(&step.kind)?.left_out(&known(definition, step)?))
}

/// What apply refuses about a step; nothing about one that is left out.
pub fn refused(definition: &Definition, step: &StepDeclaration, registry: &Registry) -> Result<Option<Failure>, Failure> {
    let (kind, with) = (registry.require(&step.kind)?, known(definition, step)?);
    Ok(if kind.left_out(&with).is_some() { None } else { kind.refused(&with) })
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
        let refused = match &decision {
            Decision::Skipped { .. } => None,
            _ => refused(definition, step, registry)?.map(|failure| failure.message),
        };
        steps.push(PlannedStep { id: id.clone(), kind: step.kind.clone(), refused, decision });
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
