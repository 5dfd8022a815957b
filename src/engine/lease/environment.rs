//! The lease of an environment as a whole: this machine's lock from the start, the state bucket's from the moment that there is one.
use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{sync::Mutex, time::Instant};

use super::{BucketLease, Holder, Lease, LocalLease, Patience};
use crate::{
    clock,
    engine::records::Records,
    failure::{Failure, FailureKind},
    ids::EnvironmentName,
    waiting,
};

/// See the module.
pub struct EnvironmentLease {
    environment: EnvironmentName,
    holder: Holder,
    local: LocalLease,
    records: Arc<dyn Records>,
    bucket: OnceLock<BucketLease>,
    /// Two steps that end at once must not both take hold.
    anchoring: Mutex<()>,
}

impl EnvironmentLease {
    /// Takes both, waiting for others as long as `patience` says.
    pub async fn acquire(
        locks: &Path,
        records: Arc<dyn Records>,
        environment: &EnvironmentName,
        holder: &Holder,
        patience: &Patience<'_>,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let local = local(locks, environment, holder, patience).await?;
        let lease = Self {
            environment: environment.clone(),
            holder: holder.clone(),
            local,
            records,
            bucket: OnceLock::new(),
            anchoring: Mutex::new(()),
        };
        let left = patience.limit.saturating_sub(began.elapsed());
        lease.anchor_with(&Patience { limit: left, ..*patience }).await?;
        Ok(lease)
    }

    async fn anchor_with(&self, patience: &Patience<'_>) -> Result<(), Failure> {
        let _turn = self.anchoring.lock().await;
        if self.bucket.get().is_some() || !self.records.exists().await? {
            return Ok(());
        }
        let taken = BucketLease::acquire(self.records.clone(), &self.environment, &self.holder, patience).await?;
        if self.bucket.set(taken).is_err() {
            return Err(Failure::new(FailureKind::Internal, "the lease was taken twice"));
        }
        Ok(())
    }
}

async fn local(locks: &Path, environment: &EnvironmentName, holder: &Holder, patience: &Patience<'_>) -> Result<LocalLease, Failure> {
    let began = Instant::now();
    let mut told = None::<Instant>;
    loop {
        match LocalLease::acquire(locks, environment, holder) {
            Err(failure) if failure.kind == FailureKind::Locked && began.elapsed() < patience.limit => {
                if told.is_none_or(|told| told.elapsed() >= waiting::SILENCE) {
                    (patience.waiting)(format!("{}, for at most {} s", failure.message, patience.limit.as_secs()));
                    told = Some(Instant::now());
                }
            }
            other => return other,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = patience.cancel.cancelled() => {
                return Err(Failure::new(FailureKind::Interrupted, "interrupted while waiting for another process; nothing was changed"));
            }
        }
    }
}

impl Lease for EnvironmentLease {
    fn check(&self) -> Result<(), Failure> {
        // The kernel holds the local lock as long as its file is open.
        self.bucket.get().map_or(Ok(()), BucketLease::check)
    }
    fn heartbeat(&self) -> BoxFuture<'_, Result<(), Failure>> {
        match self.bucket.get() {
            Some(bucket) => bucket.heartbeat(),
            None => futures::future::ready(Ok(())).boxed(),
        }
    }
    fn anchor(&self) -> BoxFuture<'_, Result<(), Failure>> {
        // The run has changed things already: it cannot wait for another one that works on the same.
        let never = tokio_util::sync::CancellationToken::new();
        async move { self.anchor_with(&Patience { limit: Duration::ZERO, cancel: &never, waiting: &|_| {}, now: clock::since_boot }).await }
            .boxed()
    }
    fn records(&self) -> Option<Arc<dyn Records>> {
        self.bucket.get().map(|_| self.records.clone())
    }
    fn number(&self) -> Option<u64> {
        self.bucket.get().map(BucketLease::number)
    }
    fn release(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            if let Some(bucket) = self.bucket.get() {
                bucket.release().await?;
            }
            self.local.release()
        }
        .boxed()
    }
}
