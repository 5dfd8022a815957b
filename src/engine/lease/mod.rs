//! One apply per environment: who holds it, and that it is still held. A file lock guards one machine, an object in the state bucket all of them.
mod bucket;
mod environment;
mod local;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use bucket::{BucketLease, KEY, LeaseRecord, Patience, read};
pub use environment::EnvironmentLease;
pub use local::LocalLease;

use super::records::Records;
use crate::{
    clock,
    failure::{Failure, FailureKind},
    ids::EnvironmentName,
    tools::process_record::{Liveness, ProcessRecord},
};

/// A process that works on an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Who started it, as far as the machine knows: user and host.
    pub owner: String,
    /// The process, so that its death can be proven on its own machine.
    #[serde(flatten)]
    pub process: ProcessRecord,
    /// When it took hold.
    pub since: Timestamp,
    /// What it does, as in `apply`.
    pub what: String,
}

impl Holder {
    /// This process.
    pub fn this_process(what: &str) -> Self {
        let process = ProcessRecord::of_this_process();
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        Self { owner: format!("{user}@{}", process.host), process, since: clock::now(), what: what.to_owned() }
    }
    /// What `lock` must be given to ask for its lease: that of `dr …` is the DR region's.
    pub fn lock_flag(&self) -> &'static str {
        if self.what.starts_with("dr ") { " --dr" } else { "" }
    }
    /// Whether it still runs, as far as this machine can tell.
    pub fn liveness(&self) -> Liveness {
        self.process.liveness()
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, pid {}, since {})", self.owner, self.what, self.process.pid, self.since)
    }
}

/// A held lease. Dropping it without `release` leaves it to its time-out.
pub trait Lease: Send + Sync {
    /// Whether it is still held; asked before every step and every changing call, so it asks nobody else.
    fn check(&self) -> Result<(), Failure>;
    /// Says that the holder is alive; called every [`BEAT`].
    fn heartbeat(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// Takes hold in the state bucket too, as soon as that is there; a step of the run may have made it. Fails if somebody else has it.
    fn anchor(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// The number that grows with every holder, once hold was taken in the state bucket.
    fn number(&self) -> Option<u64>;
    /// The state bucket, once hold was taken there.
    fn records(&self) -> Option<Arc<dyn Records>>;
    /// Gives it back.
    fn release(&self) -> BoxFuture<'_, Result<(), Failure>>;
}

/// How often a holder says that it lives, and how long one such call may take: a few may fail before the lease is in doubt.
pub const BEAT: Duration = Duration::from_secs(3);
/// After this long without a confirmed beat the holder itself makes no further call. The watchdog tells terraform to stop after as long.
pub const SAFE: Duration = Duration::from_secs(15);
/// After this long without a beat anybody may take the lease: later than [`SAFE`], so that nobody works beside a holder who believes in it.
pub const LIFE: Duration = Duration::from_secs(25);

/// A lease whose heart beats until it is ended.
pub struct Kept {
    lease: Arc<dyn Lease>,
    stop: CancellationToken,
    beat: JoinHandle<Result<(), Failure>>,
}

impl Kept {
    /// Starts the beat. One that fails for good cancels `lost`, because whoever took the lease may be working already; `under_way` says
    /// what this process was doing at that moment.
    pub fn start(lease: Arc<dyn Lease>, lost: CancellationToken, under_way: impl Fn() -> Vec<String> + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let beat = tokio::spawn(beat(lease.clone(), stop.clone(), lost, under_way));
        Self { lease, stop, beat }
    }
    /// The lease.
    pub fn lease(&self) -> &Arc<dyn Lease> {
        &self.lease
    }
    /// Stops the beat and gives the lease back; says so if it was lost meanwhile.
    pub async fn end(self) -> Result<(), Failure> {
        self.stop.cancel();
        let broken = |error| Err(Failure::new(FailureKind::Internal, "the lease's heartbeat stopped").because(error));
        self.beat.await.unwrap_or_else(broken)?;
        self.lease.release().await
    }
}

async fn beat(
    lease: Arc<dyn Lease>,
    stop: CancellationToken,
    lost: CancellationToken,
    under_way: impl Fn() -> Vec<String> + Send,
) -> Result<(), Failure> {
    let mut tick = tokio::time::interval(BEAT);
    // After a pause (SIGSTOP, a suspended laptop) one beat says all that the missed ones would have said.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = tick.tick() => if let Err(mut failure) = lease.heartbeat().await {
                failure.evidence.extend(under_way().into_iter().map(|call| format!("under way when it was lost: {call}")));
                lost.cancel();
                return Err(failure);
            },
        }
    }
}

fn locked(environment: &EnvironmentName, holder: Option<&Holder>) -> Failure {
    let who = holder.map_or_else(|| "another process on this machine".to_owned(), ToString::to_string);
    let dr = holder.map_or("", Holder::lock_flag);
    Failure::new(FailureKind::Locked, format!("environment {environment} is being changed by {who}"))
        .next(format!("wait for it (--lock-timeout 10m waits), then run the same command; what it does: deployctl status -e {environment}"))
        .next(format!("or, once you know that it has ended: deployctl lock status{dr} -e {environment}"))
}

/// A lease that was lost, for tests of those who must ask.
#[cfg(test)]
pub struct Lost;

#[cfg(test)]
impl Lease for Lost {
    fn check(&self) -> Result<(), Failure> {
        Err(Failure::new(FailureKind::Locked, "the lease was lost"))
    }
    fn heartbeat(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { self.check() })
    }
    fn anchor(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    fn number(&self) -> Option<u64> {
        None
    }
    fn records(&self) -> Option<Arc<dyn Records>> {
        None
    }
    fn release(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}
