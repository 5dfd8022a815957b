//! A step's context as the engine would make it, for the sandbox's environment file.
#![allow(dead_code, reason = "each test program uses a part of it")]
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use deployctl::{
    aws::Aws,
    engine::event::Events,
    failure::Failure,
    ids::{AccountId, Region, RunId, StepId},
    plan::environment::Environment,
    steps::{Applied, Intents, Kind, StepContext, StepPlan},
};
use futures::future::BoxFuture;
use serde_json::Value;

/// Records intents in memory.
#[derive(Default)]
pub struct MemoryIntents(tokio::sync::Mutex<std::collections::BTreeMap<(StepId, String), Value>>);

impl Intents for MemoryIntents {
    fn once(&self, step: &StepId, key: &str, fresh: Value) -> BoxFuture<'_, Result<Value, Failure>> {
        let key = (step.clone(), key.to_owned());
        Box::pin(async move { Ok(self.0.lock().await.entry(key).or_insert(fresh).clone()) })
    }
    fn left(&self, step: &StepId, key: &str) -> Option<Value> {
        self.0.try_lock().unwrap().get(&(step.clone(), key.to_owned())).cloned()
    }
}

pub fn environment() -> Environment {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/environments/sandbox.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

pub fn test_dir() -> PathBuf {
    std::env::var_os("DEPLOYCTL_TEST_DIR").unwrap().into()
}

pub async fn aws() -> Aws {
    Aws::connect(&Region::parse("us-east-1").unwrap(), None, &AccountId::parse("111122223333").unwrap()).await.unwrap()
}

pub async fn context(step: &str, project: &Path) -> StepContext {
    let scratch = test_dir().join("scratch").join(step);
    std::fs::create_dir_all(&scratch).unwrap();
    StepContext {
        step: StepId::parse(step).unwrap(),
        run: Some(RunId::parse(uuid::Uuid::now_v7().to_string()).unwrap()),
        environment: Arc::new(environment()),
        services: Arc::default(),
        credentials: Default::default(),
        project: project.to_owned(),
        scratch,
        aws: Arc::new(aws().await),
        events: Events::default(),
        cancel: Default::default(),
        intents: Arc::new(MemoryIntents::default()),
        answers: None,
        data: deployctl::steps::Data::Stays,
    }
}

pub async fn planned<K: Kind>(cx: &StepContext, input: &K::Input) -> Result<StepPlan, Failure> {
    let observed = K::observe(cx, input).await?;
    // As the engine does: what was observed is saved and read back.
    let observed = serde_json::from_value(serde_json::to_value(observed).unwrap()).unwrap();
    K::plan(input, &observed)
}

pub async fn run<K: Kind>(cx: &StepContext, input: &K::Input) -> Result<(StepPlan, Applied), Failure> {
    let plan = planned::<K>(cx, input).await?;
    let applied = K::apply(cx, input, &plan).await?;
    K::verify(cx, input, &applied).await?;
    Ok((plan, applied))
}

/// The same world in the next run, in a process of its own.
pub fn another_run(cx: &StepContext) -> StepContext {
    let run = RunId::parse(uuid::Uuid::now_v7().to_string()).unwrap();
    StepContext { run: Some(run), intents: Arc::new(MemoryIntents::default()), cancel: Default::default(), ..cx.clone() }
}
