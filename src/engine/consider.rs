//! Observes steps along the graph and plans them, side by side: what `plan` does and what every `apply` begins with. Changes nothing.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{
    ahead::{Ahead, ahead},
    dag,
    event::EventKind,
    history::History,
    journal::NoIntents,
    questions::questions,
    workplace::{Workplace, millis},
};
use crate::{
    failure::{Failure, FailureKind},
    ids::StepId,
    plan::{
        Plan,
        definition::Definition,
        reference::Resolved,
        resolve::{self, Found},
        selection::Selection,
    },
    steps::{Action, Outputs, StepPlan, registry::Registry},
};

struct Considering<'a> {
    work: &'a Workplace,
    history: &'a History,
    ahead: Ahead,
    skipped: BTreeMap<StepId, String>,
    /// Skipped steps whose outputs a selected step may need.
    looked_at: BTreeSet<StepId>,
    outputs: Mutex<BTreeMap<StepId, Outputs>>,
    /// Steps that must be applied before those that need them can be observed.
    not_there: Mutex<BTreeSet<StepId>>,
}

/// Refuses what the selected steps are known to miss, before anything is looked at or made.
pub async fn preflight(work: &Workplace, selection: &Selection) -> Result<(), Failure> {
    let definition = &work.definition;
    let skipped = selection.skipped(&definition.dag)?;
    for id in definition.dag.order().iter().filter(|id| !skipped.contains_key(id)) {
        let step = definition.step(id)?;
        let kind = work.registry.require(&step.kind)?;
        let cx = work.context(id, None, Arc::new(NoIntents))?;
        kind.preflight(&cx, &step.with).await.map_err(|failure| failure.in_step(id))?;
    }
    Ok(())
}

/// Refuses, for apply, what a plan shows as refused.
pub fn refuse(definition: &Definition, registry: &Registry, selection: &Selection) -> Result<(), Failure> {
    let skipped = selection.skipped(&definition.dag)?;
    for id in definition.dag.order().iter().filter(|id| !skipped.contains_key(id)) {
        if let Some(failure) = resolve::refused(definition, definition.step(id)?, registry)? {
            return Err(failure.in_step(id));
        }
    }
    Ok(())
}

/// The plan of the selected steps.
pub async fn plan(work: &Workplace, selection: &Selection, history: &History) -> Result<Plan, Failure> {
    let definition = &work.definition;
    let skipped = selection.skipped(&definition.dag)?;
    let selected: Vec<&StepId> = definition.dag.order().iter().filter(|id| !skipped.contains_key(id)).collect();
    let (answers, asking) = questions(work, history, &selected);
    let (ahead, looking) = ahead(work, history, &selected, answers)?;
    let looked_at = selected.iter().flat_map(|id| definition.dag.all_needs(id)).collect();
    let considering = Considering { work, history, ahead, looked_at, skipped, outputs: Mutex::default(), not_there: Mutex::default() };
    let in_turn = dag::run(&definition.dag, work.parallel, &work.cancel, |id| {
        let considering = &considering;
        async move {
            let started = Instant::now();
            let found = considering.step(&id).await.map_err(|failure| failure.in_step(&id));
            let events = &considering.work.events;
            match &found {
                Ok(Found::Considered(_, considered)) => {
                    let changes = Some(considered.plan.changes.iter().filter(|change| !change.is_check()).count());
                    events.emit(EventKind::StepPlanned { step: id.clone(), changes, millis: millis(started.elapsed()) });
                }
                Ok(Found::Waits(_)) => events.emit(EventKind::StepPlanned { step: id.clone(), changes: None, millis: 0 }),
                Ok(Found::Skipped(..)) => {}
                Err(failure) => {
                    events.emit(EventKind::StepFailed { step: id.clone(), chain: failure.chain(), millis: millis(started.elapsed()) })
                }
            }
            (id, found)
        }
    });
    let (found, (), asked) = tokio::join!(in_turn, looking, asking);
    let mut good = BTreeMap::new();
    let mut failures = Vec::new();
    for (id, result) in found {
        match result {
            Ok(found) => {
                good.insert(id, found);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(failure) = first(failures) {
        return Err(failure);
    }
    asked?;
    if work.cancel.is_cancelled() {
        return Err(Failure::new(FailureKind::Interrupted, "interrupted while planning; nothing was changed"));
    }
    resolve::plan(definition, selection, &work.registry, &work.project, good)
}

/// One failure out of several: the others become its evidence.
pub fn first(failures: Vec<Failure>) -> Option<Failure> {
    // What was merely interrupted because another step failed says the least.
    let worst = failures.iter().position(|failure| failure.kind != FailureKind::Interrupted).unwrap_or_default();
    let mut failures = failures;
    if failures.is_empty() {
        return None;
    }
    let mut chosen = failures.remove(worst);
    for other in failures {
        let step = other.step.as_ref().map(|step| format!("step {step} ")).unwrap_or_default();
        chosen.evidence.push(format!("also {step}failed: {}", other.chain().join(": ")));
        chosen.evidence.extend(other.evidence);
        let new: Vec<String> = other.next.into_iter().filter(|next| !chosen.next.contains(next)).collect();
        chosen.next.extend(new);
    }
    Some(chosen)
}

impl Considering<'_> {
    async fn step(&self, id: &StepId) -> Result<Found, Failure> {
        let reason = self.skipped.get(id);
        if let Some(reason) = reason
            && !self.looked_at.contains(id)
        {
            return Ok(Found::Skipped(reason.clone(), None));
        }
        if let Some(reason) = reason
            && let Some(outputs) = self.recorded(id)?
        {
            lock(&self.outputs).insert(id.clone(), outputs.clone());
            return Ok(Found::Skipped(reason.clone(), Some(outputs)));
        }
        let found = self.look(id).await?;
        let Some(reason) = reason else {
            return match resolve::left_out(&self.work.definition, self.work.definition.step(id)?, &self.work.registry)? {
                Some(left_out) => self.left_out(id, left_out, found),
                None => self.selected(id, found),
            };
        };
        // A skipped step is taken as it is: what it would change does not count, what it last gave does.
        lock(&self.not_there).remove(id);
        let outputs = match found {
            Found::Considered(_, considered) if considered.plan.changes.is_empty() => considered.known_outputs,
            Found::Considered(_, considered) => self.history.outputs(id).cloned().or(considered.known_outputs),
            _ => self.history.outputs(id).cloned(),
        };
        if let Some(outputs) = &outputs {
            lock(&self.outputs).insert(id.clone(), outputs.clone());
        }
        Ok(Found::Skipped(reason.clone(), outputs))
    }

    /// What a step gave when it last ended well, if that is all that it declares: then a skipped one need not be observed.
    fn recorded(&self, id: &StepId) -> Result<Option<Outputs>, Failure> {
        let declared = &self.work.definition.step(id)?.outputs;
        let outputs = self.history.outputs(id).filter(|outputs| declared.keys().all(|name| outputs.contains_key(name)));
        Ok(outputs.cloned())
    }

    /// A step that does nothing in this environment: nobody waits for it. What is still there of it is taken away.
    fn left_out(&self, id: &StepId, reason: String, found: Found) -> Result<Found, Failure> {
        if matches!(&found, Found::Considered(_, considered) if !considered.plan.changes.is_empty()) {
            return self.selected(id, found);
        }
        lock(&self.not_there).remove(id);
        lock(&self.outputs).insert(id.clone(), Outputs::new());
        Ok(Found::Skipped(reason, Some(Outputs::new())))
    }

    /// A selected step may not wait for one that is skipped and has never run.
    fn selected(&self, id: &StepId, found: Found) -> Result<Found, Failure> {
        let Found::Waits(because) = &found else { return Ok(found) };
        let skipped =
            because.iter().find(|wait| wait.split('.').next().is_some_and(|step| self.skipped.keys().any(|id| id.as_str() == step)));
        match skipped {
            None => Ok(found),
            Some(wait) => {
                let step = wait.split('.').next().unwrap_or_default();
                Err(Failure::new(
                    FailureKind::Preflight,
                    format!("step {id} needs {wait}, but {step} is skipped and has not been applied here"),
                )
                .next(format!("run {step} too: leave out --only, --from or --skip, or add it to --only")))
            }
        }
    }

    async fn look(&self, id: &StepId) -> Result<Found, Failure> {
        let definition = &self.work.definition;
        let step = definition.step(id)?;
        let absent: Vec<String> = {
            let not_there = lock(&self.not_there);
            definition.dag.needs(id).filter(|need| not_there.contains(need)).map(ToString::to_string).collect()
        };
        let outputs = lock(&self.outputs).clone();
        let input = match resolve::input(definition, step, &outputs)? {
            Resolved::Waits(waits) => return Ok(self.waits(id, waits.into_iter().collect())),
            Resolved::Value(_) if !absent.is_empty() => return Ok(self.waits(id, absent)),
            Resolved::Value(input) => input,
        };
        if resolve::refused(definition, step, &self.work.registry)?.is_some() {
            return Ok(self.waits(id, vec!["what apply asks for first".to_owned()]));
        }
        let mut considered = self.ahead.answer(self.work, id, &input).await?;
        if defers_others(&considered.plan) && considered.known_outputs.is_none() {
            lock(&self.not_there).insert(id.clone());
        } else {
            // What is not certain is as it was until it is seen to be otherwise.
            let mut outputs = self.history.outputs(id).cloned();
            if let Some(known) = considered.known_outputs.take() {
                outputs.get_or_insert_default().extend(known);
            }
            considered.known_outputs.clone_from(&outputs);
            if let Some(outputs) = outputs {
                lock(&self.outputs).insert(id.clone(), outputs);
            }
        }
        Ok(Found::Considered(input, Box::new(considered)))
    }

    fn waits(&self, id: &StepId, because: Vec<String>) -> Found {
        lock(&self.not_there).insert(id.clone());
        Found::Waits(because)
    }
}

/// Whether something that other steps may look for is not there yet.
fn defers_others(plan: &StepPlan) -> bool {
    plan.changes.iter().any(|change| matches!(change.action, Action::Create | Action::Replace))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
