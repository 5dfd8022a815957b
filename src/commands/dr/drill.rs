//! `dr drill`: a restore under a throw-away name, measured, deleted again, kept as a result. Whatever a killed drill left goes with the next one,
//! or with `--clean`.
use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::json;

use super::{DRILL, answer::Answer, restore, subject};
use crate::{
    aws::{Aws, recovery::Wanted},
    cli::{DrDrillArgs, Globals},
    clock,
    commands::session::{Purpose, Session},
    engine::{
        drills::{self, Drilled},
        journal::{Entry, Journal},
    },
    failure::{Failure, FailureKind, LeftBehind, exit},
    ids::{DbInstanceId, EnvironmentName, RunId},
    ui::{Output, Ui},
};

/// For an instance to be gone, on the busiest day.
const GONE: Duration = Duration::from_secs(3600);

/// Restores, measures, deletes, keeps; or only deletes what an earlier one has left.
pub async fn run(args: DrDrillArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let subject = subject(globals, DRILL, BTreeMap::from([("point", json!(Wanted::Latest))]))?;
    let name = subject.definition.environment.name.clone();
    let purpose = if args.clean { Purpose::Once("dr drill --clean") } else { Purpose::GoOn("dr drill", restore::LATELY) };
    let mut session = Session::open_on(globals, subject, purpose, ui).await?;
    let result = if args.clean { clean(&session, ui).await } else { in_session(&mut session, &args, globals, ui).await };
    if result.is_ok() {
        session.tidy();
    }
    session.end(result).await.map_err(|failure| failure.in_environment(&name))
}

/// What names of instances begin with that drills make.
pub(super) fn prefix(name: &EnvironmentName) -> Result<DbInstanceId, Failure> {
    DbInstanceId::parse(format!("deployctl-{name}-drill")).map_err(|e| Failure::usage("the drill's name").because(e))
}

async fn in_session(session: &mut Session, args: &DrDrillArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let name = session.work.definition.environment.name.clone();
    let prefix = prefix(&name)?;
    // A drill that goes on keeps what it has made so far.
    if !session.history.runs.iter().any(|run| run.header.run == session.run) {
        sweep(&session.work.aws, &prefix, ui).await?;
    }
    let restored = restore::carried_out(session, &Wanted::Latest, &prefix, "deployctl dr drill", &args.limits, globals, ui).await;
    // A wish of somebody's, or somebody else's turn, says nothing about restores.
    const NO_RESULT: [FailureKind; 3] = [FailureKind::Interrupted, FailureKind::Locked, FailureKind::Usage];
    if restored.as_ref().is_err_and(|failure| NO_RESULT.contains(&failure.kind)) {
        return restored.map(|_| exit::DONE);
    }
    // Also what could not be verified is thrown away: it costs as much as a good one.
    let swept = sweep(&session.work.aws, &prefix, ui).await.map(drop);
    let result = restored.map(|answer| (answer.within_limits().and(swept), answer));
    let drilled = match &result {
        Ok((Ok(()), answer)) => of(&session.run, Some(answer), None),
        Ok((Err(failure), answer)) => of(&session.run, Some(answer), Some(failure)),
        Err(failure) => of(&session.run, None, Some(failure)),
    };
    let kept = keep(session, args, &drilled).await;
    match result {
        Ok((Ok(()), _)) => kept.map(|()| exit::DONE),
        Ok((Err(failure), _)) | Err(failure) => Err(unless_kept(failure, kept)),
    }
}

/// Why a drill was not good says more than that its result could not be kept.
fn unless_kept(mut failure: Failure, kept: Result<(), Failure>) -> Failure {
    if let Err(unkept) = kept {
        failure.evidence.push(format!("and its result was not kept: {}", unkept.chain().join(": ")));
    }
    failure
}

fn of(run: &RunId, answer: Option<&Answer>, failure: Option<&Failure>) -> Drilled {
    Drilled {
        run: Some(run.clone()),
        at: clock::now(),
        good: failure.is_none(),
        rto_seconds: answer.and_then(|answer| answer.rto.as_ref()).map(|rto| rto.seconds),
        rpo_seconds_at_most: answer.map(|answer| answer.rpo.seconds),
        point: answer.map(|answer| answer.point.clone()),
        why: failure.map(|failure| failure.message.clone()),
    }
}

async fn keep(session: &Session, args: &DrDrillArgs, drilled: &Drilled) -> Result<(), Failure> {
    let records = &*session.records;
    drills::keep(records, &session.run, drilled).await?;
    let Some(file) = &args.metrics else { return Ok(()) };
    let environment = &session.work.definition.environment;
    write(file, &drills::metrics(&environment.name, &environment.aws.region, &drills::read(records, 1).await?))
}

/// Deletes every instance that a drill has made, and says which.
async fn sweep(aws: &Aws, prefix: &DbInstanceId, ui: &Ui) -> Result<Vec<DbInstanceId>, Failure> {
    let began = tokio::time::Instant::now();
    let found = aws.drilled(prefix).await?;
    for id in &found {
        ui.note(&format!("deleting {id}, which a drill has made"));
        let left = |failure: Failure| {
            failure.left(LeftBehind::Partial(vec![format!("db_instance {id}")])).next("deployctl dr drill --clean deletes it")
        };
        while !aws.delete_drilled(id).await.map_err(left)? {
            if began.elapsed() > GONE {
                return Err(left(Failure::timeout(format!("instance {id} to be gone"), GONE)));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(found)
}

/// Nobody is at a drill just now: the lease is ours. What there is was left by one that died.
async fn clean(session: &Session, ui: &Ui) -> Result<u8, Failure> {
    let deleted = sweep(&session.work.aws, &prefix(&session.work.definition.environment.name)?, ui).await?;
    give_up(session).await?;
    match ui.output {
        Output::Json => ui.json(&json!({ "deleted": deleted }))?,
        Output::Human if deleted.is_empty() => ui.data("no drill has left anything\n")?,
        Output::Human => deleted.iter().try_for_each(|id| ui.data(&format!("deleted db_instance {id}\n")))?,
    }
    Ok(exit::DONE)
}

/// The drill that was killed has ended, so that the next one is not taken for its second half.
async fn give_up(session: &Session) -> Result<(), Failure> {
    let ours = |run: &&crate::engine::journal::RunRecord| run.header.definition == session.work.definition.digest;
    let Some(run) = session.history.unfinished().filter(ours).filter(|run| run.finished.is_none()) else { return Ok(()) };
    let (lease, _) = session.held()?;
    let journal = Journal::resume(&session.state.run(&session.work.definition.environment.name, &run.header.run))?;
    journal.append(&Entry::Finished { succeeded: false })?;
    journal.mirror_with(lease, &session.work.events).await?;
    journal.end().await
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|e| Failure::step(format!("the drill's metrics cannot be written to {}", file.display())).because(e))
}
