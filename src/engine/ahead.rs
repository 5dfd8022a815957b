//! Looks at steps before their turn. What a step is observed with mostly comes from what others gave in the last run, so every step that
//! has been applied is looked at with that, side by side; in its turn the answer is taken if the question turned out to be the same.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::{
    event::{EventKind, Phase},
    history::History,
    journal::LeftIntents,
    workplace::Workplace,
};
use crate::{
    failure::Failure,
    ids::StepId,
    plan::{reference::Resolved, resolve},
    steps::{Intents, StepContext, question::Answers, registry::Considered},
    waiting,
};

type Answer = Result<Considered, Failure>;

struct Look {
    id: StepId,
    input: Value,
    answer: Sender<Answer>,
}

/// Questions that were asked early, by step.
pub(super) struct Ahead {
    asked: Mutex<BTreeMap<StepId, (Value, Receiver<Answer>)>>,
    known: Known,
}

/// What every look is given.
#[derive(Clone)]
struct Known {
    answers: Arc<Answers>,
    left: Arc<dyn Intents>,
}

/// The looks that are worth taking at these steps; they begin when the second part is polled.
pub(super) fn ahead<'a>(
    work: &'a Workplace,
    history: &History,
    steps: &[&StepId],
    answers: Arc<Answers>,
) -> Result<(Ahead, impl Future<Output = ()> + use<'a>), Failure> {
    let definition = &work.definition;
    let given = history.given(definition.dag.order());
    let (mut asked, mut looks) = (BTreeMap::new(), Vec::new());
    for &id in steps.iter().filter(|id| given.contains_key(*id)) {
        // What the last run gave may lack what this plan file asks for; in its turn the step is asked with what is there then.
        let Ok(Resolved::Value(input)) = resolve::input(definition, definition.step(id)?, &given) else { continue };
        let (answer, receiver) = oneshot::channel();
        asked.insert(id.clone(), (input.clone(), receiver));
        looks.push(Look { id: id.clone(), input, answer });
    }
    let left = history.unfinished().map(|run| run.steps.clone()).unwrap_or_default();
    let known = Known { answers, left: Arc::new(LeftIntents(left)) };
    let lent = known.clone();
    let looking = stream::iter(looks).for_each_concurrent(work.parallel.get(), move |look| {
        let known = lent.clone();
        async move {
            if !work.cancel.is_cancelled() {
                // Nobody listens once the step has been deferred.
                drop(look.answer.send(consider(work, &look.id, &look.input, known).await));
            }
        }
    });
    Ok((Ahead { asked: Mutex::new(asked), known }, looking))
}

impl Ahead {
    /// The answer about this step for this input; it is asked now unless it was asked before.
    pub(super) async fn answer(&self, work: &Workplace, id: &StepId, input: &Value) -> Answer {
        let early = self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some((asked, answer)) = early {
            // Also where the question has changed: two looks at one step would meet in its folder.
            if let Ok(answer) = answer.await
                && asked == *input
            {
                return answer;
            }
        }
        consider(work, id, input, self.known.clone()).await
    }
}

async fn consider(work: &Workplace, id: &StepId, input: &Value, known: Known) -> Answer {
    work.events.emit(EventKind::StepStarted { step: id.clone(), phase: Phase::Observe });
    let _phase = work.in_flight.enter(id, Phase::Observe);
    let kind = work.registry.require(&work.definition.step(id)?.kind)?;
    let cx = StepContext { answers: Some(known.answers), ..work.context(id, None, known.left)? };
    waiting::by_step(id, &work.events, kind.consider(&cx, input)).await
}
