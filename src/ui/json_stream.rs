//! Events as JSON, one a line, beside whatever else is shown; the first line names the version.
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::Renderer;
use crate::{
    engine::event::Event,
    failure::{Failure, FailureKind},
    redact,
};

/// Of the stream's format.
const VERSION: u32 = 1;

/// The file.
pub struct Stream {
    path: PathBuf,
    file: File,
}

impl Stream {
    /// Makes the file, or takes an existing one such as a pipe; writes the first line.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path)
            .map_err(|error| Failure::usage(format!("--json-into: {} cannot be written", path.display())).because(error))?;
        let mut stream = Self { path: path.to_owned(), file };
        stream.line(
            &json!({ "type": "version", "format": "deployctl-events", "version": VERSION, "deployctl": env!("CARGO_PKG_VERSION") }),
        )?;
        Ok(stream)
    }
    fn line(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let fail = |error: std::io::Error| {
            Failure::new(FailureKind::Internal, format!("--json-into: {} cannot be written", self.path.display())).because(error)
        };
        let mut value = serde_json::to_value(value).map_err(|error| fail(error.into()))?;
        redact::mask_json(&mut value);
        self.file.write_all(value.to_string().as_bytes()).and_then(|()| self.file.write_all(b"\n")).map_err(fail)
    }
}

impl Renderer for Stream {
    fn show(&mut self, event: &Event) -> Result<(), Failure> {
        self.line(event)
    }
    fn missed(&mut self, count: u64) -> Result<(), Failure> {
        self.line(&json!({ "type": "missed", "count": count }))
    }
}
