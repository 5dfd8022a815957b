//! What destroy asks before it takes anything away, over a world in memory.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use super::{tests::Bench, *};
use crate::{
    engine::{
        destroy::{Order, Part, destroy, permitted},
        fake::Trouble,
        journal::NoIntents,
        lease::{EnvironmentLease, Patience},
    },
    plan::{definition::Definition, environment::Guards, selection::Selection},
    steps::{Kind as _, state_backend::StateBackend},
};

const FILE: &str = r#"
version: 1
steps:
  - { id: backend, kind: fake, with: { makes: [bucket] } }
  - { id: network, kind: fake, needs: [backend], with: { makes: [vpc, subnet] } }
  - { id: service, kind: fake, needs: [network], with: { makes: [pod, map, secret] } }
"#;

async fn applied(max_deletions: u32, protected: &[&str]) -> Bench {
    let mut bench = Bench::with(FILE);
    let mut environment = bench.definition.environment.clone();
    environment.guards = Guards { max_deletions, protected: protected.iter().map(ToString::to_string).collect() };
    bench.definition = Arc::new(Definition::new(bench.definition.file.clone(), environment).unwrap());
    assert!(bench.apply().await.failure.is_none());
    bench.kind.world().calls.clear();
    bench
}

/// As the command does, but for the question.
async fn destroyed(bench: &Bench) -> Result<Vec<String>, Failure> {
    let (work, history) = (bench.work(), bench.history());
    let parts = [Part::decide(work.clone(), Order::Reversed, &history).await?];
    let shown = permitted(&parts).await?;
    let (holder, name) = (Holder::this_process("destroy"), &bench.definition.environment.name);
    let patience = Patience { limit: std::time::Duration::ZERO, cancel: &work.cancel, waiting: &|_| {}, now: crate::clock::since_boot };
    let lease = EnvironmentLease::acquire(&bench.state().locks(), bench.records.clone(), name, &holder, &patience).await?;
    let lease: Arc<dyn Lease> = Arc::new(lease);
    let run = new_run_id()?;
    let journal = Journal::create(&bench.state().run(name, &run), Header::new(run, name.clone(), "destroy".to_owned()))?;
    let number = lease.number();
    journal.append(&Entry::Attempt { holder, plan: digest::of(&shown.changes)?, selection: Selection::default(), lease: number })?;
    let stays = destroy(&parts, journal, lease.clone()).await;
    lease.release().await?;
    stays
}

/// Killed while a step is being taken away: what was taken away is not asked again, and the same command goes on.
#[tokio::test]
async fn a_destroy_that_broke_off_goes_on() {
    let bench = applied(100, &[]).await;
    bench.kind.world().trouble.insert("undo network".to_owned(), Trouble::Before);
    destroyed(&bench).await.unwrap_err();
    assert_eq!(bench.kind.world().things.keys().collect::<Vec<_>>(), ["bucket", "subnet", "vpc"], "the service has gone, the rest stays");
    bench.repair();
    destroyed(&bench).await.unwrap();
    assert!(bench.kind.world().things.is_empty());
    bench.repair();
    let parts = [Part::decide(bench.work(), Order::Reversed, &bench.history()).await.unwrap()];
    assert!(permitted(&parts).await.unwrap().is_nothing(), "a second destroy finds nothing");
}

/// What a step gave is known for as long as something of it may be left, also once those before it have gone.
#[tokio::test]
async fn what_was_given_is_known_after_its_step_has_gone() {
    let file = r#"
version: 1
steps:
  - { id: network, kind: fake, with: { makes: [vpc], gives: { vpc_id: vpc-1 } }, outputs: { vpc_id: string } }
  - { id: service, kind: fake, needs: [network], with: { makes: ["pod in ${steps.network.outputs.vpc_id}"] } }
"#;
    let mut bench = Bench::with(file);
    let mut environment = bench.definition.environment.clone();
    environment.guards = Guards { max_deletions: 9, protected: Vec::new() };
    bench.definition = Arc::new(Definition::new(bench.definition.file.clone(), environment).unwrap());
    assert!(bench.apply().await.failure.is_none());
    destroyed(&bench).await.unwrap();
    // Somebody has made it again by hand.
    bench.kind.world().things.insert("pod in vpc-1".to_owned(), 1);
    destroyed(&bench).await.unwrap();
    assert!(bench.kind.world().things.is_empty());
}

fn undone(bench: &Bench) -> usize {
    bench.kind.world().calls.iter().filter(|call| call.starts_with("undo ")).count()
}

#[tokio::test]
async fn deletions_of_all_steps_are_counted_together_before_any_of_them() {
    let bench = applied(5, &[]).await;
    let refused = destroyed(&bench).await.unwrap_err();
    assert_eq!((refused.kind, refused.evidence.len()), (FailureKind::Policy, 6));
    assert!(refused.evidence.contains(&"service: delete thing map".to_owned()), "{:?}", refused.evidence);
    assert_eq!(undone(&bench), 0);
    let bench = applied(6, &[]).await;
    destroyed(&bench).await.unwrap();
    assert_eq!((undone(&bench), bench.kind.world().things.len()), (3, 0));
}

#[tokio::test]
async fn what_is_protected_stays_and_all_else_with_it() {
    let bench = applied(100, &["oddity"]).await;
    bench.kind.world().odd.insert("vpc".to_owned());
    let refused = destroyed(&bench).await.unwrap_err();
    assert_eq!((refused.kind, &refused.evidence[..]), (FailureKind::Policy, &["network: delete oddity vpc".to_owned()][..]));
    assert_eq!((undone(&bench), bench.kind.world().things.len()), (0, 6));
}

/// As terraform does whose state is missing while resources with our names are there.
#[tokio::test]
async fn one_step_that_cannot_be_looked_at_stops_all_and_every_such_step_is_named() {
    let bench = applied(100, &[]).await;
    for step in ["network", "service"] {
        bench.kind.world().trouble.insert(format!("look {step}"), Trouble::Before);
    }
    let refused = destroyed(&bench).await.unwrap_err();
    assert!(refused.step.is_some() && refused.evidence.iter().any(|line| line.starts_with("also step ")), "{:?}", refused.evidence);
    assert_eq!(undone(&bench), 0);
}

/// With an AWS that reaches nothing: any call would fail.
#[tokio::test]
async fn the_state_buckets_survive() {
    let bench = Bench::with(FILE);
    let cx = bench.work().context(&StepId::parse("backend").unwrap(), None, Arc::new(NoIntents)).unwrap();
    let input = serde_json::from_value(serde_json::json!({})).unwrap();
    assert!(StateBackend::would_delete(&cx, &input).await.unwrap().is_empty());
    let stays = StateBackend::stays(&cx, &input).await.unwrap();
    let environment = &bench.definition.environment.aws;
    for region in [&environment.region, &environment.dr_region] {
        assert!(
            stays.iter().any(|line| line.starts_with("bucket ") && line.contains(region.as_str()) && line.contains("stays")),
            "{stays:?}"
        );
    }
}
