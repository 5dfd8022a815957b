//! Takes away what apply has made, in reverse order, through each kind's undo. Journalled like an apply; what stays is listed with its reason.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{
    consider, dag,
    event::{EventKind, Outcome, Phase},
    history::History,
    journal::{Entry, Journal, JournalIntents, NoIntents},
    lease::Lease,
    limits,
    status::StepEvent,
    workplace::{Workplace, millis},
};
use crate::{
    failure::{Failure, FailureKind},
    ids::StepId,
    plan::{Decision, Plan, reference::Resolved, resolve},
    steps::{Change, Outputs},
    waiting,
};

/// What destroy would do about each step, in its order.
#[derive(Clone, Debug)]
pub enum Undo {
    /// It is taken away.
    Away {
        /// Its kind's word.
        kind: String,
        /// `with`, its references resolved.
        input: serde_json::Value,
    },
    /// What it needs is not known or not there, so there is nothing that it could have made.
    NotThere {
        /// Outputs that are missing.
        waits: Vec<String>,
    },
}

/// Decides from a plan (which has observed everything) what can be taken away.
pub fn decide(work: &Workplace, plan: &Plan, history: &History) -> Result<Vec<(StepId, Undo)>, Failure> {
    let definition = &work.definition;
    let mut outputs: BTreeMap<StepId, Outputs> = BTreeMap::new();
    for step in &plan.steps {
        let known = match &step.decision {
            Decision::Planned { known_outputs, .. } | Decision::Skipped { outputs: known_outputs, .. } => known_outputs.clone(),
            Decision::Deferred { .. } => None,
        };
        if let Some(known) = known.or_else(|| history.outputs(&step.id).cloned()) {
            outputs.insert(step.id.clone(), known);
        }
    }
    let skipped = plan.selection.skipped(&definition.dag)?;
    let reversed = definition.dag.reversed();
    let mut undo = Vec::new();
    for id in reversed.order().iter().filter(|id| !skipped.contains_key(id)) {
        let step = definition.step(id)?;
        undo.push(match resolve::input(definition, step, &outputs)? {
            Resolved::Value(input) => (id.clone(), Undo::Away { kind: step.kind.clone(), input }),
            Resolved::Waits(waits) => (id.clone(), Undo::NotThere { waits: waits.into_iter().collect() }),
        });
    }
    Ok(undo)
}

/// What would be deleted. Fails with everything that stands in the way, the guards over all of it together, before anything is taken away:
/// half an environment is worse than a whole one.
pub async fn permitted(work: &Workplace, undo: &[(StepId, Undo)]) -> Result<Vec<(StepId, Change)>, Failure> {
    let looks = undo.iter().filter_map(|(id, what)| match what {
        Undo::Away { kind, input } => Some(async move {
            let cx = work.context(id, None, Arc::new(NoIntents))?;
            let asked = work.registry.require(kind)?.would_delete(&cx, input);
            let gone = waiting::by_step(id, &work.events, asked).await.map_err(|failure| failure.in_step(id))?;
            Ok::<_, Failure>(gone.into_iter().map(|change| (id.clone(), change)).collect::<Vec<_>>())
        }),
        Undo::NotThere { .. } => None,
    });
    let (mut gone, mut refused) = (Vec::new(), Vec::new());
    for found in futures::future::join_all(looks).await {
        match found {
            Ok(found) => gone.extend(found),
            Err(failure) => refused.push(failure),
        }
    }
    if let Some(failure) = consider::first(refused) {
        return Err(failure);
    }
    limits::check_guards(&work.definition.environment.guards, gone.iter().map(|(id, change)| (id, change)))?;
    Ok(gone)
}

/// Takes it away. Returns what stays, and why.
pub async fn destroy(work: &Workplace, undo: Vec<(StepId, Undo)>, journal: Journal, lease: Arc<dyn Lease>) -> Result<Vec<String>, Failure> {
    let began = Instant::now();
    let journal = Arc::new(journal);
    journal.mirror_with(&lease, &work.events).await?;
    let stays = Mutex::new(Vec::new());
    let reversed = work.definition.dag.reversed();
    let todo: BTreeMap<StepId, Undo> = undo.into_iter().collect();
    work.events.emit(EventKind::RunStarted { steps: reversed.order().to_vec() });
    let results = dag::run(&reversed, work.parallel, &work.cancel, |id| {
        let (journal, lease, stays, todo) = (&journal, &lease, &stays, &todo);
        async move {
            let result = match todo.get(&id) {
                Some(Undo::Away { kind, input }) => one(work, journal, &**lease, &id, kind, input, stays).await,
                Some(Undo::NotThere { waits }) => {
                    skip(work, journal, &id, format!("nothing of it is there: {} is not known", waits.join(", ")))
                }
                None => skip(work, journal, &id, "not selected".to_owned()),
            };
            (id, result)
        }
    })
    .await;
    let complete = results.len() == reversed.order().len();
    let failure = consider::first(results.into_values().filter_map(Result::err).collect());
    let succeeded = failure.is_none() && complete;
    journal.append(&Entry::Finished { succeeded })?;
    journal.end().await?;
    work.events.emit(EventKind::RunFinished { succeeded, millis: millis(began.elapsed()) });
    match failure {
        Some(failure) => Err(failure),
        None if !complete => Err(Failure::new(FailureKind::Interrupted, "interrupted; what ran came to its end")),
        None => Ok(stays.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

fn skip(work: &Workplace, journal: &Journal, id: &StepId, reason: String) -> Result<(), Failure> {
    journal.step(id, StepEvent::Skipped { reason: reason.clone() })?;
    let outcome = Outcome::Skipped { reason };
    work.events.emit(EventKind::StepFinished { step: id.clone(), outcome, millis: 0, outputs: Outputs::new() });
    Ok(())
}

async fn one(
    work: &Workplace,
    journal: &Arc<Journal>,
    lease: &dyn Lease,
    id: &StepId,
    kind: &str,
    input: &serde_json::Value,
    stays: &Mutex<Vec<String>>,
) -> Result<(), Failure> {
    let began = Instant::now();
    lease.check()?;
    journal.step(id, StepEvent::Started { plan: None })?;
    journal.flush().await?;
    work.events.emit(EventKind::StepStarted { step: id.clone(), phase: Phase::Undo });
    let _phase = work.in_flight.enter(id, Phase::Undo);
    let cx = work.context(id, Some(journal.run()), Arc::new(JournalIntents(journal.clone())))?;
    match waiting::by_step(id, &work.events, work.registry.require(kind)?.undo(&cx, input)).await {
        Ok(left) => {
            stays.lock().unwrap_or_else(PoisonError::into_inner).extend(left.into_iter().map(|what| format!("{id}: {what}")));
            // No outputs: whoever plans next must not believe that it is still there.
            journal.step(id, StepEvent::Applied { outcome: Outcome::Changed, outputs: Outputs::new() })?;
            journal.step(id, StepEvent::Succeeded)?;
            let took = millis(began.elapsed());
            work.events.emit(EventKind::StepFinished {
                step: id.clone(),
                outcome: Outcome::Changed,
                millis: took,
                outputs: Outputs::new(),
            });
            Ok(())
        }
        Err(failure) => {
            let failure = failure.in_step(id);
            work.events.emit(EventKind::StepFailed { step: id.clone(), chain: failure.chain(), millis: millis(began.elapsed()) });
            let event = StepEvent::Failed { kind: failure.kind, chain: failure.chain(), left_behind: failure.left_behind.clone() };
            journal.step(id, event)?;
            Err(failure)
        }
    }
}
