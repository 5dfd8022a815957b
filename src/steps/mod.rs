//! The kinds of steps. One file a kind, always in the order Input, Observed, plan, apply, verify, undo.
pub mod bearer;
pub mod chart;
pub mod copied_images;
pub mod endpoint_secret;
pub mod external_resources;
pub mod image;
pub mod inside;
pub mod live;
pub mod manifests;
pub mod question;
pub mod readers;
pub mod registry;
pub mod release;
pub mod restore;
pub mod service;
pub mod smoke;
pub mod state_backend;
pub mod terraform;
pub mod trial;
pub mod verification;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    aws, cluster,
    engine::event::{EventKind, Events, Outcome},
    failure::Failure,
    ids::{ClusterName, RunId, StepId},
    plan::{
        environment::Environment,
        file::{Credentials, Services},
    },
};

/// What a change does to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Makes it.
    Create,
    /// Changes it in place.
    Update,
    /// Deletes it and makes it again.
    Replace,
    /// Deletes it.
    Delete,
    /// Runs something: a migration, a build, a check.
    Run,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Run => "run",
        })
    }
}

/// One line of the diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// The type of the thing: a Terraform resource type, a Kubernetes kind, `image`, `migration`, `topic`, `bucket`.
    pub resource: String,
    /// Its address or name.
    pub name: String,
    /// The lines that differ, `path: before -> after`; secrets are never among them.
    pub details: Vec<String>,
}

/// The resource type of a check: a change that changes nothing, such as the smoke test. It runs in every apply and counts as no change.
pub const CHECK: &str = "check";

impl Change {
    /// Whether it is a check, which runs every time and is not counted among the changes.
    pub fn is_check(&self) -> bool {
        self.action == Action::Run && self.resource == CHECK
    }
}

/// What becomes of data when steps are taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// It stays, and so does whatever it cannot be read without.
    #[default]
    Stays,
    /// It goes too: somebody has named it.
    Goes,
}

/// Values for later steps, by name.
pub type Outputs = BTreeMap<String, Value>;

/// What was found, by the thing's name in its own field's words: `Deployment apps/parser`, `aws_vpc.this`, `topic file.parsed`. A saved plan
/// keeps it, and where today's differs it says what has moved. Never a secret, and nothing that moves by itself.
pub type Facts = BTreeMap<String, Value>;

/// What a kind has decided to do; part of the saved plan and of its digest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepPlan {
    /// The diff; empty means that nothing will be done.
    pub changes: Vec<Change>,
    /// What apply needs to do exactly this and no more: terraform's plan file in base64, rendered objects, digests, pending migrations.
    pub payload: Value,
}

/// What apply has done.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Changed, Unchanged or Skipped.
    pub outcome: Outcome,
    /// Values for later steps, as the plan file declares them; never a secret.
    pub outputs: BTreeMap<String, Value>,
}

/// Everything that a step may touch, and nothing else.
#[derive(Clone)]
pub struct StepContext {
    /// The step.
    pub step: StepId,
    /// The run; none while planning.
    pub run: Option<RunId>,
    /// The environment file.
    pub environment: Arc<Environment>,
    /// The services that the plan file declares.
    pub services: Arc<Services>,
    /// How the plan file has pods come to their roles.
    pub credentials: Credentials,
    /// The folder that holds plans/, templates/, terraform/ and services/.
    pub project: PathBuf,
    /// A 0700 folder of this step in this run; kept until the run has ended well.
    pub scratch: PathBuf,
    /// AWS, as the deployer role; clients are made when they are first asked for.
    pub aws: Arc<aws::Aws>,
    /// Where events go.
    pub events: Events,
    /// Cancelled by the first Ctrl-C: finish what is in flight, start nothing new.
    pub cancel: CancellationToken,
    /// The journal's door for what must be on disk before a call is made.
    pub intents: Arc<dyn Intents>,
    /// While a plan is made: what its one agent Job has answered.
    pub answers: Option<Arc<question::Answers>>,
    /// For `undo`.
    pub data: Data,
}

impl StepContext {
    /// Emits a progress line.
    pub fn progress(&self, message: impl Into<String>) {
        self.events.emit(EventKind::Progress { step: self.step.clone(), message: message.into(), of: None });
    }
    /// Says that a check has passed.
    pub fn checked(&self, what: impl Into<String>, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.events.emit(EventKind::Checked { step: self.step.clone(), what: what.into(), millis });
    }
    /// Waits for `work` until the deadline, says every 10 s what it waits for, and stops at the first Ctrl-C.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        let started = tokio::time::Instant::now();
        let mut tick = tokio::time::interval_at(started + Duration::from_secs(10), Duration::from_secs(10));
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = self.cancel.cancelled() => return Err(Failure::new(crate::failure::FailureKind::Interrupted, format!("interrupted while waiting for {what}"))),
                () = tokio::time::sleep_until(started + deadline) => return Err(Failure::timeout(what, deadline)),
                _ = tick.tick() => self.events.emit(EventKind::Waiting {
                    step: self.step.clone(),
                    what: what.to_owned(),
                    seconds: started.elapsed().as_secs(),
                    deadline_seconds: deadline.as_secs(),
                }),
            }
        }
    }
    /// A client for the named EKS cluster: endpoint and CA from DescribeCluster, token from STS.
    pub async fn cluster(&self, name: &ClusterName) -> Result<cluster::Cluster, Failure> {
        cluster::Cluster::connect(&self.aws, name).await
    }
    /// The same, if there is such a cluster and it has an endpoint already: in one that is still being made, or was never finished, is nothing.
    pub async fn standing_cluster(&self, name: &ClusterName) -> Result<Option<cluster::Cluster>, Failure> {
        match self.aws.find_cluster(name).await? {
            Some(found) if !found.endpoint.is_empty() => self.cluster(name).await.map(Some),
            _ => Ok(None),
        }
    }
}

/// Records, durably and before the call, what a resumed run must know: client tokens, chosen names.
pub trait Intents: Send + Sync {
    /// Returns the value recorded under `key` by an earlier attempt of this step in this run, else records and returns `fresh`.
    fn once(&self, step: &StepId, key: &str, fresh: Value) -> BoxFuture<'_, Result<Value, Failure>>;
    /// What was recorded under `key` by an attempt of this step that is to be gone on with. Records nothing.
    fn left(&self, step: &StepId, key: &str) -> Option<Value>;
}

/// A kind of step. Input is the plan file's `with`, its references resolved.
pub trait Kind: Send + Sync + 'static {
    /// The word in the plan file.
    const NAME: &'static str;
    /// Whether its apply runs a program that goes on for a while when deployctl dies.
    const LEAVES_A_PROCESS: bool = false;
    /// `with`.
    type Input: DeserializeOwned + schemars::JsonSchema + Send + Sync;
    /// What was found.
    type Observed: Serialize + DeserializeOwned + Send + Sync;

    /// What a deferred step may create at most: resource types, as in [`Change::resource`]. Read from `with` before its references resolve.
    fn bound(with: &Value, project: &std::path::Path) -> Vec<String>;
    /// Why the step does nothing in this environment; nothing if it does. Read from `with`, as far as its references need no step.
    fn left_out(_with: &Value) -> Option<String> {
        None
    }
    /// What apply refuses before anything is looked at, and a plan shows; read from the same.
    fn refused(_with: &Value) -> Option<Failure> {
        None
    }
    /// Refuses what is known to be missing before anything is looked at, so that nobody waits for a database to hear of a missing file. References
    /// in `with` are not followed yet.
    fn preflight(_cx: &StepContext, _with: &Value) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }
    /// What `observe` will ask inside which cluster, so that a plan can ask everything in one Job.
    fn questions(_cx: &StepContext, _input: &Self::Input) -> impl Future<Output = Result<question::Asked, Failure>> + Send {
        async { Ok(None) }
    }
    /// Reads what is there. Changes nothing.
    fn observe(cx: &StepContext, input: &Self::Input) -> impl Future<Output = Result<Self::Observed, Failure>> + Send;
    /// Decides. Pure: the same input and observation give the same plan.
    fn plan(input: &Self::Input, observed: &Self::Observed) -> Result<StepPlan, Failure>;
    /// What of the observation a saved plan keeps: all of it, unless a kind knows better.
    fn facts(_input: &Self::Input, observed: &Self::Observed) -> Result<Facts, Failure> {
        let internal =
            |e: serde_json::Error| Failure::new(crate::failure::FailureKind::Internal, "what was observed is not JSON").because(e);
        match serde_json::to_value(observed).map_err(internal)? {
            Value::Object(fields) => Ok(fields.into_iter().collect()),
            other => Ok(Facts::from([("found".to_owned(), other)])),
        }
    }
    /// The outputs that are certain before apply; `Some` also says that steps which need this one can be observed before it is applied.
    /// For those that are not, what the last run recorded is used; with `None`, creations defer the steps that need this one.
    fn known_outputs(_input: &Self::Input, _observed: &Self::Observed, _plan: &StepPlan) -> Option<Outputs> {
        None
    }
    /// Does what the plan says and nothing more. Idempotent: after a crash it is called again with the same plan.
    fn apply(cx: &StepContext, input: &Self::Input, plan: &StepPlan) -> impl Future<Output = Result<Applied, Failure>> + Send;
    /// A person has made sure that the program which an apply of this step left on the machine `host` has ended: gives back what that one
    /// held, and says what. `with` is the plan file's, its references not resolved.
    fn declared_dead(_cx: &StepContext, _with: &Value, _host: &str) -> impl Future<Output = Result<Vec<String>, Failure>> + Send {
        async { Ok(Vec::new()) }
    }
    /// Reads back what was done.
    fn verify(cx: &StepContext, input: &Self::Input, applied: &Applied) -> impl Future<Output = Result<(), Failure>> + Send;
    /// What `undo` would delete, for the guards; fails if it must not be begun. Changes nothing. Asked of every step before anything is taken
    /// away.
    fn would_delete(_cx: &StepContext, _input: &Self::Input) -> impl Future<Output = Result<Vec<Change>, Failure>> + Send {
        async { Ok(Vec::new()) }
    }
    /// What `undo` will leave, and why. Changes nothing, and asks little: `destroy` shows it before it asks.
    fn stays(_cx: &StepContext, _input: &Self::Input) -> impl Future<Output = Result<Vec<String>, Failure>> + Send {
        async { Ok(Vec::new()) }
    }
    /// Outputs that are recorded outside of the journal, for `destroy`: `with` is the plan file's, its references not resolved.
    fn recorded(_cx: &StepContext, _with: &Value) -> impl Future<Output = Result<Outputs, Failure>> + Send {
        async { Ok(Outputs::new()) }
    }
    /// Takes it away, for `destroy`; says what else stays and why. Idempotent: after a crash it is called again.
    fn undo(cx: &StepContext, input: &Self::Input) -> impl Future<Output = Result<Vec<String>, Failure>> + Send;
}
