//! The programs that judge our configuration: Prometheus' promtool and the collector itself.
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// Judges rules and Prometheus' configuration.
pub fn promtool() -> Option<PathBuf> {
    installed("prometheus/promtool")
}

/// What the plan file puts into images.
pub fn prometheus() -> Option<PathBuf> {
    installed("prometheus/prometheus")
}

/// What the plan file puts into images; judges its own configuration too.
pub fn collector() -> Option<PathBuf> {
    installed("otel-collector/otelcol")
}

/// None, and a printed reason, where it may be missing: on a person's machine that never had a sandbox.
fn installed(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let program = cache.join("deployctl").join(name);
    if program.exists() {
        return Some(program);
    }
    let missing = format!("there is no {}: `deployctl-sandbox install` installs it", program.display());
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing}");
    println!("skipped: {missing}");
    None
}

/// Runs it; its words are the error.
pub fn run<A: AsRef<OsStr>>(program: &Path, folder: &Path, args: &[A]) -> Result<String, String> {
    let output = Command::new(program).args(args).current_dir(folder).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}
