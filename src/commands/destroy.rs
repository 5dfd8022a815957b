//! `destroy`: takes away what apply has made, in reverse order, once the environment's name was typed; data only if it was named too.
use std::{collections::BTreeMap, sync::Arc};

use super::session::{self, Purpose, Session};
use crate::{
    cli::{DestroyArgs, Globals},
    engine::{
        apply,
        destroy::{self, Order, Part, Permitted, Undo},
        journal::{Entry, Header, Journal},
        workplace::Workplace,
    },
    failure::{Failure, exit},
    ids::BucketName,
    plan::{digest, read, selection::Selection},
    steps::{Action, Data},
    ui::{Output, Ui, report::Collector},
};

/// What goes before the deployment's steps, from the project's root.
const PLAN_FILE: &str = "plans/destroy.yaml";

/// Looks, shows, asks for the name, takes away.
pub async fn run(args: DestroyArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let name = session::environment(globals, &session::project(globals)?)?;
    let session = Session::open(globals, &name, Purpose::Once("destroy"), ui).await?;
    let Session { work, state, history, run, .. } = &session;
    let (lease, holder) = session.held()?;
    let mut renderers = ui.render(&work.events)?;
    let collector = Collector::start(&work.events, &mut renderers);
    let result = async {
        apply::refuse_if_elsewhere(work, history)?;
        let data = if args.include_data { Data::Goes } else { Data::Stays };
        let work = Workplace { data, ..work.clone() };
        let environment = work.definition.environment.clone();
        let first = read::definition_of(&work.project, PLAN_FILE, BTreeMap::new(), environment, &work.registry)?;
        let first = Workplace { definition: Arc::new(first), ..work.clone() };
        let parts = [Part::decide(first, Order::AsWritten, history).await?, Part::decide(work.clone(), Order::Reversed, history).await?];
        let permitted = destroy::permitted(&parts).await?;
        if permitted.is_nothing() {
            ui.note(&format!("nothing of {name} is there that could be taken away"));
            return Ok((permitted.stays, None));
        }
        ui.note(&announcement(&parts, &permitted));
        ui.confirm_name(&name, args.confirm.as_deref())?;
        if args.include_data {
            ui.confirm_data(&bucket(&work)?, args.confirm_data.as_deref())?;
        }
        // Another definition than apply's, so that no apply goes on with a half-done destroy as if it were its own.
        let definition = digest::of(&("destroy", &work.definition.digest))?;
        let journal = Journal::create(&state.run(&name, run), Header::new(run.clone(), name.clone(), definition))?;
        journal.append(&Entry::Attempt {
            holder: holder.clone(),
            plan: digest::of(&permitted.changes)?,
            selection: Selection::default(),
            lease: lease.number(),
        })?;
        let mut stays = permitted.stays;
        stays.extend(destroy::destroy(&parts, journal, lease.clone()).await?);
        Ok((stays, Some(collector.clone())))
    }
    .await;
    renderers.finish().await?;
    session.tidy();
    let again = if args.include_data { " --include-data" } else { "" };
    let ended = session.end(result).await;
    let (stays, done) = ended.map_err(|failure| failure.next(format!("deployctl destroy -e {name}{again}   (takes away what is left)")))?;
    let report = done.map(|collector| collector.report());
    if ui.output == Output::Json {
        return ui.json(&serde_json::json!({ "report": report, "stays": stays })).map(|()| exit::DONE);
    }
    match report {
        Some(report) => ui.data(&report.human())?,
        None => ui.data("Nothing had to be taken away.\n")?,
    }
    for line in &stays {
        ui.data(&format!("stays: {line}\n"))?;
    }
    Ok(exit::DONE)
}

/// The bucket for uploads, by whose name data is named.
fn bucket(work: &Workplace) -> Result<BucketName, Failure> {
    let named = work.definition.environment.uploads_bucket(None);
    named.map_err(|e| Failure::usage("the environment's name is too long for its bucket").because(e))
}

fn announcement(parts: &[Part], permitted: &Permitted) -> String {
    let mut text = String::from("\nThis is taken away, in this order:\n");
    for (id, what) in parts.iter().flat_map(|part| &part.undo) {
        let kind = match what {
            Undo::Away { kind, .. } => format!("{id} ({kind})"),
            Undo::NotThere { waits } => format!("{id}: nothing of it is there ({} is not known)", waits.join(", ")),
        };
        text.push_str(&format!("  {kind}\n"));
        for (_, change) in permitted.changes.iter().filter(|(step, _)| step == id) {
            let mark = if change.action == Action::Delete { "-" } else { "~" };
            let details = if change.action == Action::Delete { String::new() } else { format!("  {}", change.details.join(", ")) };
            text.push_str(&format!("    {mark} {} {}{details}\n", change.resource, change.name));
        }
    }
    if !permitted.stays.is_empty() {
        text.push_str("This stays:\n");
        text.extend(permitted.stays.iter().map(|line| format!("  {line}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::path::Path;

    use super::*;
    use crate::{ids::EnvironmentName, steps::registry::Registry};

    #[test]
    fn the_committed_file_holds_with_every_environment_and_meets_no_step_of_the_deployment() {
        let (project, registry) = (Path::new(env!("CARGO_MANIFEST_DIR")), Registry::standard());
        for name in read::environments(project) {
            let name = EnvironmentName::parse(name).unwrap();
            let environment = read::environment(project, &name).unwrap();
            let first = read::definition_of(project, PLAN_FILE, BTreeMap::new(), environment, &registry).unwrap();
            let deployment = read::definition(project, &name, &registry).unwrap();
            // One journal holds both: a step's name is one step's.
            assert!(first.dag.order().iter().all(|id| !deployment.dag.order().contains(id)), "{:?}", first.dag.order());
        }
    }
}
