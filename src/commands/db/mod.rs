//! `db …`: the databases of the plan file's services. What they are is known from the last apply: nothing is planned for it.
mod list;
mod migrate;
mod prune;
mod restore;
mod snapshot;
mod status;
mod undo;

use std::{collections::BTreeMap, sync::Arc};

use super::session::{self, Purpose, Session};
use crate::{
    cli::{DbCommand, Globals},
    cluster::Cluster,
    engine::journal::NoIntents,
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, StepId},
    plan::{read, reference::Resolved, resolve},
    steps::{
        Outputs, StepContext,
        registry::Registry,
        service::{self, Migrations, Snapshot},
    },
    ui::Ui,
};

/// Runs one of them.
pub async fn run(command: DbCommand, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = session::environment(globals, &project)?;
    let definition = read::definition(&project, &environment, &Registry::standard())?;
    let steps: Vec<StepId> =
        definition.file.steps.iter().filter(|step| step.with.get("migrations").is_some()).map(|step| step.id.clone()).collect();
    if steps.is_empty() {
        return Err(Failure::usage("no step of the plan file has `migrations`"));
    }
    let command_of = Command { environment, steps, globals, ui };
    match command {
        DbCommand::Snapshot => snapshot::run(&command_of).await,
        DbCommand::List => list::run(&command_of).await,
        DbCommand::Prune(args) => prune::run(args, &command_of).await,
        DbCommand::Migrate(args) => migrate::run(args, command_of).await,
        DbCommand::Status => status::run(&command_of).await,
        DbCommand::Undo(args) => undo::run(args, &command_of).await,
        DbCommand::Restore(args) => restore::run(args, &command_of).await,
    }
}

/// What each of them begins with.
struct Command<'a> {
    environment: EnvironmentName,
    /// The steps that have migrations.
    steps: Vec<StepId>,
    globals: &'a Globals,
    ui: &'a Ui,
}

/// A step that has migrations, as the last apply has left it.
struct Deployed {
    cx: StepContext,
    input: service::Input,
}

/// What every step has given last.
fn given(session: &Session) -> BTreeMap<StepId, Outputs> {
    session.history.given(session.work.definition.dag.order())
}

/// The steps that have migrations.
fn deployed(session: &Session, command: &Command<'_>) -> Result<Vec<Deployed>, Failure> {
    let (definition, given) = (&session.work.definition, given(session));
    let one = |id: &StepId| {
        let input = match resolve::input(definition, definition.step(id)?, &given)? {
            Resolved::Value(input) => input,
            Resolved::Waits(waits) => {
                let waits: Vec<String> = waits.into_iter().collect();
                let message = format!("step {id} is not deployed: {} is not there", waits.join(", "));
                return Err(Failure::new(FailureKind::Preflight, message).next(format!("deployctl apply -e {}", command.environment)));
            }
        };
        let input = serde_json::from_value(input)
            .map_err(|error| Failure::usage(format!("`with` of step {id} does not fit kind service")).because(error))?;
        Ok(Deployed { cx: session.work.context(id, None, Arc::new(NoIntents))?, input })
    };
    command.steps.iter().map(|id| one(id).map_err(|failure| failure.in_step(id))).collect()
}

/// What `ask` finds out of each step that has migrations, one after another; nothing is changed.
async fn looked_at<T>(
    command: &Command<'_>,
    ask: impl AsyncFn(&Deployed, &Cluster, &Migrations) -> Result<T, Failure>,
) -> Result<BTreeMap<StepId, T>, Failure> {
    let session = Session::open(command.globals, &command.environment, Purpose::Plan, command.ui).await?;
    let renderers = command.ui.render(&session.work.events)?;
    let looking = async {
        let mut found = BTreeMap::new();
        for one in deployed(&session, command)? {
            let Some(migrations) = &one.input.migrations else { continue };
            let asking = async { ask(&one, &one.cx.cluster(&one.input.cluster).await?, migrations).await };
            let answer = asking.await.map_err(|failure| failure.in_step(&one.cx.step))?;
            found.insert(one.cx.step.clone(), answer);
        }
        Ok(found)
    };
    let found = looking.await;
    session.tidy();
    renderers.finish().await?;
    found
}

/// The instances that these steps snapshot, each once.
fn databases(session: &Session, command: &Command<'_>) -> Result<Vec<(StepContext, Snapshot)>, Failure> {
    let mut found: Vec<(StepContext, Snapshot)> = Vec::new();
    for Deployed { cx, input } in deployed(session, command)? {
        if let Some(snapshot) = input.snapshot.filter(|wanted| found.iter().all(|(_, other)| other.instance != wanted.instance)) {
            found.push((cx, snapshot));
        }
    }
    if found.is_empty() {
        return Err(Failure::usage("no step of the plan file has `snapshot`, which names the database"));
    }
    Ok(found)
}
