//! The failure matrix over the real steps: every step of the plan file × before, during and after its effect × an error, a kill, a repeat;
//! and every step × signals. Cells are made from the plan file and from what its kinds are (`kinds.rs`), none is listed by hand. After each
//! the same command converges, the next one has nothing to do, and nothing is there twice (`inventory.rs`).
mod apply;
mod inventory;
mod kinds;
mod refusal;
mod rounds;
mod signals;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use deployctl::{
    ids::EnvironmentName,
    plan::{definition::Definition, file::StepDeclaration, read, resolve},
    steps::{registry::Registry, state_backend::Names},
};
use serde_json::Value;

use self::{
    apply::{Apply, Ended, Moment},
    inventory::Inventory,
    kinds::Taken,
    refusal::{Refusal, Refused},
    signals::Signals,
};
use crate::{
    commands::block_on,
    copy::Copy,
    killed::Whom,
    target::{Target, project},
};

const MOMENTS: [Moment; 3] = [Moment::Before, Moment::During, Moment::After];
/// A moment may be over before it can be seen; more tries than this say that it cannot be hit.
const TRIES: usize = 8;
/// Exit codes of a failure that a refusal may end in: credentials, step, verification, time-out.
const FAILED: [i32; 4] = [11, 15, 16, 17];
/// Of the sample in `make test`, unless `DEPLOYCTL_SEED` is given.
const SEED: u64 = 2650;
/// Which cells are run, by parts of their names with commas between, for whoever works on some of them; or `rounds` alone.
const ONLY: &str = "DEPLOYCTL_CELLS";

/// What happens at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// IAM and the API server refuse everything from then on; after the effect the journal's writing too.
    Error,
    /// kill -9, of terraform and its watchdog too.
    Kill,
    /// The same command is given once more while the first is at work.
    Repeat,
    /// Ctrl-C, twice, or SIGTERM.
    Signal(Signals),
}

/// One try.
#[derive(Clone, Debug)]
struct Cell {
    step: StepDeclaration,
    moment: Moment,
    fault: Fault,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}/{:?}", self.step.id, self.moment, self.fault)
    }
}

/// Every cell there is.
fn cells(steps: &[StepDeclaration]) -> Vec<Cell> {
    let of = |step: &StepDeclaration| -> Vec<Cell> {
        let faults = MOMENTS.into_iter().flat_map(|moment| [Fault::Error, Fault::Kill, Fault::Repeat].map(|fault| (moment, fault)));
        let signals = Signals::ALL.into_iter().map(|signals| (Moment::During, Fault::Signal(signals)));
        faults.chain(signals).map(|(moment, fault)| Cell { step: step.clone(), moment, fault }).collect()
    };
    steps.iter().flat_map(of).collect()
}

/// One cell for each kind of step, so drawn that every fault and every moment is among them; from a seed on, the first such.
fn sampled(steps: &[StepDeclaration], seed: u64) -> Vec<Cell> {
    let draw = |seed: u64| {
        let mut cells = cells(steps);
        fastrand::Rng::with_seed(seed).shuffle(&mut cells);
        let mut kinds = BTreeSet::new();
        cells.retain(|cell| kinds.insert(cell.step.kind.clone()));
        cells
    };
    let is_full = |sample: &Vec<Cell>| {
        let is_of = |fault: Fault| sample.iter().any(|cell| std::mem::discriminant(&cell.fault) == std::mem::discriminant(&fault));
        let moments: BTreeSet<Moment> = sample.iter().map(|cell| cell.moment).collect();
        [Fault::Error, Fault::Kill, Fault::Repeat, Fault::Signal(Signals::Once)].into_iter().all(is_of) && moments.len() == MOMENTS.len()
    };
    (seed..=seed + 10_000).map(draw).find(is_full).unwrap()
}

/// What the plan file asks for in the sandbox.
fn definition() -> Definition {
    let environment = EnvironmentName::parse("sandbox").unwrap();
    read::definition(&project(), &environment, &Registry::standard()).unwrap()
}

/// The steps that do something in the sandbox: what is left out there has no moments to be hit at.
fn at_work(definition: &Definition) -> Vec<StepDeclaration> {
    let registry = Registry::standard();
    let at_work = |step: &&StepDeclaration| resolve::left_out(definition, step, &registry).unwrap().is_none();
    definition.file.steps.iter().filter(at_work).cloned().collect()
}

#[test]
fn cells_follow_from_the_plan_file() {
    let definition = definition();
    let steps = at_work(&definition);
    assert!(definition.file.steps.iter().all(|step| step.kind == "chart" || steps.iter().any(|other| other.id == step.id)));
    assert_eq!(cells(&steps).len(), steps.len() * (MOMENTS.len() * 3 + Signals::ALL.len()));
    let names = |seed| sampled(&steps, seed).iter().map(ToString::to_string).collect::<Vec<_>>();
    let kinds: BTreeSet<&str> = steps.iter().map(|step| step.kind.as_str()).collect();
    assert_eq!(names(SEED).len(), kinds.len());
    assert_eq!(names(SEED), names(SEED), "the same seed gives the same sample");
}

/// The deployed target, and what was done to it so far.
pub struct World<'a> {
    target: &'a Target,
    definition: Definition,
    /// What is applied: it gets a migration more whenever a step with migrations is to have something to do.
    copy: Copy,
    migrations: usize,
    /// What there was when something was last counted, and the migrations of that moment.
    counted: Option<(Inventory, usize)>,
    counts: Counts,
}

/// Whether the run that a fault happened to came to its good end all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Finished,
    Unfinished,
}

/// What came of the cells, by kind of fault and moment.
#[derive(Default)]
struct Counts {
    cells: BTreeMap<(Fault, Moment), usize>,
    missed: usize,
    bore: usize,
    at_once: usize,
}

impl<'a> World<'a> {
    fn of(target: &'a Target) -> Self {
        refusal::prepare(target);
        if Target::stands() {
            // Brings the journals of whoever was here before, and ends what was left, so that runs can be counted.
            target.deployctl(&["apply", "--yes", "--only", "backend"]).expect(0);
        }
        let tables = ["exec", "psql", "-Atc", "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'matrix\\_%'"];
        let first = crate::target::text(&target.sandbox(&tables)).trim().parse().unwrap();
        let mut world =
            Self { target, definition: definition(), copy: Copy::new(), migrations: 0, counted: None, counts: Counts::default() };
        // Those of a matrix before this one, on a target that stands.
        (0..first).for_each(|_| world.add_migrations());
        world.nothing_is_there_twice("the beginning");
        world
    }

    /// Counts everything, and fails unless what grew since the last time is what was meant to.
    fn nothing_is_there_twice(&mut self, what: &str) {
        let now = Inventory::of(self);
        if let Some((before, migrations)) = &self.counted {
            now.grew_by(before, self.migrations - migrations, what);
        }
        self.counted = Some((now, self.migrations));
    }

    /// A migration more in every folder of migrations.
    fn add_migrations(&mut self) {
        self.migrations += 1;
        for folder in self.steps().iter().filter_map(|step| step.with["migrations"]["folder"].as_str()) {
            let file = self.copy.path(folder).join(format!("V{}__matrix.sql", 1000 + self.migrations));
            std::fs::write(file, format!("CREATE TABLE matrix_{} (id int);\n", self.migrations)).unwrap();
        }
    }

    /// A stack's state as terraform keeps it.
    fn state(&self, stack: &str) -> Value {
        let bucket = Names::of(&self.definition.environment).unwrap().bucket;
        let object = self.target.s3("us-east-1").get_object().bucket(bucket.as_str()).key(format!("{stack}/terraform.tfstate"));
        let body = block_on(async { object.send().await.unwrap().body.collect().await.unwrap().to_vec() });
        serde_json::from_slice(&body).unwrap()
    }

    /// Objects and items that say that a terraform works on a state.
    fn terraforms_locks(&self) -> Vec<String> {
        let names = Names::of(&self.definition.environment).unwrap();
        block_on(async {
            let listed = self
                .target
                .s3("us-east-1")
                .list_objects_v2()
                .bucket(names.bucket.as_str())
                .into_paginator()
                .send()
                .collect::<Result<Vec<_>, _>>();
            let listed = listed.await.unwrap();
            let keys = listed.iter().flat_map(|page| page.contents()).filter_map(|object| object.key());
            let mut locks: Vec<String> = keys.filter(|key| key.ends_with(".tflock")).map(str::to_owned).collect();
            let dynamodb = aws_sdk_dynamodb::Client::new(&self.target.sdk("us-east-1"));
            let items = dynamodb.scan().table_name(names.table.as_str()).into_paginator().items().send().collect::<Result<Vec<_>, _>>();
            let ids = items.await.unwrap().into_iter().filter(|item| item.contains_key("Info"));
            locks.extend(ids.filter_map(|item| Some(item.get("LockID")?.as_s().ok()?.clone())));
            locks
        })
    }

    /// The same command once more, to its good end.
    fn apply(&self, step: Option<&str>) -> crate::target::Ended {
        let only: Vec<&str> = step.into_iter().flat_map(|step| ["--only", step]).collect();
        self.target.deployctl(&[&["apply", "--yes", "--project", self.copy.folder()][..], &only[..]].concat()).expect(0)
    }

    fn nothing_is_left_to_do(&self, step: Option<&str>, what: &str) {
        let again = self.apply(step);
        assert!(again.out.contains("Nothing had to be changed"), "{what}: {}{}", again.err, again.out);
    }

    fn runs(&self) -> usize {
        std::fs::read_dir(self.target.state().join("deployctl/runs/sandbox")).map_or(0, Iterator::count)
    }

    fn steps(&self) -> Vec<StepDeclaration> {
        at_work(&self.definition)
    }

    /// Runs one cell. One that fails has said why, and the others go on from what another apply can mend.
    fn survives(&mut self, cell: &Cell) -> bool {
        let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(cell))).is_ok();
        if !survived {
            eprintln!("cell {cell} FAILED");
            self.counted = None;
            self.target.deployctl(&["apply", "--yes", "--project", self.copy.folder()]);
        }
        survived
    }

    /// Runs one cell, and shows that nothing of it is left.
    fn run(&mut self, cell: &Cell) {
        let began = Instant::now();
        let runs = self.runs();
        let id = cell.step.id.as_str();
        let mut run = None;
        let mut missed = 0;
        while run.is_none() {
            let taken = kinds::take_away(self, &cell.step);
            let mut apply = Apply::start(self.target, self.copy.folder(), Some(id), &taken);
            if apply.halt_at(cell.moment) {
                run = Some(self.meet(cell, apply, &taken));
                continue;
            }
            let ended = apply.end();
            assert_eq!(ended.code, Some(0), "{cell}, not met: {}", ended.said);
            missed += 1;
            assert!(missed < TRIES, "{cell}: the moment cannot be hit");
        }
        self.counts.missed += missed;
        self.apply(Some(id));
        self.nothing_is_left_to_do(Some(id), &cell.to_string());
        // What did not end well was gone on with; for what had ended, the same command is another run.
        let expected = missed + if run == Some(Run::Finished) { 3 } else { 2 };
        assert_eq!(self.runs() - runs, expected, "{cell}: runs");
        self.nothing_is_there_twice(&cell.to_string());
        *self.counts.cells.entry((cell.fault, cell.moment)).or_default() += 1;
        eprintln!("cell {cell}: {:.1} s", began.elapsed().as_secs_f32());
    }

    /// Lets the fault happen to an apply that stands still.
    fn meet(&mut self, cell: &Cell, apply: Apply<'_>, taken: &Taken) -> Run {
        match cell.fault {
            Fault::Kill => {
                apply.kill(&taken.stacks, Some(Whom::Everybody));
                Run::Unfinished
            }
            Fault::Error => {
                let what = if cell.moment == Moment::After { Refused::WorkAndJournal } else { Refused::Work };
                let refusal = Refusal::begin(self.target, what);
                let ended = apply.end();
                drop(refusal);
                self.told_what_failed(cell, &ended)
            }
            Fault::Repeat => {
                let id = cell.step.id.as_str();
                let second = ["apply", "--yes", "--project", self.copy.folder(), "--only", id];
                let refused = self.target.deployctl(&second).expect(14);
                assert!(refused.err.contains(&format!("pid {}", apply.id())), "{cell}: {}", refused.err);
                let ended = apply.end();
                assert_eq!(ended.code, Some(0), "{cell}: {}", ended.said);
                Run::Finished
            }
            Fault::Signal(signals) => signals::meet(self, cell, signals, apply, taken),
        }
    }

    /// Step, cause and what to type next; or it had asked for all that it needed.
    fn told_what_failed(&mut self, cell: &Cell, ended: &Ended) -> Run {
        if ended.code == Some(0) && cell.moment == Moment::During {
            self.counts.bore += 1;
            return Run::Finished;
        }
        let said = &ended.said;
        assert!(ended.code.is_some_and(|code| FAILED.contains(&code)), "{cell}: exit {:?}: {said}", ended.code);
        let words =
            [format!("step {}", cell.step.id), "next: ".to_owned(), "refused-by-the-test|explicit deny|refused by the test".to_owned()];
        for word in words {
            assert!(word.split('|').any(|word| said.contains(word)), "{cell}: no `{word}` in {said}");
        }
        Run::Unfinished
    }

    fn report(&self, began: Instant) {
        for ((fault, moment), count) in &self.counts.cells {
            eprintln!("  {fault:?} {moment:?}: {count}");
        }
        let Counts { cells, missed, bore, at_once } = &self.counts;
        let (all, seconds): (usize, u64) = (cells.values().sum(), began.elapsed().as_secs());
        eprintln!(
            "{all} cells in {seconds} s; {missed} moments missed and tried again; {bore} errors came too late to be met; \
                   {at_once} left at once; nothing is there twice"
        );
    }
}

/// Every cell and, after them, rounds of random kills. Minutes by the hour.
pub fn everything(target: &Target) {
    let began = Instant::now();
    let mut world = World::of(target);
    let only = std::env::var(ONLY).unwrap_or_default();
    let cells: Vec<Cell> =
        cells(&world.steps()).into_iter().filter(|cell| only.split(',').any(|part| cell.to_string().contains(part))).collect();
    eprintln!("{} cells", cells.len());
    let failed: Vec<String> = cells.iter().filter(|cell| !world.survives(cell)).map(ToString::to_string).collect();
    world.report(began);
    assert!(failed.is_empty(), "{} cells failed: {failed:#?}", failed.len());
    if only.is_empty() || only == "rounds" {
        // The copy of the project as a whole: what its newest migrations make of the parser's sources is built here.
        world.apply(None);
        rounds::random(&mut world, rounds::of_soak());
        target.deployctl(&["plan", "--detailed-exitcode", "--project", world.copy.folder()]).expect(0);
    }
}

/// One cell for each kind; no more of them begins after this time.
pub fn sample(target: &Target) {
    const ENOUGH: Duration = Duration::from_secs(75);
    let began = Instant::now();
    let mut world = World::of(target);
    let cells = sampled(&world.steps(), rounds::seed(SEED));
    for cell in cells {
        if began.elapsed() > ENOUGH {
            eprintln!("left out, to keep to the time: {cell}");
            continue;
        }
        world.run(&cell);
    }
    world.report(began);
}
