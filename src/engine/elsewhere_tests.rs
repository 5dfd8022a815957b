//! Runs that another machine goes on with: the journal in the state bucket, hold of a bucket that a run has made, programs left in flight elsewhere.
use super::*;
use crate::engine::records::memory::Network;

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
        bench.records.network(Network::Cut);
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
    // What was left by a command of the DR region is in that region's bucket, and its lease is the one to ask for.
    let prepared = told(&elsewhere.replace("\"what\":\"apply\"", "\"what\":\"dr prepare\"")).unwrap_err();
    let next = prepared.next.join("\n");
    assert!(next.contains("deployctl lock release --dr") && next.contains("deployctl dr prepare"), "{next}");
    told(&elsewhere).unwrap_err();
    let journal = Journal::resume(&path).unwrap();
    journal.append(&Entry::DeclaredDead { by: Holder::this_process("lock release") }).unwrap();
    refuse_if_elsewhere(&bench.work(), &bench.history()).unwrap();
    let failed = format!(
        "{elsewhere}{}\n",
        serde_json::json!({ "at": "2026-01-01T00:00:00Z", "type": "step", "step": "network", "event": "failed", "kind": "step", "chain": [], "left": "nothing" })
    );
    told(&failed).unwrap();
}

/// With a DR region of its own.
fn with_copies() -> (Bench, Arc<MemoryRecords>) {
    let copies = Arc::new(MemoryRecords::default());
    (Bench { records: Arc::new(MemoryRecords::copied_to(copies.clone())), ..Bench::new() }, copies)
}

/// The region is lost: all that is left is what its DR region has.
#[tokio::test]
async fn the_dr_region_tells_who_was_there_last_and_has_a_lease_of_its_own() {
    let (bench, copies) = with_copies();
    bench.trouble("apply cluster", Trouble::After);
    let ended = bench.apply().await;
    let key = mirror::key(&ended.run);
    assert_eq!(copies.text(&key), bench.records.text(&key), "all of it");
    assert!(copies.text(KEY).is_none(), "one truth about who holds the environment");
    bench.records.network(Network::Cut);
    let there = Bench { records: copies.clone(), ..bench.elsewhere() };
    there.bring().await;
    let history = there.history();
    let last = history.runs.last().unwrap();
    assert_eq!((&last.header.run, last.lease, last.finished), (&ended.run, Some(1), Some(false)));
    assert_eq!(last.attempts.last().unwrap().owner, Holder::this_process("apply").owner);
    let patience = Patience { limit: Duration::ZERO, cancel: &CancellationToken::new(), waiting: &|_| {}, now: clock::since_boot };
    let (locks, name, holder) = (there.state().locks(), &there.definition.environment.name, Holder::this_process("dr restore"));
    let lease = EnvironmentLease::acquire(&locks, copies.clone(), name, &holder, &patience).await.unwrap();
    assert_eq!(lease.number(), Some(1));
    assert!(lease.records().unwrap().copies().is_none(), "what a restore writes stays there");
    let elsewhere = Bench { records: copies, ..bench.elsewhere() };
    let second = EnvironmentLease::acquire(&elsewhere.state().locks(), elsewhere.records.clone(), name, &holder, &patience).await;
    assert_eq!(second.err().unwrap().kind, FailureKind::Locked);
}

#[tokio::test]
async fn a_dr_region_that_does_not_answer_is_said_once_and_not_waited_for() {
    for network in [Network::Cut, Network::Silent] {
        let (bench, copies) = with_copies();
        copies.network(network);
        let work = bench.work();
        let mut receiver = work.events.subscribe();
        let began = Instant::now();
        let ended = bench.apply_with(&work, &Selection::default()).await.unwrap();
        assert!(ended.failure.is_none() && began.elapsed() < Duration::from_secs(8), "{:?}: {:?}", began.elapsed(), ended.failure);
        let told = events(&mut receiver);
        let warnings = told.iter().filter(|event| matches!(event, EventKind::Warning { .. }));
        assert_eq!(warnings.count(), 1, "{network:?}");
        assert_eq!(bench.records.text(&mirror::key(&ended.run)).unwrap(), std::fs::read_to_string(&ended.journal).unwrap());
        if network == Network::Cut {
            copies.network(Network::Works);
            assert!(bench.apply().await.failure.is_none());
            let history = bench.history();
            let next = &history.runs.last().unwrap().header.run;
            assert_eq!(copies.text(&mirror::key(next)), bench.records.text(&mirror::key(next)), "the next run is there again");
        }
    }
}

#[tokio::test]
async fn an_old_run_is_brought_by_its_name_and_a_history_as_long_as_it_is_asked_for() {
    let (bench, _) = with_copies();
    let first = bench.apply().await.run;
    for _ in 0..3 {
        assert!(bench.apply().await.failure.is_none());
    }
    let (there, name) = (bench.elsewhere(), &bench.definition.environment.name);
    mirror::bring_newest(&*there.records, &there.state(), name, 2).await.unwrap();
    assert_eq!(there.history().runs.len(), 2);
    mirror::bring_run(&*there.records, &there.state(), name, &first).await.unwrap();
    assert_eq!(there.history().runs[0].header.run, first);
    mirror::bring_run(&*there.records, &there.state(), name, &new_run_id().unwrap()).await.unwrap();
    assert_eq!(there.history().runs.len(), 3, "a run that nobody has had is no error");
    mirror::bring_newest(&*there.records, &there.state(), name, 100).await.unwrap();
    assert_eq!(there.history().runs.len(), 4);
}
