//! `dr status`, `dr prepare`, `dr restore`, `dr drill`: the database back in the DR region. None of them asks anything of the region that may be lost.
//! `dr object` brings uploads back, in either region.
mod answer;
mod drill;
mod loss;
mod object;
pub(super) mod prepare;
mod report;
mod restore;
mod source;
mod status;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    apply,
    session::{self, Place, Session, Subject},
};
use crate::{
    cli::{DrCommand, Globals, ObjectCommand},
    engine::{apply::Ended, workplace::StateFolder},
    failure::{Failure, FailureKind, LeftBehind},
    plan::{Plan, read, selection::Selection},
    steps::registry::Registry,
    ui::{Output, Ui},
};

/// What is restored, and how.
const RESTORE: &str = "plans/restore-rds.yaml";
/// The step of it that says the address, which a drill has not.
const ENDPOINT: &str = "endpoint";
/// What is restored to be thrown away.
const DRILL: &str = "plans/drill-rds.yaml";

/// Runs one of them.
pub async fn run(command: DrCommand, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    match command {
        DrCommand::Status => status::run(globals, ui).await,
        DrCommand::Prepare => prepare::run(globals, ui).await,
        DrCommand::Restore(args) => restore::run(args, globals, ui).await,
        DrCommand::Drill(args) => drill::run(args, globals, ui).await,
        DrCommand::Object(ObjectCommand::Restore(args)) => object::run(args, globals, ui).await,
    }
}

/// A plan file as it is seen from the DR region.
fn subject(globals: &Globals, plan_file: &str, parameters: BTreeMap<&str, Value>) -> Result<Subject, Failure> {
    let project = session::project(globals)?;
    let environment = read::environment(&project, &session::environment(globals, &project)?)?.in_dr_region();
    let registry = Registry::standard();
    let state = StateFolder::of_this_user()?.in_region(&environment.aws.region);
    let definition = read::definition_of(&project, plan_file, parameters, environment, &registry)?;
    Ok(Subject { place: Place::DrRegion, project, definition, registry, state })
}

/// Plans, shows, asks and applies, as `apply` does; `again` is the command that goes on after a failure.
async fn carry_out(session: &Session, again: &str, globals: &Globals, ui: &Ui) -> Result<(Plan, Ended), Failure> {
    match attempted(session, again, globals, ui).await? {
        (plan, ended, None) => Ok((plan, ended)),
        (_, _, Some(failure)) => Err(failure),
    }
}

/// The same, for whoever has something to tell of a run that failed.
async fn attempted(session: &Session, again: &str, globals: &Globals, ui: &Ui) -> Result<(Plan, Ended, Option<Failure>), Failure> {
    let environment = &session.work.definition.environment;
    let to = format!("{} in {}", environment.name, environment.aws.region);
    let (plan, mut ended, report) =
        apply::carried_out(session, apply::agreed(session, &Selection::default(), &to, globals, ui), ui).await?;
    if ui.output == Output::Human {
        ui.data(&report.human())?;
    }
    match ended.failure.take() {
        None => Ok((plan, ended, None)),
        Some(mut failure) => {
            if let (FailureKind::Interrupted, LeftBehind::Nothing) = (failure.kind, &failure.left_behind) {
                failure.left_behind = LeftBehind::Partial(vec![format!("what the journal lists: {}", ended.journal.display())]);
            }
            Ok((plan, ended, Some(failure.next(format!("{again}   (goes on from where it stopped)")))))
        }
    }
}
