//! The real deployctl in a project of its own, with nothing of the tester's environment: `plan --offline --out plan.json`.
use std::path::{Path, PathBuf};

use super::strace::{Ended, Fault};

const PLAN: &str = "version: 1
steps:
  - { id: backend, kind: state-backend, with: { lock: \"${env.aws.state_lock}\" } }
";

/// Steps of that plan.
pub const STEPS: usize = 1;

/// A project and the command in it.
pub struct Command {
    folder: tempfile::TempDir,
}

impl Command {
    /// A fresh project.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        std::fs::create_dir_all(work.join("plans/environments")).unwrap();
        std::fs::write(work.join("plans/deploy.yaml"), PLAN).unwrap();
        std::fs::write(work.join("plans/environments/sandbox.yaml"), include_str!("../../plans/environments/sandbox.yaml")).unwrap();
        Self { folder }
    }
    /// A file in the project.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }
    /// Runs it.
    pub fn run(&self) -> Ended {
        Ended::of(self.ready(Path::new(env!("CARGO_BIN_EXE_deployctl")), Vec::new()), None)
    }
    /// Runs it with a fault at one call.
    pub fn run_with(&self, fault: Fault, at: usize) -> Ended {
        let log = self.folder.path().join("strace.log");
        let mut arguments = fault.arguments(at, &log);
        arguments.push(env!("CARGO_BIN_EXE_deployctl").into());
        Ended::of(self.ready(Path::new("strace"), arguments), Some((&log, &self.file(""))))
    }
    fn ready(&self, program: &Path, before: Vec<std::ffi::OsString>) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.args(before).args(["plan", "--offline", "-e", "sandbox", "--out"]).arg(self.file("plan.json"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.folder.path()).current_dir(self.file(""));
        command
    }
}
