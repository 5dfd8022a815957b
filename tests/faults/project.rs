//! The real deployctl in a project and an environment of its own, against the emulated AWS that the process' variables lead to.
use std::path::{Path, PathBuf};

use deployctl::{
    engine::workplace::StateFolder,
    ids::{EnvironmentName, PlanDigest},
    plan::saved,
};

use super::{
    bench,
    strace::{Ended, Fault},
};

const PLAN: &str = "version: 1
steps:
  - { id: backend, kind: state-backend, with: { lock: \"${env.aws.state_lock}\" } }
";

/// A project with one step, and nothing of its environment in AWS.
pub struct Project {
    folder: tempfile::TempDir,
    /// Another one for every project: they share one AWS.
    pub environment: EnvironmentName,
}

impl Project {
    /// Of this environment.
    pub fn new(name: &str) -> Self {
        let environment = EnvironmentName::parse(name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder, environment };
        std::fs::create_dir_all(project.file("plans/environments")).unwrap();
        std::fs::write(project.file("plans/deploy.yaml"), PLAN).unwrap();
        let text = include_str!("../../plans/environments/sandbox.yaml").replace("name: sandbox", &format!("name: {name}"));
        // As whoever calls: the emulator has no deployer.
        let text: String = text.lines().filter(|line| !line.contains("deployer_role_arn")).map(|line| format!("{line}\n")).collect();
        std::fs::write(project.file(&format!("plans/environments/{name}.yaml")), text).unwrap();
        project
    }
    /// A file in the project.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }
    /// Where plans are saved.
    pub fn plan(&self) -> PathBuf {
        self.file("plan.json")
    }
    /// Saves a plan there that is not one of this project's.
    pub fn save_an_old_plan(&self) -> PlanDigest {
        saved::write(&self.plan(), &bench::old_plan()).unwrap()
    }
    /// Where journals and locks are.
    pub fn state(&self) -> StateFolder {
        StateFolder::at(self.file("state/deployctl"))
    }
    /// Its bucket in the environment's own region.
    pub fn bucket(&self) -> String {
        format!("deployctl-{}-state-111122223333-us-east-1", self.environment)
    }
    /// Runs deployctl.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.ready(Path::new(env!("CARGO_BIN_EXE_deployctl")), Vec::new(), arguments), None)
    }
    /// Runs it with a fault at one call.
    pub fn run_with(&self, fault: Fault, at: usize, arguments: &[&str]) -> Ended {
        let log = self.folder.path().join("strace.log");
        let mut before = fault.arguments(at, &log);
        before.push(env!("CARGO_BIN_EXE_deployctl").into());
        Ended::of(self.ready(Path::new("strace"), before, arguments), Some((&log, &self.file(""))))
    }
    fn ready(&self, program: &Path, before: Vec<std::ffi::OsString>, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.args(before).args(arguments).args(["-e", self.environment.as_str()]).current_dir(self.file(""));
        // What the engine writes is written by the first thread; calls are counted for each thread.
        command.env("XDG_STATE_HOME", self.file("state")).env("HOME", self.file("home")).env("TOKIO_WORKER_THREADS", "1");
        command
    }
}
