//! Results of drills: records in the DR region's bucket, which tell whether a restore works, how long it takes and when that was last tried.
use futures::future;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::{PREFIX, Records};
use crate::{
    aws::s3::Condition,
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, Region, RunId},
};

/// So many results are looked through for the last good one.
const RESULTS: usize = 50;
/// Read at once.
const PARALLEL: usize = 8;

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drilled {
    /// Its run; results that were kept before it was written down have none.
    #[serde(default)]
    pub run: Option<RunId>,
    /// When it ended.
    pub at: Timestamp,
    /// Whether the database came back within the limits that were given, and went again.
    pub good: bool,
    /// Seconds from its beginning until the database was there; none if it did not come.
    #[serde(default)]
    pub rto_seconds: Option<f64>,
    /// Seconds that were lost at most; none if nothing was restored.
    #[serde(default)]
    pub rpo_seconds_at_most: Option<i64>,
    /// What it was restored from; none if nothing was.
    #[serde(default)]
    pub point: Option<String>,
    /// Why it was not good.
    #[serde(default)]
    pub why: Option<String>,
}

/// Results, as far as anybody asks for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drills {
    /// The newest first.
    pub newest: Vec<Drilled>,
    /// The newest that was good, however many were not since.
    pub last_good: Option<Drilled>,
}

fn folder() -> String {
    format!("{PREFIX}drills/")
}

/// Keeps a result. A run has one: the same one again, if an answer was lost.
pub async fn keep(records: &dyn Records, run: &RunId, drilled: &Drilled) -> Result<(), Failure> {
    let body = serde_json::to_vec(drilled).map_err(|e| Failure::new(FailureKind::Internal, "the drill's result").because(e))?;
    records.write(&format!("{}{run}.json", folder()), body, Condition::None).await.map(drop)
}

/// So many of the newest results, and the last good one. One that cannot be read is passed over: nobody shall miss the others for it at night.
pub async fn read(records: &dyn Records, newest: usize) -> Result<Drills, Failure> {
    // Their names are the runs' ids, which sort by time.
    let listed = records.list(&folder()).await?;
    let keys: Vec<&str> = listed.iter().rev().take(RESULTS).map(|object| object.key.as_str()).collect();
    let mut found = Drills::default();
    for some in keys.chunks(PARALLEL) {
        for drilled in future::try_join_all(some.iter().map(|key| one(records, key))).await?.into_iter().flatten() {
            if found.last_good.is_none() && drilled.good {
                found.last_good = Some(drilled.clone());
            }
            if found.newest.len() < newest {
                found.newest.push(drilled);
            }
        }
        if found.last_good.is_some() && found.newest.len() >= newest {
            break;
        }
    }
    Ok(found)
}

async fn one(records: &dyn Records, key: &str) -> Result<Option<Drilled>, Failure> {
    let Some(object) = records.read(key).await? else { return Ok(None) };
    match serde_json::from_slice(&object.body) {
        Ok(drilled) => Ok(Some(drilled)),
        Err(error) => {
            tracing::warn!("the drill's result {}/{key} cannot be read: {error}", records.place());
            Ok(None)
        }
    }
}

/// For Prometheus, in its text format. Without any good drill the last one was at the beginning of time: what was never tried is overdue too.
pub fn metrics(environment: &EnvironmentName, region: &Region, drills: &Drills) -> String {
    let mut text = String::new();
    let mut gauge =
        |name: &str, help: &str, value: f64| text += &gauge(environment, region, &format!("deployctl_drill_{name}"), help, value);
    if let Some(last) = drills.newest.first() {
        gauge("success", "Whether the last drill was good.", f64::from(u8::from(last.good)));
    }
    let good = drills.last_good.as_ref();
    gauge("last_success_timestamp_seconds", "When the last good drill ended; 0 if there was none.", seconds(good.map(|drill| drill.at)));
    if let Some(rto) = good.and_then(|drill| drill.rto_seconds) {
        gauge("rto_seconds", "From the last good drill's beginning until the database was there.", rto);
    }
    #[allow(clippy::cast_precision_loss, reason = "a time in seconds, as Prometheus has it")]
    if let Some(rpo) = good.and_then(|drill| drill.rpo_seconds_at_most) {
        gauge("rpo_bound_seconds", "What the last good drill had lost at most.", rpo as f64);
    }
    text
}

/// One of them, as Prometheus reads it.
pub fn gauge(environment: &EnvironmentName, region: &Region, name: &str, help: &str, value: f64) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{environment=\"{environment}\",region=\"{region}\"}} {value}\n")
}

/// A moment, as Prometheus has it; without one, the beginning of time.
#[allow(clippy::cast_precision_loss, reason = "a time in seconds, as Prometheus has it")]
pub fn seconds(at: Option<Timestamp>) -> f64 {
    at.map_or(0.0, |at| at.as_second() as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::engine::records::memory::MemoryRecords;

    fn drilled(at: &str, good: bool) -> Drilled {
        let why = (!good).then(|| "no capacity".to_owned());
        Drilled {
            run: None,
            at: at.parse().unwrap(),
            good,
            rto_seconds: good.then_some(12.5),
            rpo_seconds_at_most: good.then_some(4),
            point: None,
            why,
        }
    }

    fn told(drills: &Drills) -> String {
        metrics(&EnvironmentName::parse("sandbox").unwrap(), &Region::parse("eu-west-1").unwrap(), drills)
    }

    #[tokio::test]
    async fn the_last_good_one_is_found_behind_any_number_of_bad_ones() {
        let records = MemoryRecords::default();
        assert_eq!(read(&records, 5).await.unwrap(), Drills::default());
        for number in 0..20 {
            let run = RunId::parse(format!("0198f9c0-0000-7000-8000-0000000000{number:02}")).unwrap();
            let result = drilled(&format!("2026-11-{:02}T03:00:00Z", number + 1), number == 3);
            keep(&records, &run, &result).await.unwrap();
            keep(&records, &run, &result).await.unwrap();
        }
        records.put("deployctl/drills/0198f9c0-0000-7000-8000-000000000099.json", "{torn");
        let found = read(&records, 5).await.unwrap();
        assert_eq!(found.newest.len(), 5);
        assert_eq!(found.newest[0].at, "2026-11-20T03:00:00Z".parse().unwrap(), "the newest first, without the torn one");
        assert_eq!(found.last_good, Some(drilled("2026-11-04T03:00:00Z", true)));
    }

    #[tokio::test]
    async fn what_was_kept_by_an_earlier_deployctl_is_read() {
        let records = MemoryRecords::default();
        let text = r#"{"at":"2026-11-01T03:00:00Z","good":true,"rto_seconds":9.0,"rpo_seconds_at_most":3,"point":"at:x"}"#;
        records.put("deployctl/drills/0198f9c0-0000-7000-8000-000000000000.json", text);
        let found = read(&records, 1).await.unwrap();
        assert_eq!(found.last_good.unwrap().rpo_seconds_at_most, Some(3));
    }

    #[test]
    fn a_failed_drill_does_not_make_the_last_good_one_younger() {
        let good = drilled("2026-11-29T03:00:00Z", true);
        let text = told(&Drills { newest: vec![drilled("2026-11-30T03:00:00Z", false)], last_good: Some(good) });
        let line = |name: &str, value: &str| format!("deployctl_drill_{name}{{environment=\"sandbox\",region=\"eu-west-1\"}} {value}\n");
        for (name, value) in
            [("success", "0"), ("last_success_timestamp_seconds", "1795921200"), ("rto_seconds", "12.5"), ("rpo_bound_seconds", "4")]
        {
            assert!(text.contains(&line(name, value)), "{name}: {text}");
        }
        let never = told(&Drills::default());
        assert!(never.contains(&line("last_success_timestamp_seconds", "0")), "never is older than any limit: {never}");
        assert!(!never.contains("deployctl_drill_success") && !never.contains("rto"), "{never}");
    }
}
