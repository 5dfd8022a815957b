//! A folder for one subject, with a plan that was saved before, and the subject run in it: plainly, under strace, or with a limit.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use deployctl::{
    ids::PlanDigest,
    plan::{Plan, saved, selection::Selection},
};

use super::{
    strace::{Ended, Fault},
    subject::{self, Places},
};

/// One subject's folder.
pub struct Bench {
    folder: tempfile::TempDir,
    /// Of the plan that lay there before.
    pub old: PlanDigest,
}

impl Bench {
    /// With no run, and with an old plan.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        let places = Places::below(&folder.path().join("work"));
        std::fs::create_dir(&places.things).unwrap();
        let old = saved::write(&places.plan, &old_plan()).unwrap();
        Self { folder, old }
    }
    /// Where the subject works; nothing else is in it.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }
    /// Where it keeps what.
    pub fn places(&self) -> Places {
        Places::below(&self.work())
    }
    /// Runs the subject without any fault.
    pub fn run(&self) -> Ended {
        Ended::of(self.command(&std::env::current_exe().unwrap()), None)
    }
    /// Runs it with a fault at one call.
    pub fn run_with(&self, fault: Fault, at: usize) -> Ended {
        let log = self.folder.path().join("strace.log");
        let mut command = self.command(Path::new("strace"));
        command.args(fault.arguments(at, &log)).arg(std::env::current_exe().unwrap());
        Ended::of(command, Some((&log, &self.work())))
    }
    /// Runs it without any fault, and gives every such call that it made.
    pub fn trace(&self, calls: &str) -> String {
        let log = self.folder.path().join("strace.log");
        let mut command = self.command(Path::new("strace"));
        command.args(["-f", "-qq", "-y", "-s", "0", "-e", &format!("trace={calls}"), "-o"]).arg(&log).arg(std::env::current_exe().unwrap());
        Ended::of(command, None).expect_success("traced");
        std::fs::read_to_string(log).unwrap()
    }
    /// Runs it where no file may grow beyond `largest` bytes; `script` says what the shell does before.
    pub fn run_limited(&self, largest: u64, script: &str, more: &[(&str, &str)]) -> Ended {
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", &format!("ulimit -c 0; {script} exec \"$0\"")]).arg(std::env::current_exe().unwrap());
        command.env(subject::LARGEST, largest.to_string()).envs(more.iter().copied());
        Ended::of(command, None)
    }
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env(subject::FOLDER, self.work()).env("DEPLOYCTL_NOW", "2026-11-22T12:00:00Z").env_remove("RUST_LOG");
        command
    }
}

/// A plan without steps: no plan of the subject looks like it.
pub fn old_plan() -> Plan {
    let definition = subject::definition(&subject::registry(Path::new("/nowhere")));
    Plan {
        environment: definition.environment.name.clone(),
        account: definition.environment.aws.account_id.clone(),
        region: definition.environment.aws.region.clone(),
        definition: definition.digest,
        selection: Selection::default(),
        steps: vec![],
    }
}
