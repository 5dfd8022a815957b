//! `db status`: which migrations are applied and pending, and what is wrong with them.
use super::{Command, Deployed, looked_at};
use crate::{
    cluster::Cluster,
    failure::{Failure, exit},
    ids::StepId,
    steps::service::{Migrations, Schema, migration},
    ui::Output,
};

pub(super) async fn run(command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let schemas = looked_at(command, async |one: &Deployed, cluster: &Cluster, migrations: &Migrations| {
        migration::observe(&one.cx, cluster, one.input.agent()?, &one.input.service, migrations).await
    })
    .await?;
    match ui.output {
        Output::Json => ui.json(&schemas)?,
        Output::Human => schemas.iter().try_for_each(|(id, schema)| ui.data(&described(id, schema)))?,
    }
    Ok(exit::DONE)
}

/// What a person reads of a schema.
pub(super) fn described(id: &StepId, schema: &Schema) -> String {
    let mut text = format!("{id}: schema version {}\n", schema.version.as_deref().unwrap_or("none"));
    let lines = |mark: &str, lines: &[String]| lines.iter().map(|line| format!("  {mark} {line}\n")).collect::<String>();
    text += &lines("pending", &schema.pending);
    text += &lines("begun, and goes on:", &schema.begun);
    text += &lines("PROBLEM", &schema.problems);
    for finding in &schema.findings {
        text += &format!("  DANGEROUS {}\n", finding.to_string().replace('\n', "\n  "));
    }
    text += &lines("an INVALID index was left; if nobody makes it now:", &schema.repairs);
    text += &schema.unknown.iter().map(|why| format!("  not known: {why}\n")).collect::<String>();
    if schema.is_settled() && schema.problems.is_empty() {
        text += "  nothing is pending\n";
    }
    text += &schema.undo.iter().map(|file| format!("  can be undone by {file}\n")).collect::<String>();
    text
}
