//! `dr prepare`: what a restored database goes into, by a plan over the same engine, in the DR region.
use std::collections::BTreeMap;

use super::{PREPARE, carry_out, subject};
use crate::{
    cli::Globals,
    commands::session::{Purpose, Session},
    failure::{Failure, FailureKind, exit},
    plan::environment::Standby,
    ui::{Output, Ui},
};

/// A session on what is prepared in the DR region.
pub async fn session(purpose: Purpose, globals: &Globals, ui: &Ui) -> Result<Session, Failure> {
    Session::open_on(globals, subject(globals, PREPARE, BTreeMap::new())?, purpose, ui).await
}

/// Plans, asks, applies.
pub async fn run(globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let subject = subject(globals, PREPARE, BTreeMap::new())?;
    let name = subject.definition.environment.name.clone();
    if subject.definition.environment.recovery.standby == Standby::Backups {
        return Err(Failure::usage(format!(
            "environment {name} keeps nothing but backups in {}",
            subject.definition.environment.aws.region
        ))
        .next(format!(
            "in plans/environments/{name}.yaml: recovery: {{ standby: pilot-light, cidr: … }}, with other addresses than network.cidr"
        )));
    }
    let session = Session::open_on(globals, subject, Purpose::Resume("dr prepare"), ui).await?;
    let result = async {
        if !session.records.exists().await? {
            let what = format!("{} is not there: states and journals of the DR region are kept in it", session.records.place());
            return Err(Failure::new(FailureKind::Preflight, what).next("deployctl apply --only backend"));
        }
        carry_out(&session, "deployctl dr prepare", globals, ui).await
    }
    .await;
    if result.is_ok() {
        session.tidy();
    }
    let (plan, ended) = session.end(result).await.map_err(|failure| failure.in_environment(&name))?;
    if ui.output == Output::Json {
        ui.json(&serde_json::json!({ "environment": name, "region": plan.region, "run": ended.run, "changed": plan.has_changes() }))?;
    }
    Ok(exit::DONE)
}
