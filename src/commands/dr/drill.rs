//! `dr drill`: a restore under a throw-away name, measured, deleted again, kept as a result. Whatever a killed drill left goes with the next one.
use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{DRILL, answer::Answer, restore, subject};
use crate::{
    aws::{Aws, recovery::Wanted, s3::Condition},
    cli::{DrDrillArgs, Globals},
    clock,
    commands::session::{Purpose, Session},
    engine::records::{PREFIX, Records},
    failure::{Failure, FailureKind, LeftBehind, exit},
    ids::{DbInstanceId, EnvironmentName, Region},
    ui::Ui,
};

/// For an instance to be gone, on the busiest day.
const GONE: Duration = Duration::from_secs(3600);
/// So many results are looked through for the last good one.
const RESULTS: usize = 50;

/// What is kept of a drill, in the DR region's bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drilled {
    /// When it ended.
    pub at: jiff::Timestamp,
    /// Whether the database came back within the limits that were given, and went again.
    pub good: bool,
    /// Seconds from its beginning until the database was there; none if it did not come.
    pub rto_seconds: Option<f64>,
    /// Seconds that were lost at most.
    pub rpo_seconds_at_most: i64,
    /// What it was restored from.
    pub point: String,
}

fn folder() -> String {
    format!("{PREFIX}drills/")
}

/// Restores, measures, deletes, keeps.
pub async fn run(args: DrDrillArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let subject = subject(globals, DRILL, BTreeMap::from([("point", json!(Wanted::Latest))]))?;
    let name = subject.definition.environment.name.clone();
    let mut session = Session::open_on(globals, subject, Purpose::Resume("dr drill"), ui).await?;
    let result = in_session(&mut session, &args, globals, ui).await;
    if result.is_ok() {
        session.tidy();
    }
    session.end(result).await.map_err(|failure| failure.in_environment(&name))
}

async fn in_session(session: &mut Session, args: &DrDrillArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let name = session.work.definition.environment.name.clone();
    let prefix = DbInstanceId::parse(format!("deployctl-{name}-drill")).map_err(|e| Failure::usage("the drill's name").because(e))?;
    // A drill that goes on keeps what it has made so far.
    if !session.history.runs.iter().any(|run| run.header.run == session.run) {
        sweep(&session.work.aws, &prefix, ui).await?;
    }
    let restored = restore::carried_out(session, &Wanted::Latest, &prefix, "deployctl dr drill", &args.limits, globals, ui).await;
    if restored.as_ref().is_err_and(|failure| failure.kind == FailureKind::Interrupted) {
        return restored.map(|_| exit::DONE);
    }
    // Also what could not be verified is thrown away: it costs as much as a good one.
    let swept = sweep(&session.work.aws, &prefix, ui).await;
    let answer = restored?;
    let limits = answer.within_limits();
    let drilled = drilled(&answer, limits.is_ok() && swept.is_ok());
    keep(&*session.records, &answer, &drilled).await?;
    if let Some(file) = &args.metrics {
        write(file, &metrics(&name, session.work.aws.region(), &drilled))?;
    }
    swept?;
    limits.map(|()| exit::DONE)
}

fn drilled(answer: &Answer, good: bool) -> Drilled {
    Drilled {
        at: clock::now(),
        good,
        rto_seconds: answer.rto.as_ref().map(|rto| rto.seconds),
        rpo_seconds_at_most: answer.rpo.seconds,
        point: answer.point.clone(),
    }
}

/// Deletes every instance that a drill has made.
async fn sweep(aws: &Aws, prefix: &DbInstanceId, ui: &Ui) -> Result<(), Failure> {
    let began = tokio::time::Instant::now();
    for id in aws.drilled(prefix).await? {
        ui.note(&format!("deleting {id}, which a drill has made"));
        let left = |failure: Failure| {
            failure.left(LeftBehind::Partial(vec![format!("db_instance {id}")])).next("deployctl dr drill deletes it first")
        };
        while !aws.delete_drilled(&id).await.map_err(left)? {
            if began.elapsed() > GONE {
                return Err(left(Failure::timeout(format!("instance {id} to be gone"), GONE)));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

async fn keep(records: &dyn Records, answer: &Answer, drilled: &Drilled) -> Result<(), Failure> {
    let body = serde_json::to_vec(drilled).map_err(|e| Failure::new(FailureKind::Internal, "the drill's result").because(e))?;
    records.write(&format!("{}{}.json", folder(), answer.run), body, Condition::None).await.map(drop)
}

/// The newest good drill; none if there was none among the last.
pub(super) async fn last_good(records: &dyn Records) -> Result<Option<Drilled>, Failure> {
    for object in records.list(&folder()).await?.iter().rev().take(RESULTS) {
        let Some(found) = records.read(&object.key).await? else { continue };
        let drilled: Drilled = serde_json::from_slice(&found.body)
            .map_err(|e| Failure::step(format!("the drill's result {}/{} cannot be read", records.place(), object.key)).because(e))?;
        if drilled.good {
            return Ok(Some(drilled));
        }
    }
    Ok(None)
}

/// Prometheus' text format. A drill that failed leaves the last good one's time as it was: it is not written here.
fn metrics(environment: &EnvironmentName, region: &Region, drilled: &Drilled) -> String {
    let labels = format!("environment=\"{environment}\",region=\"{region}\"");
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: f64| {
        text += &format!(
            "# HELP deployctl_drill_{name} {help}\n# TYPE deployctl_drill_{name} gauge\ndeployctl_drill_{name}{{{labels}}} {value}\n"
        );
    };
    gauge("success", "Whether the last drill was good.", f64::from(u8::from(drilled.good)));
    if drilled.good {
        #[allow(clippy::cast_precision_loss, reason = "a time in seconds, as Prometheus has it")]
        gauge("last_success_timestamp_seconds", "When the last good drill ended.", drilled.at.as_second() as f64);
    }
    if let Some(rto) = drilled.rto_seconds {
        gauge("rto_seconds", "From the drill's beginning until the database was there.", rto);
    }
    #[allow(clippy::cast_precision_loss, reason = "a time in seconds, as Prometheus has it")]
    gauge("rpo_bound_seconds", "What was lost at most.", drilled.rpo_seconds_at_most as f64);
    text
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|e| Failure::step(format!("the drill's metrics cannot be written to {}", file.display())).because(e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_failed_drill_is_not_told_as_a_good_one() {
        let (name, region) = (EnvironmentName::parse("sandbox").unwrap(), Region::parse("eu-west-1").unwrap());
        let at = "2026-11-29T03:00:00Z".parse().unwrap();
        let good = Drilled { at, good: true, rto_seconds: Some(12.5), rpo_seconds_at_most: 4, point: "at:x".into() };
        let text = metrics(&name, &region, &good);
        assert!(
            text.contains("deployctl_drill_last_success_timestamp_seconds{environment=\"sandbox\",region=\"eu-west-1\"} 1795921200\n"),
            "{text}"
        );
        assert!(text.contains("deployctl_drill_rto_seconds{environment=\"sandbox\",region=\"eu-west-1\"} 12.5\n"), "{text}");
        let failed = metrics(&name, &region, &Drilled { good: false, ..good });
        assert!(
            failed.contains("deployctl_drill_success{environment=\"sandbox\",region=\"eu-west-1\"} 0\n")
                && !failed.contains("last_success"),
            "{failed}"
        );
    }
}
