//! Two machines' worth of applies against one environment: one works at a time, the other goes on where the first one died or stood still.
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deployctl::tools::process_record::Guarded;
use rustix::process::{Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::{
    killed::{self, pid},
    target::{Ended, Target},
};

/// A machine is a state folder of its own: it knows of the other one only what is in the state bucket.
struct Machine<'a> {
    target: &'a Target,
    state: tempfile::TempDir,
}

/// An apply that has been started; what it says is read at its end.
struct Running {
    child: Child,
}

impl<'a> Machine<'a> {
    fn new(target: &'a Target) -> Self {
        Self { target, state: tempfile::tempdir().unwrap() }
    }
    fn deployctl(&self, args: &[&str]) -> Ended {
        self.target.deployctl_set(args, &[("XDG_STATE_HOME", self.state.path())])
    }
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.deployctl(&[args, &["--output", "json"]].concat()).expect(0).out).unwrap()
    }
    fn start(&self) -> Running {
        let mut command: Command = self.target.command(Path::new(env!("CARGO_BIN_EXE_deployctl")));
        command.args(["apply", "--yes", "-e", "sandbox"]).env("XDG_STATE_HOME", self.state.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Running { child }
    }
    /// Waits until the journal of this process, not one that was brought from the bucket, has a line with all of these texts.
    fn wait_for_line(&self, running: &Running, texts: &[&str]) {
        let own = format!("\"pid\":{},", running.child.id());
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let runs = std::fs::read_dir(self.state.path().join("deployctl/runs/sandbox")).into_iter().flatten();
            let journals = runs.filter_map(|run| std::fs::read_to_string(run.unwrap().path().join("journal.ndjson")).ok());
            if journals
                .into_iter()
                .any(|journal| journal.contains(&own) && journal.lines().any(|line| texts.iter().all(|text| line.contains(text))))
            {
                return;
            }
            assert!(Instant::now() < end, "no journal says {texts:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }
    fn end(mut self) -> (Option<i32>, String) {
        let lines: Vec<String> = BufReader::new(self.child.stderr.take().unwrap()).lines().map_while(Result::ok).collect();
        (self.child.wait().unwrap().code(), lines.join("\n"))
    }
}

/// Takes something away that apply will make again.
fn delete_uploader(target: &Target) {
    let delete = ["-n", "apps", "delete", "deployment", "uploader", "--wait=true"];
    let deleted = target.command(Path::new("kubectl")).args(delete).output().unwrap();
    assert!(deleted.status.success(), "{}", crate::target::text(&deleted));
}

/// Starts the command on another machine, and loses that once terraform has made something there.
pub fn lose_a_runner(target: &Target, args: &[&str], made: &str) {
    let runner = Machine::new(target);
    let before = target.requests().len();
    let mut command = target.command(Path::new("unshare"));
    command.args(["--uts", "sh", "-c", "hostname lost-runner && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_deployctl")]);
    command.args(args).args(["--yes", "-e", "sandbox"]).env("XDG_STATE_HOME", runner.state.path());
    // What is made is written down only at the end, so that it is lost with the machine.
    command.env("TF_STATE_PERSIST_INTERVAL", "3600");
    let mut lost = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(120);
    while !target.requests()[before..].iter().any(|request| request["action"] == made && request["status"] == 200) {
        assert!(Instant::now() < end && lost.try_wait().unwrap().is_none(), "{made} was not asked for");
        std::thread::sleep(Duration::from_millis(20));
    }
    let record = records(runner.state.path()).into_iter().find(|found| found.record.ended.is_none()).unwrap().record;
    kill_process_group(pid(record.program.pid), Signal::KILL).unwrap();
    kill_process(pid(record.watchdog.pid), Signal::KILL).unwrap();
    lost.kill().unwrap();
    lost.wait().unwrap();
}

/// Records of processes, in whichever region's folder.
fn records(folder: &Path) -> Vec<Guarded> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(records(&path));
        } else if path.components().any(|part| part.as_os_str() == "processes") {
            found.extend(Guarded::read(&path));
        }
    }
    found
}

/// A machine is lost, with terraform in the middle of its work: nothing here can see whether that still runs, so a person says so.
pub fn is_lost(target: &Target) {
    let before = target.requests().len();
    lose_a_runner(target, &["apply", "--only", "identity"], "iam:CreateRole");
    let refused = target.deployctl(&["apply", "--yes", "--only", "identity", "--lock-timeout", "40s"]).expect(14);
    assert!(refused.err.contains("lost-runner") && refused.err.contains("deployctl lock -e sandbox release"), "{}", refused.err);
    let declared = target.deployctl(&["lock", "release", "--yes"]).expect(0);
    assert!(declared.out.contains("identity: broken: terraform's lock"), "{}", declared.out);
    let again = target.deployctl(&["apply", "--yes", "--only", "identity"]).expect(0);
    assert!(again.err.contains("taken over from"), "{}", again.err);
    target.deployctl(&["plan", "--only", "identity", "--detailed-exitcode"]).expect(0);
    let requests = target.requests();
    let refused = requests[before..].iter().filter(|request| request["action"] == "iam:CreateRole" && request["status"] != 200);
    assert_eq!(refused.count(), 0, "a role was made a second time");
}

/// The same before terraform has written a state for the first time: what it made is there, and nothing says so.
pub fn is_lost_before_its_first_state(target: &Target) {
    target.deployctl(&["apply", "--yes", "--only", "backend"]).expect(0);
    lose_a_runner(target, &["apply", "--only", "network"], "ec2:CreateSubnet");
    target.deployctl(&["apply", "--yes", "--only", "network", "--lock-timeout", "40s"]).expect(14);
    target.deployctl(&["lock", "release", "--yes"]).expect(0);
    let again = target.deployctl(&["apply", "--yes", "--only", "network"]).expect(0);
    assert!(again.err.contains("taken over from"), "{}", again.err);
    target.deployctl(&["plan", "--only", "network", "--detailed-exitcode"]).expect(0);
    killed::nothing_is_there_twice(target, "network");
}

/// All of it, on a target that is deployed already.
pub fn take_turns(target: &Target) {
    one_works_and_the_other_is_told(target);
    another_goes_on_after_a_kill(target);
    who_stood_still_changes_nothing_any_more(target);
}

fn one_works_and_the_other_is_told(target: &Target) {
    let (ann, bob) = (Machine::new(target), Machine::new(target));
    let free = ann.json(&["lock", "status"]);
    assert!(free["holder"].is_null(), "{free}");
    let working = ann.start();
    let pid = working.child.id();
    let end = Instant::now() + Duration::from_secs(60);
    while bob.json(&["lock", "status"])["holder"]["pid"] != pid {
        assert!(Instant::now() < end, "the first apply never took the lease");
    }
    let refused = bob.deployctl(&["apply", "--yes"]).expect(14);
    assert!(refused.err.contains(&format!("pid {pid}")) && refused.err.contains("lock status"), "{}", refused.err);
    let waited = bob.deployctl(&["apply", "--yes", "--lock-timeout", "2m"]).expect(0);
    assert!(waited.err.contains("waiting for") && waited.err.contains(&format!("pid {pid}")), "{}", waited.err);
    let (code, said) = working.end();
    assert_eq!(code, Some(0), "{said}");
    let after = bob.json(&["lock", "status"]);
    assert!(after["holder"].is_null() && after["number"].as_u64() >= free["number"].as_u64().map(|number| number + 2), "{after}");
}

fn another_goes_on_after_a_kill(target: &Target) {
    let (ann, bob) = (Machine::new(target), Machine::new(target));
    delete_uploader(target);
    let working = ann.start();
    ann.wait_for_line(&working, &["\"step\":\"uploader\"", "\"event\":\"started\""]);
    working.signal(Signal::KILL);
    working.end();
    let seen = bob.json(&["lock", "status"]);
    assert!(!seen["holder"].is_null(), "a killed holder gives nothing back: {seen}");
    bob.deployctl(&["apply", "--yes"]).expect(0);
    let run = &bob.json(&["history", "--limit", "1"])[0];
    let processes: Vec<u64> = run["attempts"].as_array().unwrap().iter().filter_map(|holder| holder["pid"].as_u64()).collect();
    assert_eq!((processes.len(), &run["finished"]), (2, &Value::Bool(true)), "the killed run was gone on with: {run}");
    let known: Vec<&Value> = run["steps"].as_object().unwrap().values().filter(|step| step["status"] == "succeeded").collect();
    assert_eq!(known.len(), 13, "{run}");
    ann.deployctl(&["plan", "--detailed-exitcode"]).expect(0);
    assert_eq!(ann.json(&["history", "--limit", "1"])[0], *run, "both machines tell one story");
}

/// A process is stopped for longer than its lease lives. When it wakes, somebody else has worked, and it must not.
fn who_stood_still_changes_nothing_any_more(target: &Target) {
    let (ann, bob) = (Machine::new(target), Machine::new(target));
    delete_uploader(target);
    let stopped = ann.start();
    ann.wait_for_line(&stopped, &["\"step\":\"uploader\"", "\"event\":\"started\""]);
    // In the middle of the rollout, which takes seconds.
    std::thread::sleep(Duration::from_millis(700));
    stopped.signal(Signal::STOP);
    let began = Instant::now();
    bob.deployctl(&["apply", "--yes", "--lock-timeout", "40s"]).expect(0);
    assert!(began.elapsed() > Duration::from_secs(20), "a lease was taken from one who might have lived: {:?}", began.elapsed());
    let before = target.requests().len();
    stopped.signal(Signal::CONT);
    let (code, said) = stopped.end();
    assert_eq!(code, Some(14), "{said}");
    // Whichever was first: the heartbeat that found it taken, or the next call, which asks.
    let next = said.contains("step uploader failed: ") && said.contains(" was not sent: the lease of sandbox was lost");
    assert!(said.contains("under way when it was lost: uploader") || next, "{said}");
    let requests = target.requests();
    let changes: Vec<&Value> = requests[before..].iter().filter(|request| request["action"].as_str().is_some_and(changes)).collect();
    assert!(changes.is_empty(), "{changes:?}");
    bob.deployctl(&["plan", "--detailed-exitcode"]).expect(0);
}

/// The heartbeat that found the lease taken is a write too, one that S3 refused.
fn changes(action: &str) -> bool {
    let verb = action.split(':').next_back().unwrap_or_default();
    let looks = action.starts_with("HEAD ") || action.starts_with("GET ") || crate::READS.iter().any(|read| verb.starts_with(read));
    !looks && verb != "PutObject"
}
