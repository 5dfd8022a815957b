//! `db snapshot`, `db migrate`, `db status`: the database of the plan file's services, by hand. Migrations run as apply runs them.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    apply,
    session::{self, Purpose, Session},
};
use crate::{
    cli::{DbCommand, Globals},
    clock,
    engine::{consider, journal::NoIntents},
    failure::{Failure, FailureKind, LeftBehind, exit},
    ids::{EnvironmentName, SnapshotId, StepId},
    plan::{Decision, Plan, read, selection::Selection},
    steps::{
        StepContext,
        registry::Registry,
        service::{Schema, Snapshot},
    },
    ui::{Output, Ui},
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
    match command {
        DbCommand::Migrate => {
            // A migration without the rollout that expects it would be a state that no plan describes.
            let selection = Selection { only: steps, reason: Some("deployctl db migrate".to_owned()), ..Selection::default() };
            apply::selected(selection, globals, ui).await
        }
        DbCommand::Status => status(&environment, steps, globals, ui).await,
        DbCommand::Snapshot => snapshot(&environment, steps, globals, ui).await,
    }
}

async fn planned(session: &Session, steps: Vec<StepId>, ui: &Ui) -> Result<Plan, Failure> {
    let renderers = ui.render(&session.work.events)?;
    let selection = Selection { only: steps, ..Selection::default() };
    let plan = consider::plan(&session.work, &selection, &session.history).await;
    renderers.finish().await?;
    plan
}

/// What cannot be looked at before it was deployed.
fn not_there(step: &StepId, because: &[String], environment: &EnvironmentName) -> Failure {
    Failure::new(FailureKind::Preflight, format!("step {step} is not deployed: {} is not there", because.join(", ")))
        .next(format!("deployctl apply -e {environment}"))
}

async fn status(environment: &EnvironmentName, steps: Vec<StepId>, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let session = Session::open(globals, environment, Purpose::Plan, ui).await?;
    let plan = planned(&session, steps.clone(), ui).await;
    session.tidy();
    let plan = plan?;
    let mut schemas = BTreeMap::new();
    for id in &steps {
        match plan.step(id).map(|step| &step.decision) {
            Some(Decision::Planned { plan, .. }) => {
                let schema = plan.payload.get("schema").cloned().unwrap_or(Value::Null);
                let schema: Option<Schema> = serde_json::from_value(schema)
                    .map_err(|error| Failure::new(FailureKind::Internal, "the schema's status").because(error).in_step(id))?;
                schemas.insert(id, schema.unwrap_or_default());
            }
            Some(Decision::Deferred { because, .. }) => return Err(not_there(id, because, environment)),
            Some(Decision::Skipped { .. }) | None => {}
        }
    }
    if ui.output == Output::Json {
        ui.json(&schemas)?;
    } else {
        schemas.iter().try_for_each(|(id, schema)| ui.data(&described(id, schema)))?;
    }
    Ok(exit::DONE)
}

fn described(id: &StepId, schema: &Schema) -> String {
    let mut text = format!("{id}: schema version {}\n", schema.version.as_deref().unwrap_or("none"));
    let lines = |mark: &str, lines: &[String]| lines.iter().map(|line| format!("  {mark} {line}\n")).collect::<String>();
    text += &lines("pending", &schema.pending);
    text += &lines("PROBLEM", &schema.problems);
    text += &schema.unknown.iter().map(|why| format!("  not known: {why}\n")).collect::<String>();
    if schema.is_settled() && schema.problems.is_empty() {
        text += "  nothing is pending\n";
    }
    text
}

async fn snapshot(environment: &EnvironmentName, steps: Vec<StepId>, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let session = Session::open(globals, environment, Purpose::Once("db snapshot"), ui).await?;
    let result = take(&session, environment, steps, ui).await;
    session.tidy();
    let taken = session.end(result).await?;
    if ui.output == Output::Json {
        ui.json(&taken)?;
    } else {
        taken.iter().try_for_each(|(id, regions)| ui.data(&format!("{id} in {}\n", regions.join(" and "))))?;
    }
    Ok(exit::DONE)
}

/// Takes a snapshot of each instance once, and copies it to the DR region: a lost region copies nothing.
async fn take(
    session: &Session,
    environment: &EnvironmentName,
    steps: Vec<StepId>,
    ui: &Ui,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let plan = planned(session, steps.clone(), ui).await?;
    let renderers = ui.render(&session.work.events)?;
    let mut taken = BTreeMap::new();
    let mut instances = Vec::new();
    for id in &steps {
        let input = match plan.step(id).map(|step| &step.decision) {
            Some(Decision::Planned { input, .. }) => input,
            Some(Decision::Deferred { because, .. }) => return Err(not_there(id, because, environment)),
            Some(Decision::Skipped { .. }) | None => continue,
        };
        let Some(wanted) = input.get("snapshot").filter(|snapshot| !snapshot.is_null()) else { continue };
        let snapshot: Snapshot =
            serde_json::from_value(wanted.clone()).map_err(|error| Failure::usage(format!("`snapshot` of step {id}")).because(error))?;
        if instances.contains(&snapshot.instance) {
            continue;
        }
        instances.push(snapshot.instance.clone());
        let cx = session.work.context(id, None, Arc::new(NoIntents))?;
        let name = take_one(&cx, &snapshot).await.map_err(|failure| failure.in_step(id))?;
        let aws = &cx.environment.aws;
        taken.insert(name.to_string(), vec![aws.region.to_string(), aws.dr_region.to_string()]);
    }
    renderers.finish().await?;
    if taken.is_empty() {
        return Err(Failure::usage("no step of the plan file has `snapshot`"));
    }
    Ok(taken)
}

async fn take_one(cx: &StepContext, snapshot: &Snapshot) -> Result<SnapshotId, Failure> {
    // The second in the name makes it unique: the lease lets nobody else take one meanwhile.
    let at = clock::now().strftime("%Y%m%d%H%M%S").to_string();
    let id = SnapshotId::parse(format!("{}-manual-{at}", snapshot.instance))
        .map_err(|error| Failure::new(FailureKind::Internal, "a name for the snapshot").because(error))?;
    let mut tags = cx.environment.tags.clone();
    tags.insert("deployctl:environment".to_owned(), cx.environment.name.to_string());
    tags.insert("deployctl:by".to_owned(), "db snapshot".to_owned());
    let deadline = Duration::from_secs(snapshot.deadline_seconds);
    let patience = deadline + Duration::from_secs(30);
    let left = |failure: Failure| failure.left(LeftBehind::Partial(vec![format!("snapshot {id}")]));
    cx.aws.start_db_snapshot(&snapshot.instance, &id, &tags).await?;
    let waiting =
        cx.aws.wait_until_db_snapshot_available(&id, deadline, |found| cx.progress(format!("{} {} %", found.status, found.percent)));
    let taken = cx.wait_until(&format!("snapshot {id}"), patience, waiting).await.map_err(left)?;
    let there = cx.aws.in_region(&cx.environment.aws.dr_region);
    there.start_db_snapshot_copy(&taken.arn, &id, &snapshot.key()?, &tags).await.map_err(left)?;
    let waiting =
        there.wait_until_db_snapshot_available(&id, deadline, |found| cx.progress(format!("copy: {} {} %", found.status, found.percent)));
    cx.wait_until(&format!("the copy of {id} in {}", there.region()), patience, waiting).await.map_err(left)?;
    Ok(id)
}
