//! One Kubernetes object with the template and line that it came from.
use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// What tells one object of a cluster from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// As in `apps/v1`; `v1` for the core group.
    pub api_version: String,
    /// As in `Deployment`.
    pub kind: String,
    /// None for an object of the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The group: empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
    /// As ApplySets write it: `Deployment.apps`, `ConfigMap`.
    pub fn group_kind(&self) -> String {
        if self.group().is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group()) }
    }
    /// Reads it from an object.
    pub fn of(value: &Value) -> Option<Self> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(String::from);
        Some(Self {
            api_version: text("/apiVersion")?,
            kind: text("/kind")?,
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name")?,
        })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A rendered object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Object {
    /// Who it is.
    pub key: ObjectKey,
    /// All of it.
    pub value: Value,
    /// The template it came from.
    pub file: PathBuf,
    /// The line of the template where it starts.
    pub line: usize,
}

impl Object {
    /// Takes a rendered document; `file:line` is where it came from.
    pub fn new(value: Value, file: PathBuf, line: usize) -> Result<Self, Failure> {
        match ObjectKey::of(&value) {
            Some(key) => Ok(Self { key, value, file, line }),
            None => Err(Failure::usage(format!("{}:{line}: an object needs apiVersion, kind and metadata.name", file.display()))),
        }
    }
    /// Sets a label, in the object's own metadata only.
    pub fn label(&mut self, key: &str, text: &str) {
        let metadata = &mut self.value["metadata"];
        if !metadata["labels"].is_object() {
            metadata["labels"] = Value::Object(serde_json::Map::new());
        }
        metadata["labels"][key] = Value::String(text.to_owned());
    }
}
