//! The plan as text, every kind of line once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use serde_json::Value;

use super::*;
use crate::{
    ids::{AccountId, EnvironmentName, Region, StepId},
    plan::selection::Selection,
    steps::StepPlan,
};

fn change(action: Action, resource: &str, name: &str, details: &[&str]) -> Change {
    Change { action, resource: resource.into(), name: name.into(), details: details.iter().map(ToString::to_string).collect() }
}

fn step(id: &str, decision: Decision) -> PlannedStep {
    PlannedStep { id: StepId::parse(id).unwrap(), kind: "terraform".into(), refused: None, decision }
}

fn planned(changes: Vec<Change>) -> Decision {
    Decision::Planned {
        input: Value::Null,
        observed: Default::default(),
        plan: StepPlan { changes, payload: Value::Null },
        known_outputs: None,
    }
}

fn plan(steps: Vec<PlannedStep>) -> Plan {
    Plan {
        environment: EnvironmentName::parse("staging").unwrap(),
        account: AccountId::parse("111122223333").unwrap(),
        region: Region::parse("us-east-1").unwrap(),
        definition: "sha256:d".into(),
        selection: Selection::default(),
        steps,
    }
}

#[test]
fn one_diff_over_everything() {
    let plan = plan(vec![
        step("backend", planned(vec![])),
        step(
            "network",
            planned(vec![
                change(Action::Create, "aws_eip", "nat[0]", &[]),
                change(Action::Update, "aws_vpc", "this", &["tags.team: a -> b"]),
                change(Action::Replace, "aws_subnet", "private[0]", &[]),
                change(Action::Delete, "aws_route", "old", &[]),
            ]),
        ),
        step(
            "cluster",
            Decision::Deferred { because: vec!["network.vpc_id".into()], bound: vec!["aws_eks_cluster".into(), "aws_iam_role".into()] },
        ),
        step("images", Decision::Skipped { reason: "--skip images: built elsewhere".into(), outputs: None }),
        step("parser", planned(vec![change(Action::Run, "migration", "V2__rows.sql", &[])])),
        step("smoke", planned(vec![change(Action::Run, "check", "smoke", &[])])),
    ]);
    insta::assert_snapshot!(human(&plan, Colour::Plain), @r"
    Plan for staging (account 111122223333, us-east-1)

      backend  no changes
      network  1 to create, 1 to update, 1 to replace, 1 to delete
        + aws_eip nat[0]
        ~ aws_vpc this
            tags.team: a -> b
        -/+ aws_subnet private[0]
        - aws_route old
      cluster  deferred: planned again when network.vpc_id is there
        creates at most: aws_eks_cluster, aws_iam_role
      images   skipped (--skip images: built elsewhere)
      parser   1 to run
        > migration V2__rows.sql
      smoke    1 to check
        ? check smoke

    Plan: 1 to create, 1 to update, 1 to replace, 1 to delete, 1 to run, 1 to check, 1 step deferred.
    ");
    assert!(plan.has_changes());
}

#[test]
fn a_check_is_no_change() {
    let plan = plan(vec![step("smoke", planned(vec![change(Action::Run, "check", "smoke", &[])]))]);
    assert!(!plan.has_changes());
    assert_eq!(summary(&plan), "Plan: no changes, 1 to check.");
}
