//! The lease in the state bucket, in a made-up world whose time is made up too: who may have it, when it ends, and that two never believe in it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::cell::Cell as Moment;

use proptest::prelude::*;

use super::*;
use crate::engine::records::memory::{MemoryRecords, Network};

thread_local! {
    static TIME: Moment<Duration> = const { Moment::new(Duration::from_secs(1000)) };
}

/// A clock of the test's own, for lease and records alike.
fn now() -> Duration {
    TIME.get()
}

fn pass(time: Duration) {
    TIME.set(TIME.get() + time);
}

fn records() -> Arc<MemoryRecords> {
    Arc::new(MemoryRecords::with_clock(now))
}

fn environment() -> EnvironmentName {
    EnvironmentName::parse("staging").unwrap()
}

/// A process of another machine: nothing about its death can be proven here.
fn elsewhere(name: &str) -> Holder {
    let mut holder = Holder::this_process("apply");
    holder.process.host = format!("machine-{name}");
    holder.owner = format!("{name}@{}", holder.process.host);
    holder
}

async fn acquire(records: &Arc<MemoryRecords>, holder: &Holder, limit: Duration) -> Result<BucketLease, Failure> {
    let patience = Patience { limit, cancel: &CancellationToken::new(), waiting: &|_| {}, now };
    BucketLease::acquire(records.clone(), &environment(), holder, &patience).await
}

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test]
async fn the_second_is_told_who_works_and_may_wait_for_it() {
    let records = records();
    let ann = acquire(&records, &elsewhere("ann"), AT_ONCE).await.unwrap();
    let refused = acquire(&records, &elsewhere("bob"), AT_ONCE).await.err().unwrap();
    assert_eq!(refused.kind, FailureKind::Locked);
    assert!(refused.message.contains("ann@machine-ann"), "{}", refused.message);
    let (bob, holder) = (Arc::clone(&records), elsewhere("bob"));
    let waiting = tokio::spawn(async move { acquire(&bob, &holder, Duration::from_secs(60)).await });
    for _ in 0..10 {
        pass(BEAT);
        ann.heartbeat().await.unwrap();
        tokio::time::sleep(LOOK / 4).await;
    }
    assert!(!waiting.is_finished(), "a living holder is waited for");
    ann.release().await.unwrap();
    let bob = waiting.await.unwrap().unwrap();
    assert_eq!((ann.number(), bob.number()), (1, 2));
    assert!(ann.check().is_err() && bob.check().is_ok());
}

#[tokio::test]
async fn a_dead_holders_lease_ends_within_thirty_seconds() {
    let records = records();
    let _dead = acquire(&records, &elsewhere("ann"), AT_ONCE).await.unwrap();
    let began = now();
    let waiting = async {
        loop {
            tokio::time::sleep(LOOK / 2).await;
            pass(BEAT);
        }
    };
    let other = elsewhere("bob");
    tokio::select! {
        bob = acquire(&records, &other, Duration::from_secs(60)) => assert!(bob.is_ok()),
        () = waiting => {}
    }
    let took = now() - began;
    assert!(took >= LIFE && took <= LIFE + BEAT * 4, "{took:?}");
    // Whoever comes later need not wait at all: S3 knows how old the last sign of life is.
    pass(LIFE);
    acquire(&records, &elsewhere("eve"), AT_ONCE).await.unwrap();
}

#[tokio::test]
async fn a_process_that_died_here_is_not_waited_for() {
    let records = records();
    let mut dead = Holder::this_process("apply");
    dead.process.start_ticks += 1;
    acquire(&records, &dead, AT_ONCE).await.unwrap();
    acquire(&records, &Holder::this_process("apply"), AT_ONCE).await.unwrap();
    let living = acquire(&records, &Holder::this_process("apply"), AT_ONCE).await;
    assert_eq!(living.err().unwrap().kind, FailureKind::Locked);
}

#[tokio::test]
async fn who_wakes_after_a_long_sleep_makes_no_call() {
    let records = records();
    let ann = acquire(&records, &elsewhere("ann"), AT_ONCE).await.unwrap();
    pass(SAFE);
    assert!(ann.check().is_err(), "asked before any beat could say so");
    pass(LIFE);
    let bob = acquire(&records, &elsewhere("bob"), AT_ONCE).await.unwrap();
    let lost = ann.heartbeat().await.unwrap_err();
    assert!(lost.message.contains("bob@machine-bob"), "{}", lost.message);
    ann.release().await.unwrap();
    bob.heartbeat().await.unwrap();
    assert!(bob.check().is_ok(), "what was taken is not given back by its former holder");
}

#[tokio::test]
async fn lost_answers_are_borne_and_a_cut_line_is_until_it_is_too_long() {
    let records = records();
    records.network(Network::LosesAnswers);
    let ann = acquire(&records, &elsewhere("ann"), AT_ONCE).await.unwrap();
    for _ in 0..4 {
        pass(BEAT);
        ann.heartbeat().await.unwrap();
    }
    records.network(Network::Cut);
    for _ in 0..4 {
        pass(BEAT);
        ann.heartbeat().await.unwrap();
    }
    pass(BEAT);
    let lost = ann.heartbeat().await.unwrap_err();
    assert!(lost.source.is_some(), "why it could not be confirmed");
    records.network(Network::Works);
    pass(Duration::from_secs(1));
    assert_eq!(acquire(&records, &elsewhere("bob"), AT_ONCE).await.err().unwrap().kind, FailureKind::Locked);
}

#[tokio::test]
async fn a_lease_of_another_format_is_left_alone() {
    let records = records();
    records.put(KEY, "{\"format\":\"deployctl-lease\",\"version\":9,\"number\":1,\"holder\":null,\"token\":\"t\",\"beat\":0}");
    let refused = acquire(&records, &elsewhere("ann"), AT_ONCE).await.err().unwrap();
    assert_eq!(refused.kind, FailureKind::Preflight);
}

#[derive(Clone, Debug)]
enum Deed {
    Acquire(usize),
    Beat(usize),
    Release(usize),
    Crash(usize),
    Line(Network),
    Pass(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let who = 0..3usize;
    let deed = prop_oneof![
        4 => who.clone().prop_map(Deed::Acquire),
        6 => who.clone().prop_map(Deed::Beat),
        1 => who.clone().prop_map(Deed::Release),
        1 => who.prop_map(Deed::Crash),
        2 => prop_oneof![Just(Network::Works), Just(Network::Cut), Just(Network::LosesAnswers)].prop_map(Deed::Line),
        6 => (1..30u64).prop_map(Deed::Pass),
    ];
    prop::collection::vec(deed, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever three machines and the line between them do: at no moment do two of them believe that they hold it, and its number grows.
    #[test]
    fn two_never_believe_in_one_lease(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let records = records();
            let mut held: [Option<BucketLease>; 3] = [None, None, None];
            let mut last = 0;
            for deed in deeds {
                match deed {
                    Deed::Acquire(who) => if let Ok(lease) = acquire(&records, &elsewhere(&who.to_string()), AT_ONCE).await {
                        prop_assert!(lease.number() > last);
                        last = lease.number();
                        held[who] = Some(lease);
                    },
                    // What they answer does not matter here; what their holder believes afterwards does.
                    Deed::Beat(who) => if let Some(lease) = &held[who] { drop(lease.heartbeat().await) },
                    Deed::Release(who) => if let Some(lease) = held[who].take() { drop(lease.release().await) },
                    Deed::Crash(who) => held[who] = None,
                    Deed::Line(network) => records.network(network),
                    Deed::Pass(seconds) => pass(Duration::from_secs(seconds)),
                }
                let believers = held.iter().flatten().filter(|lease| lease.check().is_ok()).count();
                prop_assert!(believers <= 1, "{believers} believe in it");
            }
            Ok(())
        })?;
    }
}
