//! Everything that planning and applying have in common: who we are, where files go, which kinds there are.
use std::{
    num::NonZeroUsize,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{cancel::InFlight, event::Events};
use crate::{
    aws::Aws,
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, Region, RunId, StepId},
    plan::definition::Definition,
    steps::{Data, Intents, StepContext, registry::Registry},
};

/// Everything that planning and applying have in common.
#[derive(Clone)]
pub struct Workplace {
    /// What was asked for.
    pub definition: Arc<Definition>,
    /// The kinds.
    pub registry: Arc<Registry>,
    /// The folder that holds plans/, templates/, terraform/ and services/.
    pub project: PathBuf,
    /// Where steps keep files that belong to this run.
    pub scratch: PathBuf,
    /// AWS, as the deployer.
    pub aws: Arc<Aws>,
    /// Where events go.
    pub events: Events,
    /// The first Ctrl-C.
    pub cancel: CancellationToken,
    /// What runs just now.
    pub in_flight: InFlight,
    /// How many steps run side by side.
    pub parallel: NonZeroUsize,
    /// What becomes of data when steps are taken away.
    pub data: Data,
}

/// Makes a folder that nobody else can read.
pub fn private_folder(path: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::new(FailureKind::Preflight, format!("cannot make the folder {}", path.display())).because(error))
}

impl Workplace {
    /// What one step may touch.
    pub fn context(&self, step: &StepId, run: Option<RunId>, intents: Arc<dyn Intents>) -> Result<StepContext, Failure> {
        let scratch = self.scratch.join(step.as_str());
        private_folder(&scratch)?;
        Ok(StepContext {
            step: step.clone(),
            run,
            environment: Arc::new(self.definition.environment.clone()),
            services: Arc::new(self.definition.file.services.clone()),
            credentials: self.definition.file.credentials,
            project: self.project.clone(),
            scratch,
            aws: self.aws.clone(),
            events: self.events.clone(),
            cancel: self.cancel.clone(),
            intents,
            answers: None,
            data: self.data,
        })
    }
}

/// Where deployctl keeps what must outlive a process: `$XDG_STATE_HOME/deployctl`.
#[derive(Clone, Debug)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// The folder that the XDG variables, or else the home folder, lead to.
    pub fn of_this_user() -> Result<Self, Failure> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map(|folder| Self(folder.join("deployctl")))
            .ok_or_else(|| {
                Failure::new(FailureKind::Preflight, "neither XDG_STATE_HOME nor HOME names a folder for the journal").next("export HOME")
            })
    }
    /// A folder of the caller's choice.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
    /// Of what is done in another region than an environment's own: runs there have nothing to do with those here.
    #[must_use]
    pub fn in_region(&self, region: &Region) -> Self {
        Self(self.0.join("regions").join(region.as_str()))
    }
    /// Of an environment's runs.
    pub fn runs(&self, environment: &EnvironmentName) -> PathBuf {
        self.0.join("runs").join(environment.as_str())
    }
    /// Of one run.
    pub fn run(&self, environment: &EnvironmentName, run: &RunId) -> PathBuf {
        self.runs(environment).join(run.as_str())
    }
    /// Of what planning keeps while it runs.
    pub fn plans(&self, environment: &EnvironmentName) -> PathBuf {
        self.0.join("plans").join(environment.as_str())
    }
    /// Of terraform's process records: they outlive a run, because the next one may have to prove that terraform is dead.
    pub fn processes(&self, environment: &EnvironmentName) -> PathBuf {
        self.0.join("processes").join(environment.as_str())
    }
    /// Of locks.
    pub fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }
}

/// Milliseconds, for events.
pub fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
