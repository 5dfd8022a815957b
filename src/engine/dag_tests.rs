//! Order, circles and parallelism of [`super::Dag`], by property.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::*;

fn id(n: usize) -> StepId {
    StepId::parse(format!("s{n}")).unwrap()
}

fn build(edges: &[Vec<usize>]) -> Result<Dag, Cycle> {
    let steps: Vec<(StepId, Vec<StepId>)> =
        edges.iter().enumerate().map(|(n, needs)| (id(n), needs.iter().copied().map(id).collect())).collect();
    Dag::new(steps.iter().map(|(id, needs)| (id, needs.as_slice())))
}

/// Every step may need any earlier one: never a circle.
fn acyclic() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12).prop_map(|rows| {
        rows.into_iter().enumerate().map(|(n, row)| row.into_iter().filter(|_| n > 0).map(|i| i.index(n)).collect()).collect()
    })
}

proptest! {
    #[test]
    fn every_step_comes_after_what_it_needs(edges in acyclic()) {
        let dag = build(&edges).unwrap();
        prop_assert_eq!(dag.order().len(), edges.len());
        for (at, step) in dag.order().iter().enumerate() {
            for need in dag.needs(step) {
                prop_assert!(dag.order()[..at].contains(need));
            }
        }
        let back = dag.reversed();
        for step in back.order() {
            for need in back.needs(step) {
                prop_assert!(dag.needs(need).any(|n| n == step));
            }
        }
    }

    #[test]
    fn a_circle_is_found_and_is_one(edges in acyclic(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let mut edges = edges;
        let (a, b) = (from.index(edges.len()), to.index(edges.len()));
        let dag = build(&edges).unwrap();
        let closes = a == b || dag.all_needs(&id(a)).contains(&id(b));
        edges[b].push(a);
        match build(&edges) {
            Ok(_) => prop_assert!(!closes),
            Err(Cycle(path)) => {
                prop_assert!(closes);
                prop_assert_eq!(path.first(), path.last());
                for pair in path.windows(2) {
                    let (n, m) = (pair[0].as_str()[1..].parse::<usize>().unwrap(), pair[1].as_str()[1..].parse::<usize>().unwrap());
                    prop_assert!(edges[n].contains(&m), "{} does not need {}", n, m);
                }
            }
        }
    }

    #[test]
    fn runs_each_once_in_order_within_the_cap_and_starts_nothing_after_a_failure(
        edges in acyclic(), cap in 1usize..5, fails in prop::option::of(any::<prop::sample::Index>())
    ) {
        let dag = build(&edges).unwrap();
        let broken = fails.map(|f| id(f.index(edges.len())));
        let (now, most, log) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let results = runtime.block_on(run(&dag, NonZeroUsize::new(cap).unwrap(), &CancellationToken::new(), |step| {
            let (now, most, log, dag, broken) = (&now, &most, &log, &dag, &broken);
            async move {
                assert!(dag.needs(&step).all(|n| log.lock().unwrap().contains(n)), "{step} started too early");
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::Relaxed);
                if broken.as_ref() == Some(&step) { return (step, Err(Failure::step("broken"))) }
                log.lock().unwrap().push(step.clone());
                (step, Ok(()))
            }
        }));
        prop_assert!(most.load(Ordering::Relaxed) <= cap);
        match &broken {
            None => prop_assert_eq!(results.len(), edges.len()),
            Some(broken) => {
                prop_assert!(results[broken].is_err());
                for step in dag.with_dependents(broken).iter().filter(|s| *s != broken) {
                    prop_assert!(!results.contains_key(step));
                }
            }
        }
    }
}

#[test]
fn shows_the_way_round() {
    let Cycle(path) = build(&[vec![2], vec![0], vec![1]]).unwrap_err();
    assert_eq!(path.iter().map(StepId::as_str).collect::<Vec<_>>(), ["s0", "s2", "s1", "s0"]);
}

#[tokio::test]
async fn starts_nothing_once_cancelled() {
    let dag = build(&[vec![], vec![0]]).unwrap();
    let cancel = CancellationToken::new();
    let results = run(&dag, NonZeroUsize::MIN, &cancel, |step| {
        cancel.cancel();
        async move { (step, Ok(())) }
    })
    .await;
    assert_eq!(results.len(), 1);
}
