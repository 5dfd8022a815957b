//! The parent of a guarded program: tells it to stop, once, when deployctl asks, dies or falls silent, and never kills it.
//!
//! It stands between deployctl and terraform: `deployctl __watchdog LOG RECORD PROGRAM ARGS…`. Its standard input is the lifeline: a
//! byte every two seconds, another byte to interrupt, and an end of file when deployctl has died. terraform's output passes
//! through it, because terraform would be killed by SIGPIPE if it wrote to a pipe that died with deployctl.
//! RECORD is on disk before the program does anything, and gone once it has ended well: one that is there tells of an end that was not.
use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::process_record::{GuardedRecord, ProcessRecord};
use crate::{
    engine::lease::SAFE,
    failure::{Failure, FailureKind},
};

/// The hidden first argument.
pub const ARGUMENT: &str = "__watchdog";
/// How often deployctl says that it lives.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
/// After this long without a word deployctl counts as stopped (SIGSTOP, a frozen container): as long as it may believe in its lease, so that
/// terraform has been told before anybody else may start.
const SILENCE: Duration = SAFE;
/// How often the record is touched: no lock that was taken later than this after our death is taken for ours.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Becomes the program once a line comes, and ends without it if none does: nothing runs that is not recorded.
const GATE: &str = r#"read -r go && exec "$0" "$@" </dev/null"#;
/// "I live."
pub(super) const ALIVE: u8 = b'h';
/// "Tell it to stop."
pub(super) const INTERRUPT: u8 = b'i';

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the deployctl binary; only tests, which are another binary, need to.
pub fn use_program(path: PathBuf) {
    PROGRAM.get_or_init(|| path);
}

pub(super) fn program() -> Result<PathBuf, Failure> {
    match PROGRAM.get() {
        Some(path) => Ok(path.clone()),
        // Not current_exe(): an upgrade may have replaced the file, and then it names one that is no more.
        None => Ok(PathBuf::from("/proc/self/exe")),
    }
}

/// Called first by main: if this process was started as a watchdog, does that job and gives the exit code.
pub fn run_if_asked() -> Option<u8> {
    let mut args = std::env::args_os().skip(1);
    if args.next()?.to_str() != Some(ARGUMENT) {
        return None;
    }
    let (log, record, name) = (args.next()?, args.next()?, args.next()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let code = runtime.block_on(watch(PathBuf::from(log), PathBuf::from(record), name, args.collect()));
    Some(code.unwrap_or_else(|failure| {
        // deployctl shows the last lines of a program that said nothing else; if nobody reads them, nobody can be told.
        drop(std::io::Write::write_all(&mut std::io::stderr(), failure.chain().join(": ").as_bytes()));
        crate::failure::exit::FAILURE
    }))
}

async fn watch(log: PathBuf, record: PathBuf, name: OsString, args: Vec<OsString>) -> Result<u8, Failure> {
    let broken = |e: std::io::Error| Failure::new(FailureKind::Internal, "the watchdog could not start its program").because(e);
    let mut term = signal(SignalKind::terminate()).map_err(broken)?;
    // These two belong to the terminal, and it is deployctl that answers them.
    let _int = signal(SignalKind::interrupt()).map_err(broken)?;
    let _hup = signal(SignalKind::hangup()).map_err(broken)?;
    let mut lifeline = pipe::Receiver::from_owned_fd(owned(std::io::stdin().as_fd())?).map_err(broken)?;
    let mut command = tokio::process::Command::new("/bin/sh");
    command.args(["-c", GATE]).arg(name).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(broken)?;
    let pid = child.id();
    let started = Timestamp::now();
    let unrecorded = || Failure::new(FailureKind::Internal, format!("nothing was started: {} could not be written", record.display()));
    let (program, watchdog) = pid.and_then(ProcessRecord::of).zip(ProcessRecord::of(std::process::id())).ok_or_else(unrecorded)?;
    let told_of = GuardedRecord { program, watchdog, started, ended: None };
    told_of.write(&record).map_err(|e| unrecorded().because(e))?;
    if let Some(mut gate) = child.stdin.take() {
        gate.write_all(b"go\n").await.map_err(broken)?;
    }

    let orphaned = CancellationToken::new();
    let answered = Arc::new(AtomicBool::new(false));
    let relays = [
        child.stdout.take().map(|from| relay(from, std::io::stdout().as_fd(), &log, &orphaned, &answered)),
        child.stderr.take().map(|from| relay(from, std::io::stderr().as_fd(), &log, &orphaned, &answered)),
    ];
    let mut told = false;
    let mut terminated = false;
    let mut lifeline_open = true;
    let mut buffer = [0_u8; 64];
    let mut sign_of_life = tokio::time::interval(SIGN_OF_LIFE);
    // A round of the loop that deployctl has no part in must not prolong its silence.
    let mut heard = tokio::time::Instant::now();
    let status = loop {
        tokio::select! {
            _ = sign_of_life.tick() => touch(&record),
            status = child.wait() => break status.map_err(broken)?,
            _ = term.recv() => terminated = true,
            read = tokio::time::timeout_at(heard + SILENCE, lifeline.read(&mut buffer)), if lifeline_open => {
                heard = tokio::time::Instant::now();
                let stop = match read {
                    Ok(Ok(0) | Err(_)) => {
                        lifeline_open = false;
                        orphaned.cancel();
                        true
                    }
                    Ok(Ok(n)) => buffer[..n].contains(&INTERRUPT),
                    Err(_silence) => {
                        orphaned.cancel();
                        true
                    }
                };
                if stop && !told {
                    told = true;
                    tell(pid, terminated, &answered).await;
                }
            }
        }
    };
    // Nothing is left to prove after a good end. A record that stays, or stays as it was, costs the next run a look.
    drop(match status.code() {
        Some(0) => std::fs::remove_file(&record),
        Some(code) => GuardedRecord { ended: Some(code), ..told_of }.write(&record),
        None => Ok(()),
    });
    // Its last words, unless a grandchild keeps the pipe open.
    for relay in relays.into_iter().flatten() {
        drop(tokio::time::timeout(Duration::from_secs(3), relay).await);
    }
    Ok(code_of(status))
}

/// A failure is no reason to stop: a lock is then not taken for ours, and a person is asked.
fn touch(record: &Path) {
    drop(File::options().write(true).open(record).and_then(|file| file.set_modified(SystemTime::now())));
}

/// One SIGINT and no second one: two make terraform leave at once, its lock held. Whoever sent us SIGTERM may have sent it one too.
async fn tell(pid: Option<u32>, terminated: bool, answered: &AtomicBool) {
    if terminated {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let group = pid.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group.filter(|_| !answered.load(Ordering::Relaxed))
        && kill_process_group(group, Signal::INT).is_err()
    {
        tracing::debug!("it had ended before it could be told to");
    }
}

fn owned(fd: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd, Failure> {
    fd.try_clone_to_owned().map_err(|e| Failure::new(FailureKind::Internal, "the watchdog's pipes").because(e))
}

/// Copies to deployctl; once that has gone, to the log, so that the program never blocks or breaks on its output.
fn relay(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    to: BorrowedFd<'_>,
    log: &std::path::Path,
    orphaned: &CancellationToken,
    answered: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<()> {
    let mut to = owned(to).ok().and_then(|fd| pipe::Sender::from_owned_fd(fd).ok());
    let (log, orphaned, answered) = (log.to_owned(), orphaned.clone(), Arc::clone(answered));
    tokio::spawn(async move {
        let mut buffer = vec![0_u8; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let chunk = &buffer[..n];
            if chunk.windows(18).any(|w| w == b"Interrupt received") {
                answered.store(true, Ordering::Relaxed);
            }
            if let Some(pipe) = &mut to {
                let sent = tokio::select! {
                    biased;
                    () = orphaned.cancelled() => false,
                    sent = pipe.write_all(chunk) => sent.is_ok(),
                };
                if sent {
                    continue;
                }
                to = None;
            }
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
            if let Ok(mut file) = file {
                // Nobody is left to be told that the disk is full.
                drop(std::io::Write::write_all(&mut file, chunk));
            }
        }
    })
}

/// A shell's convention: 128 and the signal's number.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
