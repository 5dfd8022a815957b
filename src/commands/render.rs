//! `render`: the manifests that a plan holds, as YAML, for eyes and for other tools.
use serde_json::Value;

use super::session::{self, Purpose, Session};
use crate::{
    cli::{Globals, RenderArgs},
    engine::consider,
    failure::{Failure, FailureKind, exit},
    ids::StepId,
    plan::{Decision, Plan, read, selection::Selection},
    steps::registry::Registry,
    ui::Ui,
};

/// Kinds whose plans hold Kubernetes objects.
const KINDS: [&str; 3] = ["manifests", "service", "chart"];

/// Plans the steps, which renders and validates their objects, and prints them.
pub async fn run(args: RenderArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = session::environment(globals, &project)?;
    let definition = read::definition(&project, &environment, &Registry::standard())?;
    let all = definition.file.steps.iter().filter(|step| KINDS.contains(&step.kind.as_str())).map(|step| step.id.clone());
    let only: Vec<StepId> = match &args.step {
        Some(step) => vec![definition.step(step)?.id.clone()],
        None => all.collect(),
    };
    let session = Session::open(globals, &environment, Purpose::Plan, ui).await?;
    let renderers = ui.render(&session.work.events)?;
    let selection = Selection { only: only.clone(), ..Selection::default() };
    let plan = consider::plan(&session.work, &selection, &session.history).await;
    renderers.finish().await?;
    session.tidy();
    let objects = objects(&plan?, &only)?;
    ui.objects(&objects)?;
    Ok(exit::DONE)
}

fn objects(plan: &Plan, only: &[StepId]) -> Result<Vec<Value>, Failure> {
    let mut objects = Vec::new();
    for id in only {
        match plan.step(id).map(|step| &step.decision) {
            Some(Decision::Planned { plan, .. }) => {
                let release = plan.payload.get("release").unwrap_or(&plan.payload);
                let rendered = release.get("objects").and_then(Value::as_array).into_iter().flatten();
                objects.extend(rendered.filter_map(|object| object.get("value").cloned()));
            }
            Some(Decision::Deferred { because, .. }) => {
                let waits = if because.is_empty() { "what is not observed".to_owned() } else { because.join(", ") };
                return Err(Failure::new(FailureKind::Preflight, format!("step {id} cannot be rendered before {waits} is there"))
                    .next(format!("deployctl apply -e {}", plan.environment)));
            }
            Some(Decision::Skipped { .. }) | None => {}
        }
    }
    Ok(objects)
}
