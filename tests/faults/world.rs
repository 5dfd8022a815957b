//! A kind whose effects are files, each named by its thing and by the client token that made it: what was made twice is there twice.
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use deployctl::{
    engine::event::Outcome,
    failure::{Failure, LeftBehind},
    plan::digest,
    steps::{
        Action, Applied, Change, Outputs, StepContext, StepPlan,
        registry::{AnyKind, Considered},
    },
};
use futures::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};

/// Where its effects are, and what it does while it waits for them.
pub struct Files {
    /// One file a thing.
    pub things: PathBuf,
    /// Called in the middle of each apply.
    pub meanwhile: fn(),
}

/// Tells the test what has returned: from here on it must not be lost.
pub fn acknowledge(text: &str) {
    // Where the pipe itself is refused, the test has heard of nothing and expects nothing.
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Every effect: thing and token.
pub fn effects(things: &Path) -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir(things) else { return Vec::new() };
    entries
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (thing, token) = name.split_once('.').unwrap();
            (thing.to_owned(), token.to_owned())
        })
        .collect()
}

impl Files {
    fn is_there(&self, thing: &str) -> bool {
        effects(&self.things).iter().any(|(there, _)| there == thing)
    }
}

fn text(input: &Value, key: &str) -> String {
    input[key].as_str().unwrap_or_default().to_owned()
}

impl AnyKind for Files {
    fn name(&self) -> &'static str {
        "file"
    }
    fn input_schema(&self) -> Value {
        json!({ "type": "object" })
    }
    fn bound(&self, _with: &Value, _project: &Path) -> Vec<String> {
        vec!["thing".to_owned()]
    }
    fn consider<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Considered, Failure>> {
        async move {
            // Only an apply has a run: this step is planned again, after its journal entry.
            if cx.run.is_some() {
                acknowledge(&format!("started {}", cx.step));
            }
            let name = text(input, "makes");
            let there = self.is_there(&name);
            let change = Change { action: Action::Create, resource: "thing".to_owned(), name, details: vec![] };
            let changes = if there { vec![] } else { vec![change] };
            Ok(Considered {
                observed: [("there".to_owned(), json!(there))].into(),
                plan: StepPlan { changes, payload: Value::Null },
                known_outputs: None,
            })
        }
        .boxed()
    }
    fn apply<'a>(&'a self, cx: &'a StepContext, input: &'a Value, plan: &'a StepPlan) -> BoxFuture<'a, Result<Applied, Failure>> {
        async move {
            acknowledge(&format!("started {}", cx.step));
            for change in &plan.changes {
                let token = cx.intents.once(&cx.step, "token", json!(digest::of(&uuid::Uuid::new_v4())?)).await?;
                let token = token.as_str().unwrap_or_default();
                acknowledge(&format!("intent {} {token}", cx.step));
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                (self.meanwhile)();
                let path = self.things.join(format!("{}.{token}", change.name));
                std::fs::write(&path, "x").map_err(|error| {
                    let unknown = LeftBehind::Unknown(change.name.clone());
                    Failure::step(format!("cannot make {}", path.display())).because(error).left(unknown)
                })?;
            }
            let outcome = if plan.changes.is_empty() { Outcome::Unchanged } else { Outcome::Changed };
            Ok(Applied { outcome, outputs: Outputs::from([("id".to_owned(), json!(text(input, "gives")))]) })
        }
        .boxed()
    }
    fn verify<'a>(&'a self, cx: &'a StepContext, input: &'a Value, _applied: &'a Applied) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            acknowledge(&format!("applied {}", cx.step));
            let name = text(input, "makes");
            if self.is_there(&name) { Ok(()) } else { Err(Failure::verification(format!("{name} is not there"))) }
        }
        .boxed()
    }
    fn undo<'a>(&'a self, _cx: &'a StepContext, _input: &'a Value) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        async { Ok(vec![]) }.boxed()
    }
}
