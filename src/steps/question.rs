//! What planning asks inside the cluster. A plan may start one agent Job and no more, so every step's questions go into it together; outside
//! a plan, as when a step is verified, each is a Job of its own.
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::watch;

use super::StepContext;
use crate::{
    cluster::{AgentJob, Cluster},
    failure::{Failure, FailureKind},
    ids::ClusterName,
    manifests::Object,
};

/// The pod must be scheduled and its image pulled, besides the command's own time.
const BEGINNING: Duration = Duration::from_secs(240);

/// A command of the agent that looks and changes nothing.
#[derive(Clone, Debug)]
pub struct Question {
    /// The same for the same question, whichever image of the agent answers it.
    pub key: String,
    /// The command.
    pub job: AgentJob,
    /// Objects that are its alone: they are made before it and go when its Job goes.
    pub own: Vec<Object>,
}

/// Which cluster is asked what; nothing where a step does not ask.
pub type Asked = Option<(ClusterName, Vec<Question>)>;

/// What was answered, or why nothing was.
pub type Answer = Result<Value, (FailureKind, String)>;

/// The answers of one plan's questions.
pub struct Answers {
    all: watch::Receiver<Option<BTreeMap<String, Answer>>>,
    /// Whether the plan's one Job was spent on a question that nobody had foreseen.
    spent: AtomicBool,
}

impl Answers {
    /// They are there once the sender has sent them.
    pub fn awaited(all: watch::Receiver<Option<BTreeMap<String, Answer>>>) -> Self {
        Self { all, spent: AtomicBool::new(false) }
    }
    async fn answer(&self, cx: &StepContext, cluster: &Cluster, question: &Question) -> Result<Value, Failure> {
        let gone = |_| Failure::new(FailureKind::Internal, "nobody asks what was to be asked inside the cluster");
        let mut all = self.all.clone().wait_for(Option::is_some).await.map_err(gone)?.clone().unwrap_or_default();
        match all.remove(&question.key) {
            Some(answer) => answer.map_err(|(kind, message)| Failure::new(kind, message)),
            None if all.is_empty() && !self.spent.swap(true, Ordering::Relaxed) => alone(cx, cluster, question).await,
            None => Err(Failure::new(
                FailureKind::Preflight,
                "the plan's one agent Job was started before this could be asked; the next plan asks it",
            )),
        }
    }
}

async fn alone(cx: &StepContext, cluster: &Cluster, question: &Question) -> Result<Value, Failure> {
    let Question { job, own, .. } = question;
    let asking = cluster.run_job_with(job, own, |_| {});
    Ok(cx.wait_until(&format!("Job {}", job.name), job.deadline + BEGINNING, asking).await?.result)
}

/// Asks all of them in one Job of this cluster; what each has answered, by its key.
pub async fn ask_together(cx: &StepContext, cluster: &Cluster, questions: &[Question]) -> BTreeMap<String, Answer> {
    let jobs: Vec<AgentJob> = questions.iter().map(|question| question.job.clone()).collect();
    let own: Vec<Object> = questions.iter().flat_map(|question| question.own.clone()).collect();
    let longest = jobs.iter().map(|job| job.deadline).max().unwrap_or_default();
    let asking = cluster.run_together("questions", &jobs, &own);
    let told = |failure: Failure| (failure.kind, failure.message);
    match cx.wait_until("the agent's answers", longest + BEGINNING, asking).await {
        Ok(answers) => questions.iter().zip(answers).map(|(question, answer)| (question.key.clone(), answer.map_err(told))).collect(),
        Err(failure) => {
            let answer = Err(told(failure));
            questions.iter().map(|question| (question.key.clone(), answer.clone())).collect()
        }
    }
}

impl StepContext {
    /// The answer to a question that is asked inside the cluster.
    pub async fn ask(&self, cluster: &Cluster, question: &Question) -> Result<Value, Failure> {
        match &self.answers {
            Some(answers) => answers.answer(self, cluster, question).await,
            None => alone(self, cluster, question).await,
        }
    }
}
