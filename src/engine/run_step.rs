//! One step: journal Started, planned again if it was deferred, apply, verify, journal Succeeded. There is no other way to have an effect.
use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;

use super::{
    event::{EventKind, Outcome, Phase},
    history::History,
    journal::{Journal, JournalIntents},
    lease::Lease,
    limits,
    status::{Status, StepEvent},
    workplace::{Workplace, millis},
};
use crate::{
    failure::{Failure, FailureKind, LeftBehind},
    ids::StepId,
    plan::{Decision, PlannedStep, digest, file::StepDeclaration, reference::Resolved, resolve},
    redact,
    steps::{Applied, Change, Outputs, StepContext, StepPlan, registry::AnyKind},
    waiting,
};

/// Asks somebody whether a step may do more than was shown.
pub trait Approve: Send + Sync {
    /// True only if a person has said yes.
    fn approve<'a>(&'a self, step: &'a StepId, beyond: &'a [Change]) -> BoxFuture<'a, bool>;
}

/// Nobody is there to ask.
pub struct NobodyToAsk;

impl Approve for NobodyToAsk {
    fn approve<'a>(&'a self, _step: &'a StepId, _beyond: &'a [Change]) -> BoxFuture<'a, bool> {
        futures::future::ready(false).boxed()
    }
}

/// A run of apply.
pub struct Run<'a> {
    /// What all runs have.
    pub work: &'a Workplace,
    /// Where it is recorded.
    pub journal: Arc<Journal>,
    /// The right to change the environment.
    pub lease: Arc<dyn Lease>,
    /// What earlier runs have done.
    pub history: &'a History,
    /// Who may say yes to more than was shown.
    pub approve: &'a dyn Approve,
    /// What finished steps gave.
    pub outputs: Mutex<BTreeMap<StepId, Outputs>>,
    /// What each step does, as far as it has been planned: guards count the whole plan, deferred steps with the others.
    pub changes: Mutex<BTreeMap<StepId, Vec<Change>>>,
}

impl Run<'_> {
    /// Runs one step to its end.
    pub async fn step(&self, planned: &PlannedStep) -> Result<(), Failure> {
        let began = Instant::now();
        let id = &planned.id;
        // Whoever leaves at once hears of it until the journal has its end.
        let in_flight = self.work.in_flight.until_ended(id);
        // A panic in one step must not take the others with it: it becomes that step's failure.
        let attempt = waiting::by_step(id, &self.work.events, AssertUnwindSafe(self.attempt(planned)).catch_unwind());
        let result = attempt.await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        match result {
            Ok((outcome, outputs)) => {
                self.outputs.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), outputs.clone());
                self.work.events.emit(EventKind::StepFinished { step: id.clone(), outcome, millis: millis(began.elapsed()), outputs });
                Ok(())
            }
            Err(failure) => {
                let failure = failure.in_step(id);
                self.work.events.emit(EventKind::StepFailed { step: id.clone(), chain: failure.chain(), millis: millis(began.elapsed()) });
                self.record_failure(id, &failure)?;
                drop(in_flight);
                if let Err(unkept) = self.journal.flush().await {
                    // The step's own failure says more; that the journal cannot be kept ends the run by itself.
                    tracing::warn!("{}", unkept.chain().join(": "));
                }
                Err(failure)
            }
        }
    }

    fn record_failure(&self, id: &StepId, failure: &Failure) -> Result<(), Failure> {
        let status = self.journal.record().steps.get(id).map(|record| record.status).unwrap_or_default();
        if !matches!(status, Status::Started | Status::Applied) {
            return Ok(());
        }
        let event = StepEvent::Failed { kind: failure.kind, chain: failure.chain(), left_behind: failure.left_behind.clone() };
        self.journal.step(id, event)
    }

    async fn attempt(&self, planned: &PlannedStep) -> Result<(Outcome, Outputs), Failure> {
        let id = &planned.id;
        let step = self.work.definition.step(id)?;
        if let Decision::Skipped { reason, outputs } = &planned.decision {
            self.journal.step(id, StepEvent::Skipped { reason: reason.clone() })?;
            return Ok((Outcome::Skipped { reason: reason.clone() }, outputs.clone().unwrap_or_default()));
        }
        let input = self.input(step)?;
        let kind = self.work.registry.require(&step.kind)?;
        let cx = self.work.context(id, Some(self.journal.run()), Arc::new(JournalIntents(self.journal.clone())))?;
        let ready = match &planned.decision {
            Decision::Planned { input: expected, plan, known_outputs, .. } if *expected == input => {
                Some((plan.clone(), known_outputs.clone()))
            }
            _ => None,
        };
        if let Some((plan, Some(outputs))) = &ready
            && plan.changes.is_empty()
            && !self.history.is_unverified(id)
        {
            let outputs = resolve::declared_outputs(step, outputs.clone())?;
            self.journal.step(id, StepEvent::Unchanged { outputs: outputs.clone() })?;
            return Ok((Outcome::Unchanged, outputs));
        }
        self.lease.check()?;
        let plan_digest = ready.as_ref().map(|(plan, _)| digest::of(plan)).transpose()?;
        self.journal.step(id, StepEvent::Started { plan: plan_digest })?;
        self.journal.flush().await?;
        let (plan, known) = match ready {
            Some(ready) => ready,
            None => self.plan_again(planned, step, &**kind, &cx, &input).await?,
        };
        let applied = self.apply(&**kind, &cx, &input, &plan, known).await?;
        let outputs = resolve::declared_outputs(step, applied.outputs.clone())
            .map_err(|failure| failure.left(LeftBehind::Partial(what_was_made(&plan))))?;
        self.journal.step(id, StepEvent::Applied { outcome: applied.outcome.clone(), outputs: outputs.clone() })?;
        self.enter(id, Phase::Verify);
        kind.verify(&cx, &input, &applied).await.map_err(|failure| unverified(failure, &plan))?;
        self.journal.step(id, StepEvent::Succeeded)?;
        if self.lease.records().is_none() {
            self.lease.anchor().await?;
            self.journal.mirror_with(&self.lease, &self.work.events).await?;
        }
        self.journal.flush().await?;
        Ok((applied.outcome, outputs))
    }

    fn enter(&self, id: &StepId, phase: Phase) {
        self.work.in_flight.go_on(id, phase);
        self.work.events.emit(EventKind::StepStarted { step: id.clone(), phase });
    }

    /// `with`, every reference followed: all that it needs has ended well by now.
    fn input(&self, step: &StepDeclaration) -> Result<Value, Failure> {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        match resolve::input(&self.work.definition, step, &outputs)? {
            Resolved::Value(input) => Ok(input),
            Resolved::Waits(waits) => {
                let waits: Vec<String> = waits.into_iter().collect();
                Err(Failure::step(format!("needs {}, which was not given", waits.join(", "))))
            }
        }
    }

    /// Plans a step whose inputs were not known, or have changed, and holds the result against what was shown.
    async fn plan_again(
        &self,
        planned: &PlannedStep,
        step: &StepDeclaration,
        kind: &dyn AnyKind,
        cx: &StepContext,
        input: &Value,
    ) -> Result<(StepPlan, Option<Outputs>), Failure> {
        let id = &planned.id;
        self.enter(id, Phase::Observe);
        let considered = kind.consider(cx, input).await?;
        let changes = &considered.plan.changes;
        let beyond: Vec<Change> = match &planned.decision {
            Decision::Deferred { bound, .. } => limits::beyond_bound(bound, changes),
            Decision::Planned { plan, .. } => limits::beyond_shown(&plan.changes, changes),
            Decision::Skipped { .. } => Vec::new(),
        }
        .into_iter()
        .cloned()
        .collect();
        self.check_guards(id, changes)?;
        if !beyond.is_empty() && !self.approve.approve(id, &beyond).await {
            return Err(exceeded(step, &beyond));
        }
        self.journal.step(id, StepEvent::Planned { plan: digest::of(&considered.plan)? })?;
        self.journal.flush().await?;
        Ok((considered.plan, considered.known_outputs))
    }

    fn check_guards(&self, id: &StepId, changes: &[Change]) -> Result<(), Failure> {
        let mut all = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id.clone(), changes.to_vec());
        let all = all.iter().flat_map(|(id, changes)| changes.iter().map(move |change| (id, change)));
        limits::check_guards(&self.work.definition.environment.guards, all)
    }

    async fn apply(
        &self,
        kind: &dyn AnyKind,
        cx: &StepContext,
        input: &Value,
        plan: &StepPlan,
        known: Option<Outputs>,
    ) -> Result<Applied, Failure> {
        if let (true, Some(outputs)) = (plan.changes.is_empty(), known) {
            return Ok(Applied { outcome: Outcome::Unchanged, outputs });
        }
        if cx.cancel.is_cancelled() {
            return Err(Failure::new(FailureKind::Interrupted, "interrupted before anything was changed"));
        }
        self.lease.check()?;
        self.enter(&cx.step, Phase::Apply);
        kind.apply(cx, input, plan).await
    }
}

fn what_was_made(plan: &StepPlan) -> Vec<String> {
    plan.changes.iter().map(|change| format!("{} {} {}", change.action, change.resource, change.name)).collect()
}

fn unverified(mut failure: Failure, plan: &StepPlan) -> Failure {
    if failure.left_behind == LeftBehind::Nothing && !plan.changes.is_empty() {
        failure.left_behind = LeftBehind::Partial(what_was_made(plan));
    }
    failure
}

fn exceeded(step: &StepDeclaration, beyond: &[Change]) -> Failure {
    let mut failure = Failure::new(FailureKind::PlanStale, "would now do more than the plan showed; nothing of this step was applied")
        .next("run plan again: what this step needs is there now, so that it is shown in full")
        .next(format!("or allow it in the plan file: `allow` of step {}", step.id));
    failure.evidence = beyond.iter().map(|change| format!("not shown: {} {} {}", change.action, change.resource, change.name)).collect();
    failure
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure::new(FailureKind::Internal, format!("deployctl itself is broken: {}", redact::mask(text)))
        .left(LeftBehind::Unknown("whatever the step was doing".to_owned()))
        .next("run the same command again: it goes on from the journal; report this message")
}
