//! Whether a saved plan still holds: the same things, or less, would be done now. Pure.
use super::{Decision, Plan, PlannedStep};
use crate::{
    engine::limits::beyond_shown,
    failure::{Failure, FailureKind},
};

/// The saved plan, its steps replaced by today's where the world has moved towards it (a part of it was applied already).
/// What today's would do beyond the saved one makes it stale.
pub fn freshen(saved: &Plan, now: &Plan) -> Result<Plan, Failure> {
    let mut moved = Vec::new();
    if (&saved.environment, &saved.account, &saved.region) != (&now.environment, &now.account, &now.region) {
        moved.push(format!(
            "it is for {} in {} {}, not for {} in {} {}",
            saved.environment, saved.account, saved.region, now.environment, now.account, now.region
        ));
    }
    if saved.definition != now.definition {
        moved.push("the plan file or the environment file has changed".to_owned());
    }
    let mut fresh = saved.clone();
    for step in &mut fresh.steps {
        match now.step(&step.id) {
            Some(today) => freshen_step(step, today, &mut moved),
            None => moved.push(format!("{}: the plan file has no such step any more", step.id)),
        }
    }
    if moved.is_empty() {
        return Ok(fresh);
    }
    let mut failure = Failure::new(FailureKind::PlanStale, "the saved plan is stale; nothing was done")
        .next(format!("make a new one: deployctl plan -e {} --out FILE", saved.environment));
    failure.evidence = moved;
    Err(failure)
}

fn freshen_step(step: &mut PlannedStep, today: &PlannedStep, moved: &mut Vec<String>) {
    match (&step.decision, &today.decision) {
        (Decision::Planned { observed: then, plan: shown, input: asked, .. }, Decision::Planned { observed, plan, input, .. }) => {
            if then == observed && asked == input {
                return;
            }
            let beyond = beyond_shown(&shown.changes, &plan.changes);
            if beyond.is_empty() {
                step.decision = today.decision.clone();
            }
            moved.extend(beyond.iter().map(|c| format!("{}: would now also {} {} {}", step.id, c.action, c.resource, c.name)));
        }
        (Decision::Planned { plan, .. }, Decision::Deferred { because, .. }) if !plan.changes.is_empty() => {
            moved.push(format!("{}: cannot be planned any more, waits for {}", step.id, because.join(", ")));
        }
        // A deferred step is planned and held against its bound when it runs, whatever could be known now.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::Value;

    use super::*;
    use crate::{
        ids::{AccountId, EnvironmentName, Region, StepId},
        plan::selection::Selection,
        steps::{Action, Change, StepPlan},
    };

    fn plan(observed: &str, names: &[&str]) -> Plan {
        let change =
            |name: &&str| Change { action: Action::Create, resource: "thing".to_owned(), name: (*name).to_owned(), details: vec![] };
        Plan {
            environment: EnvironmentName::parse("staging").unwrap(),
            account: AccountId::parse("111122223333").unwrap(),
            region: Region::parse("us-east-1").unwrap(),
            definition: "sha256:d".to_owned(),
            selection: Selection::default(),
            steps: vec![PlannedStep {
                id: StepId::parse("network").unwrap(),
                kind: "terraform".to_owned(),
                decision: Decision::Planned {
                    input: Value::Null,
                    observed: observed.to_owned(),
                    plan: StepPlan { changes: names.iter().map(change).collect(), payload: observed.into() },
                    known_outputs: None,
                },
            }],
        }
    }

    fn payload(plan: &Plan) -> Value {
        match &plan.steps[0].decision {
            Decision::Planned { plan, .. } => plan.payload.clone(),
            _ => Value::Null,
        }
    }

    #[test]
    fn the_saved_plan_is_used_while_nothing_has_moved() {
        assert_eq!(payload(&freshen(&plan("a", &["x", "y"]), &plan("a", &["x", "y"])).unwrap()), "a");
    }

    #[test]
    fn a_part_that_is_done_already_is_not_done_again() {
        assert_eq!(payload(&freshen(&plan("a", &["x", "y"]), &plan("b", &["y"])).unwrap()), "b");
    }

    #[test]
    fn anything_more_makes_it_stale_and_is_named() {
        let error = freshen(&plan("a", &["x"]), &plan("b", &["x", "z"])).unwrap_err();
        assert_eq!(error.kind, FailureKind::PlanStale);
        assert_eq!(error.evidence, ["network: would now also create thing z"]);
        let mut other = plan("a", &["x"]);
        other.definition = "sha256:e".to_owned();
        assert!(freshen(&other, &plan("a", &["x"])).is_err());
    }
}
