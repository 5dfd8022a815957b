//! `destroy`: takes away what apply has made, in reverse order, once the environment's name was typed.
use super::session::{self, Purpose, Session};
use crate::{
    cli::{DestroyArgs, Globals},
    engine::{
        consider,
        destroy::{self, Undo},
        journal::{Entry, Header, Journal},
    },
    failure::{Failure, exit},
    ids::StepId,
    plan::{digest, selection::Selection},
    steps::Change,
    ui::{Output, Ui, report::Collector},
};

/// Observes, shows, asks for the name, takes away.
pub async fn run(args: DestroyArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let name = session::environment(globals, &session::project(globals)?)?;
    let session = Session::open(globals, &name, Purpose::Once("destroy"), ui).await?;
    let Session { work, state, history, run, .. } = &session;
    let (lease, holder) = session.held()?;
    let mut renderers = ui.render(&work.events)?;
    let collector = Collector::start(&work.events, &mut renderers);
    let result = async {
        let plan = consider::plan(work, &Selection::default(), history).await?;
        let undo = destroy::decide(work, &plan, history)?;
        let gone = destroy::permitted(work, &undo).await?;
        ui.note(&announcement(&undo, &gone));
        ui.confirm_name(&name, args.confirm.as_deref())?;
        // Another definition than apply's, so that no apply goes on with a half-done destroy as if it were its own.
        let definition = digest::of(&("destroy", &plan.definition))?;
        let journal = Journal::create(&state.run(&name, run), Header::new(run.clone(), name.clone(), definition))?;
        journal.append(&Entry::Attempt {
            holder: holder.clone(),
            plan: digest::of(&plan)?,
            selection: plan.selection.clone(),
            lease: lease.number(),
        })?;
        destroy::destroy(work, undo, journal, lease.clone()).await
    }
    .await;
    renderers.finish().await?;
    session.tidy();
    let stays =
        session.end(result).await.map_err(|failure| failure.next(format!("deployctl destroy -e {name}   (takes away what is left)")))?;
    if ui.output == Output::Json {
        return ui.json(&serde_json::json!({ "report": collector.report(), "stays": stays })).map(|()| exit::DONE);
    }
    ui.data(&collector.report().human())?;
    for line in &stays {
        ui.data(&format!("stays: {line}\n"))?;
    }
    Ok(exit::DONE)
}

fn announcement(undo: &[(StepId, Undo)], gone: &[(StepId, Change)]) -> String {
    let mut text = String::from("\nThis is taken away, in this order:\n");
    for (id, what) in undo {
        match what {
            Undo::Away { kind, .. } => text.push_str(&format!("  {id} ({kind})\n")),
            Undo::NotThere { waits } => text.push_str(&format!("  {id}: nothing of it is there ({} is not known)\n", waits.join(", "))),
        }
        let own = gone.iter().filter(|(step, _)| step == id);
        text.extend(own.map(|(_, change)| format!("    - {} {}\n", change.resource, change.name)));
    }
    text
}
