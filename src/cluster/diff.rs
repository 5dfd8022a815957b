//! What an apply would change: the API server's own dry run against what it has, so that defaults and webhooks are counted in.
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{Cluster, PARALLEL};
use crate::{
    failure::{Failure, FailureKind},
    manifests::{Object, ObjectKey},
    plan::difference::{Difference, differences},
    steps::{Action, Change},
};

/// At most this many lines are shown for one object.
const LINES: usize = 60;

/// What an apply would do to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Unchanged,
    /// Make it.
    Create,
    /// Change these fields: `path: before -> after`.
    Update(Vec<String>),
    /// Nobody can say: the reason.
    Unknown(String),
}

/// One object and what would become of it.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The object.
    pub key: ObjectKey,
    /// What would become of it.
    pub verdict: Verdict,
    /// What is there now of what the object speaks of; nothing if it is not there, or cannot be read. Never a secret.
    pub live: Value,
}

impl Diff {
    /// As a line of the plan; none if nothing would be done.
    pub fn change(&self) -> Option<Change> {
        let (action, details) = match &self.verdict {
            Verdict::Unchanged => return None,
            Verdict::Create => (Action::Create, Vec::new()),
            Verdict::Update(details) => (Action::Update, details.clone()),
            Verdict::Unknown(reason) => (Action::Update, vec![format!("unknown: {reason}")]),
        };
        Some(Change { action, resource: self.key.kind.clone(), name: self.key.to_string(), details })
    }
}

impl Cluster {
    /// Asks for every object what an apply would do to it.
    pub async fn diff(&self, objects: &[Object]) -> Result<Vec<Diff>, Failure> {
        let asked: Vec<_> = objects.iter().map(|object| self.diff_one(object)).collect();
        stream::iter(asked).buffered(PARALLEL).try_collect().await
    }

    async fn diff_one(&self, object: &Object) -> Result<Diff, Failure> {
        let key = object.key.clone();
        let live = match self.get(&key).await {
            // Who may not read the cluster still sees what is planned elsewhere.
            Err(failure) if failure.kind == FailureKind::Credentials => {
                return Ok(Diff { key, verdict: Verdict::Unknown(failure.message), live: Value::Null });
            }
            live => live?,
        };
        let verdict = match (self.dry_run(object).await?, &live) {
            (Err(kube::Error::Api(status)), _) if status.code == 403 => {
                Verdict::Unknown(format!("a dry run is forbidden: {}", status.message))
            }
            // Its namespace or its kind may come with the same apply, so a dry run of something new proves nothing when it is refused for
            // their absence; anything else that is wrong with it is worth hearing now.
            (Err(kube::Error::Api(status)), None) if status.code == 404 => Verdict::Create,
            (Err(e), _) => return Err(self.refused(object, e)),
            (Ok(_), None) => Verdict::Create,
            (Ok(next), Some(live)) => {
                let lines = changes(live, &next);
                if lines.is_empty() { Verdict::Unchanged } else { Verdict::Update(lines) }
            }
        };
        let live = live.map_or(Value::Null, |live| spoken_of(&object.value, &without_secrets(live)));
        Ok(Diff { key, verdict, live })
    }
}

/// The part of `live` that `wanted` speaks of: what controllers and the API server have added moves by itself.
fn spoken_of(wanted: &Value, live: &Value) -> Value {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().filter_map(|(key, wanted)| Some((key.clone(), spoken_of(wanted, live.get(key)?)))).collect()
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            wanted.iter().zip(live).map(|(wanted, live)| spoken_of(wanted, live)).collect()
        }
        _ => live.clone(),
    }
}

fn without_secrets(mut live: Value) -> Value {
    if live["kind"] == "Secret" {
        for key in ["data", "stringData"] {
            if let Some(values) = live.get_mut(key) {
                *values = Value::String("(secret)".to_owned());
            }
        }
    }
    live
}

/// The fields that differ, without what the API server itself writes; a Secret's values are never among them.
fn changes(live: &Value, next: &Value) -> Vec<String> {
    let secret = live["kind"] == "Secret";
    let (live, next) = (without_bookkeeping(live), without_bookkeeping(next));
    let line = |found: Difference<'_>| {
        let masked = secret && (found.path.starts_with("data") || found.path.starts_with("stringData"));
        if masked { format!("{}: (secret) changes", found.path) } else { found.to_string() }
    };
    let mut lines: Vec<String> = differences(&live, &next).into_iter().map(line).collect();
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("… and {more} more"));
    }
    lines
}

fn without_bookkeeping(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for key in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"] {
            metadata.remove(key);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bookkeeping_is_no_change() {
        let live =
            json!({"kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "1", "managedFields": [1]}, "data": {"a": "b"}});
        let next = json!({"kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "2"}, "data": {"a": "b"}, "status": {}});
        assert_eq!(changes(&live, &next), Vec::<String>::new());
    }

    #[test]
    fn a_change_names_its_path() {
        let live = json!({"spec": {"containers": [{"image": "a"}]}, "metadata": {"labels": {"x.org/y": "1"}}});
        let next = json!({"spec": {"containers": [{"image": "b"}]}, "metadata": {"labels": {}}});
        assert_eq!(changes(&live, &next), ["metadata.labels[x.org/y]: \"1\" -> (none)", "spec.containers[0].image: \"a\" -> \"b\""]);
    }

    #[test]
    fn what_nobody_asked_for_is_not_looked_at() {
        let wanted = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"image": "i"}]}});
        let live = json!({
            "metadata": {"labels": {"a": "2", "b": "3"}, "resourceVersion": "7"},
            "spec": {"containers": [{"image": "j", "terminationMessagePath": "/dev"}], "replicas": 3}, "status": {},
        });
        let part = json!({"metadata": {"labels": {"a": "2"}}, "spec": {"containers": [{"image": "j"}]}});
        assert_eq!(spoken_of(&wanted, &live), part);
        let secret = json!({"kind": "Secret", "data": {"password": "aHVudGVyMg=="}});
        assert_eq!(spoken_of(&secret, &without_secrets(secret.clone())), json!({"kind": "Secret", "data": "(secret)"}));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let live = json!({"kind": "Secret", "data": {"password": "aHVudGVyMg=="}});
        let next = json!({"kind": "Secret", "data": {"password": "aHVudGVyMw=="}});
        assert_eq!(changes(&live, &next), ["data.password: (secret) changes"]);
        let next = json!({"kind": "Secret"});
        assert_eq!(changes(&live, &next), ["data: (secret) changes"]);
    }
}
