//! One apply per environment: who holds it, and that it is still held. The local file lock guards one machine.
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    failure::{Failure, FailureKind},
    ids::EnvironmentName,
};

/// A process that works on an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Who started it, as far as the machine knows: user and host.
    pub owner: String,
    /// The machine.
    pub host: String,
    /// Changes when the machine restarts: a pid means nothing after that.
    pub boot: String,
    /// The process.
    pub pid: u32,
    /// When it took hold.
    pub since: Timestamp,
    /// What it does, as in `apply`.
    pub what: String,
}

fn line_of(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_else(|_| "unknown".to_owned())
}

impl Holder {
    /// This process.
    pub fn this_process(what: &str) -> Self {
        let host = line_of("/proc/sys/kernel/hostname");
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        Self {
            owner: format!("{user}@{host}"),
            boot: line_of("/proc/sys/kernel/random/boot_id"),
            pid: std::process::id(),
            since: clock::now(),
            what: what.to_owned(),
            host,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, pid {}, since {})", self.owner, self.what, self.pid, self.since)
    }
}

/// A held lease. Dropping it without `release` leaves it to its time-out.
pub trait Lease: Send + Sync {
    /// Whether it is still held; called before every step and every mutating call.
    fn check(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// Says that the holder is alive; called every [`Lease::interval`].
    fn heartbeat(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// Gives it back.
    fn release(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// How often the heartbeat must come.
    fn interval(&self) -> Duration;
}

/// Beats until `stop`; a beat that fails cancels the run, because whoever took the lease may be working already.
pub async fn keep(lease: &dyn Lease, stop: CancellationToken, lost: CancellationToken) -> Result<(), Failure> {
    let mut tick = tokio::time::interval(lease.interval());
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = tick.tick() => if let Err(failure) = lease.heartbeat().await {
                lost.cancel();
                return Err(failure);
            },
        }
    }
}

/// A lock on a file of this machine: the kernel gives it back when the process dies, however it dies.
pub struct LocalLease {
    file: File,
}

fn locked(environment: &EnvironmentName, holder: &str) -> Failure {
    Failure::new(FailureKind::Locked, format!("environment {environment} is being changed by {holder}"))
        .next(format!("wait for it, then run the same command; what it does: deployctl status -e {environment}"))
}

impl LocalLease {
    /// Takes the environment's lock in `folder`, or says who has it.
    pub fn acquire(folder: &Path, environment: &EnvironmentName, holder: &Holder) -> Result<Self, Failure> {
        let path = folder.join(format!("{environment}.lock"));
        let fail = |error: std::io::Error| {
            Failure::new(FailureKind::Preflight, format!("the lock {} cannot be taken", path.display())).because(error)
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder may be writing its name just now; its absence must not hide the refusal.
                let known = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
                return Err(locked(environment, &known.map_or_else(|| "another process on this machine".to_owned(), |h| h.to_string())));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let text = serde_json::to_vec(holder).map_err(|error| fail(error.into()))?;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).and_then(|()| file.sync_data()).map_err(fail)?;
        Ok(Self { file })
    }
}

impl Lease for LocalLease {
    fn check(&self) -> BoxFuture<'_, Result<(), Failure>> {
        // The kernel holds it as long as the file is open.
        futures::future::ready(Ok(())).boxed()
    }
    fn heartbeat(&self) -> BoxFuture<'_, Result<(), Failure>> {
        futures::future::ready(Ok(())).boxed()
    }
    fn release(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let result =
            self.file.unlock().map_err(|error| Failure::new(FailureKind::Internal, "the local lock cannot be given back").because(error));
        futures::future::ready(result).boxed()
    }
    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test]
    async fn the_second_is_refused_and_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let environment = EnvironmentName::parse("staging").unwrap();
        let holder = Holder { owner: "ann@laptop".to_owned(), ..Holder::this_process("apply") };
        let first = LocalLease::acquire(folder.path(), &environment, &holder).unwrap();
        let refused = LocalLease::acquire(folder.path(), &environment, &holder).err().unwrap();
        assert_eq!(refused.kind, FailureKind::Locked);
        assert!(refused.message.contains("ann@laptop"), "{}", refused.message);
        let other = EnvironmentName::parse("production").unwrap();
        LocalLease::acquire(folder.path(), &other, &holder).unwrap();
        first.release().await.unwrap();
        LocalLease::acquire(folder.path(), &environment, &holder).unwrap();
    }
}
