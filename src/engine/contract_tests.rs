//! The plan's contract, by property: whatever the plan said, apply did no more. Random plan files, worlds, bounds and drift; and any
//! journal of any run, cut anywhere, is gone on with.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index};
use serde_json::json;

use super::{tests::Bench, *};
use crate::{
    engine::{
        fake::{Trouble, World},
        status::Status,
    },
    plan::{
        Decision, PlannedStep,
        environment::Guards,
        fresh::freshen,
        saved::{self, Saved},
        selection::Selection,
    },
    steps::{Action, Change},
};

/// What a step of the plan file may be allowed beyond its kind's bound.
const ALLOW: [&str; 6] = ["oddity", "update thing", "replace thing", "delete thing", "update oddity", "delete oddity"];
const MAX_DELETIONS: u32 = 2;

/// A step of a random plan file.
#[derive(Clone, Debug)]
struct Spec {
    needs: Vec<Index>,
    things: usize,
    /// Whether its first thing is named after an output of the first step that it needs.
    follows: bool,
    allow: Vec<&'static str>,
}

/// Something happens to one thing of one step, by somebody else's hand.
#[derive(Clone, Debug)]
enum Move {
    Made,
    Gone,
    Wants(Action),
    Odd,
    /// The step gives another output from now on.
    Gives,
}

type Moves = Vec<(Index, Index, Move)>;

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let allow = prop::sample::subsequence(ALLOW.to_vec(), 0..=ALLOW.len());
    let spec = (prop::collection::vec(any::<Index>(), 0..3), 1..4usize, any::<bool>(), allow);
    prop::collection::vec(spec.prop_map(|(needs, things, follows, allow)| Spec { needs, things, follows, allow }), 1..6)
}

fn moves() -> impl Strategy<Value = Moves> {
    let action = prop::sample::select(vec![Action::Update, Action::Replace, Action::Delete]);
    let change = prop_oneof![
        3 => Just(Move::Made),
        3 => Just(Move::Gone),
        3 => action.prop_map(Move::Wants),
        1 => Just(Move::Odd),
        1 => Just(Move::Gives),
    ];
    prop::collection::vec((any::<Index>(), any::<Index>(), change), 0..8)
}

fn id(n: usize) -> StepId {
    StepId::parse(format!("s{n}")).unwrap()
}

fn needs(specs: &[Spec], n: usize) -> BTreeSet<usize> {
    specs[n].needs.iter().filter(|_| n > 0).map(|need| need.index(n)).collect()
}

/// The thing's name, as written; `follow` writes what it is named after.
fn name(specs: &[Spec], n: usize, thing: usize, follow: impl Fn(usize) -> String) -> String {
    match needs(specs, n).first() {
        Some(&need) if specs[n].follows && thing == 0 => format!("t{n}-0 of {}", follow(need)),
        _ => format!("t{n}-{thing}"),
    }
}

fn file(specs: &[Spec]) -> String {
    let step = |n: usize| {
        let makes: Vec<String> =
            (0..specs[n].things).map(|thing| name(specs, n, thing, |need| format!("${{steps.s{need}.outputs.id}}"))).collect();
        let needs: Vec<StepId> = needs(specs, n).into_iter().map(id).collect();
        let with = json!({ "makes": makes, "gives": { "id": format!("v{n}") } });
        json!({ "id": id(n), "kind": "fake", "needs": needs, "allow": specs[n].allow, "with": with, "outputs": { "id": "string" } })
    };
    json!({ "version": 1, "steps": (0..specs.len()).map(step).collect::<Vec<_>>() }).to_string()
}

fn bench(file: &str) -> Bench {
    let mut bench = Bench::with(file);
    let mut environment = bench.definition.environment.clone();
    environment.guards = Guards { max_deletions: MAX_DELETIONS, protected: vec!["oddity".to_owned()] };
    bench.definition = Arc::new(crate::plan::definition::Definition::new(bench.definition.file.clone(), environment).unwrap());
    bench
}

fn happen(world: &mut World, specs: &[Spec], moves: &Moves) {
    for (step, thing, change) in moves {
        let n = step.index(specs.len());
        let thing = name(specs, n, thing.index(specs[n].things), |need| format!("v{need}"));
        match change {
            Move::Made => drop(world.things.insert(thing, 1)),
            Move::Gone => drop(world.things.remove(&thing)),
            Move::Wants(action) => drop(world.wants.insert(thing, *action)),
            Move::Odd => drop(world.odd.insert(thing)),
            Move::Gives => drop(world.gives.insert(id(n), [("id".to_owned(), json!(format!("w{n}")))].into())),
        }
    }
}

/// Whether what was shown of a step covers a change: written here a second time, on purpose.
fn covered(shown: &PlannedStep, change: &Change) -> bool {
    let same = |other: &Change| (&other.resource, &other.name) == (&change.resource, &change.name);
    match &shown.decision {
        Decision::Planned { plan, .. } => plan
            .changes
            .iter()
            .any(|s| same(s) && (s.action == change.action || (s.action == Action::Replace && change.action == Action::Create))),
        Decision::Deferred { bound, .. } => {
            let of_its_type = bound.contains(&change.resource) && [Action::Create, Action::Run].contains(&change.action);
            of_its_type || bound.contains(&format!("{} {}", change.action, change.resource))
        }
        Decision::Skipped { .. } => false,
    }
}

fn is_gone(change: &Change) -> bool {
    matches!(change.action, Action::Delete | Action::Replace)
}

/// `PROPTEST_CASES` says otherwise: each case syncs dozens of journal lines.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// One whole story: perhaps a first apply, drift, a plan that is saved, drift, the plan made fresh, drift, apply.
struct Story {
    specs: Vec<Spec>,
    applied_before: bool,
    skip: Option<Index>,
    moves: [Moves; 3],
}

impl Story {
    async fn plays(&self) -> Result<(), TestCaseError> {
        let bench = bench(&file(&self.specs));
        if self.applied_before {
            prop_assert!(bench.apply().await.failure.is_none());
        }
        happen(&mut bench.kind.world(), &self.specs, &self.moves[0]);
        bench.kind.world().effects.clear();
        bench.repair();
        let work = bench.work();
        let selection = Selection { skip: self.skip.iter().map(|step| id(step.index(self.specs.len()))).collect(), ..Selection::default() };
        let saved = match consider::plan(&work, &selection, &bench.history()).await {
            Ok(plan) => saved_and_read(&plan),
            Err(failure) => {
                prop_assert_eq!((failure.kind, self.skip.is_some()), (FailureKind::Preflight, true));
                return Ok(());
            }
        };
        let shown = &saved.plan;
        self.bounds_are_those_of_the_file(shown)?;
        happen(&mut bench.kind.world(), &self.specs, &self.moves[1]);
        let Ok(now) = consider::plan(&work, &selection, &bench.history()).await else { return Ok(()) };
        let Some(fresh) = is_stale_or_fresh(&saved, &now, &bench)? else {
            prop_assert!(bench.kind.world().effects.is_empty());
            return Ok(());
        };
        happen(&mut bench.kind.world(), &self.specs, &self.moves[2]);
        let ended = bench.apply_plan(&work, &fresh).await;
        let effects = std::mem::take(&mut bench.kind.world().effects);
        for (step, change) in &effects {
            prop_assert!(covered(shown.step(step).unwrap(), change), "not shown: {step} {change:?}");
            prop_assert!(!(is_gone(change) && change.resource == "oddity"), "protected: {step} {change:?}");
        }
        let gone = effects.iter().filter(|(_, change)| is_gone(change)).count();
        prop_assert!(gone <= MAX_DELETIONS as usize, "{gone} deletions where {MAX_DELETIONS} are allowed");
        if let Err(failure) = ended {
            prop_assert_eq!((failure.kind, effects.len()), (FailureKind::Policy, 0), "{:?}", failure.chain());
        }
        Ok(())
    }

    fn bounds_are_those_of_the_file(&self, shown: &Plan) -> Result<(), TestCaseError> {
        for (n, spec) in self.specs.iter().enumerate() {
            if let Decision::Deferred { bound, .. } = &shown.step(&id(n)).unwrap().decision {
                prop_assert!(bound.iter().all(|entry| entry == "thing" || spec.allow.contains(&entry.as_str())), "{bound:?}");
            }
        }
        Ok(())
    }
}

/// As `plan --out` and `apply PLAN` do.
fn saved_and_read(plan: &Plan) -> Saved {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    saved::write(&path, plan).unwrap();
    saved::read(&path).unwrap()
}

/// What has moved since, as the beginning of a line that must say so.
fn moved(saved: &Saved, now: &Plan) -> BTreeSet<String> {
    let mut moved = BTreeSet::new();
    for shown in &saved.plan.steps {
        let Decision::Planned { observed: then, input: asked, plan, .. } = &shown.decision else { continue };
        match &now.step(&shown.id).unwrap().decision {
            Decision::Planned { observed, input, .. } => {
                let things = then.keys().chain(observed.keys()).filter(|thing| then.get(*thing) != observed.get(*thing));
                moved.extend(things.map(|thing| format!("{}: {thing}", shown.id)));
                moved.extend((asked != input).then(|| format!("{}: asks for something else", shown.id)));
            }
            Decision::Deferred { .. } if !plan.changes.is_empty() => drop(moved.insert(format!("{}: cannot be planned", shown.id))),
            _ => {}
        }
    }
    moved
}

/// Fresh: nothing has moved, and it is the saved plan to the letter. Stale: everything that has moved is named, and what would be more too.
fn is_stale_or_fresh(saved: &Saved, now: &Plan, bench: &Bench) -> Result<Option<Plan>, TestCaseError> {
    let moved = moved(saved, now);
    match freshen(saved, now, &bench.history(), &bench.definition.dag) {
        Ok(fresh) => {
            prop_assert!(moved.is_empty(), "{moved:?} was overlooked");
            prop_assert_eq!(json!(fresh), json!(saved.plan));
            Ok(Some(fresh))
        }
        Err(stale) => {
            prop_assert_eq!(stale.kind, FailureKind::PlanStale);
            prop_assert!(!moved.is_empty());
            let named = |start: &String| stale.evidence.iter().any(|line| line.starts_with(start.as_str()));
            prop_assert!(moved.iter().all(named), "{moved:?} is not all in {:?}", stale.evidence);
            Ok(None)
        }
    }
}

/// A saved plan whose apply fails once somewhere: the same command goes on, does all that was shown and no more, and then nothing is left.
async fn gone_on_with(specs: &[Spec], before: &Moves, applied_before: bool, failed: (Index, &str, Trouble)) -> Result<(), TestCaseError> {
    let bench = bench(&file(specs));
    if applied_before {
        prop_assert!(bench.apply().await.failure.is_none());
    }
    // What is deleted on purpose is wanted again at once in this world, so nobody could be done with it.
    let before: Moves = before.iter().filter(|(.., change)| !matches!(change, Move::Wants(Action::Delete))).cloned().collect();
    happen(&mut bench.kind.world(), specs, &before);
    bench.kind.world().effects.clear();
    let work = bench.work();
    let saved = saved_and_read(&consider::plan(&work, &Selection::default(), &bench.history()).await.unwrap());
    let (step, phase, trouble) = failed;
    bench.kind.world().trouble.insert(format!("{phase} s{}", step.index(specs.len())), trouble);
    // Guards may refuse it before anything is done.
    let Ok(_) = bench.apply_plan(&work, &saved.plan).await else { return Ok(()) };
    bench.repair();
    let now = consider::plan(&work, &Selection::default(), &bench.history()).await.unwrap();
    let fresh = freshen(&saved, &now, &bench.history(), &bench.definition.dag);
    prop_assert!(fresh.is_ok(), "{:?}", fresh.unwrap_err().evidence);
    let Ok(ended) = bench.apply_plan(&work, &fresh.unwrap()).await else { return Ok(()) };
    let effects = bench.kind.world().effects.clone();
    for (step, change) in &effects {
        prop_assert!(covered(saved.plan.step(step).unwrap(), change), "not shown: {step} {change:?}");
    }
    let made: Vec<_> = effects.iter().filter(|(_, change)| change.action == Action::Create).collect();
    let names: BTreeSet<_> = made.iter().map(|(_, change)| &change.name).collect();
    prop_assert_eq!(made.len(), names.len(), "made twice: {:?}", made);
    match ended.failure {
        // What was not shown, or is protected, still is not done.
        Some(failure) => prop_assert!([FailureKind::PlanStale, FailureKind::Policy].contains(&failure.kind), "{:?}", failure.chain()),
        None => {
            let left = consider::plan(&work, &Selection::default(), &bench.history()).await.unwrap();
            prop_assert!(!left.has_changes(), "{:?}", left.steps);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_the_plan_said_apply_did_no_more(
        specs in specs(),
        applied_before in any::<bool>(),
        skip in prop::option::weighted(0.2, any::<Index>()),
        first in moves(),
        second in prop_oneof![1 => Just(vec![]), 1 => moves()],
        third in moves(),
    ) {
        block_on(Story { specs, applied_before, skip, moves: [first, second, third] }.plays())?;
    }

    #[test]
    fn a_saved_plan_is_gone_on_with(
        specs in specs(),
        applied_before in any::<bool>(),
        before in moves(),
        step in any::<Index>(),
        phase in prop::sample::select(vec!["apply", "verify"]),
        trouble in prop::sample::select(vec![Trouble::Before, Trouble::After, Trouble::Panic]),
    ) {
        block_on(gone_on_with(&specs, &before, applied_before, (step, phase, trouble)))?;
    }

    #[test]
    fn any_journal_cut_anywhere_is_gone_on_with(
        specs in specs(),
        failed in prop::option::of((any::<Index>(), prop::sample::select(vec!["apply", "verify"]))),
        cut in any::<Index>(),
        effects in any::<u32>(),
    ) {
        block_on(cut_and_gone_on(&specs, failed, cut, effects))?;
    }
}

/// The journal of a run that perhaps failed once is cut after any line; what was in flight then may have had its effect or not.
async fn cut_and_gone_on(specs: &[Spec], failed: Option<(Index, &str)>, cut: Index, effects: u32) -> Result<(), TestCaseError> {
    let whole = Bench::with(&file(specs));
    if let Some((step, phase)) = failed {
        let call = format!("{phase} s{}", step.index(specs.len()));
        whole.kind.world().trouble.insert(call, Trouble::Before);
        prop_assert!(whole.apply().await.failure.is_some());
        whole.repair();
    }
    let ended = whole.apply().await;
    prop_assert!(ended.failure.is_none());
    let text = std::fs::read_to_string(&ended.journal).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let kept = &lines[..1 + cut.index(lines.len() - 1)];

    let bench = Bench::with(&file(specs));
    let folder = bench.state().run(&bench.definition.environment.name, &ended.run);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("journal.ndjson"), kept.join("\n") + "\n{\"at\":\"torn").unwrap();
    for line in kept {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(n) = line["step"].as_str().map(|step| step[1..].parse::<usize>().unwrap()) else { continue };
        if line["event"] == "applied" || (line["event"] == "intent" && effects >> n & 1 == 1) {
            for thing in 0..specs[n].things {
                bench.kind.world().things.insert(name(specs, n, thing, |need| format!("v{need}")), 1);
            }
        }
    }
    let again = bench.apply().await;
    prop_assert!(again.failure.is_none(), "{:?}", again.failure);
    prop_assert_eq!(&again.run, &ended.run);
    prop_assert_eq!(&bench.kind.world().things, &whole.kind.world().things);
    prop_assert!(bench.kind.world().things.values().all(|times| *times == 1));
    for (step, record) in &bench.history().runs[0].steps {
        prop_assert_eq!(record.last_status(), Status::Succeeded, "{}", step);
    }
    Ok(())
}

#[tokio::test]
async fn deletions_of_a_deferred_step_count_with_the_others() {
    let bench = bench(
        r#"
version: 1
steps:
  - { id: first, kind: fake, with: { makes: [a, b] } }
  - { id: second, kind: fake, needs: [first], allow: ["replace thing"], with: { makes: [c] } }
"#,
    );
    assert!(bench.apply().await.failure.is_none());
    bench.kind.world().wants = ["a", "b", "c"].map(|thing| (thing.to_owned(), Action::Replace)).into();
    let failure = bench.apply().await.failure.unwrap();
    assert_eq!((failure.kind, failure.step.map(|step| step.to_string())), (FailureKind::Policy, Some("second".to_owned())));
    assert_eq!(failure.evidence, ["first: replace thing a", "first: replace thing b", "second: replace thing c"]);
    assert!(bench.kind.world().wants.contains_key("c"));
}
