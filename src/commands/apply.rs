//! `apply`: does what the plan shows. The same command goes on after a crash or a failure.
use super::{
    plan::show,
    session::{self, Purpose, Session},
};
use crate::{
    cli::{ApplyArgs, Globals},
    engine::{
        apply::{self, Ended},
        consider, limits,
    },
    failure::{Failure, FailureKind, LeftBehind, exit},
    ids::EnvironmentName,
    plan::{
        Plan, fresh, read, render,
        saved::{self, Saved},
        selection::Selection,
    },
    steps::registry::Registry,
    ui::{
        Output, Ui,
        confirm::Consent,
        report::{Collector, Report},
    },
};

/// Where the plan comes from.
enum Source {
    /// It is made now, and shown, and asked about.
    Now(Selection),
    /// It was shown when it was saved.
    Saved(Box<Saved>),
}

/// Plans or reads the plan, asks, applies, reports.
pub async fn run(args: ApplyArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let source = match &args.plan {
        Some(path) => Source::Saved(Box::new(saved::read(path)?)),
        None => Source::Now(args.selection.into()),
    };
    apply_from(source, globals, ui).await
}

/// Applies a part that needs no confirmation, such as checks.
pub async fn selected(selection: Selection, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    apply_from(Source::Now(selection), globals, ui).await
}

async fn apply_from(source: Source, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let name = match &source {
        Source::Now(_) => session::environment(globals, &session::project(globals)?)?,
        Source::Saved(saved) => match (&globals.environment, &saved.plan.environment) {
            (Some(named), planned) if named != planned => {
                return Err(Failure::new(FailureKind::PlanStale, format!("the saved plan is for {planned}, not for {named}"))
                    .next(format!("apply it without -e, or make one for {named}")));
            }
            (_, planned) => planned.clone(),
        },
    };
    refuse(&source, globals, &name)?;
    let session = Session::open(globals, &name, Purpose::Resume("apply"), ui).await?;
    let result = in_session(&session, source, globals, ui).await;
    if result.is_ok() {
        session.tidy();
    }
    session.end(result).await.map_err(|failure| failure.in_environment(&name))
}

/// Refuses what the files alone say can't be applied, before anybody is asked for anything.
fn refuse(source: &Source, globals: &Globals, name: &EnvironmentName) -> Result<(), Failure> {
    let registry = Registry::standard();
    let definition = read::definition(&session::project(globals)?, name, &registry)?;
    let selection = match source {
        Source::Now(selection) => selection,
        Source::Saved(saved) => &saved.plan.selection,
    };
    consider::refuse(&definition, &registry, selection)
}

async fn in_session(session: &Session, source: Source, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let (_plan, ended, report) = carried_out(session, plan(session, source, globals, ui), ui).await?;
    match ui.output {
        Output::Human => ui.data(&report.human())?,
        Output::Json => ui.json(&report)?,
    }
    match ended.failure {
        None => Ok(exit::DONE),
        Some(failure) => Err(with_next(failure, &ended.not_started, session)),
    }
}

/// Applies the plan that comes of `planning`, rendering both; tells how it ended.
pub(super) async fn carried_out(
    session: &Session,
    planning: impl Future<Output = Result<Plan, Failure>>,
    ui: &Ui,
) -> Result<(Plan, Ended, Report), Failure> {
    let Session { work, state, history, run, .. } = session;
    let (lease, holder) = session.held()?;
    apply::refuse_if_elsewhere(work, history)?;
    let mut renderers = ui.render(&work.events)?;
    let collector = Collector::start(&work.events, &mut renderers);
    let result = async {
        let plan = planning.await?;
        let journal = apply::open_journal(state, work, &plan, history, run, holder, &**lease)?;
        let ended = apply::apply(work, &plan, history, journal, lease.clone(), &ui.approver()).await?;
        Ok::<_, Failure>((plan, ended))
    }
    .await;
    renderers.finish().await?;
    let (plan, ended) = result?;
    Ok((plan, ended, collector.report()))
}

/// The plan that will be applied, shown and agreed to.
async fn plan(session: &Session, source: Source, globals: &Globals, ui: &Ui) -> Result<Plan, Failure> {
    let Session { work, history, .. } = session;
    match source {
        Source::Saved(saved) => {
            consider::preflight(work, &saved.plan.selection).await?;
            let now = consider::plan(work, &saved.plan.selection, history).await?;
            let plan = fresh::freshen(&saved, &now, history, &work.definition.dag)?;
            ui.note(&render::summary(&plan));
            Ok(plan)
        }
        Source::Now(selection) => agreed(session, &selection, &work.definition.environment.name.to_string(), globals, ui).await,
    }
}

/// The plan as it is now, shown and agreed to; `to` says for people where it goes.
pub(super) async fn agreed(session: &Session, selection: &Selection, to: &str, globals: &Globals, ui: &Ui) -> Result<Plan, Failure> {
    let Session { work, history, .. } = session;
    consider::preflight(work, selection).await?;
    let plan = consider::plan(work, selection, history).await?;
    // Standard output holds one document: with --output json that is the report.
    if ui.output == Output::Human {
        show(&plan, ui)?;
    }
    limits::check_guards(&work.definition.environment.guards, plan.changes())?;
    if plan.has_changes() {
        let consent = if globals.yes { Consent::Given } else { Consent::Ask };
        ui.confirm(&format!("Apply this to {to}?"), consent)?;
    }
    Ok(plan)
}

fn with_next(mut failure: Failure, not_started: &[crate::ids::StepId], session: &Session) -> Failure {
    if !not_started.is_empty() {
        let steps: Vec<&str> = not_started.iter().map(crate::ids::StepId::as_str).collect();
        failure.evidence.push(format!("not started: {}", steps.join(", ")));
    }
    let environment = &session.work.definition.environment.name;
    if let (FailureKind::Interrupted, LeftBehind::Nothing) = (failure.kind, &failure.left_behind) {
        failure.left_behind = LeftBehind::Partial(vec![format!("what the journal lists: deployctl status -e {environment}")]);
    }
    failure.next(format!("deployctl apply -e {environment}   (goes on from where it stopped)"))
}
