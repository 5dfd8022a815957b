//! Runs that another machine goes on with: the journal in the state bucket, hold of a bucket that a run has made, programs left in flight elsewhere.
use super::*;

/// The run is begun here and gone on with there, wherever it stopped: nothing is made twice, and both tell one story.
#[tokio::test]
async fn another_machine_goes_on_from_any_line_of_the_journal() {
    let whole = Bench::new();
    let ended = whole.apply().await;
    let text = std::fs::read_to_string(&ended.journal).unwrap();
    let key = mirror::key(&ended.run);
    assert_eq!(whole.records.text(&key).as_ref(), Some(&text), "all of it is in the state bucket");
    for keep in 1..text.lines().count() {
        let bench = Bench::new();
        let kept: String = text.lines().take(keep).map(|line| format!("{line}\n")).collect();
        bench.records.put(&key, &kept);
        for line in kept.lines().filter(|line| line.contains("\"applied\"")) {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let made = ["bucket", "vpc", "image", "cluster in vpc-1", "pod of d1"];
            let at = ["backend", "network", "images", "cluster"].iter().position(|step| value["step"] == *step).unwrap_or(4);
            bench.kind.world().things.insert(made[at].to_owned(), 1);
        }
        let there = bench.elsewhere();
        there.bring().await;
        let again = there.apply().await;
        assert!(again.failure.is_none(), "cut after line {keep}: {:?}", again.failure);
        assert_eq!(again.run, ended.run);
        there.nothing_twice();
        bench.bring().await;
        assert_eq!(
            std::fs::read_to_string(there.state().run(&there.definition.environment.name, &ended.run).join("journal.ndjson")).unwrap(),
            std::fs::read_to_string(bench.state().run(&there.definition.environment.name, &ended.run).join("journal.ndjson")).unwrap(),
        );
    }
}

#[tokio::test]
async fn a_token_is_in_the_state_bucket_before_it_is_used() {
    let bench = Bench::new();
    bench.trouble("apply service", Trouble::Before);
    let ended = bench.apply().await;
    let there = bench.elsewhere();
    there.bring().await;
    bench.repair();
    assert!(there.apply().await.failure.is_none());
    let told = bench.records.text(&mirror::key(&ended.run)).unwrap();
    for token in &bench.kind.world().tokens {
        assert!(told.contains(token.as_str().unwrap()), "{token} is unknown to other machines");
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_mirrored_stops_the_run() {
    let bench = Bench::new();
    bench.trouble("apply network", Trouble::Hang);
    let (work, everything) = (bench.work(), Selection::default());
    let (ended, ()) = tokio::join!(bench.apply_with(&work, &everything), async {
        while !bench.kind.world().calls.contains(&"apply network".to_owned()) {
            tokio::task::yield_now().await;
        }
        bench.records.network(crate::engine::records::memory::Network::Cut);
        work.cancel.cancel();
    });
    assert!(ended.is_err() || ended.unwrap().failure.is_some());
    assert!(!bench.calls("apply").contains(&"cluster".to_owned()));
}

/// Runs an apply in which something happens once the state bucket was made.
async fn with_the_bucket_made(bench: &Bench, then: impl FnOnce()) -> Ended {
    bench.records.there(false);
    let (work, everything) = (bench.work(), Selection::default());
    let (ended, ()) = tokio::join!(bench.apply_with(&work, &everything), async {
        while !bench.kind.world().calls.contains(&"apply backend".to_owned()) {
            tokio::task::yield_now().await;
        }
        then();
        bench.records.there(true);
    });
    ended.unwrap()
}

#[tokio::test]
async fn a_run_that_makes_the_state_bucket_takes_hold_of_it() {
    let bench = Bench::new();
    let ended = with_the_bucket_made(&bench, || {}).await;
    assert!(ended.failure.is_none(), "{:?}", ended.failure);
    assert!(bench.records.text(KEY).unwrap().contains("\"holder\":null"), "given back");
    assert_eq!(bench.records.text(&mirror::key(&ended.run)).unwrap(), std::fs::read_to_string(&ended.journal).unwrap());
}

/// Whoever makes the bucket does not own it by that: two first applies meet there.
#[tokio::test]
async fn a_run_that_finds_somebody_at_work_in_the_new_bucket_ends() {
    let bench = Bench::new();
    let mut holder = Holder::this_process("apply");
    holder.process.host = "another".to_owned();
    let lease = serde_json::json!({ "format": "deployctl-lease", "version": 1, "number": 7, "holder": holder, "token": "t", "beat": 1 });
    let failure = with_the_bucket_made(&bench, || bench.records.put(KEY, &lease.to_string())).await.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Locked, "{failure:?}");
    assert!(!bench.calls("apply").contains(&"network".to_owned()));
}

/// A program of another machine cannot be seen from here: only its own machine, or a person's word, says that it has ended.
#[tokio::test]
async fn a_program_left_in_flight_elsewhere_stops_this_machine_until_a_person_has_looked() {
    let bench = Bench::new();
    let ended = bench.apply().await;
    let text = std::fs::read_to_string(&ended.journal).unwrap();
    let cut = text.lines().position(|line| line.contains("\"intent\"") && line.contains("\"network\"")).unwrap();
    let kept: String = text.lines().take(cut + 1).map(|line| format!("{line}\n")).collect();
    let elsewhere = kept.replace(&format!("\"host\":\"{}\"", Holder::this_process("").process.host), "\"host\":\"lost-runner\"");
    let path = bench.state().run(&bench.definition.environment.name, &ended.run);
    let told = |text: &str| {
        std::fs::write(path.join("journal.ndjson"), text).unwrap();
        refuse_if_elsewhere(&bench.work(), &bench.history())
    };
    told(&kept).unwrap();
    let refused = told(&elsewhere).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Locked);
    assert!(refused.message.contains("@") && refused.message.contains("network"), "{}", refused.message);
    assert!(refused.next.iter().any(|next| next.contains("deployctl lock release")));
    let journal = Journal::resume(&path).unwrap();
    journal.append(&Entry::DeclaredDead { by: Holder::this_process("lock release") }).unwrap();
    refuse_if_elsewhere(&bench.work(), &bench.history()).unwrap();
    let failed = format!(
        "{elsewhere}{}\n",
        serde_json::json!({ "at": "2026-01-01T00:00:00Z", "type": "step", "step": "network", "event": "failed", "kind": "step", "chain": [], "left": "nothing" })
    );
    told(&failed).unwrap();
}
