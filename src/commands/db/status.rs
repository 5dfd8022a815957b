//! `db status`: which migrations are applied and pending, and what is wrong with them.
use std::collections::BTreeMap;

use super::{Command, deployed};
use crate::{
    commands::session::{Purpose, Session},
    failure::{Failure, exit},
    ids::StepId,
    steps::service::{Schema, migration},
    ui::Output,
};

pub(super) async fn run(command: &Command<'_>) -> Result<u8, Failure> {
    let ui = command.ui;
    let session = Session::open(command.globals, &command.environment, Purpose::Plan, ui).await?;
    let renderers = ui.render(&session.work.events)?;
    let looked = look(&session, command).await;
    session.tidy();
    renderers.finish().await?;
    let schemas = looked?;
    match ui.output {
        Output::Json => ui.json(&schemas)?,
        Output::Human => schemas.iter().try_for_each(|(id, schema)| ui.data(&described(id, schema)))?,
    }
    Ok(exit::DONE)
}

async fn look(session: &Session, command: &Command<'_>) -> Result<BTreeMap<StepId, Schema>, Failure> {
    let mut schemas = BTreeMap::new();
    for one in deployed(session, command)? {
        let Some(migrations) = &one.input.migrations else { continue };
        let looking = async {
            let cluster = one.cx.cluster(&one.input.cluster).await?;
            migration::observe(&one.cx, &cluster, one.input.agent()?, &one.input.service, migrations).await
        };
        let schema = looking.await.map_err(|failure| failure.in_step(&one.cx.step))?;
        schemas.insert(one.cx.step.clone(), schema);
    }
    Ok(schemas)
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
