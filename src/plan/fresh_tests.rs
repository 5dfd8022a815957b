//! Saved plans held against other worlds: each kind of movement is named, and what a run of the plan itself has done is none.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use serde_json::{Value, json};

use super::*;
use crate::{
    engine::{
        event::Outcome,
        journal::{Entry, Header, Journal},
        lease::Holder,
        status::StepEvent,
    },
    failure::LeftBehind,
    ids::{AccountId, EnvironmentName, Region, RunId},
    plan::selection::Selection,
    steps::{Action, Change, Outputs, StepPlan},
};

fn id(text: &str) -> StepId {
    StepId::parse(text).unwrap()
}

fn change(action: Action, name: &str, details: &[&str]) -> Change {
    Change { action, resource: "thing".to_owned(), name: name.to_owned(), details: details.iter().map(ToString::to_string).collect() }
}

fn planned(observed: Value, input: Value, changes: Vec<Change>) -> Decision {
    let observed = observed.as_object().unwrap().clone().into_iter().collect();
    Decision::Planned { input, observed, plan: StepPlan { changes, payload: Value::Null }, known_outputs: None }
}

fn plan(steps: Vec<(&str, Decision)>) -> Plan {
    Plan {
        environment: EnvironmentName::parse("staging").unwrap(),
        account: AccountId::parse("111122223333").unwrap(),
        region: Region::parse("us-east-1").unwrap(),
        definition: "sha256:d".to_owned(),
        selection: Selection::default(),
        steps: steps
            .into_iter()
            .map(|(name, decision)| PlannedStep { id: id(name), kind: "fake".to_owned(), refused: None, decision })
            .collect(),
    }
}

/// One step, `network`.
fn one(observed: Value, changes: Vec<Change>) -> Plan {
    plan(vec![("network", planned(observed, json!({}), changes))])
}

fn dag() -> Dag {
    let (network, service, none) = (id("network"), id("service"), []);
    Dag::new([(&network, &none[..]), (&service, &[network.clone()][..])]).unwrap()
}

fn held(saved: &Plan, now: &Plan) -> Result<Plan, Failure> {
    freshen(&Saved::now(saved).unwrap(), now, &History::default(), &dag())
}

fn moved(saved: &Plan, now: &Plan) -> Vec<String> {
    let stale = held(saved, now).unwrap_err();
    assert_eq!((stale.kind, stale.kind.exit_code()), (FailureKind::PlanStale, 13));
    stale.evidence
}

fn text(plan: &Plan) -> Value {
    json!(plan)
}

#[test]
fn the_saved_plan_is_used_while_nothing_has_moved() {
    let saved = one(json!({ "state": { "serial": 3 } }), vec![change(Action::Update, "x", &["a: 1 -> 2"])]);
    assert_eq!(text(&held(&saved, &saved).unwrap()), text(&saved));
}

#[test]
fn what_has_moved_is_named_by_thing_and_field() {
    let then = json!({ "state": { "serial": 3 }, "aws_vpc.this": { "plan": "nothing" }, "aws_eip.a": { "plan": "nothing" } });
    let now = json!({ "state": { "serial": 4 }, "aws_vpc.this": { "plan": "update", "tags.k": "1 -> 2" }, "aws_eip.b": {} });
    let lines = moved(&one(then, vec![]), &one(now, vec![change(Action::Update, "aws_vpc.this", &["tags.k: 1 -> 2"])]));
    assert_eq!(
        lines,
        [
            "network: aws_eip.a is gone",
            "network: aws_eip.b is new",
            "network: aws_vpc.this plan: \"nothing\" -> \"update\"",
            "network: aws_vpc.this [tags.k]: (none) -> \"1 -> 2\"",
            "network: state serial: 3 -> 4",
            "network: would now also update thing aws_vpc.this",
        ]
    );
}

#[test]
fn less_to_do_is_a_movement_too_unless_this_plan_has_done_it() {
    let (saved, now) = (one(json!({ "x": 0 }), vec![change(Action::Create, "x", &[])]), one(json!({ "x": 1 }), vec![]));
    assert_eq!(moved(&saved, &now), ["network: x: 0 -> 1"]);
}

#[test]
fn another_input_and_another_definition_are_named() {
    let with = |image: &str| plan(vec![("network", planned(json!({}), json!({ "image": image }), vec![]))]);
    assert_eq!(
        moved(&with("a@sha256:1"), &with("a@sha256:2")),
        ["network: asks for something else: image: \"a@sha256:1\" -> \"a@sha256:2\""]
    );
    let (saved, mut now) = (with("a"), with("a"));
    now.definition = "sha256:e".to_owned();
    now.region = Region::parse("us-west-2").unwrap();
    let lines = moved(&saved, &now);
    assert!(lines[0].contains("us-west-2") && lines[1].contains("the plan file or the environment file"), "{lines:?}");
    now = saved.clone();
    now.steps.clear();
    assert_eq!(moved(&saved, &now), ["network: the plan file has no such step any more"]);
}

#[test]
fn what_can_no_longer_be_planned_is_named() {
    let saved = one(json!({}), vec![change(Action::Create, "x", &[])]);
    let deferred = Decision::Deferred { because: vec!["backend.bucket".to_owned()], bound: vec![] };
    assert_eq!(moved(&saved, &plan(vec![("network", deferred)])), ["network: cannot be planned any more, waits for backend.bucket"]);
}

/// What a run of this definition has said about `network` after the plan was made.
fn history(definition: &str, events: &[StepEvent]) -> History {
    let folder = tempfile::tempdir().unwrap();
    let run = RunId::parse(uuid::Uuid::now_v7().to_string()).unwrap();
    let header = Header::new(run, EnvironmentName::parse("staging").unwrap(), definition.to_owned());
    let journal = Journal::create(&folder.path().join("run"), header).unwrap();
    let holder = Holder::this_process("apply");
    journal.append(&Entry::Attempt { holder, plan: "p".to_owned(), selection: Selection::default(), lease: None }).unwrap();
    events.iter().for_each(|event| journal.step(&id("network"), event.clone()).unwrap());
    History { runs: vec![journal.record()], unreadable: vec![] }
}

fn started() -> StepEvent {
    StepEvent::Started { plan: None }
}

fn applied() -> StepEvent {
    StepEvent::Applied { outcome: Outcome::Changed, outputs: Outputs::new() }
}

fn failed() -> StepEvent {
    StepEvent::Failed { kind: FailureKind::Step, chain: vec![], left_behind: LeftBehind::Nothing }
}

#[test]
fn what_a_run_of_this_plan_has_done_is_no_movement() {
    let saved = one(json!({ "x": 0, "y": 0 }), vec![change(Action::Create, "x", &[]), change(Action::Create, "y", &[])]);
    let now = one(json!({ "x": 1, "y": 0 }), vec![change(Action::Create, "y", &[])]);
    let made = Saved::now(&saved).unwrap();
    for events in [vec![started()], vec![started(), failed()], vec![started(), applied(), StepEvent::Succeeded]] {
        let fresh = freshen(&made, &now, &history("sha256:d", &events), &dag()).unwrap();
        assert_eq!(text(&fresh), text(&now), "what is done is not done again");
    }
    // A run of another plan file, or one that came before, explains nothing.
    let others = history("sha256:e", &[started()]);
    assert!(freshen(&made, &now, &others, &dag()).is_err());
    let before = history("sha256:d", &[started()]);
    assert!(freshen(&Saved::now(&saved).unwrap(), &now, &before, &dag()).is_err());
}

#[test]
fn half_of_a_step_is_gone_on_with_as_it_was_shown_and_a_finished_one_that_moved_is_not() {
    let saved = one(json!({ "image": null }), vec![change(Action::Create, "image", &[])]);
    // Pushed, not made live yet: today's plan says something else than the saved one.
    let now = one(json!({ "image": "sha256:1" }), vec![change(Action::Update, "image", &[])]);
    let made = Saved::now(&saved).unwrap();
    let fresh = freshen(&made, &now, &history("sha256:d", &[started()]), &dag()).unwrap();
    assert_eq!(text(&fresh), text(&saved));
    let done = history("sha256:d", &[started(), applied(), StepEvent::Succeeded]);
    let stale = freshen(&made, &now, &done, &dag()).unwrap_err();
    assert_eq!(stale.evidence, ["network: image: (none) -> \"sha256:1\"", "network: would now also update thing image"]);
}

#[test]
fn what_follows_from_this_plans_own_outputs_is_held_against_it_when_it_runs() {
    let service = |vpc: &str| planned(json!({ "Deployment a/b": vpc }), json!({ "vpc": vpc }), vec![change(Action::Update, "b", &[])]);
    let network = || planned(json!({}), json!({}), vec![]);
    let (saved, now) =
        (plan(vec![("network", network()), ("service", service("1"))]), plan(vec![("network", network()), ("service", service("2"))]));
    let made = Saved::now(&saved).unwrap();
    let done = history("sha256:d", &[started(), applied(), StepEvent::Succeeded]);
    assert_eq!(text(&freshen(&made, &now, &done, &dag()).unwrap()), text(&saved));
    assert!(freshen(&made, &now, &History::default(), &dag()).is_err());
}
