//! The whole engine over a world in memory: order, side by side, failure, crash and resume, cancellation, bounds.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::{num::NonZeroUsize, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    aws::Aws,
    clock,
    engine::{
        cancel::InFlight,
        event::{Event, Events},
        fake::{FakeKind, Trouble},
        lease::{EnvironmentLease, KEY, LocalLease, Patience},
        mirror,
        records::memory::MemoryRecords,
        run_step::NobodyToAsk,
        status::Status,
    },
    failure::LeftBehind,
    plan::{Decision, definition::Definition, read, selection::Selection},
    steps::registry::Registry,
};

const FILE: &str = r#"
version: 1
steps:
  - { id: backend, kind: fake, with: { makes: [bucket] } }
  - { id: network, kind: fake, needs: [backend], with: { makes: [vpc], gives: { vpc_id: vpc-1, zones: { a: z1 } } }, outputs: { vpc_id: string, zones: map(string) } }
  - { id: images, kind: fake, with: { makes: [image], gives: { digest: d1 } }, outputs: { digest: string } }
  - { id: cluster, kind: fake, needs: [network], with: { makes: ["cluster in ${steps.network.outputs.vpc_id}"] } }
  - { id: service, kind: fake, needs: [cluster, images], with: { makes: ["pod of ${steps.images.outputs.digest}"] } }
"#;

/// An engine, a folder for its journals and a world in memory.
pub(super) struct Bench {
    folder: tempfile::TempDir,
    pub(super) kind: Arc<FakeKind>,
    pub(super) definition: Arc<Definition>,
    pub(super) records: Arc<MemoryRecords>,
}

fn id(text: &str) -> StepId {
    StepId::parse(text).unwrap()
}

fn definition(kind: &Arc<FakeKind>, file: &str) -> Arc<Definition> {
    let registry = Registry::default().with_erased(kind.clone());
    let environment = include_str!("../../plans/environments/sandbox.yaml");
    let environment = read::environment_from(Path::new("sandbox.yaml"), environment).unwrap();
    let file = read::plan_file_from(Path::new("deploy.yaml"), file, Path::new("."), &registry, Some(&environment)).unwrap();
    Arc::new(Definition::new(file, environment).unwrap())
}

impl Bench {
    fn new() -> Self {
        Self::with(FILE)
    }
    pub(super) fn with(file: &str) -> Self {
        let kind = FakeKind::in_a_world_of_its_own();
        let definition = definition(&kind, file);
        Self { folder: tempfile::tempdir().unwrap(), kind, definition, records: Arc::default() }
    }
    /// Another machine: a disk of its own, the same world and the same state bucket.
    fn elsewhere(&self) -> Self {
        let (kind, definition, records) = (self.kind.clone(), self.definition.clone(), self.records.clone());
        Self { folder: tempfile::tempdir().unwrap(), kind, definition, records }
    }
    async fn bring(&self) {
        mirror::bring(&*self.records, &self.state(), &self.definition.environment.name).await.unwrap();
    }
    pub(super) fn state(&self) -> StateFolder {
        StateFolder::at(self.folder.path())
    }
    pub(super) fn history(&self) -> History {
        History::read(&self.state(), &self.definition.environment.name).unwrap()
    }
    pub(super) fn work(&self) -> Workplace {
        Workplace {
            definition: self.definition.clone(),
            registry: Arc::new(Registry::default().with_erased(self.kind.clone())),
            project: self.folder.path().to_owned(),
            scratch: self.folder.path().join("scratch"),
            aws: Arc::new(Aws::unconnected(&self.definition.environment)),
            events: Events::default(),
            cancel: CancellationToken::new(),
            in_flight: InFlight::default(),
            parallel: NonZeroUsize::new(4).unwrap(),
            data: crate::steps::Data::Stays,
        }
    }
    async fn plan(&self) -> Plan {
        consider::plan(&self.work(), &Selection::default(), &self.history()).await.unwrap()
    }
    async fn apply_with(&self, work: &Workplace, selection: &Selection) -> Result<Ended, Failure> {
        let history = self.history();
        let plan = consider::plan(work, selection, &history).await?;
        self.apply_plan(work, &plan).await
    }
    pub(super) async fn apply_plan(&self, work: &Workplace, plan: &Plan) -> Result<Ended, Failure> {
        let history = self.history();
        let holder = Holder::this_process("apply");
        let patience = Patience { limit: Duration::ZERO, cancel: &CancellationToken::new(), waiting: &|_| {}, now: clock::since_boot };
        let environment = &self.definition.environment.name;
        let lease: Arc<dyn Lease> =
            Arc::new(EnvironmentLease::acquire(&self.state().locks(), self.records.clone(), environment, &holder, &patience).await?);
        let run = run_to_resume(&history, &self.definition.digest).map_or_else(new_run_id, Ok)?;
        let journal = open_journal(&self.state(), work, plan, &history, &run, &holder, &*lease)?;
        let ended = apply(work, plan, &history, journal, lease.clone(), &NobodyToAsk).await;
        lease.release().await?;
        ended
    }
    pub(super) async fn apply(&self) -> Ended {
        self.apply_with(&self.work(), &Selection::default()).await.unwrap()
    }
    fn calls(&self, phase: &str) -> Vec<String> {
        self.kind.world().calls.iter().filter_map(|call| call.strip_prefix(phase).map(|step| step.trim().to_owned())).collect()
    }
    fn trouble(&self, call: &str, trouble: Trouble) {
        self.kind.world().trouble.insert(call.to_owned(), trouble);
    }
    pub(super) fn repair(&self) {
        let mut world = self.kind.world();
        world.trouble.clear();
        world.calls.clear();
    }
    fn nothing_twice(&self) {
        let world = self.kind.world();
        assert_eq!(world.things.len(), 5, "{:?}", world.things);
        assert!(world.things.values().all(|times| *times == 1), "{:?}", world.things);
    }
}

fn events(receiver: &mut tokio::sync::broadcast::Receiver<Event>) -> Vec<EventKind> {
    std::iter::from_fn(|| receiver.try_recv().ok()).map(|event| event.kind).collect()
}

#[tokio::test]
async fn applies_in_order_side_by_side_and_a_second_time_does_nothing() {
    let bench = Bench::new();
    let plan = bench.plan().await;
    let deferred: Vec<&str> =
        plan.steps.iter().filter(|s| matches!(s.decision, Decision::Deferred { .. })).map(|s| s.id.as_str()).collect();
    assert_eq!(deferred, ["network", "cluster", "service"], "what waits for things that are not there");
    assert!(bench.apply().await.failure.is_none());
    let order = bench.calls("apply");
    let at = |step: &str| order.iter().position(|s| s == step).unwrap();
    assert!(
        at("backend") < at("network") && at("network") < at("cluster") && at("cluster") < at("service") && at("images") < at("service")
    );
    assert_eq!(bench.kind.world().running.1, 2, "backend and images need nothing");
    bench.nothing_twice();

    bench.repair();
    let plan = bench.plan().await;
    assert!(!plan.has_changes());
    assert!(plan.steps.iter().all(|step| matches!(step.decision, Decision::Planned { .. })), "recorded outputs let everything be planned");
    assert!(bench.apply().await.failure.is_none());
    assert_eq!((bench.calls("apply"), bench.calls("verify")), (vec![], vec![]));
    assert_eq!(bench.history().runs.len(), 2);
}

#[tokio::test]
async fn what_the_last_run_gave_may_lack_what_is_asked_now() {
    let mut bench = Bench::new();
    assert!(bench.apply().await.failure.is_none());
    let grown = FILE.replace(
        "makes: [vpc], gives: { vpc_id: vpc-1, zones: { a: z1 } }",
        "makes: [vpc, subnet], gives: { vpc_id: vpc-1, zones: { a: z1, b: z2 } }",
    );
    let grown = grown.replace("\"cluster in ${steps.network.outputs.vpc_id}\"", "\"cluster in ${steps.network.outputs.zones.b}\"");
    bench.definition = definition(&bench.kind, &grown);
    assert!(bench.apply().await.failure.is_none());
    assert!(bench.kind.world().things.contains_key("cluster in z2"), "{:?}", bench.kind.world().things);
}

#[tokio::test]
async fn a_question_that_has_changed_is_asked_again() {
    let mut bench = Bench::new();
    assert!(bench.apply().await.failure.is_none());
    bench.repair();
    let other = FILE.replace("makes: [image], gives: { digest: d1 }", "makes: [image2], gives: { digest: d2 }");
    bench.definition = definition(&bench.kind, &other);
    assert!(bench.apply().await.failure.is_none());
    assert!(bench.kind.world().things.contains_key("pod of d2"), "{:?}", bench.kind.world().things);
}

#[tokio::test]
async fn after_a_failure_nothing_new_starts_and_the_same_command_goes_on() {
    let bench = Bench::new();
    bench.trouble("apply network", Trouble::After);
    let ended = bench.apply().await;
    let failure = ended.failure.unwrap();
    assert_eq!((failure.step, failure.left_behind), (Some(id("network")), LeftBehind::Partial(vec!["a thing".to_owned()])));
    assert_eq!(ended.not_started, [id("cluster"), id("service")]);

    bench.repair();
    let again = bench.apply().await;
    assert!(again.failure.is_none());
    assert_eq!(again.run, ended.run, "the run is gone on with");
    assert_eq!(bench.calls("verify"), ["network", "cluster", "service"], "what failed is verified although its effect was there");
    bench.nothing_twice();
    let tokens: std::collections::BTreeSet<String> = bench.kind.world().tokens.iter().map(ToString::to_string).collect();
    assert_eq!(tokens.len(), 5, "the repeated apply used its first token again: {tokens:?}");
}

#[tokio::test]
async fn a_failed_check_is_checked_again() {
    let bench = Bench::new();
    bench.trouble("verify images", Trouble::Before);
    let failure = bench.apply().await.failure.unwrap();
    assert_eq!(
        (failure.kind, failure.left_behind),
        (FailureKind::Verification, LeftBehind::Partial(vec!["create thing image".to_owned()]))
    );
    bench.repair();
    assert!(bench.apply().await.failure.is_none());
    assert!(bench.calls("verify").contains(&"images".to_owned()));
    bench.nothing_twice();
}

#[tokio::test]
async fn a_panic_is_that_steps_failure() {
    let bench = Bench::new();
    bench.trouble("apply images", Trouble::Panic);
    let failure = bench.apply().await.failure.unwrap();
    assert_eq!((failure.kind, failure.step), (FailureKind::Internal, Some(id("images"))));
    assert!(bench.history().runs[0].steps[&id("backend")].last_status() == Status::Succeeded, "the others came to their end");
}

/// The crash matrix: the journal of a whole run is cut after every line, the world is set to what was there then, and the same command converges.
#[tokio::test]
async fn a_crash_after_any_line_of_the_journal_converges() {
    let whole = Bench::new();
    let ended = whole.apply().await;
    let text = std::fs::read_to_string(&ended.journal).unwrap();
    let lines = text.lines().count();
    for keep in 1..lines {
        // An effect is there from the line after it at the latest, and may be there from the line before it on.
        for effect in [false, true] {
            let bench = Bench::new();
            let kept: Vec<&str> = text.lines().take(keep).collect();
            let folder = bench.state().run(&bench.definition.environment.name, &ended.run);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("journal.ndjson"), kept.join("\n") + "\n{\"at\":\"torn").unwrap();
            for line in &kept {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let done = value["event"] == "applied" || (effect && value["event"] == "intent");
                if done {
                    let made = match value["step"].as_str().unwrap() {
                        "backend" => "bucket",
                        "network" => "vpc",
                        "images" => "image",
                        "cluster" => "cluster in vpc-1",
                        _ => "pod of d1",
                    };
                    bench.kind.world().things.insert(made.to_owned(), 1);
                }
            }
            let again = bench.apply().await;
            assert!(again.failure.is_none(), "cut after line {keep}: {:?}", again.failure);
            assert_eq!(again.run, ended.run);
            bench.nothing_twice();
            for (step, record) in &bench.history().runs[0].steps {
                assert_eq!(record.last_status(), Status::Succeeded, "cut after line {keep}: {step}");
            }
        }
    }
}

/// The failure matrix: every step, in every phase, in every way; then the same command converges and nothing is made twice.
#[tokio::test]
async fn every_failure_of_every_step_converges() {
    let steps = ["backend", "network", "images", "cluster", "service"];
    let mut runs = 0;
    for step in steps {
        for phase in ["observe", "apply", "verify"] {
            for trouble in [Trouble::Before, Trouble::After, Trouble::Panic] {
                // Only an effect can fail after it.
                if trouble == Trouble::After && phase != "apply" {
                    continue;
                }
                // Planning has no net under it: there, a panic ends the process, and nothing was changed.
                if trouble == Trouble::Panic && phase == "observe" {
                    continue;
                }
                let bench = Bench::new();
                bench.trouble(&format!("{phase} {step}"), trouble);
                let what = format!("{trouble:?} {phase} {step}");
                match bench.apply_with(&bench.work(), &Selection::default()).await {
                    Ok(ended) => assert_eq!(ended.failure.unwrap().step, Some(id(step)), "{what}"),
                    Err(failure) => {
                        assert_eq!((failure.step, phase), (Some(id(step)), "observe"), "{what}");
                        assert!(bench.kind.world().things.is_empty(), "{what}: planning changed something");
                    }
                }
                bench.repair();
                let again = bench.apply().await;
                assert!(again.failure.is_none(), "{what}: {:?}", again.failure);
                bench.nothing_twice();
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 30);
}

#[tokio::test]
async fn a_repeated_step_uses_its_token_again() {
    let bench = Bench::new();
    let first = bench.apply().await;
    let text = std::fs::read_to_string(&first.journal).unwrap();
    let token = bench.kind.world().tokens.clone();
    // Killed between the intent of the last step and its effect.
    let cut = text.lines().position(|line| line.contains("\"intent\"") && line.contains("\"service\"")).unwrap();
    let kept = text.lines().take(cut + 1).collect::<Vec<_>>().join("\n") + "\n";
    std::fs::write(&first.journal, &kept).unwrap();
    bench.records.put(&mirror::key(&first.run), &kept);
    bench.kind.world().things.remove("pod of d1");
    assert!(bench.apply().await.failure.is_none());
    assert_eq!(bench.kind.world().tokens.last(), token.last());
}

#[tokio::test]
async fn a_deferred_step_stops_at_its_bound() {
    let bench = Bench::new();
    bench.kind.world().odd.insert("vpc".to_owned());
    let failure = bench.apply().await.failure.unwrap();
    assert_eq!((failure.kind, failure.step), (FailureKind::PlanStale, Some(id("network"))));
    assert_eq!(failure.evidence, ["not shown: create oddity vpc"]);
    assert!(!bench.calls("apply").contains(&"network".to_owned()));
}

#[tokio::test]
async fn cancelled_it_lets_what_runs_end_and_can_be_gone_on_with() {
    let bench = Bench::new();
    bench.trouble("apply network", Trouble::Hang);
    let work = bench.work();
    let mut receiver = work.events.subscribe();
    let cancel = work.cancel.clone();
    let everything = Selection::default();
    let (ended, ()) = tokio::join!(bench.apply_with(&work, &everything), async {
        while !bench.kind.world().calls.contains(&"apply network".to_owned()) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    let ended = ended.unwrap();
    assert_eq!(ended.failure.unwrap().kind, FailureKind::Interrupted);
    assert!(events(&mut receiver).iter().any(|event| matches!(event, EventKind::RunFinished { succeeded: false, .. })));
    bench.repair();
    assert!(bench.apply().await.failure.is_none());
    bench.nothing_twice();
}

#[tokio::test]
async fn a_part_is_run_with_its_reason_and_needs_what_came_before() {
    let bench = Bench::new();
    let only = |step: &str| Selection { only: vec![id(step)], reason: Some("ticket 7".to_owned()), ..Selection::default() };
    let refused = bench.apply_with(&bench.work(), &only("cluster")).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Preflight);
    assert!(refused.message.contains("network is skipped and has not been applied"), "{}", refused.message);
    assert!(bench.apply().await.failure.is_none());
    bench.repair();
    bench.kind.world().things.remove("cluster in vpc-1");
    assert!(bench.apply_with(&bench.work(), &only("cluster")).await.unwrap().failure.is_none());
    assert_eq!(bench.calls("apply"), ["cluster"]);
    assert_eq!(bench.calls("observe"), ["cluster"], "what the others gave is on record");
    let history = bench.history();
    let run = history.runs.last().unwrap();
    assert_eq!(run.selection.reason.as_deref(), Some("ticket 7"));
    assert_eq!(
        run.steps[&id("backend")].outcome,
        Some(crate::engine::event::Outcome::Skipped { reason: "--only cluster: ticket 7".to_owned() })
    );
}

#[tokio::test]
async fn a_second_apply_at_the_same_time_is_refused() {
    let bench = Bench::new();
    let (first, second) = {
        let (work, other) = (bench.work(), bench.work());
        let plan = bench.plan().await;
        let holder = Holder::this_process("apply");
        let lease = LocalLease::acquire(&bench.state().locks(), &bench.definition.environment.name, &holder).unwrap();
        let second = bench.apply_plan(&other, &plan).await.unwrap_err();
        lease.release().unwrap();
        (bench.apply_plan(&work, &plan).await.unwrap(), second)
    };
    assert!(first.failure.is_none());
    assert_eq!(second.kind, FailureKind::Locked);
}

#[tokio::test]
async fn a_stale_plan_is_refused_before_anything_is_done() {
    let bench = Bench::new();
    assert!(bench.apply().await.failure.is_none());
    bench.kind.world().things.remove("image");
    let saved = crate::plan::saved::Saved::now(&bench.plan().await).unwrap();
    bench.kind.world().things.remove("bucket");
    let dag = &bench.definition.dag;
    let error = crate::plan::fresh::freshen(&saved, &bench.plan().await, &bench.history(), dag).unwrap_err();
    assert_eq!(error.kind, FailureKind::PlanStale);
    assert!(error.evidence.iter().any(|line| line.contains("backend: thing bucket [0]: true -> false")), "{:?}", error.evidence);
    assert!(error.evidence.iter().any(|line| line.contains("backend: would now also create thing bucket")), "{:?}", error.evidence);
}

#[path = "elsewhere_tests.rs"]
mod elsewhere;
