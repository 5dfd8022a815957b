//! `smoke`: runs the smoke steps of the plan file and nothing else.
use super::{apply, session};
use crate::{
    cli::Globals,
    failure::Failure,
    ids::StepId,
    plan::{read, selection::Selection},
    steps::registry::Registry,
    ui::Ui,
};

const KIND: &str = "smoke";

/// Runs every step of kind `smoke`.
pub async fn run(globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let definition = read::definition(&project, &session::environment(globals, &project)?, &Registry::standard())?;
    let only: Vec<StepId> = definition.file.steps.iter().filter(|step| step.kind == KIND).map(|step| step.id.clone()).collect();
    if only.is_empty() {
        return Err(Failure::usage("the plan file has no step of kind `smoke`"));
    }
    apply::selected(Selection { only, reason: Some("deployctl smoke".to_owned()), ..Selection::default() }, globals, ui).await
}
