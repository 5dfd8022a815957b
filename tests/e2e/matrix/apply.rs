//! An apply of one step that can be halted at a moment of its choosing: what the journal says, and what the world has answered, decide when.
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process, kill_process_group};
use serde_json::Value;

use super::kinds::Taken;
use crate::{
    killed::{self, Whom, pid},
    target::Target,
};

/// Longer than any apply here takes; what takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(300);
/// Between two looks at the journal.
const LOOK: Duration = Duration::from_micros(200);
/// Actions of the journal, the lease, terraform's locks and the services' own work, which are no effect of a step.
const BESIDE: [&str; 9] = [
    "s3:PutObject",
    "s3:DeleteObject",
    "dynamodb:PutItem",
    "dynamodb:DeleteItem",
    "dynamodb:UpdateItem",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:ReceiveMessage",
    "ecr:BatchCheckLayerAvailability",
];

/// When, seen from a step's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The journal says Started, and nothing was changed yet.
    Before,
    /// Its first changing request has been answered, and the journal does not say Applied.
    During,
    /// The journal says Applied, and the run is not finished.
    After,
}

/// An apply that has been started, in a process group of its own as a shell would start it.
pub struct Apply<'a> {
    target: &'a Target,
    step: Option<String>,
    child: Child,
    said: PathBuf,
    _folder: tempfile::TempDir,
    effect: Effect,
    journal: Option<(PathBuf, u64)>,
}

/// How it ended.
pub struct Ended {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// Everything that it said.
    pub said: String,
}

impl<'a> Apply<'a> {
    /// Starts one of a step, or of the whole plan, whose effects are looked for where something was taken away.
    pub fn start(target: &'a Target, project: &str, step: Option<&str>, taken: &Taken) -> Self {
        let effect = Effect::watch(target, taken);
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let mut command = target.command(Path::new(env!("CARGO_BIN_EXE_deployctl")));
        command.args(["apply", "--yes", "-e", "sandbox", "--project", project]);
        command.args(step.into_iter().flat_map(|step| ["--only", step]));
        // terraform writes its state down at its end only: what it made before it is killed is in none.
        command.env("TF_STATE_PERSIST_INTERVAL", "3600").process_group(0);
        let into = File::create(&said).unwrap();
        let child = command.stdin(Stdio::null()).stdout(into.try_clone().unwrap()).stderr(into).spawn().unwrap();
        Self { target, step: step.map(str::to_owned), child, said, _folder: folder, effect, journal: None }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run until this moment of its step and stops it there. False if it was over before that could be seen; then it runs on.
    pub fn halt_at(&mut self, moment: Moment) -> bool {
        let step = self.step.clone().unwrap();
        let says = |told: &str, event: &str| {
            let (step, event) = (format!("\"step\":\"{step}\""), format!("\"event\":\"{event}\""));
            told.lines().any(|line| line.contains(&step) && line.contains(&event))
        };
        let end = Instant::now() + DEADLINE;
        loop {
            let told = self.journal();
            let started = says(&told, "started");
            let seen = self.effect.look(started);
            let here = match moment {
                Moment::Before => started,
                Moment::During => started && seen,
                Moment::After => says(&told, "applied"),
            };
            if here {
                break;
            }
            if self.has_ended() {
                return false;
            }
            assert!(Instant::now() < end, "{step} never came to {moment:?}: {}", self.said());
            std::thread::sleep(LOOK);
        }
        self.signal(Signal::STOP);
        let told = self.journal();
        let halted = match moment {
            Moment::Before => !self.effect.look(true) && !says(&told, "applied") && !says(&told, "failed"),
            Moment::During => !says(&told, "applied") && !says(&told, "failed"),
            Moment::After => !told.contains("\"type\":\"finished\""),
        };
        if !halted {
            self.signal(Signal::CONT);
        }
        halted && !self.has_ended()
    }

    /// What its own attempt has written into the journal.
    pub fn journal(&mut self) -> String {
        if self.journal.is_none() {
            self.journal = self.find_journal();
        }
        let Some((path, from)) = &self.journal else { return String::new() };
        let mut file = File::open(path).unwrap();
        file.seek(SeekFrom::Start(*from)).unwrap();
        let mut told = String::new();
        file.read_to_string(&mut told).unwrap();
        told
    }

    fn find_journal(&self) -> Option<(PathBuf, u64)> {
        let path = newest_run(self.target)?.join("journal.ndjson");
        let text = std::fs::read_to_string(&path).ok()?;
        let own = format!("\"pid\":{},", self.child.id());
        let attempt = text.lines().find(|line| line.contains("\"type\":\"attempt\"") && line.contains(&own))?;
        let from = text.find(attempt)?;
        Some((path, u64::try_from(from).unwrap()))
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn signal(&self, signal: Signal) {
        // Whoever has ended meanwhile is no longer there to be told.
        kill_process(pid(self.child.id()), signal).ok();
    }

    /// As a terminal does: to everybody in its process group. It may be halted; then it hears when it goes on.
    pub fn interrupt(&self, signal: Signal) {
        kill_process_group(pid(self.child.id()), signal).ok();
    }

    /// Lets it go on for a moment, which is enough to hear a signal.
    pub fn blink(&self) {
        self.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(3));
        self.signal(Signal::STOP);
    }

    /// Kills it, and terraform and its watchdog too if everybody is meant.
    pub fn kill(mut self, stacks: &[String], whom: Option<Whom>) {
        let records: Vec<_> = stacks.iter().filter_map(|stack| killed::record(self.target, stack)).collect();
        if let Some(whom) = whom {
            records.iter().for_each(|record| killed::kill(record, whom));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if whom.is_some() {
            records.iter().for_each(killed::wait_until_dead);
        }
    }

    /// Lets it go on to its end.
    pub fn end(mut self) -> Ended {
        self.signal(Signal::CONT);
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                self.child.kill().unwrap();
                panic!("it does not end: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended { code: status.code(), said: self.said() }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }
}

impl Drop for Apply<'_> {
    fn drop(&mut self) {
        // A test that fails leaves nobody behind; whoever was waited for is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The folder of the newest run.
pub fn newest_run(target: &Target) -> Option<PathBuf> {
    let runs = std::fs::read_dir(target.state().join("deployctl/runs/sandbox")).ok()?;
    runs.map(|run| run.unwrap().path()).max()
}

/// What shows that a step has changed something: a changing call that was answered, or an object that is there again.
struct Effect {
    record: BufReader<File>,
    half: String,
    objects: BTreeSet<String>,
    watches: Vec<Watch>,
    jobs: BTreeSet<String>,
    seen: bool,
}

impl Effect {
    fn watch(target: &Target, taken: &Taken) -> Self {
        let mut record = File::open(target.record()).unwrap();
        record.seek(SeekFrom::End(0)).unwrap();
        let kinds: BTreeSet<&str> = taken.objects.iter().map(|(kind, _)| kind.as_str()).chain(taken.jobs.then_some("jobs")).collect();
        Self {
            record: BufReader::new(record),
            half: String::new(),
            objects: taken.objects.iter().map(|(_, name)| name.clone()).collect(),
            watches: kinds.into_iter().map(|kind| Watch::start(target, kind)).collect(),
            jobs: BTreeSet::new(),
            seen: false,
        }
    }

    /// Looks at what is new; only what came after `started` counts.
    fn look(&mut self, started: bool) -> bool {
        let mut answered = false;
        while self.record.read_line(&mut self.half).unwrap() > 0 && self.half.ends_with('\n') {
            let request: Value = serde_json::from_str(&self.half).unwrap();
            answered |=
                changes(request["action"].as_str().unwrap_or_default()) && request["status"].as_u64().is_some_and(|code| code < 300);
            self.half.clear();
        }
        for watch in &self.watches {
            for name in std::mem::take(&mut *watch.seen.lock().unwrap()) {
                // Planning runs Jobs too; those that were there before have had their say.
                let is_job = name.starts_with("job.batch/");
                answered |= started && if is_job { !self.jobs.contains(&name) } else { self.objects.contains(&name) };
                if is_job && !started {
                    self.jobs.insert(name);
                }
            }
        }
        self.seen |= started && answered;
        self.seen
    }
}

/// Whether an action of the front door's record changes something that a step may be about.
fn changes(action: &str) -> bool {
    let verb = action.split(':').next_back().unwrap_or_default();
    let looks = action.starts_with("HEAD ") || action.starts_with("GET ") || crate::READS.iter().any(|read| verb.starts_with(read));
    !looks && !BESIDE.contains(&action)
}

/// `kubectl get KIND --watch`: the names of what changes.
struct Watch {
    child: Child,
    seen: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    fn start(target: &Target, kind: &str) -> Self {
        let mut command = target.command(Path::new("kubectl"));
        command.args(["get", kind, "--all-namespaces", "--watch-only", "--output=name"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (seen, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, over) = (seen.clone(), ended.clone());
        let lines = BufReader::<ChildStdout>::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line));
            over.store(true, Ordering::Relaxed);
        });
        Self { child, seen, ended }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let early = self.ended.load(Ordering::Relaxed);
        drop(self.child.kill());
        drop(self.child.wait());
        assert!(!early || std::thread::panicking(), "kubectl stopped watching by itself");
    }
}
