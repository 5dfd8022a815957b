//! The record of every request: one JSON object a line, without bodies, secrets or signatures.
use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// An action that IAM was asked about for a request: one request may need several, on several resources.
#[derive(Debug, Deserialize, Serialize)]
pub struct Verdict {
    /// As policies name it.
    pub action: String,
    /// The ARN it was asked for.
    pub resource: String,
    /// IAM's answer.
    pub allowed: bool,
}

/// One request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it came.
    pub time: jiff::Timestamp,
    /// The region of its signature.
    pub region: Option<&'a str>,
    /// The service of its signature.
    pub service: Option<&'a str>,
    /// The IAM action it was checked for, or method and path where there is none.
    pub action: &'a str,
    /// The ARN it was checked on.
    pub resource: &'a str,
    /// Who asked; an id, never a secret.
    pub access_key: Option<&'a str>,
    /// The ARN that it belongs to, as far as the emulator came to ask.
    pub principal: Option<&'a str>,
    /// Everything that IAM was asked about it.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub verdicts: &'a [Verdict],
    /// The answer.
    pub status: u16,
    /// How long it took to the answer's first byte.
    pub millis: u64,
}

/// Appends lines; cheap to clone.
#[derive(Clone)]
pub struct Record(Arc<Mutex<File>>);

impl Record {
    /// Opens the file for appending and makes its folder.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("the folder {}", folder.display()))?;
        }
        let file = File::options().create(true).append(true).open(path).with_context(|| format!("the record {}", path.display()))?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// A request is never refused because it cannot be recorded; that is only logged.
    pub fn append(&self, line: &Line<'_>) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let written = match self.0.lock() {
            Ok(mut file) => file.write_all(&text),
            Err(poisoned) => poisoned.into_inner().write_all(&text),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a request could not be recorded");
        }
    }
}
