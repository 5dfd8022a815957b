//! Supervised child processes: started side by side, watched, restarted with backoff, stopped without leftovers.
mod identity;
mod ready;
mod supervisor;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use identity::{ProcessId, RunRecord};
pub use supervisor::Supervisor;

/// What to run and how to know that it works.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Unique in the sandbox; names the log and the record.
    pub name: String,
    /// The program; its file name is what it sees as argument 0.
    pub program: PathBuf,
    /// Arguments. Never a secret: every user of the machine can read them.
    pub args: Vec<OsString>,
    /// Environment variables, on top of the daemon's own or alone.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the daemon's own environment is passed on.
    pub clear_env: ClearEnv,
    /// User and group to run as, when not the daemon's.
    pub user: Option<(u32, u32)>,
    /// Working directory; the state folder when none is given.
    pub cwd: Option<PathBuf>,
    /// When it counts as started.
    pub ready: Ready,
    /// How long it may take until then.
    pub deadline: Duration,
    /// What to do when it dies.
    pub restart: Restart,
}

impl ProcessSpec {
    /// A process that is restarted when it dies, with the daemon's environment and a minute to become ready.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, ready: Ready) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            clear_env: ClearEnv::No,
            user: None,
            cwd: None,
            ready,
            deadline: Duration::from_secs(60),
            restart: Restart::Always,
        }
    }

    /// The same with these arguments added.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The same with an environment variable added.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Whether a child sees the daemon's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearEnv {
    /// Only what the spec lists.
    Yes,
    /// The daemon's own, then what the spec lists.
    No,
}

/// When a process counts as started.
#[derive(Clone, Debug)]
pub enum Ready {
    /// It accepts connections.
    Tcp(SocketAddr),
    /// It answers 2xx over plain HTTP.
    Http {
        /// What to ask.
        url: String,
    },
    /// It answers 2xx over TLS.
    Https {
        /// What to ask.
        url: String,
        /// The authority that signed its certificate, PEM.
        ca: PathBuf,
    },
    /// It accepts connections on a socket in the file system.
    Unix(PathBuf),
    /// It has written a file.
    File(PathBuf),
    /// It has ended with code 0.
    Exits,
    /// As soon as it runs.
    Immediately,
}

/// What to do when a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Start it again, waiting longer each time up to ten seconds.
    Always,
    /// Leave it.
    Never,
}

/// The signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM.
    Terminate,
    /// SIGINT (PostgreSQL's fast shutdown, terraform's save and exit).
    Interrupt,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Runs, not ready yet.
    Starting,
    /// Runs and answered.
    Ready,
    /// Died; will be started again.
    Restarting,
    /// Ended and stays so.
    Ended,
}

/// One line of `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// The spec's name.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it ended last, if it ever did.
    pub last_exit: Option<String>,
}
