//! `dr prepare`: what a restored database goes into, and with a warm standby what looks into it, by a plan over the same engine, in the DR region.
use std::collections::BTreeMap;

use super::{carry_out, subject};
use crate::{
    cli::Globals,
    commands::session::{self, Purpose, Session, Subject},
    failure::{Failure, FailureKind, exit},
    plan::{environment::Standby, read},
    ui::{Output, Ui},
};

/// What the environment wants prepared.
fn wanted(globals: &Globals) -> Result<Subject, Failure> {
    let project = session::project(globals)?;
    let environment = read::environment(&project, &session::environment(globals, &project)?)?;
    subject(globals, environment.recovery.standby.plan_file(), BTreeMap::new())
}

/// A session on what is prepared in the DR region.
pub async fn session(purpose: Purpose, globals: &Globals, ui: &Ui) -> Result<Session, Failure> {
    Session::open_on(globals, wanted(globals)?, purpose, ui).await
}

/// Plans, asks, applies.
pub async fn run(globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let subject = wanted(globals)?;
    let (name, region) = (subject.definition.environment.name.clone(), &subject.definition.environment.aws.region);
    if subject.definition.environment.recovery.standby == Standby::Backups {
        let file = format!("in plans/environments/{name}.yaml: recovery: {{ standby: pilot-light, cidr: … }}");
        return Err(Failure::usage(format!("environment {name} keeps nothing but backups in {region}"))
            .next(format!("{file}, with other addresses than network.cidr; `standby: warm` keeps a cluster there, too")));
    }
    let session = Session::open_on(globals, subject, Purpose::Resume("dr prepare"), ui).await?;
    let result = async {
        if !session.records.exists().await? {
            let what = format!("{} is not there: states and journals of the DR region are kept in it", session.records.place());
            return Err(Failure::new(FailureKind::Preflight, what).next("deployctl apply --only backend"));
        }
        nothing_warm_is_left_without_its_network(&session).await?;
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

/// A pilot light has no way out for nodes: made of a warm standby, it would take theirs away and leave them.
async fn nothing_warm_is_left_without_its_network(session: &Session) -> Result<(), Failure> {
    let environment = &session.work.definition.environment;
    if environment.recovery.standby == Standby::Warm {
        return Ok(());
    }
    let name = environment.cluster_name().map_err(|e| Failure::usage("the cluster's name").because(e))?;
    match session.work.aws.find_cluster(&name).await? {
        None => Ok(()),
        Some(_) => {
            let region = &environment.aws.region;
            let what = format!("the cluster {name} is in {region}, and a pilot light would leave it without a way out");
            Err(Failure::new(FailureKind::Policy, what)
                .next(format!("keep recovery.standby: warm in plans/environments/{}.yaml", environment.name))
                .next(format!("or delete the cluster by hand first: aws eks delete-cluster --region {region} --name {name}")))
        }
    }
}
