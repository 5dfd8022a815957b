//! The journal on disk: what it holds after any cut, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use proptest::prelude::*;

use super::*;
use crate::engine::{event::Outcome, lease::Holder};

fn header() -> Header {
    Header::new(
        RunId::parse("0192a000-0000-7000-8000-000000000001").unwrap(),
        EnvironmentName::parse("sandbox").unwrap(),
        "sha256:x".to_owned(),
    )
}

fn attempt() -> Entry {
    Entry::Attempt { holder: Holder::this_process("test"), plan: "sha256:p".to_owned(), selection: Selection::default(), lease: None }
}

fn step(n: u8) -> StepId {
    StepId::parse(format!("s{n}")).unwrap()
}

#[test]
fn a_cut_anywhere_leaves_a_readable_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let journal = Journal::create(&run, header()).unwrap();
    journal.append(&attempt()).unwrap();
    journal.step(&step(1), StepEvent::Started { plan: None }).unwrap();
    journal.step(&step(1), StepEvent::Intent { key: "token".into(), value: "abc".into() }).unwrap();
    journal.step(&step(1), StepEvent::Applied { outcome: Outcome::Changed, outputs: [("a".to_owned(), 1.into())].into() }).unwrap();
    journal.step(&step(1), StepEvent::Succeeded).unwrap();
    journal.append(&Entry::Finished { succeeded: true }).unwrap();
    let whole = std::fs::read(path_in(&run)).unwrap();
    let first_line = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    let mut seen = Vec::new();
    for cut in 0..=whole.len() {
        std::fs::write(path_in(&run), &whole[..cut]).unwrap();
        if cut < first_line {
            assert!(Journal::resume(&run).is_err());
            continue;
        }
        let resumed = Journal::resume(&run).unwrap();
        let record = resumed.record();
        seen.push(record.steps.get(&step(1)).map_or(Status::Pending, |s| s.status));
        resumed.append(&attempt()).unwrap();
        assert_eq!(read(&path_in(&run)).unwrap().0.attempts.len(), record.attempts.len() + 1);
    }
    seen.dedup();
    assert_eq!(seen, [Status::Pending, Status::Started, Status::Applied, Status::Succeeded]);
}

#[test]
fn a_masked_line_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "\"quoted-1f3870be\"";
    redact::register(secret);
    let journal = Journal::create(&folder.path().join("run"), header()).unwrap();
    journal.append(&attempt()).unwrap();
    journal.step(&step(1), StepEvent::Started { plan: Some("quoted-1f3870be".to_owned()) }).unwrap();
    let value = serde_json::json!({ secret: [secret, format!("{secret:?}")] });
    journal.step(&step(1), StepEvent::Intent { key: "token".into(), value }).unwrap();
    let (record, _) = read(journal.path()).unwrap();
    assert_eq!(record.steps[&step(1)].intents["token"], serde_json::json!({ "[secret]": ["[secret]", "\"[secret]\""] }));
}

#[test]
fn refuses_what_cannot_follow_and_writes_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::create(&folder.path().join("run"), header()).unwrap();
    assert!(journal.step(&step(1), StepEvent::Started { plan: None }).is_err(), "no attempt is under way");
    journal.append(&attempt()).unwrap();
    let before = std::fs::read(journal.path()).unwrap();
    let error = journal.step(&step(1), StepEvent::Succeeded).unwrap_err();
    assert!(error.message.contains("cannot say `succeeded`"), "{}", error.message);
    assert_eq!(std::fs::read(journal.path()).unwrap(), before);
}

#[test]
fn refuses_another_version_and_damage_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    drop(Journal::create(&run, header()).unwrap());
    let good = std::fs::read_to_string(path_in(&run)).unwrap();
    std::fs::write(path_in(&run), good.replace("\"version\":2", "\"version\":9")).unwrap();
    assert!(Journal::resume(&run).err().unwrap().message.contains("this deployctl reads"));
    std::fs::write(path_in(&run), format!("{good}not json\n")).unwrap();
    assert!(Journal::resume(&run).err().unwrap().message.contains("damaged at line 2"));
}

#[tokio::test]
async fn an_intent_is_chosen_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let first = Arc::new(Journal::create(&run, header()).unwrap());
    first.append(&attempt()).unwrap();
    first.step(&step(1), StepEvent::Started { plan: None }).unwrap();
    assert_eq!(JournalIntents(first.clone()).once(&step(1), "token", "one".into()).await.unwrap(), "one");
    drop(first);
    let second = Arc::new(Journal::resume(&run).unwrap());
    second.append(&attempt()).unwrap();
    second.step(&step(1), StepEvent::Started { plan: None }).unwrap();
    assert_eq!(JournalIntents(second).once(&step(1), "token", "two".into()).await.unwrap(), "one");
}

fn event() -> impl Strategy<Value = StepEvent> {
    prop_oneof![
        Just(StepEvent::Started { plan: Some("p".into()) }),
        Just(StepEvent::Planned { plan: "p".into() }),
        "[a-z]{1,3}".prop_map(|key| StepEvent::Intent { key, value: Value::from(7) }),
        Just(StepEvent::Applied { outcome: Outcome::Changed, outputs: Default::default() }),
        Just(StepEvent::Succeeded),
        Just(StepEvent::Unchanged { outputs: Default::default() }),
        ".*".prop_map(|reason| StepEvent::Skipped { reason }),
        ".*".prop_map(|line| StepEvent::Failed { kind: FailureKind::Step, chain: vec![line], left_behind: LeftBehind::Nothing }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn reading_back_gives_what_was_followed(events in prop::collection::vec((0u8..3, event()), 0..20), resumes in 0usize..3) {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let mut journal = Journal::create(&run, header()).unwrap();
        for attempts in 0..=resumes {
            if attempts > 0 {
                journal = Journal::resume(&run).unwrap();
            }
            journal.append(&attempt()).unwrap();
            for (n, event) in &events {
                // Illegal ones are refused; what is left must read back the same.
                drop(journal.step(&step(*n), event.clone()));
            }
        }
        prop_assert_eq!(read(&path_in(&run)).unwrap().0.steps, journal.record().steps);
    }
}
