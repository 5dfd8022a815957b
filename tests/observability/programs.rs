//! The programs that judge our configuration: Prometheus' promtool and the collector itself.
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::installed;

/// Judges rules and Prometheus' configuration.
pub fn promtool() -> Option<PathBuf> {
    installed::program("prometheus/promtool")
}

/// What the plan file puts into images.
pub fn prometheus() -> Option<PathBuf> {
    installed::program("prometheus/prometheus")
}

/// What the plan file puts into images; judges its own configuration too.
pub fn collector() -> Option<PathBuf> {
    installed::program("otel-collector/otelcol")
}

/// Runs it; its words are the error.
pub fn run<A: AsRef<OsStr>>(program: &Path, folder: &Path, args: &[A]) -> Result<String, String> {
    let output = Command::new(program).args(args).current_dir(folder).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}
