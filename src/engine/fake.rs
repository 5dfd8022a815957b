//! A kind for tests that keeps its world in memory: what is there, what was called in which order, what shall fail.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    engine::event::Outcome,
    failure::{Failure, LeftBehind},
    ids::StepId,
    steps::{
        Action, Applied, Change, Outputs, StepContext, StepPlan,
        registry::{AnyKind, Considered},
    },
};

/// `with` of kind `fake`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Things that it makes.
    #[serde(default)]
    pub makes: Vec<String>,
    /// Its outputs.
    #[serde(default)]
    pub gives: BTreeMap<String, Value>,
}

/// What shall happen when a phase of a step is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It fails before its effect.
    Before,
    /// It fails after its effect.
    After,
    /// It panics.
    Panic,
    /// It never comes back, until it is cancelled.
    Hang,
}

/// What is there, and what happened.
#[derive(Debug, Default)]
pub struct World {
    /// Things, and how often each was made.
    pub things: BTreeMap<String, usize>,
    /// `phase step`, in order.
    pub calls: Vec<String>,
    /// By `phase step`.
    pub trouble: BTreeMap<String, Trouble>,
    /// Steps whose applies overlap now, and the most that ever did.
    pub running: (usize, usize),
    /// Things whose resource type is another than `thing`.
    pub odd: BTreeSet<String>,
    /// Client tokens that were used.
    pub tokens: Vec<Value>,
    /// Things that are there and not as asked, and what must be done to them.
    pub wants: BTreeMap<String, Action>,
    /// Steps whose outputs are others than `with` says.
    pub gives: BTreeMap<StepId, BTreeMap<String, Value>>,
    /// Every change that was made, in order.
    pub effects: Vec<(StepId, Change)>,
}

impl World {
    /// What must be done to this thing, if anything.
    fn missing(&self, name: String) -> Option<Change> {
        let action = if self.things.contains_key(&name) { *self.wants.get(&name)? } else { Action::Create };
        Some(self.change_of(action, name))
    }
    fn change_of(&self, action: Action, name: String) -> Change {
        let resource = if self.odd.contains(&name) { "oddity" } else { "thing" };
        Change { action, resource: resource.to_owned(), name, details: vec![] }
    }
    fn change(&mut self, step: &StepId, change: &Change) {
        self.effects.push((step.clone(), change.clone()));
        match change.action {
            Action::Create | Action::Run => *self.things.entry(change.name.clone()).or_default() += 1,
            Action::Update | Action::Replace => {}
            Action::Delete => drop(self.things.remove(&change.name)),
        }
        self.wants.remove(&change.name);
    }
}

/// A kind whose effects stay in memory.
#[derive(Default)]
pub struct FakeKind(Mutex<World>);

impl FakeKind {
    /// A fresh one.
    pub fn in_a_world_of_its_own() -> Arc<Self> {
        Arc::default()
    }
    /// Its world.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    async fn call(&self, phase: &str, cx: &StepContext) -> Result<Option<Trouble>, Failure> {
        let call = format!("{phase} {}", cx.step);
        let trouble = {
            let mut world = self.world();
            world.calls.push(call.clone());
            world.trouble.get(&call).copied()
        };
        tokio::task::yield_now().await;
        match trouble {
            Some(Trouble::Before) => Err(Failure::step(format!("{call} was told to fail")).because("the cause of it".to_owned())),
            Some(Trouble::Panic) => panic!("{call} was told to panic"),
            Some(Trouble::Hang) => {
                cx.cancel.cancelled().await;
                Err(Failure::new(crate::failure::FailureKind::Interrupted, format!("{call} was interrupted")).left(LeftBehind::Nothing))
            }
            other => Ok(other),
        }
    }
}

fn typed(input: &Value) -> Input {
    serde_json::from_value(input.clone()).unwrap_or_default()
}

impl AnyKind for FakeKind {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn input_schema(&self) -> Value {
        schemars::schema_for!(Input).to_value()
    }
    fn bound(&self, _with: &Value, _project: &Path) -> Vec<String> {
        vec!["thing".to_owned()]
    }
    fn leaves_a_process(&self) -> bool {
        true
    }
    fn consider<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Considered, Failure>> {
        async move {
            self.call("observe", cx).await?;
            let world = self.world();
            let makes = typed(input).makes;
            let state = |name: &String| json!([world.things.contains_key(name), world.wants.get(name), world.odd.contains(name)]);
            let observed = makes.iter().map(|name| (format!("thing {name}"), state(name))).collect();
            let changes: Vec<Change> = makes.into_iter().filter_map(|name| world.missing(name)).collect();
            Ok(Considered { observed, plan: StepPlan { changes, payload: Value::Null }, known_outputs: None })
        }
        .boxed()
    }
    fn apply<'a>(&'a self, cx: &'a StepContext, input: &'a Value, plan: &'a StepPlan) -> BoxFuture<'a, Result<Applied, Failure>> {
        async move {
            let trouble = self.call("apply", cx).await?;
            {
                let mut world = self.world();
                world.running.0 += 1;
                world.running.1 = world.running.1.max(world.running.0);
            }
            let token = cx.intents.once(&cx.step, "token", json!(uuid::Uuid::new_v4())).await?;
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let mut world = self.world();
            world.running.0 -= 1;
            world.tokens.push(token);
            for change in &plan.changes {
                world.change(&cx.step, change);
            }
            if trouble == Some(Trouble::After) {
                return Err(Failure::step("failed after its effect").left(LeftBehind::Partial(vec!["a thing".to_owned()])));
            }
            let outcome = if plan.changes.is_empty() { Outcome::Unchanged } else { Outcome::Changed };
            let outputs: Outputs = world.gives.get(&cx.step).cloned().unwrap_or_else(|| typed(input).gives);
            Ok(Applied { outcome, outputs })
        }
        .boxed()
    }
    fn verify<'a>(&'a self, cx: &'a StepContext, _input: &'a Value, _applied: &'a Applied) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            self.call("verify", cx)
                .await
                .map(|_| ())
                .map_err(|failure| Failure { kind: crate::failure::FailureKind::Verification, ..failure })
        }
        .boxed()
    }
    fn would_delete<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Vec<Change>, Failure>> {
        async move {
            self.call("look", cx).await?;
            let world = self.world();
            let there = typed(input).makes.into_iter().filter(|name| world.things.contains_key(name));
            Ok(there.map(|name| world.change_of(Action::Delete, name)).collect())
        }
        .boxed()
    }
    fn undo<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        async move {
            self.call("undo", cx).await?;
            let mut world = self.world();
            for name in typed(input).makes {
                world.things.remove(&name);
            }
            Ok(vec![])
        }
        .boxed()
    }
}
