//! The lease of an environment in its state bucket: one object, changed by conditional writes only, so that S3 itself decides who was first.
use std::{
    sync::{Arc, Mutex as Cell, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{BEAT, Holder, LIFE, SAFE, locked};
use crate::{
    aws::s3::{Condition, StoredObject, Written},
    engine::records::Records,
    failure::{Failure, FailureKind},
    ids::EnvironmentName,
    tools::process_record::Liveness,
};

/// Its key in the bucket.
pub const KEY: &str = "deployctl/lease.json";
const FORMAT: &str = "deployctl-lease";
const VERSION: u32 = 1;
/// How often a taken lease is looked at by those who wait for it.
const LOOK: Duration = Duration::from_secs(1);

/// The object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    format: String,
    version: u32,
    /// Grows with every new holder: tells an old one's traces from a new one's.
    pub number: u64,
    /// Who has it; nobody once it was given back.
    pub holder: Option<Holder>,
    /// Tells this taking of the lease from any other, so that a write whose answer was lost is recognised.
    token: String,
    /// Grows with every beat.
    beat: u64,
}

/// How long to wait for a lease that somebody else holds, and what ends the waiting early.
pub struct Patience<'a> {
    /// At most; zero fails at once.
    pub limit: Duration,
    /// Ctrl-C.
    pub cancel: &'a CancellationToken,
    /// Told now and then what is waited for.
    pub waiting: &'a (dyn Fn(String) + Sync),
    /// What the lease is measured by: [`crate::clock::since_boot`], or a test's clock.
    pub now: fn() -> Duration,
}

/// A lease that this process holds.
pub struct BucketLease {
    records: Arc<dyn Records>,
    environment: EnvironmentName,
    number: u64,
    now: fn() -> Duration,
    /// The record as it was written last, and its tag.
    written: Mutex<(LeaseRecord, String)>,
    /// When the last confirmed beat was sent, or why there will be no more.
    confirmed: Cell<Result<Duration, String>>,
}

fn damaged(records: &dyn Records, why: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Preflight, format!("the lease {}/{KEY} cannot be read: {why}", records.place())).next(
        "it was written by another release of deployctl: use that one, or once you know that no apply runs anywhere, delete the object",
    )
}

/// The record and its object; none if the lease was never taken.
pub async fn read(records: &dyn Records) -> Result<Option<(LeaseRecord, StoredObject)>, Failure> {
    let Some(object) = records.read(KEY).await? else { return Ok(None) };
    let record: LeaseRecord = serde_json::from_slice(&object.body).map_err(|error| damaged(records, error))?;
    if (record.format.as_str(), record.version) != (FORMAT, VERSION) {
        return Err(damaged(records, format!("it has format {} {}", record.format, record.version)));
    }
    Ok(Some((record, object)))
}

impl LeaseRecord {
    fn after(found: Option<&Self>, holder: Option<Holder>) -> Self {
        let number = found.map_or(1, |record| record.number + 1);
        let token = uuid::Uuid::now_v7().to_string();
        Self { format: FORMAT.to_owned(), version: VERSION, number, holder, token, beat: 0 }
    }
    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self).map_err(|error| Failure::new(FailureKind::Internal, "the lease is not JSON").because(error))
    }
}

/// Writes a record; the new tag, or none if another was faster. A write whose answer was lost is told from a refused one by its token.
/// `limit` is for each of its two calls: with one for both, a slow bucket that lost one answer would leave no time to find out, ever.
async fn write(records: &dyn Records, record: &LeaseRecord, condition: Condition, limit: Duration) -> Result<Option<String>, Failure> {
    let late = |what: &str| Failure::timeout(format!("{what} {KEY} in {}", records.place()), limit);
    let written = tokio::time::timeout(limit, records.write(KEY, record.bytes()?, condition)).await;
    if let Written::Done { etag } = written.unwrap_or_else(|_elapsed| Err(late("writing")))? {
        return Ok(Some(etag));
    }
    let there = tokio::time::timeout(limit, read(records)).await.unwrap_or_else(|_elapsed| Err(late("reading")))?;
    Ok(there.filter(|(found, _)| found == record).map(|(_, object)| object.etag))
}

impl BucketLease {
    /// Takes the lease: a free one, one whose holder is dead, or, with patience, one that is given back in time.
    pub async fn acquire(
        records: Arc<dyn Records>,
        environment: &EnvironmentName,
        holder: &Holder,
        patience: &Patience<'_>,
    ) -> Result<Self, Failure> {
        let began = (patience.now)();
        let mut told = None::<Duration>;
        // The tag that was seen first, and when: an object that S3 gives no age is watched instead.
        let mut seen: Option<(String, Duration)> = None;
        loop {
            let sent = (patience.now)();
            let found = read(&*records).await?;
            let current = found.as_ref().and_then(|(record, object)| Some((record.holder.as_ref()?, object)));
            let Some((other, object)) = current.filter(|(other, object)| !has_ended(other, object, &mut seen, sent)) else {
                let condition = found.as_ref().map_or(Condition::Absent, |(_, object)| Condition::Unchanged { etag: object.etag.clone() });
                let record = LeaseRecord::after(found.as_ref().map(|(record, _)| record), Some(holder.clone()));
                if let Some(etag) = write(&*records, &record, condition, SAFE).await? {
                    let (number, environment) = (record.number, environment.clone());
                    let (written, confirmed) = (Mutex::new((record, etag)), Cell::new(Ok(sent)));
                    return Ok(Self { records, environment, number, now: patience.now, written, confirmed });
                }
                // Somebody was faster; who that is shows in the next look.
                continue;
            };
            if sent.saturating_sub(began) >= patience.limit {
                return Err(locked(environment, Some(other)).evidence(format!(
                    "its last sign of life is {} s old; without one it ends after {} s",
                    seconds(object),
                    LIFE.as_secs()
                )));
            }
            if told.is_none_or(|told| sent.saturating_sub(told) >= Duration::from_secs(10)) {
                (patience.waiting)(format!("the lease of {environment}, held by {other}, for at most {} s", patience.limit.as_secs()));
                told = Some(sent);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK.min(patience.limit)) => {}
                () = patience.cancel.cancelled() => {
                    return Err(Failure::new(FailureKind::Interrupted, format!("interrupted while waiting for {other}; nothing was changed")));
                }
            }
        }
    }

    /// The growing number.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn confirmed(&self) -> std::sync::MutexGuard<'_, Result<Duration, String>> {
        // Nothing under this lock can panic half-way.
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is still held, by the clock of this machine alone.
    pub fn check(&self) -> Result<(), Failure> {
        let lost = |why: &str| {
            Failure::new(FailureKind::Locked, format!("the lease of {} was lost: {why}", self.environment))
                .next(format!("deployctl status -e {}", self.environment))
                .next("run the same command again once nobody else works on it: it goes on from the journal")
        };
        match &*self.confirmed() {
            Err(why) => Err(lost(why)),
            Ok(at) => {
                let silent = (self.now)().saturating_sub(*at);
                if silent < SAFE {
                    return Ok(());
                }
                Err(lost(&format!(
                    "it was last confirmed {} s ago, and after {} s somebody else may take it",
                    silent.as_secs(),
                    LIFE.as_secs()
                )))
            }
        }
    }

    /// Says that this process lives. Lost answers are borne until [`SAFE`] is over; a taken lease is lost at once.
    pub fn heartbeat(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            let mut written = self.written.lock().await;
            let sent = (self.now)();
            let mut next = written.0.clone();
            next.beat += 1;
            // One call that hangs must not use up the time in which others would get through. If it arrives all the same, the next one, which
            // says the same, recognises it.
            match write(&*self.records, &next, Condition::Unchanged { etag: written.1.clone() }, BEAT).await {
                Ok(Some(etag)) => {
                    *written = (next, etag);
                    *self.confirmed() = Ok(sent);
                    Ok(())
                }
                Ok(None) => {
                    let by = read(&*self.records).await.ok().flatten().and_then(|(record, _)| record.holder);
                    let by = by.map_or_else(|| "somebody else has held it since".to_owned(), |holder| format!("{holder} has taken it"));
                    *self.confirmed() = Err(by);
                    self.check()
                }
                Err(failure) => {
                    tracing::warn!("the lease could not be confirmed: {}", failure.chain().join(": "));
                    self.check().map_err(|lost| lost.because(failure))
                }
            }
        }
        .boxed()
    }

    /// Gives it back. One that was taken meanwhile is left alone.
    pub fn release(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            let mut written = self.written.lock().await;
            let mut free = written.0.clone();
            free.holder = None;
            if let Some(etag) = write(&*self.records, &free, Condition::Unchanged { etag: written.1.clone() }, SAFE).await? {
                *written = (free, etag);
            }
            *self.confirmed() = Err("it was given back".to_owned());
            Ok(())
        }
        .boxed()
    }
}

fn seconds(object: &StoredObject) -> u64 {
    object.age.unwrap_or_default().as_secs()
}

/// Whether the holder can be proven dead on this machine, or has been silent for longer than a lease lives: by the clock of S3, which wrote
/// the object, or else by watching it for that long.
fn has_ended(holder: &Holder, object: &StoredObject, seen: &mut Option<(String, Duration)>, now: Duration) -> bool {
    if holder.liveness() == Liveness::Dead {
        return true;
    }
    if object.age.is_some_and(|age| age >= LIFE) {
        return true;
    }
    match seen {
        Some((etag, since)) if *etag == object.etag => now.saturating_sub(*since) >= LIFE,
        _ => {
            *seen = Some((object.etag.clone(), now));
            false
        }
    }
}

const _: () = assert!(BEAT.as_secs() * 5 <= SAFE.as_secs() && SAFE.as_secs() + 5 <= LIFE.as_secs() && LIFE.as_secs() < 30);

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
