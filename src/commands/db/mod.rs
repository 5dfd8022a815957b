//! `db …`: the databases of the plan file's services. What they are is known from the last apply: nothing is planned for it.
mod list;
mod migrate;
mod prune;
mod restore;
mod snapshot;
mod status;
mod undo;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::session::{self, Purpose, Session};
use crate::{
    cli::{DbCommand, Globals},
    cluster::Cluster,
    database::{audit::Depth, watermark::Watermark},
    engine::journal::NoIntents,
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, StepId},
    plan::{read, reference::Resolved, resolve},
    steps::{
        Outputs, StepContext,
        inside::{Address, Inside},
        registry::Registry,
        service::{self, Migrations, Snapshot},
    },
    ui::Ui,
};

/// For every row of the living database to be read once.
const READ: Duration = Duration::from_secs(21_600);

/// Runs one of them.
pub async fn run(command: DbCommand, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let command_of = Command::of(globals, ui)?;
    match command {
        DbCommand::Snapshot(args) => snapshot::run(args, &command_of).await,
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

impl<'a> Command<'a> {
    fn of(globals: &'a Globals, ui: &'a Ui) -> Result<Self, Failure> {
        let project = session::project(globals)?;
        let environment = session::environment(globals, &project)?;
        let definition = read::definition(&project, &environment, &Registry::standard())?;
        let steps: Vec<StepId> =
            definition.file.steps.iter().filter(|step| step.with.get("migrations").is_some()).map(|step| step.id.clone()).collect();
        if steps.is_empty() {
            return Err(Failure::usage("no step of the plan file has `migrations`"));
        }
        Ok(Self { environment, steps, globals, ui })
    }
}

/// Up to when the living database has what was committed, by an agent beside it.
pub(super) async fn watermark(depth: Depth, globals: &Globals, ui: &Ui) -> Result<Watermark, Failure> {
    let command = Command::of(globals, ui)?;
    let read = looked_at(&command, async |one: &Deployed, cluster: &Cluster, migrations: &Migrations| {
        let Some(snapshot) = &one.input.snapshot else { return Ok(None) };
        let address = Address::of(&one.cx.aws, &snapshot.instance).await?;
        let address = address.ok_or_else(|| Failure::step(format!("{} has no address, or no secret of RDS' own", snapshot.instance)))?;
        let pod = one.input.agent()?;
        let inside = Inside { cx: &one.cx, cluster, pod, ca_config_map: &migrations.ca_config_map, address: &address };
        let said = inside.run("watermark", &["--depth".to_owned(), depth.to_string()], READ).await?;
        let read = serde_json::from_value(said["watermark"].clone());
        read.map(Some).map_err(|error| Failure::step("the agent's answer on the newest commit").because(error))
    });
    let first = read.await?.into_values().flatten().next();
    first.ok_or_else(|| Failure::usage("no step of the plan file has `snapshot`, which names the database"))
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
    let with = with_databases(session, command)?.into_iter();
    Ok(with.filter_map(|one| Some((one.cx, one.input.snapshot?))).collect())
}

/// The steps that snapshot an instance, one for each.
fn with_databases(session: &Session, command: &Command<'_>) -> Result<Vec<Deployed>, Failure> {
    let mut found: Vec<Deployed> = Vec::new();
    for one in deployed(session, command)? {
        let instance = |one: &Deployed| one.input.snapshot.as_ref().map(|snapshot| snapshot.instance.clone());
        if instance(&one).is_some() && found.iter().all(|other| instance(other) != instance(&one)) {
            found.push(one);
        }
    }
    if found.is_empty() {
        return Err(Failure::usage("no step of the plan file has `snapshot`, which names the database"));
    }
    Ok(found)
}
