//! Starts somebody else's program: no stdin, own process group, lines as they come, a deadline, and told to stop before it is killed.
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::watchdog;
use crate::{
    failure::{Failure, FailureKind},
    redact, waiting,
};

/// How a program is stopped, and what becomes of it when deployctl dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// SIGINT, then SIGKILL after ten seconds. When deployctl is killed it goes on to its own end: it changes nothing but files.
    Expendable,
    /// One SIGINT, then waited for without end and never killed: it saves state. A watchdog tells it to stop when deployctl dies.
    Guarded,
}

/// What of our environment a program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inherits {
    /// All but secrets.
    Environment,
    Nothing,
}

/// Which of its two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Whether we told it to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It ended by itself.
    Nothing,
    /// Ctrl-C, or the lease was lost.
    Cancelled,
    /// It reached its deadline.
    Deadline,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether we told it to stop.
    pub told: Told,
    /// The last lines of standard error.
    pub stderr_tail: Vec<String>,
}

impl Ended {
    /// Exit code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
    /// "exit code 3" or "signal 9".
    pub fn how(&self) -> String {
        match (self.code, self.signal) {
            (_, Some(signal)) => format!("signal {signal}"),
            (Some(code), _) => format!("exit code {code}"),
            _ => "an unknown status".into(),
        }
    }
    /// Why it did not succeed, with its last words: told to stop by Ctrl-C is an interruption and no failure of the program's.
    pub fn failure(self, what: impl fmt::Display) -> Failure {
        let mut failure = match self.told {
            Told::Nothing => Failure::step(format!("{what}: {}", self.how())),
            Told::Cancelled => Failure::new(FailureKind::Interrupted, format!("{what} was interrupted")),
            Told::Deadline => Failure::new(FailureKind::Timeout, format!("{what} took too long")),
        };
        failure.evidence = self.stderr_tail;
        failure
    }
}

const GRACE: Duration = Duration::from_secs(10);
const STDERR_TAIL: usize = 40;

/// A program to run. `Display` is what one would type, with the names of its environment and no value of it.
#[derive(Clone, Debug)]
pub struct Program {
    name: OsString,
    install: &'static str,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    inherits: Inherits,
    without: Vec<&'static str>,
    dir: Option<PathBuf>,
    log: Option<PathBuf>,
    record: Option<PathBuf>,
    care: Care,
    deadline: Duration,
    cancel: CancellationToken,
}

impl Program {
    /// A program in PATH; `install` completes "it is missing: ".
    pub fn new(name: impl AsRef<OsStr>, install: &'static str, deadline: Duration) -> Self {
        Self {
            name: name.as_ref().to_owned(),
            install,
            args: Vec::new(),
            env: BTreeMap::new(),
            inherits: Inherits::Environment,
            without: Vec::new(),
            dir: None,
            log: None,
            record: None,
            care: Care::Expendable,
            deadline,
            cancel: CancellationToken::new(),
        }
    }
    /// Adds an argument. Never a secret: everybody on the machine can read it.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }
    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }
    /// Sets variables for this child only.
    #[must_use]
    pub fn env(mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.env.extend(env);
        self
    }
    /// It gets the variables that [`Program::env`] sets and no other.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.inherits = Inherits::Nothing;
        self
    }
    /// Takes variables away.
    #[must_use]
    pub fn without(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.without.extend(names);
        self
    }
    /// Its working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }
    /// Everything it prints also goes here, appended, readable by us alone.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }
    /// How it is stopped.
    #[must_use]
    pub fn care(mut self, care: Care) -> Self {
        self.care = care;
        self
    }
    /// Where a guarded program's process record goes.
    #[must_use]
    pub fn record(mut self, path: impl Into<PathBuf>) -> Self {
        self.record = Some(path.into());
        self
    }
    /// Tells it to stop when cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: &CancellationToken) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Runs it and collects standard output.
    pub async fn output(self) -> Result<(Ended, Vec<u8>), Failure> {
        let mut out = Vec::new();
        let ended = self
            .run(|stream, line| {
                if stream == Stream::Out {
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
            })
            .await?;
        Ok((ended, out))
    }

    /// Runs it; `on_line` gets every line without its end.
    pub async fn run(self, mut on_line: impl FnMut(Stream, &[u8]) + Send) -> Result<Ended, Failure> {
        let mut log = self.log.as_deref().map(open_log).transpose()?;
        let _waiting = waiting::call(self.called(), self.deadline);
        let mut child = self.spawn()?;
        let mut lifeline = child.stdin.take();
        let (sender, mut lines) = mpsc::channel::<(Stream, Vec<u8>)>(256);
        if let Some(out) = child.stdout.take() {
            tokio::spawn(read_lines(out, Stream::Out, sender.clone()));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(read_lines(err, Stream::Err, sender.clone()));
        }
        drop(sender);

        let mut tail = Vec::new();
        let mut take = |(stream, line): (Stream, Vec<u8>)| {
            if let Some(log) = &mut log
                && (log.write_all(&line).is_err() || log.write_all(b"\n").is_err())
            {
                tracing::warn!("a full disk? a line of a program's log could not be written");
            }
            if stream == Stream::Err {
                if tail.len() == STDERR_TAIL {
                    tail.remove(0);
                }
                tail.push(String::from_utf8_lossy(&line).into_owned());
            }
            on_line(stream, &line);
        };
        let mut told = Told::Nothing;
        let mut kill_at = None;
        let mut heartbeat = tokio::time::interval(watchdog::HEARTBEAT);
        let deadline = tokio::time::sleep(self.deadline);
        tokio::pin!(deadline);
        let status = loop {
            tokio::select! {
                Some(line) = lines.recv() => take(line),
                status = child.wait() => break status,
                () = self.cancel.cancelled(), if told == Told::Nothing => {
                    told = Told::Cancelled;
                    kill_at = self.stop(&child, lifeline.as_mut()).await;
                }
                () = &mut deadline, if told == Told::Nothing => {
                    told = Told::Deadline;
                    kill_at = self.stop(&child, lifeline.as_mut()).await;
                }
                () = tokio::time::sleep_until(kill_at.unwrap_or_else(tokio::time::Instant::now)), if kill_at.is_some() => {
                    signal(&child, Signal::KILL);
                    kill_at = None;
                }
                _ = heartbeat.tick() => beat(lifeline.as_mut(), watchdog::ALIVE).await,
            }
        };
        // What it wrote last is still in the pipes; a grandchild that keeps them open must not keep us.
        while let Ok(Some(line)) = tokio::time::timeout(Duration::from_secs(2), lines.recv()).await {
            take(line);
        }
        let status = status.map_err(|e| Failure::step(format!("lost sight of {}", self.name.display())).because(e))?;
        let (mut code, mut signal) = (status.code(), status.signal());
        if self.care == Care::Guarded && code.is_some_and(|c| c > 128) {
            signal = code.take().map(|c| c - 128);
        }
        Ok(Ended { code, signal, told, stderr_tail: tail })
    }

    fn spawn(&self) -> Result<Child, Failure> {
        let path = find(&self.name).ok_or_else(|| {
            Failure::new(FailureKind::Preflight, format!("{} is not installed", self.name.display()))
                .next(format!("it is missing: {}", self.install))
        })?;
        let mut command = match self.care {
            Care::Expendable => {
                let mut command = tokio::process::Command::new(path);
                command.stdin(Stdio::null()).kill_on_drop(true);
                command
            }
            Care::Guarded => {
                let mut command = tokio::process::Command::new(watchdog::program()?);
                command.arg(watchdog::ARGUMENT).arg(self.log.as_deref().unwrap_or(Path::new("/dev/null")));
                let record =
                    self.record.as_deref().ok_or_else(|| Failure::new(FailureKind::Internal, "a guarded program needs a record"))?;
                command.arg(record).arg(path).stdin(Stdio::piped());
                command
            }
        };
        command.args(&self.args).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if self.inherits == Inherits::Nothing {
            command.env_clear();
        }
        // Whoever needs credentials is given them by `env`: a compiled crate's build script, for one, must not see ours.
        for name in redact::SECRET_VARIABLES.iter().chain(&self.without) {
            command.env_remove(name);
        }
        command.envs(&self.env);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        tracing::debug!(program = %self, "starting");
        command.spawn().map_err(|e| Failure::new(FailureKind::Preflight, format!("could not start {}", self.name.display())).because(e))
    }

    /// As in `terraform plan`.
    fn called(&self) -> String {
        let name = Path::new(&self.name).file_name().unwrap_or(&self.name).display();
        self.args.first().map_or_else(|| name.to_string(), |first| format!("{name} {}", first.display()))
    }

    /// Tells it to stop, once; says when it may be killed, if ever.
    async fn stop(&self, child: &Child, lifeline: Option<&mut ChildStdin>) -> Option<tokio::time::Instant> {
        match self.care {
            Care::Guarded => {
                beat(lifeline, watchdog::INTERRUPT).await;
                None
            }
            Care::Expendable => {
                signal(child, Signal::INT);
                Some(tokio::time::Instant::now() + GRACE)
            }
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in self.env.keys() {
            write!(f, "{}=… ", name.display())?;
        }
        write!(f, "{}", quoted(&self.name))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b));
    if plain { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The file that PATH leads to; none if there is none.
pub fn find(name: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if Path::new(name).components().count() > 1 {
        return Some(PathBuf::from(name)).filter(executable);
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(executable)
}

/// What a program says of its version, in one line: `NAME --version`, or `NAME version` where that is how it is asked.
pub async fn version_of(name: &str) -> Option<String> {
    let ask = if Path::new(name).file_name().is_some_and(|name| name == "helm") { "version" } else { "--version" };
    let program = Program::new(name, "a program that is there", Duration::from_secs(10)).arg(ask);
    let (ended, out) = program.output().await.ok()?;
    let line = String::from_utf8_lossy(&out).lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
    line.filter(|_| ended.succeeded())
}

fn open_log(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map_err(|e| Failure::step(format!("could not write the log {}", path.display())).because(e))
}

async fn beat(lifeline: Option<&mut ChildStdin>, byte: u8) {
    // A watchdog that has gone cannot be told; that it has gone is seen by waiting for it.
    if let Some(pipe) = lifeline
        && pipe.write_all(&[byte]).await.is_err()
    {
        tracing::debug!("the watchdog has ended");
    }
}

fn signal(child: &Child, which: Signal) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group
        && kill_process_group(group, which).is_err()
    {
        tracing::debug!("the program had ended before it could be told to");
    }
}

async fn read_lines(pipe: impl AsyncRead + Unpin, stream: Stream, lines: mpsc::Sender<(Stream, Vec<u8>)>) {
    let mut reader = BufReader::with_capacity(64 * 1024, pipe);
    loop {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if lines.send((stream, line)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test]
    async fn what_was_told_to_stop_was_interrupted_and_did_not_fail() {
        let (stopped, free) = (CancellationToken::new(), CancellationToken::new());
        stopped.cancel();
        let program = |arg: &str, deadline: Duration| Program::new("sleep", "coreutils", deadline).arg(arg);
        let long = Duration::from_secs(30);
        for (program, kind) in [
            (program("20", long).cancel(&stopped), FailureKind::Interrupted),
            (program("20", Duration::from_millis(50)).cancel(&free), FailureKind::Timeout),
            (program("nonsense", long).cancel(&free), FailureKind::Step),
        ] {
            let (ended, _) = program.output().await.unwrap();
            assert!(!ended.succeeded());
            assert_eq!(ended.failure("sleep").kind, kind);
        }
    }
}
