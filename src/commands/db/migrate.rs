//! `db migrate`: as apply does it for the steps that have migrations: checked, snapshot, run, rolled out, verified. And its dry run.
use std::collections::BTreeMap;

use super::{Command, Deployed, looked_at, status::described};
use crate::{
    cli::MigrateArgs,
    cluster::Cluster,
    commands::apply,
    failure::{Failure, FailureKind, exit},
    ids::{ServiceName, StepId},
    plan::selection::Selection,
    steps::service::{
        Migrations,
        migration::{self, DryRun},
    },
    ui::Output,
};

pub(super) async fn run(args: MigrateArgs, command: Command<'_>) -> Result<u8, Failure> {
    if args.dry_run {
        return dry_run(&command).await;
    }
    // A migration without the rollout that expects it would be a state that no plan describes.
    let Command { steps, globals, ui, .. } = command;
    let selection = Selection { only: steps, reason: Some("deployctl db migrate".to_owned()), ..Selection::default() };
    apply::selected(selection, globals, ui).await
}

async fn dry_run(command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let looked = looked_at(command, async |one: &Deployed, cluster: &Cluster, migrations: &Migrations| {
        let found = migration::dry_run(&one.cx, cluster, one.input.agent()?, &one.input.service, migrations).await?;
        Ok((one.input.service.clone(), found))
    })
    .await?;
    match ui.output {
        Output::Json => ui.json(&looked.iter().map(|(id, (_, found))| (id, found)).collect::<BTreeMap<_, _>>())?,
        Output::Human => looked.iter().try_for_each(|(id, (_, found))| ui.data(&told(id, found)))?,
    }
    looked.iter().try_for_each(|(id, (service, found))| refuse(service, found).map_err(|failure| failure.in_step(id)))?;
    Ok(exit::DONE)
}

fn told(id: &StepId, found: &DryRun) -> String {
    let mut text = described(id, &found.schema);
    text += &found.refused.iter().map(|refused| format!("  PostgreSQL refuses {refused}\n")).collect::<String>();
    text + &format!("  looked as {}, which can write nothing; PostgreSQL parsed {} statements and ran none\n", found.role, found.parsed)
}

fn refuse(service: &ServiceName, found: &DryRun) -> Result<(), Failure> {
    found.schema.refuse(service)?;
    let Some(first) = found.refused.first() else { return Ok(()) };
    let mut failure = Failure::new(FailureKind::Preflight, format!("PostgreSQL cannot parse the migrations of {service}: {first}"));
    failure.evidence.clone_from(&found.refused);
    Err(failure.next("mend the file, then run the same command again"))
}
