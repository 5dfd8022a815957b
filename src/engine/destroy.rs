//! Takes away what apply has made: first what plans/destroy.yaml names, then the deployment's steps in reverse order, through each kind's undo.
//! Journalled like an apply; what stays is listed with its reason. Decided by records and by what is there, never by a plan: a half-destroyed
//! environment can't be planned.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{
    consider,
    dag::{self, Dag},
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
    plan::{reference::Resolved, resolve},
    steps::{Action, Change, Outputs},
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
    /// What it needs is not known, so there is nothing that it could have made, or it has gone with its cluster.
    NotThere {
        /// Outputs that are missing.
        waits: Vec<String>,
    },
}

/// One plan file's steps and the order in which they are taken away.
pub struct Part {
    /// Where they belong to.
    pub work: Workplace,
    dag: Dag,
    /// In this order.
    pub undo: Vec<(StepId, Undo)>,
}

/// The order of a plan file's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they need each other.
    AsWritten,
    /// The other way round.
    Reversed,
}

impl Part {
    /// Decides from the records of former runs, and from what else is recorded of a step, what can be taken away.
    pub async fn decide(work: Workplace, order: Order, history: &History) -> Result<Self, Failure> {
        let definition = &work.definition;
        let recorded = definition.dag.order().iter().map(|id| async {
            let step = definition.step(id)?;
            let cx = work.context(id, None, Arc::new(NoIntents))?;
            let recorded = work.registry.require(&step.kind)?.recorded(&cx, &step.with).await.map_err(|failure| failure.in_step(id))?;
            let mut outputs = history.last_given(id);
            outputs.extend(recorded);
            Ok::<_, Failure>((id.clone(), outputs))
        });
        let outputs: BTreeMap<StepId, Outputs> = futures::future::try_join_all(recorded).await?.into_iter().collect();
        let dag = match order {
            Order::AsWritten => definition.dag.clone(),
            Order::Reversed => definition.dag.reversed(),
        };
        let mut undo = Vec::new();
        for id in dag.order() {
            let step = definition.step(id)?;
            undo.push(match resolve::input(definition, step, &outputs)? {
                Resolved::Value(input) => (id.clone(), Undo::Away { kind: step.kind.clone(), input }),
                Resolved::Waits(waits) => (id.clone(), Undo::NotThere { waits: waits.into_iter().collect() }),
            });
        }
        Ok(Self { work, dag, undo })
    }
}

/// What would be done, and what would not.
#[derive(Clone, Debug, Default)]
pub struct Permitted {
    /// Deletions, and what has to be changed before them.
    pub changes: Vec<(StepId, Change)>,
    /// What stays, with its step and the reason.
    pub stays: Vec<String>,
}

/// What would be deleted. Fails with everything that stands in the way, the guards over all of it together, before anything is taken away:
/// half an environment is worse than a whole one.
pub async fn permitted(parts: &[Part]) -> Result<Permitted, Failure> {
    let looks = parts.iter().flat_map(|part| part.undo.iter().map(move |(id, what)| (&part.work, id, what)));
    let looks = looks.filter_map(|(work, id, what)| match what {
        Undo::Away { kind, input } => Some(async move {
            let cx = work.context(id, None, Arc::new(NoIntents))?;
            let kind = work.registry.require(kind)?;
            let asked = async { tokio::try_join!(kind.would_delete(&cx, input), kind.stays(&cx, input)) };
            let (gone, stays) = waiting::by_step(id, &work.events, asked).await.map_err(|failure| failure.in_step(id))?;
            Ok::<_, Failure>((id.clone(), gone, stays))
        }),
        Undo::NotThere { .. } => None,
    });
    let (mut permitted, mut refused) = (Permitted::default(), Vec::new());
    // What an earlier step takes away is no longer there for a later one: it counts once.
    let mut seen = BTreeSet::new();
    for found in futures::future::join_all(looks).await {
        match found {
            Ok((id, gone, stays)) => {
                // Kinds of Kubernetes; terraform's addresses are a stack's own, and two stacks may have the same.
                let of_cluster = |change: &Change| change.resource.starts_with(char::is_uppercase);
                let fresh =
                    gone.into_iter().filter(|change| !of_cluster(change) || seen.insert((change.resource.clone(), change.name.clone())));
                permitted.changes.extend(fresh.map(|change| (id.clone(), change)));
                permitted.stays.extend(stays.into_iter().map(|what| format!("{id}: {what}")));
            }
            Err(failure) => refused.push(failure),
        }
    }
    if let Some(failure) = consider::first(refused) {
        return Err(failure);
    }
    if let Some(part) = parts.first() {
        limits::check_guards(&part.work.definition.environment.guards, permitted.changes.iter().map(|(id, change)| (id, change)))?;
    }
    Ok(permitted)
}

impl Permitted {
    /// Whether nothing is there that could be taken away.
    pub fn is_nothing(&self) -> bool {
        !self.changes.iter().any(|(_, change)| change.action == Action::Delete)
    }
}

/// Takes it away, part after part. Returns what else stays, and why.
pub async fn destroy(parts: &[Part], journal: Journal, lease: Arc<dyn Lease>) -> Result<Vec<String>, Failure> {
    let Some(Part { work, .. }) = parts.first() else { return Ok(Vec::new()) };
    let began = Instant::now();
    let journal = Arc::new(journal);
    journal.mirror_with(&lease, &work.events).await?;
    let stays = Mutex::new(Vec::new());
    let order: Vec<StepId> = parts.iter().flat_map(|part| part.dag.order().to_vec()).collect();
    work.events.emit(EventKind::RunStarted { steps: order.clone() });
    let (mut failures, mut ended) = (Vec::new(), 0);
    for part in parts {
        let todo: BTreeMap<&StepId, &Undo> = part.undo.iter().map(|(id, what)| (id, what)).collect();
        let results = dag::run(&part.dag, part.work.parallel, &part.work.cancel, |id| {
            let (work, journal, lease, stays, todo) = (&part.work, &journal, &lease, &stays, &todo);
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
        ended += results.len();
        failures.extend(results.into_values().filter_map(Result::err));
        if !failures.is_empty() {
            break;
        }
    }
    let failure = consider::first(failures);
    let complete = ended == order.len();
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
