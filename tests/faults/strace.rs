//! A program under strace with one fault: killed as it makes its Kth call of one kind, or refused that call with an error.
use std::{
    ffi::OsString,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::installed;

/// What happens to the Kth call.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The process dies before it is made.
    Kill(&'static str),
    /// It fails: the call, the error.
    Error(&'static str, &'static str),
}

impl Fault {
    /// strace's arguments, up to the program.
    pub fn arguments(self, at: usize, log: &Path) -> Vec<OsString> {
        let (call, what) = match self {
            Self::Kill(call) => (call, "signal=SIGKILL".to_owned()),
            Self::Error(call, error) => (call, format!("error={error}")),
        };
        let mut arguments: Vec<OsString> = ["-f", "-qq", "-y", "-s", "0", "-o"].map(OsString::from).into();
        arguments.extend([log.into(), "-e".into(), format!("trace={call}").into()]);
        arguments.extend(["-e".into(), format!("inject={call}:{what}:when={at}").into()]);
        if let Self::Error(..) = self {
            // Stops at these calls only. A kill would be forgotten that way.
            arguments.push("--seccomp-bpf".into());
        }
        arguments
    }
}

/// How a program ended, and what it said.
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The refused call: the file of ours that it was about; `Some(None)` if it was another's.
    pub refused: Option<Option<PathBuf>>,
}

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often is looked whether a program is one of those that no longer end.
const LOOKS: Duration = Duration::from_millis(100);
/// What wakes a sleeping thread, as strace names it. No disk is behind it, it cannot be refused, and a runtime that is refused it never ends.
const WAKER: &str = "<anon_inode:[eventfd]>";

impl Ended {
    /// Runs it; `log` is strace's, with the folder whose files are ours.
    pub fn of(mut command: Command, log: Option<(&Path, &Path)>) -> Self {
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let group = Pid::from_child(&child);
        let (ended, ends) = mpsc::channel::<()>();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                while ends.recv_timeout(LOOKS) == Err(mpsc::RecvTimeoutError::Timeout) {
                    if started.elapsed() >= DEADLINE
                        || log.is_some_and(|(log, _)| injected(&read(log)).is_some_and(|line| line.contains(WAKER)))
                    {
                        // It may have ended by itself a moment ago, which is as good.
                        kill_process_group(group, Signal::KILL).ok();
                    }
                }
            });
            let output = child.wait_with_output().unwrap();
            drop(ended);
            output
        });
        assert!(started.elapsed() < DEADLINE, "{command:?} took {:?}", started.elapsed());
        let refused = log.and_then(|(log, ours)| refused_in(&read(log), ours));
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            refused,
        }
    }
    /// Whether a signal ended it.
    pub fn is_killed(&self) -> bool {
        self.signal.is_some()
    }
    /// Fails the test with all that it said unless it ended well.
    pub fn expect_success(self, what: &str) -> Self {
        assert_eq!(self.code, Some(0), "{what}: {}{}", self.out, self.err);
        self
    }
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

fn injected(log: &str) -> Option<&str> {
    log.lines().find(|line| line.ends_with("(INJECTED)"))
}

/// The file that the injected call was about, in strace's words: `write(5</a/b>, …) = -1 EIO (…) (INJECTED)`.
fn refused_in(log: &str, ours: &Path) -> Option<Option<PathBuf>> {
    let line = injected(log)?;
    let ours = ours.to_str().unwrap();
    let file = line.match_indices(ours).last().map(|(at, _)| {
        let rest = &line[at..];
        PathBuf::from(&rest[..rest.find(['>', '"']).unwrap_or(rest.len())])
    });
    Some(file)
}

/// Whether strace is there; says so when it is not.
pub fn is_there() -> bool {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        installed::skip("there is no strace: `deployctl-sandbox install` installs it");
    }
    there
}

/// Calls `try_at` with 1, 1 + `step`, … until it says that the program made fewer calls; two at a time. Gives how many were tried.
pub fn every(step: usize, try_at: impl Fn(usize) -> Tried + Sync) -> usize {
    let (next, tried, over) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !*over.lock().unwrap() {
                    let at = 1 + step * next.fetch_add(1, Ordering::Relaxed);
                    match try_at(at) {
                        Tried::Hit => {
                            tried.fetch_add(1, Ordering::Relaxed);
                        }
                        Tried::Missed => {}
                        Tried::NoSuchCall => *over.lock().unwrap() = true,
                    }
                }
            });
        }
    });
    tried.into_inner()
}

/// What became of one try.
pub enum Tried {
    /// The fault was there.
    Hit,
    /// The fault met something that is not ours.
    Missed,
    /// The program makes fewer calls.
    NoSuchCall,
}
