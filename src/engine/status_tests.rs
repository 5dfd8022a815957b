//! The transitions of [`super::next_status`]: every pair is either listed here or refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use super::*;

fn events() -> Vec<StepEvent> {
    vec![
        StepEvent::Started { plan: None },
        StepEvent::Planned { plan: "p".into() },
        StepEvent::Intent { key: "k".into(), value: Value::Null },
        StepEvent::Applied { outcome: Outcome::Changed, outputs: Outputs::new() },
        StepEvent::Succeeded,
        StepEvent::Unchanged { outputs: Outputs::new() },
        StepEvent::Skipped { reason: "r".into() },
        StepEvent::Failed { kind: FailureKind::Step, chain: vec![], left_behind: LeftBehind::Nothing },
    ]
}

#[test]
fn only_these_transitions_are_legal() {
    let mut legal = Vec::new();
    for status in [Status::Pending, Status::Started, Status::Applied, Status::Succeeded, Status::Skipped, Status::Failed] {
        for event in events() {
            if let Ok(next) = next_status(status, &event) {
                legal.push(format!("{status:?} {} {next:?}", event.word()));
            }
        }
    }
    assert_eq!(
        legal,
        [
            "Pending started Started",
            "Pending unchanged Succeeded",
            "Pending skipped Skipped",
            "Started planned Started",
            "Started intent Started",
            "Started applied Applied",
            "Started failed Failed",
            "Applied succeeded Succeeded",
            "Applied failed Failed",
        ]
    );
}

#[test]
fn what_was_in_flight_stays_unverified_until_it_has_succeeded() {
    let mut record = StepRecord::default();
    record.follow(&StepEvent::Started { plan: None }).unwrap();
    record.follow(&StepEvent::Intent { key: "token".into(), value: "t".into() }).unwrap();
    record.begin_attempt();
    assert!(record.is_unverified());
    record.follow(&StepEvent::Skipped { reason: "not selected".into() }).unwrap();
    record.begin_attempt();
    assert!(record.is_unverified(), "a skip proves nothing");
    record.follow(&StepEvent::Started { plan: None }).unwrap();
    assert_eq!(record.intents["token"], "t");
    record.follow(&StepEvent::Applied { outcome: Outcome::Changed, outputs: Outputs::new() }).unwrap();
    assert!(record.is_unverified());
    record.follow(&StepEvent::Succeeded).unwrap();
    assert!(!record.is_unverified());
    assert!(record.intents.is_empty());
}
