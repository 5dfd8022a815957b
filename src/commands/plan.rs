//! `plan`: shows everything that apply would do, and changes nothing.
use std::collections::BTreeMap;

use super::session::{self, Purpose, Session};
use crate::{
    cli::{Globals, PlanArgs},
    engine::consider,
    failure::{Failure, exit},
    plan::{
        Plan,
        estimate::{self, Estimate, Prices},
        read, render,
        resolve::{self, Found},
        saved,
        selection::Selection,
    },
    steps::registry::Registry,
    ui::{Output, Ui},
};

/// Plans, shows, and saves if asked to.
pub async fn run(args: PlanArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let selection = Selection::from(args.selection);
    let plan = if args.offline { offline(globals, &selection)? } else { observed(globals, &selection, ui).await? };
    if plan.has_changes() {
        let estimate = monthly(globals)?;
        match ui.output {
            Output::Human => ui.data(&format!("{}\n{}", render::human(&plan, ui.colour), estimate::human(&estimate)))?,
            Output::Json => ui.json(&WithEstimate { plan: &plan, estimate: &estimate })?,
        }
    } else {
        show(&plan, ui)?;
    }
    if let Some(path) = &args.out {
        let digest = saved::write(path, &plan)?;
        ui.note(&format!("saved as {} ({digest}); apply exactly this: deployctl apply {}", path.display(), path.display()));
    }
    Ok(if args.detailed_exitcode && plan.has_changes() { exit::CHANGES } else { exit::DONE })
}

/// A plan as a document, with what the environment costs a month.
#[derive(serde::Serialize)]
struct WithEstimate<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    estimate: &'a Estimate,
}

/// What the environment costs a month.
fn monthly(globals: &Globals) -> Result<Estimate, Failure> {
    let project = session::project(globals)?;
    let environment = read::environment(&project, &session::environment(globals, &project)?)?;
    Ok(estimate::of(&environment, &Prices::read(&project)?))
}

/// Shows a plan as data.
pub fn show(plan: &Plan, ui: &Ui) -> Result<(), Failure> {
    match ui.output {
        Output::Human => ui.data(&render::human(plan, ui.colour)),
        Output::Json => ui.json(plan),
    }
}

async fn observed(globals: &Globals, selection: &Selection, ui: &Ui) -> Result<Plan, Failure> {
    let project = session::project(globals)?;
    let session = Session::open(globals, &session::environment(globals, &project)?, Purpose::Plan, ui).await?;
    let renderers = ui.render(&session.work.events)?;
    let planning = async {
        consider::preflight(&session.work, selection).await?;
        consider::plan(&session.work, selection, &session.history).await
    };
    let plan = planning.await;
    renderers.finish().await?;
    session.tidy();
    plan
}

/// Files, references, order and bounds; whatever must be looked at is deferred.
fn offline(globals: &Globals, selection: &Selection) -> Result<Plan, Failure> {
    let project = session::project(globals)?;
    let registry = Registry::standard();
    let definition = read::definition(&project, &session::environment(globals, &project)?, &registry)?;
    let skipped = selection.skipped(&definition.dag)?;
    let none = BTreeMap::new();
    let mut found = BTreeMap::new();
    for id in definition.dag.order() {
        let step = definition.step(id)?;
        let left_out = resolve::left_out(&definition, step, &registry)?;
        let waits = match resolve::input(&definition, step, &none)? {
            crate::plan::reference::Resolved::Waits(waits) => waits.into_iter().collect(),
            crate::plan::reference::Resolved::Value(_) => Vec::new(),
        };
        let skipped = skipped.get(id).cloned().or(left_out);
        found.insert(id.clone(), skipped.map_or(Found::Waits(waits), |reason| Found::Skipped(reason, None)));
    }
    resolve::plan(&definition, selection, &registry, &project, found)
}
