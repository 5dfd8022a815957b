//! A run of apply: the journal is opened, the steps run, the journal is closed. What came of it is told by events and by the journal.
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{
    consider, dag,
    event::EventKind,
    history::History,
    journal::{Entry, Header, Journal, RunRecord},
    lease::{Holder, Lease},
    limits,
    run_step::{Approve, Run},
    status::Status,
    workplace::{StateFolder, Workplace, millis},
};
use crate::{
    failure::{Failure, FailureKind},
    ids::{RunId, StepId},
    plan::{Plan, digest},
    tools::process_record::Liveness,
};

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The run.
    pub run: RunId,
    /// Its journal.
    pub journal: PathBuf,
    /// Steps that were never started.
    pub not_started: Vec<StepId>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// A new run's id; sorts by time.
pub fn new_run_id() -> Result<RunId, Failure> {
    RunId::parse(uuid::Uuid::now_v7().to_string()).map_err(|error| Failure::new(FailureKind::Internal, "no run id").because(error))
}

/// The run that the same command goes on with: the newest one, unfinished, of the same plan file and environment.
pub fn run_to_resume(history: &History, definition: &str) -> Option<RunId> {
    history.unfinished().filter(|run| run.header.definition == definition).map(|run| run.header.run.clone())
}

/// The run that was left on another machine, or another boot of this one, while a program of its own (terraform) may have gone on. Whether
/// that still runs cannot be seen from here.
pub fn in_flight_elsewhere<'h>(work: &Workplace, history: &'h History) -> Option<&'h RunRecord> {
    let run = history.unfinished().filter(|run| !run.declared_dead)?;
    run.attempts.last().filter(|holder| holder.liveness() == Liveness::Elsewhere)?;
    let leaves_a_process = |id: &StepId| {
        // A step that the plan file no longer has may have been of any kind.
        let kind = work.definition.step(id).ok().and_then(|step| work.registry.get(&step.kind));
        kind.is_none_or(|kind| kind.leaves_a_process())
    };
    let started = |id: &StepId| run.steps.get(id).is_some_and(|record| record.status == Status::Started);
    run.in_flight().iter().any(|id| started(id) && leaves_a_process(id)).then_some(run)
}

/// Refuses to go on beside such a run.
pub fn refuse_if_elsewhere(work: &Workplace, history: &History) -> Result<(), Failure> {
    let Some(run) = in_flight_elsewhere(work, history) else { return Ok(()) };
    let holder = run.attempts.last().map(ToString::to_string).unwrap_or_default();
    let steps: Vec<String> = run.in_flight().iter().map(ToString::to_string).collect();
    let (command, dr) = (run.command(), run.attempts.last().map_or("", Holder::lock_flag));
    Err(Failure::new(
        FailureKind::Locked,
        format!(
            "{holder} left run {} with {} in flight; whether its terraform still runs cannot be seen from here",
            run.header.run,
            steps.join(", ")
        ),
    )
    .next("make sure that it has ended: on that machine `pgrep -a terraform` finds nothing, or its CI job is over")
    .next(format!("then: deployctl lock release{dr}"))
    .next(format!("or run the same command on that machine, which can see it: deployctl {command}")))
}

/// Opens the journal of a new run, or of the one to go on with.
pub fn open_journal(
    state: &StateFolder,
    work: &Workplace,
    plan: &Plan,
    history: &History,
    run: &RunId,
    holder: &Holder,
    lease: &dyn Lease,
) -> Result<Journal, Failure> {
    let environment = &work.definition.environment.name;
    let folder = state.run(environment, run);
    let resumed = run_to_resume(history, &work.definition.digest).as_ref() == Some(run);
    let journal = if resumed {
        Journal::resume(&folder)?
    } else {
        Journal::create(&folder, Header::new(run.clone(), environment.clone(), work.definition.digest.clone()))?
    };
    journal.append(&Entry::Attempt {
        holder: holder.clone(),
        plan: digest::of(plan)?,
        selection: plan.selection.clone(),
        lease: lease.number(),
    })?;
    if let Some(abandoned) = history.unfinished().filter(|_| !resumed) {
        for (step, record) in &abandoned.steps {
            for (key, value) in &record.intents {
                journal.append(&Entry::Inherited { step: step.clone(), key: key.clone(), value: value.clone() })?;
            }
        }
    }
    Ok(journal)
}

/// Applies exactly `plan`.
pub async fn apply(
    work: &Workplace,
    plan: &Plan,
    history: &History,
    journal: Journal,
    lease: Arc<dyn Lease>,
    approve: &dyn Approve,
) -> Result<Ended, Failure> {
    limits::check_guards(&work.definition.environment.guards, plan.changes())?;
    let began = Instant::now();
    let journal = Arc::new(journal);
    journal.mirror_with(&lease, &work.events).await?;
    work.events.emit(EventKind::RunStarted { steps: work.definition.dag.order().to_vec() });
    let changes = plan.steps.iter().map(|step| (step.id.clone(), step.changes().to_vec())).collect();
    let run = Run { work, journal: journal.clone(), lease, history, approve, outputs: Mutex::default(), changes: Mutex::new(changes) };
    let decisions: BTreeMap<_, _> = plan.steps.iter().map(|step| (&step.id, step)).collect();
    let results = dag::run(&work.definition.dag, work.parallel, &work.cancel, |id| {
        let (run, planned) = (&run, decisions.get(&id).copied());
        async move {
            let result = match planned {
                Some(planned) => run.step(planned).await,
                None => Err(Failure::new(FailureKind::Internal, "the plan does not say what to do about it").in_step(&id)),
            };
            (id, result)
        }
    })
    .await;
    let not_started: Vec<StepId> = work.definition.dag.order().iter().filter(|id| !results.contains_key(id)).cloned().collect();
    let mut failures: Vec<Failure> = results.into_values().filter_map(Result::err).collect();
    if failures.is_empty() && !not_started.is_empty() {
        failures.push(Failure::new(FailureKind::Interrupted, "interrupted; what ran came to its end"));
    }
    let failure = consider::first(failures);
    let succeeded = failure.is_none();
    journal.append(&Entry::Finished { succeeded })?;
    let kept = journal.end().await;
    work.events.emit(EventKind::RunFinished { succeeded, millis: millis(began.elapsed()) });
    // What failed before says more than that the last line could not be kept in the state bucket.
    let failure = failure.or(kept.err());
    Ok(Ended { run: journal.run(), journal: journal.path().to_owned(), not_started, failure })
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "contract_tests.rs"]
mod contract;

#[cfg(test)]
#[path = "destroy_tests.rs"]
mod destroy;
