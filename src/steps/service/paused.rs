//! A snapshot with writes paused: an agent locks every table until it is there, and what each holds is kept beside it, where the region that it is
//! copied to can read it. A restore of it is held against that.
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::{Snapshot, snapshot::available};
use crate::{
    aws::{rds::DbSnapshot, s3::Condition},
    clock,
    cluster::{Cluster, PodSettings},
    database::audit::Record,
    engine::records::{BucketRecords, Records},
    failure::{Failure, FailureKind, LeftBehind},
    ids::SnapshotId,
    steps::{
        StepContext,
        inside::{Address, Inside},
        verification::{Kept, record_key},
    },
};

/// For an agent that was told to end to say that it held its locks until then.
const LAST_WORD: Duration = Duration::from_secs(20);

/// Who pauses writes.
pub struct Pause<'a> {
    /// Where the agent runs.
    pub cluster: &'a Cluster,
    /// As whom.
    pub pod: &'a PodSettings,
    /// The ConfigMap beside it whose `ca.pem` signs the database's certificate.
    pub ca_config_map: &'a str,
    /// Nobody is kept from writing for longer.
    pub limit: Duration,
}

/// What the agent says.
enum Said {
    Held,
    Record(Box<Record>),
}

fn heard(line: &str) -> Option<Said> {
    let mut said = serde_json::from_str::<Value>(line).ok()?;
    match said.get_mut("record").map(Value::take) {
        Some(record) => serde_json::from_value(record).ok().map(|record| Said::Record(Box::new(record))),
        None => (said["held"] == true).then_some(Said::Held),
    }
}

/// Takes the snapshot while nobody can write.
pub async fn taken(
    cx: &StepContext,
    pause: &Pause<'_>,
    snapshot: &Snapshot,
    id: &SnapshotId,
    taking: impl Future<Output = Result<DbSnapshot, Failure>>,
) -> Result<DbSnapshot, Failure> {
    if cx.aws.db_snapshot(id).await?.is_some() {
        cx.progress(format!("snapshot {id} was begun before: what is written now is not what it holds, and nothing is taken down for it"));
        return taking.await;
    }
    let address = Address::of(&cx.aws, &snapshot.instance).await?.ok_or_else(|| {
        let what = format!("writes to {} cannot be paused: it has no address, or no secret of RDS' own", snapshot.instance);
        Failure::new(FailureKind::Preflight, what)
    })?;
    available(cx, snapshot, Duration::from_secs(snapshot.deadline_seconds)).await?;
    let inside = Inside { cx, cluster: pause.cluster, pod: pause.pod, ca_config_map: pause.ca_config_map, address: &address };
    let limit = ["--seconds".to_owned(), pause.limit.as_secs().to_string()];
    let job = inside.job("hold-writes", &limit, pause.limit + Duration::from_secs(60));
    // One that a dead run has left would be waited for.
    pause.cluster.forget_older(&job).await?;
    let (say, mut said) = mpsc::unbounded_channel();
    let holding = pause.cluster.run_job(&job, |line| {
        if let Some(heard) = heard(line) {
            // Nobody listens any more once the snapshot has failed.
            drop(say.send(heard));
        }
    });
    let mut holding = std::pin::pin!(holding);
    let working = async {
        let silent = || Failure::step("the agent that was to pause writes said something else");
        let started = tokio::time::Instant::now();
        let waiting = async { said.recv().await.filter(|said| matches!(said, Said::Held)).ok_or_else(silent) };
        cx.wait_until("writes to be paused", pause.limit, waiting).await?;
        cx.checked("writes are paused", started.elapsed());
        let taken = taking.await?;
        let waiting = async {
            match said.recv().await {
                Some(Said::Record(record)) => Ok(record),
                _ => Err(silent()),
            }
        };
        let record = cx.wait_until("every table to be read", pause.limit, waiting).await?;
        Ok((taken, record))
    };
    let worked = tokio::select! {
        ended = &mut holding => Err(ended.err().unwrap_or_else(|| Failure::step("writes were paused no longer before the snapshot was there"))),
        worked = working => worked,
    };
    // Whatever came of it: nobody is kept from writing any longer.
    let ended = pause.cluster.end_job(&job).await;
    let (taken, record) = match worked {
        Ok(worked) => worked,
        Err(failure) => return Err(with_snapshot(cx, id, failure).await),
    };
    ended?;
    match tokio::time::timeout(LAST_WORD, holding).await {
        Ok(Ok(_held)) => keep(cx, id, *record).await?,
        Ok(Err(failure)) => unproven(cx, id, &failure.message),
        Err(_late) => unproven(cx, id, "the agent's last word did not arrive"),
    }
    Ok(taken)
}

/// The failure, with the snapshot that was begun before it.
async fn with_snapshot(cx: &StepContext, id: &SnapshotId, failure: Failure) -> Failure {
    if failure.left_behind != LeftBehind::Nothing {
        return failure;
    }
    match cx.aws.db_snapshot(id).await {
        Ok(None) => failure,
        Ok(Some(_)) => failure.left(LeftBehind::Partial(vec![format!("snapshot {id}")])),
        Err(_unknown) => failure.left(LeftBehind::Partial(vec![format!("snapshot {id}, if it was begun")])),
    }
}

fn unproven(cx: &StepContext, id: &SnapshotId, why: &str) {
    cx.progress(format!("nothing is kept for snapshot {id}: it is not known that writes were paused all the time ({why})"));
}

async fn keep(cx: &StepContext, id: &SnapshotId, record: Record) -> Result<(), Failure> {
    let started = tokio::time::Instant::now();
    let records = BucketRecords::in_dr_region(&cx.aws, &cx.environment)?;
    let tables = record.tables.as_ref().map_or(0, std::collections::BTreeMap::len);
    let kept = serde_json::to_vec(&Kept { at: clock::now(), record });
    let body = kept.map_err(|e| Failure::new(FailureKind::Internal, "the record of a snapshot").because(e))?;
    records.write(&record_key(id), body, Condition::None).await?;
    cx.checked(format!("what {tables} tables hold is kept in {} beside snapshot {id}", records.place()), started.elapsed());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_agents_words_are_told_apart() {
        assert!(matches!(heard("{\"held\":true}"), Some(Said::Held)));
        let record = serde_json::json!({ "record": Record::default() }).to_string();
        assert!(matches!(heard(&record), Some(Said::Record(_))));
        assert!(heard("{\"result\":{\"held\":true}}").is_none() && heard("connected").is_none());
    }
}
