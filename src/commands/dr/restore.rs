//! `dr restore`: one command at three in the morning. What it decided is in the journal, so that the same command goes on with it.
use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{RESTORE, answer, attempted, source, subject};
use crate::{
    aws::recovery::Wanted,
    cli::{DrLimits, DrRestoreArgs, Globals},
    clock,
    commands::session::{Purpose, Session},
    engine::{
        journal::{self, RunRecord},
        status::Status,
        timeline,
    },
    failure::{Failure, FailureKind, exit},
    ids::{DbInstanceId, StepId},
    plan::Plan,
    steps::restore::{
        DECISION, Decision,
        choice::{Chosen, age_seconds},
    },
    ui::{Output, Ui},
};

/// The step of plans/restore-rds.yaml that makes the database.
const DATABASE: &str = "database";
/// So many of the newest restores say how long one takes.
const EARLIER: usize = 5;
/// As long as an instance may take at most: a run that stopped longer ago is not gone on with at its point.
pub(super) const LATELY: SignedDuration = SignedDuration::from_hours(6);

fn wanted(args: &DrRestoreArgs) -> Wanted {
    match (&args.snapshot, args.at) {
        (Some(id), _) => Wanted::Snapshot(id.clone()),
        (None, Some(at)) => Wanted::At(at),
        (None, None) => Wanted::Latest,
    }
}

/// The command that goes on with this one.
fn again(args: &DrRestoreArgs) -> String {
    let point = match wanted(args) {
        Wanted::Latest => "--latest".to_owned(),
        Wanted::Snapshot(id) => format!("--snapshot {id}"),
        Wanted::At(at) => format!("--at {at}"),
    };
    format!("deployctl dr restore --to {} {point}", args.to)
}

/// Plans, asks, restores, says what came of it.
pub async fn run(args: DrRestoreArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let subject = subject(globals, RESTORE, BTreeMap::from([("point", json!(wanted(&args)))]))?;
    let environment = &subject.definition.environment;
    let name = environment.name.clone();
    if args.to != environment.aws.region {
        return Err(Failure::usage(format!("{name} is restored in {}: nothing of it is kept in {}", environment.aws.region, args.to))
            .next(format!("deployctl dr restore --to {}", environment.aws.region)));
    }
    let mut session = Session::open_on(globals, subject, Purpose::Resume("dr restore"), ui).await?;
    let result = in_session(&mut session, &args, globals, ui).await;
    if result.is_ok() {
        session.tidy();
    }
    session.end(result).await.map_err(|failure| failure.in_environment(&name))
}

async fn in_session(session: &mut Session, args: &DrRestoreArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    if !session.records.exists().await? {
        let place = session.records.place();
        ui.note(&format!(
            "warning: {place} is not there, so that only this machine can go on with the restore, and no other one is kept out"
        ));
    }
    let prefix = session.work.definition.environment.db_instance_id();
    let prefix = prefix.map_err(|e| Failure::usage("the restored database's name").because(e))?;
    let answer = carried_out(session, &wanted(args), &prefix, &again(args), &args.limits, globals, ui).await?;
    answer.within_limits().map(|()| exit::DONE)
}

/// Restores and tells what came of it, on the terminal and in two files.
pub(super) async fn carried_out(
    session: &mut Session,
    wanted: &Wanted,
    prefix: &DbInstanceId,
    again: &str,
    limits: &DrLimits,
    globals: &Globals,
    ui: &Ui,
) -> Result<answer::Answer, Failure> {
    recall(session, wanted, prefix, limits)?;
    let source = source::before(session, limits.verify, globals, ui).await?;
    let (plan, ended, mut failure) = attempted(session, again, globals, ui).await?;
    if let Some(failure) = failure.take_if(|failure| failure.kind != FailureKind::Verification) {
        return Err(failure);
    }
    let text = std::fs::read_to_string(&ended.journal).map_err(|error| {
        Failure::step(format!("the database is restored, but its journal {} cannot be read", ended.journal.display())).because(error)
    })?;
    let (record, _) = journal::read_text(text.as_bytes(), &ended.journal)?;
    // One that was looked into and is not what it was has a report all the same.
    if let Some(failure) = failure.take_if(|_| answer::verified(&record).is_none()) {
        return Err(failure);
    }
    let answer = answer::Answer::of(&session.work.definition.environment, &record, changed(&plan), &text, limits, source)?;
    tell(&answer, &ended.journal, limits, ui)?;
    failure.map_or(Ok(answer), Err)
}

/// On the terminal and in two files.
fn tell(answer: &answer::Answer, journal: &Path, limits: &DrLimits, ui: &Ui) -> Result<(), Failure> {
    let beside = journal.parent().unwrap_or(Path::new("."));
    let files = answer.write(limits.report.as_deref().unwrap_or(beside))?;
    match ui.output {
        Output::Human => ui.data(&answer.human())?,
        Output::Json => ui.json(answer)?,
    }
    ui.note(&format!("report: {}", files.map(|file| file.display().to_string()).join(" and ")));
    Ok(())
}

/// Whether this run makes the database, or finds it made.
fn changed(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| step.id.as_str() == DATABASE && !step.changes().is_empty())
}

/// What this run has decided already, how long a restore took before, and how much is looked at.
fn recall(session: &mut Session, wanted: &Wanted, prefix: &DbInstanceId, limits: &DrLimits) -> Result<(), Failure> {
    let step = StepId::parse(DATABASE).map_err(|e| Failure::usage("the restore's step").because(e))?;
    let decided = session.history.runs.iter().find(|run| run.header.run == session.run).and_then(|run| decided(run, &step, wanted, prefix));
    let usual = usual_seconds(session, &step);
    let definition = Arc::make_mut(&mut session.work.definition);
    if let Some(decided) = decided {
        definition.recall("point", decided);
    }
    definition.recall("usual_seconds", json!(usual));
    definition.recall("verify", json!(limits.verify));
    Ok(())
}

/// What a run that stopped lately has decided. A run that nobody has gone on with since is no reason to restore an old point.
fn decided(run: &RunRecord, step: &StepId, wanted: &Wanted, prefix: &DbInstanceId) -> Option<Value> {
    let lately = |at: Timestamp| clock::now().duration_since(at) < LATELY;
    let record = run.steps.get(step)?;
    // Those of a run that was given up are among them: of several the newest counts.
    let intents = record.intents.iter().filter(|(key, _)| key.starts_with(DECISION));
    let decisions = intents.filter_map(|(_, value)| serde_json::from_value::<Decision>(value.clone()).ok());
    let ours = decisions.filter(|decision| decision.wanted == *wanted && decision.prefix == *prefix && lately(decision.at));
    let given =
        || record.outputs.as_ref().filter(|_| record.last_status() == Status::Succeeded && run.ended.is_some_and(lately))?.get("point");
    ours.max_by_key(|decision| decision.at).map(|decision| json!(decision.point)).or_else(|| given().cloned())
}

/// The median of the newest restores that were carried out in this region; none if there was none.
pub(super) fn usual_seconds(session: &Session, step: &StepId) -> Option<u64> {
    let name = &session.work.definition.environment.name;
    let texts = session.history.runs.iter().rev().filter_map(|run| {
        // A journal that has gone meanwhile says nothing about how long a restore takes.
        std::fs::read_to_string(journal::path_in(&session.state.run(name, &run.header.run))).ok()
    });
    let mut seconds: Vec<u64> = texts.filter_map(|text| timeline::took(&text, step)).take(EARLIER).map(|took| took.as_secs()).collect();
    seconds.sort_unstable();
    seconds.get(seconds.len() / 2).copied()
}

/// A point for people, with its age.
pub(super) fn point_text(chosen: &Chosen) -> String {
    format!(
        "{}, which holds everything until {} ({} old)",
        chosen.source_text(),
        chosen.at,
        answer::span(age_seconds(clock::now(), chosen.at))
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::{
        engine::{
            journal::{Entry, Header},
            lease::Holder,
            status::StepEvent,
        },
        ids::{EnvironmentName, RunId},
        plan::selection::Selection,
    };

    fn step() -> StepId {
        StepId::parse(DATABASE).unwrap()
    }

    /// A run whose step has recorded these decisions: for instances of which names, which point, how many hours ago.
    fn run(decisions: &[(&str, &str, i64)]) -> RunRecord {
        let id = RunId::parse(uuid::Uuid::now_v7().to_string()).unwrap();
        let header = Header::new(id, EnvironmentName::parse("sandbox").unwrap(), "sha256:d".to_owned());
        let holder = Holder::this_process("dr restore");
        let mut entries = vec![
            Entry::Attempt { holder, plan: "sha256:p".to_owned(), selection: Selection::default(), lease: None },
            Entry::Step { step: step(), event: StepEvent::Started { plan: None } },
        ];
        for (prefix, point, hours) in decisions {
            let decision = Decision {
                wanted: Wanted::Latest,
                prefix: DbInstanceId::parse(*prefix).unwrap(),
                point: point.parse().unwrap(),
                at: clock::now() - SignedDuration::from_hours(*hours),
            };
            let event = StepEvent::Intent { key: format!("{DECISION}{prefix}-{hours}"), value: json!(decision) };
            entries.push(Entry::Step { step: step(), event });
        }
        let mut text = serde_json::to_string(&header).unwrap() + "\n";
        for entry in entries {
            let mut line = serde_json::to_value(entry).unwrap();
            line["at"] = json!(clock::now());
            text += &(line.to_string() + "\n");
        }
        journal::read_text(text.as_bytes(), Path::new("journal")).unwrap().0
    }

    #[test]
    fn a_run_goes_on_with_its_own_decision_unless_that_is_old() {
        let prefix = DbInstanceId::parse("deployctl-sandbox").unwrap();
        let decided = |decisions: &[(&str, &str, i64)]| decided(&run(decisions), &step(), &Wanted::Latest, &prefix);
        assert_eq!(decided(&[]), None);
        assert_eq!(decided(&[("deployctl-sandbox", "snapshot:a", 1)]), Some(json!("snapshot:a")));
        assert_eq!(decided(&[("deployctl-sandbox", "snapshot:a", 2), ("deployctl-sandbox", "snapshot:b", 1)]), Some(json!("snapshot:b")));
        assert_eq!(decided(&[("deployctl-sandbox-drill", "snapshot:a", 1)]), None, "a drill's decision is no restore's");
        assert_eq!(decided(&[("deployctl-sandbox", "snapshot:a", 7)]), None, "the newest point may be newer by now");
    }
}
