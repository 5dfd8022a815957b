//! What commands on an environment begin with: project, environment, definition, AWS, folders, signals, lease.
use std::{path::PathBuf, process, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    aws::Aws,
    cli::Globals,
    engine::{
        apply,
        cancel::{self, InFlight},
        event::Events,
        history::History,
        lease::{Holder, Lease, LocalLease},
        workplace::{StateFolder, Workplace, private_folder},
    },
    failure::{Failure, FailureKind, exit},
    ids::{EnvironmentName, RunId},
    plan::read,
    steps::registry::Registry,
    ui,
};

/// The project's folder.
pub fn project(globals: &Globals) -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().map_err(|error| Failure::usage("there is no current folder").because(error))?;
    let project = read::find_project(globals.project.as_deref(), &here)?;
    Ok(std::path::absolute(&project).unwrap_or(project))
}

/// The environment that was named; the project's only one if none was.
pub fn environment(globals: &Globals, project: &std::path::Path) -> Result<EnvironmentName, Failure> {
    if let Some(name) = &globals.environment {
        return Ok(name.clone());
    }
    let all = read::environments(project);
    match all.as_slice() {
        [only] => EnvironmentName::parse(only.as_str()).map_err(|error| Failure::usage(error.to_string())),
        _ => Err(Failure::usage("no environment was named").next(format!("name one with -e: {}", all.join(", ")))),
    }
}

/// Everything that planning and applying need.
pub struct Session {
    /// For the engine.
    pub work: Workplace,
    /// Where journals are.
    pub state: StateFolder,
    /// What was done before.
    pub history: History,
    /// This run, new or gone on with.
    pub run: RunId,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Files of steps are kept until the run has ended well.
    Apply,
    /// Files of steps go with the process.
    Plan,
}

impl Session {
    /// Reads both files, checks the account, listens for Ctrl-C. Nothing is changed.
    pub async fn open(globals: &Globals, name: &EnvironmentName, purpose: Purpose) -> Result<Self, Failure> {
        let project = project(globals)?;
        let registry = Registry::standard();
        let definition = Arc::new(read::definition(&project, name, &registry)?);
        let state = StateFolder::of_this_user()?;
        let history = History::read(&state, name)?;
        if purpose == Purpose::Apply && !history.unreadable.is_empty() {
            return Err(history.damaged());
        }
        let run = match purpose {
            Purpose::Apply => apply::run_to_resume(&history, &definition.digest).map_or_else(apply::new_run_id, Ok)?,
            Purpose::Plan => apply::new_run_id()?,
        };
        let scratch = match purpose {
            Purpose::Apply => state.run(name, &run).join("scratch"),
            Purpose::Plan => state.plans(name).join(run.as_str()),
        };
        private_folder(&scratch)?;
        let (cancel, in_flight, events) = (CancellationToken::new(), InFlight::default(), Events::default());
        cancel::on_signals(cancel.clone(), events.clone(), in_flight.clone(), |left| {
            let left: Vec<String> = left.iter().map(|(step, phase)| format!("{step} ({})", ui::lines::phase_text(*phase))).collect();
            let left = if left.is_empty() { "nothing in flight".to_owned() } else { left.join(", ") };
            ui::to_stderr(&format!("left at once: {left}; the same command goes on from the journal"));
            process::exit(exit::INTERRUPTED.into());
        })?;
        let aws = &definition.environment.aws;
        let aws = tokio::select! {
            connected = Aws::connect_for_run(&aws.region, aws.deployer_role_arn.as_ref(), &aws.account_id, &run) => connected?,
            () = cancel.cancelled() => return Err(Failure::new(FailureKind::Interrupted, "interrupted; nothing was changed")),
        };
        let work = Workplace {
            registry: Arc::new(registry),
            project,
            scratch,
            aws: Arc::new(aws),
            events,
            cancel,
            in_flight,
            parallel: globals.parallel,
            definition,
        };
        Ok(Self { work, state, history, run })
    }
    /// Takes the environment's lease, or says who has it.
    pub fn lease(&self, holder: &Holder) -> Result<Arc<dyn Lease>, Failure> {
        Ok(Arc::new(LocalLease::acquire(&self.state.locks(), &self.work.definition.environment.name, holder)?))
    }
    /// Removes what steps kept for this run.
    pub fn tidy(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.work.scratch) {
            // Left files are no failure of the run; they are private and the next run makes its own.
            tracing::warn!("cannot remove {}: {error}", self.work.scratch.display());
        }
    }
}
