//! The process that is killed: it takes the lock, plans, saves the plan, reads it back and applies it with the real engine, as
//! `plan --out` and `apply PLAN` do. What has returned it acknowledges on standard output.
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use deployctl::{
    aws::{
        Aws,
        s3::{Condition, ObjectSummary, StoredObject, Written},
    },
    clock,
    engine::{
        apply,
        cancel::InFlight,
        consider,
        event::{EventKind, Events},
        history::History,
        lease::{EnvironmentLease, Holder, Lease, Patience},
        records::Records,
        run_step::NobodyToAsk,
        workplace::{StateFolder, Workplace, private_folder},
    },
    failure::{Failure, exit},
    plan::{definition::Definition, fresh, read, saved, selection::Selection},
    steps::registry::Registry,
};
use futures::{FutureExt as _, future::BoxFuture};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use super::world::{Files, acknowledge};

/// Names the folder to work in, and makes this process the subject.
pub const FOLDER: &str = "DEPLOYCTL_FAULTS_FOLDER";
/// No file may grow beyond these bytes while the plan is applied.
pub const LARGEST: &str = "DEPLOYCTL_FAULTS_LARGEST";
/// Set when that limit is lifted in the middle of the run, as on a disk that has room again.
pub const LIFTED: &str = "DEPLOYCTL_FAULTS_LIFTED";

const PLAN: &str = r#"
version: 1
steps:
  - { id: backend, kind: file, with: { makes: bucket, gives: b } , outputs: { id: string } }
  - { id: images, kind: file, with: { makes: image, gives: d1 }, outputs: { id: string } }
  - { id: network, kind: file, needs: [backend], with: { makes: vpc, gives: vpc-1 }, outputs: { id: string } }
  - { id: service, kind: file, needs: [network, images], with: { makes: "pod-in-${steps.network.outputs.id}", gives: s } }
"#;

/// What the plan makes.
pub const THINGS: [&str; 4] = ["bucket", "image", "pod-in-vpc-1", "vpc"];

/// Where the subject keeps state, things and plan, below its folder.
pub struct Places {
    pub state: StateFolder,
    pub things: PathBuf,
    pub plan: PathBuf,
}

impl Places {
    pub fn below(folder: &Path) -> Self {
        Self { state: StateFolder::at(folder.join("state")), things: folder.join("things"), plan: folder.join("plan.json") }
    }
}

/// The subject's exit code, if this process is one.
pub fn run_if_asked() -> Option<u8> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    // One thread, so that a call's number tells where in the whole run it is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Some(match runtime.block_on(run(&folder)) {
        Ok(()) => exit::DONE,
        Err(failure) => {
            eprintln!("error: {}", failure.chain().join(": "));
            failure.kind.exit_code()
        }
    })
}

/// Plan file and environment, as they would be read.
pub fn definition(registry: &Registry) -> Definition {
    let environment = include_str!("../../plans/environments/sandbox.yaml");
    let environment = read::environment_from(Path::new("sandbox.yaml"), environment).unwrap();
    let file = read::plan_file_from(Path::new("deploy.yaml"), PLAN, Path::new("."), registry, Some(&environment)).unwrap();
    Definition::new(file, environment).unwrap()
}

/// The kinds: one, whose effects are files.
pub fn registry(things: &Path) -> Registry {
    let meanwhile: fn() = if std::env::var_os(LIFTED).is_some() { lift } else { || {} };
    Registry::default().with_erased(Arc::new(Files { things: things.to_owned(), meanwhile }))
}

fn limit(largest: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: largest, maximum }).unwrap();
}

fn lift() {
    limit(None);
}

async fn run(folder: &Path) -> Result<(), Failure> {
    let Places { state, things, plan: path } = Places::below(folder);
    let registry = registry(&things);
    let definition = Arc::new(definition(&registry));
    let environment = definition.environment.name.clone();
    let history = History::read(&state, &environment)?;
    if !history.unreadable.is_empty() {
        return Err(history.damaged());
    }
    let run = apply::run_to_resume(&history, &definition.digest).map_or_else(apply::new_run_id, Ok)?;
    let scratch = state.run(&environment, &run).join("scratch");
    private_folder(&scratch)?;
    let work = Workplace {
        registry: Arc::new(registry),
        project: folder.to_owned(),
        scratch,
        aws: Arc::new(Aws::unconnected(&definition.environment)),
        events: Events::default(),
        cancel: CancellationToken::new(),
        in_flight: InFlight::default(),
        parallel: NonZeroUsize::MIN.saturating_add(1),
        data: deployctl::steps::Data::Stays,
        definition,
    };
    let holder = Holder::this_process("apply");
    let patience = Patience { limit: Duration::ZERO, cancel: &work.cancel, waiting: &|_| {}, now: clock::since_boot };
    let lease = EnvironmentLease::acquire(&state.locks(), Arc::new(NoBucket), &environment, &holder, &patience).await?;
    let lease: Arc<dyn Lease> = Arc::new(lease);
    let plan = consider::plan(&work, &Selection::default(), &history).await?;
    acknowledge(&format!("saved {}", saved::write(&path, &plan)?));
    let plan = fresh::freshen(&saved::read(&path)?, &plan, &history, &work.definition.dag)?;
    if let Some(largest) = std::env::var(LARGEST).ok().and_then(|bytes| bytes.parse().ok()) {
        limit(Some(largest));
    }
    let journal = apply::open_journal(&state, &work, &plan, &history, &run, &holder, &*lease)?;
    acknowledge(&format!("attempt {run}"));
    let told = tokio::spawn(acknowledge_events(work.events.clone()));
    let ended = apply::apply(&work, &plan, &history, journal, lease.clone(), &NobodyToAsk).await;
    lease.release().await?;
    told.abort();
    match ended?.failure {
        None => {
            acknowledge("finished");
            Ok(())
        }
        Some(failure) => Err(failure),
    }
}

/// Events come after what they tell of is in the journal.
async fn acknowledge_events(events: Events) {
    let mut events = events.subscribe();
    while let Ok(event) = events.recv().await {
        if let EventKind::StepFinished { step, .. } = event.kind {
            acknowledge(&format!("succeeded {step}"));
        }
    }
}

/// There is no state bucket: what is killed here is a machine that is alone.
struct NoBucket;

impl Records for NoBucket {
    fn place(&self) -> String {
        "nowhere".to_owned()
    }
    fn exists(&self) -> BoxFuture<'_, Result<bool, Failure>> {
        async { Ok(false) }.boxed()
    }
    fn read<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Option<StoredObject>, Failure>> {
        async { Ok(None) }.boxed()
    }
    fn write<'a>(&'a self, key: &'a str, _body: Vec<u8>, _condition: Condition) -> BoxFuture<'a, Result<Written, Failure>> {
        async move { Err(Failure::step(format!("{key} was written to a bucket that is not there"))) }.boxed()
    }
    fn list<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectSummary>, Failure>> {
        async { Ok(Vec::new()) }.boxed()
    }
}
