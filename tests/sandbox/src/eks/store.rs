//! EKS' memory: AWS-shaped documents in one file, replaced in one step after each change.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything EKS knows in a region. One cluster there, so the children need no cluster in their keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The region that the cluster was made in.
    pub region: String,
    pub cluster: Option<Value>,
    /// By name.
    pub nodegroups: BTreeMap<String, Value>,
    /// By name.
    pub addons: BTreeMap<String, Value>,
    /// By the principal's ARN.
    pub entries: BTreeMap<String, AccessEntry>,
    /// By id.
    pub associations: BTreeMap<String, Value>,
    /// By id, with what they belong to.
    pub updates: BTreeMap<String, Update>,
}

/// An access entry and the policies associated with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessEntry {
    pub entry: Value,
    /// By the policy's ARN.
    pub policies: BTreeMap<String, Value>,
}

/// An update, and the node group or add-on that it changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Update {
    pub nodegroup: Option<String>,
    pub addon: Option<String>,
    pub update: Value,
}

impl State {
    /// An absent file is an empty state.
    pub fn read(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("EKS' state {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("EKS' state {}", path.display())),
        }
    }
}

/// The state, guarded and kept on disk.
pub struct Store {
    path: PathBuf,
    state: Mutex<State>,
}

impl Store {
    /// Reads what an earlier run left.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("the folder {}", folder.display()))?;
        }
        Ok(Self { path: path.to_owned(), state: Mutex::new(State::read(path)?) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state; it is on disk before this returns. An error of `change` leaves the state as it was.
    pub fn write<T, E: From<std::io::Error>>(&self, change: impl FnOnce(&mut State) -> Result<T, E>) -> Result<T, E> {
        let mut guard = self.lock();
        let mut next = guard.clone();
        let outcome = change(&mut next)?;
        let fresh = self.path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(&next).map_err(std::io::Error::from)?)?;
        std::fs::rename(&fresh, &self.path)?;
        *guard = next;
        Ok(outcome)
    }

    /// A change that happens in the background, where nobody waits for an answer.
    pub fn note(&self, change: impl FnOnce(&mut State)) {
        let written: Result<(), std::io::Error> = self.write(|state| {
            change(state);
            Ok(())
        });
        if let Err(error) = written {
            tracing::error!(%error, "EKS' state could not be saved");
        }
    }
}
