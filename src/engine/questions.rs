//! Gathers what the steps of a plan will ask inside the cluster, with what the last run gave, and asks it in one Job beside everything else.
use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use super::{history::History, journal::NoIntents, workplace::Workplace};
use crate::{
    failure::Failure,
    ids::{ClusterName, StepId},
    plan::{reference::Resolved, resolve},
    steps::{
        StepContext,
        question::{Answer, Answers, Question, ask_together},
    },
};

/// The answers of these steps' questions; they are asked when the second part is polled.
pub(super) fn questions<'a>(
    work: &'a Workplace,
    history: &'a History,
    steps: &'a [&'a StepId],
) -> (Arc<Answers>, impl Future<Output = Result<(), Failure>> + use<'a>) {
    let (sender, answers) = watch::channel(None);
    let asking = async move {
        let answers = match gathered(work, history, steps).await? {
            Some((cx, cluster, questions)) => match cx.cluster(&cluster).await {
                Ok(cluster) => ask_together(&cx, &cluster, &questions).await,
                Err(failure) => unasked(&questions, &failure),
            },
            None => BTreeMap::new(),
        };
        // Nobody listens once every step was deferred.
        drop(sender.send(Some(answers)));
        Ok(())
    };
    (Arc::new(Answers::awaited(answers)), asking)
}

fn unasked(questions: &[Question], failure: &Failure) -> BTreeMap<String, Answer> {
    questions.iter().map(|question| (question.key.clone(), Err((failure.kind, failure.message.clone())))).collect()
}

/// One step's context, to say what is waited for, and what is asked of which cluster.
type Together = (StepContext, ClusterName, Vec<Question>);

/// The questions that one Job can answer: of one cluster, in one namespace, as one service account. What another would have to be asked for
/// stays unknown in this plan.
async fn gathered(work: &Workplace, history: &History, steps: &[&StepId]) -> Result<Option<Together>, Failure> {
    let definition = &work.definition;
    let given = history.given(definition.dag.order());
    let asked = steps.iter().map(|id| {
        let given = &given;
        async move {
            let step = definition.step(id)?;
            let Ok(Resolved::Value(input)) = resolve::input(definition, step, given) else { return Ok(None) };
            let cx = work.context(id, None, Arc::new(NoIntents))?;
            match work.registry.require(&step.kind)?.questions(&cx, &input).await {
                Ok(Some((cluster, questions))) if !questions.is_empty() => Ok(Some((cx, cluster, questions))),
                Ok(_) => Ok::<_, Failure>(None),
                Err(failure) => {
                    // In its turn the step meets the same, and says it as its own failure.
                    tracing::debug!("a step's questions are not known: {}", failure.chain().join(": "));
                    Ok(None)
                }
            }
        }
    });
    let mut together: Option<Together> = None;
    for found in futures::future::join_all(asked).await {
        let Some((cx, cluster, questions)) = found? else { continue };
        match &mut together {
            None => together = Some((cx, cluster, questions)),
            Some((_, known, all)) if *known == cluster => {
                let alike = |question: &Question| {
                    let (own, first) = (&question.job.pod, &all[0].job.pod);
                    (&own.namespace, &own.service_account) == (&first.namespace, &first.service_account)
                };
                let alike: Vec<Question> = questions.into_iter().filter(alike).collect();
                all.extend(alike);
            }
            Some(_) => {}
        }
    }
    Ok(together)
}
