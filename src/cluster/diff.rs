//! What an apply would change: the API server's own dry run against what it has, so that defaults and webhooks are counted in.
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{Cluster, PARALLEL};
use crate::{
    failure::Failure,
    manifests::{Object, ObjectKey},
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
        let Some(live) = self.get(&key).await? else {
            // Its namespace or its kind may come with the same apply, so a dry run of something new proves nothing when it is refused for
            // their absence; anything else that is wrong with it is worth hearing now.
            return match self.dry_run(object).await? {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Diff { key, verdict: Verdict::Create }),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    Ok(Diff { key, verdict: Verdict::Unknown(format!("a dry run is forbidden: {}", status.message)) })
                }
                Err(e) => Err(self.refused(object, e)),
                Ok(_) => Ok(Diff { key, verdict: Verdict::Create }),
            };
        };
        match self.dry_run(object).await? {
            Ok(next) => {
                let lines = changes(&live, &next);
                let verdict = if lines.is_empty() { Verdict::Unchanged } else { Verdict::Update(lines) };
                Ok(Diff { key, verdict })
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Ok(Diff { key, verdict: Verdict::Unknown(format!("a dry run is forbidden: {}", status.message)) })
            }
            Err(e) => Err(self.refused(object, e)),
        }
    }
}

/// The fields that differ, without what the API server itself writes; a Secret's values are never among them.
fn changes(live: &Value, next: &Value) -> Vec<String> {
    let secret = live["kind"] == "Secret";
    let (live, next) = (without_bookkeeping(live), without_bookkeeping(next));
    let mut lines = Vec::new();
    compare("", &live, &next, secret, &mut lines);
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

fn compare(path: &str, live: &Value, next: &Value, secret: bool, lines: &mut Vec<String>) {
    match (live, next) {
        (Value::Object(before), Value::Object(after)) => {
            let mut keys: Vec<_> = before.keys().chain(after.keys().filter(|k| !before.contains_key(*k))).collect();
            keys.sort();
            for key in keys {
                let inner = if key.contains(['.', '/']) { format!("{path}[{key}]") } else { format!("{path}.{key}") };
                compare(&inner, before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null), secret, lines);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}[{index}]"), before, after, secret, lines);
            }
        }
        _ if live == next => {}
        _ => {
            let path = path.trim_start_matches('.');
            let masked = secret && (path.starts_with("data") || path.starts_with("stringData"));
            lines.push(if masked { format!("{path}: (secret) changes") } else { format!("{path}: {} -> {}", short(live), short(next)) });
        }
    }
}

fn short(value: &Value) -> String {
    let text = if value.is_null() { "(none)".to_owned() } else { value.to_string() };
    if text.chars().count() <= 160 { text } else { format!("{}…", text.chars().take(160).collect::<String>()) }
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
    fn a_secret_is_never_shown() {
        let live = json!({"kind": "Secret", "data": {"password": "aHVudGVyMg=="}});
        let next = json!({"kind": "Secret", "data": {"password": "aHVudGVyMw=="}});
        assert_eq!(changes(&live, &next), ["data.password: (secret) changes"]);
        let next = json!({"kind": "Secret"});
        assert_eq!(changes(&live, &next), ["data: (secret) changes"]);
    }
}
