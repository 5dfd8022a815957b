//! `image build` and `image push`: the image steps of the plan file, by hand.
use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::{apply, session};
use crate::{
    cli::{Globals, ImageArgs, ImageCommand},
    failure::{Failure, exit},
    ids::{ServiceName, StepId},
    image::{self, Order},
    plan::{definition::Definition, read, reference::Resolved, resolve, selection::Selection},
    steps::{
        image::{Input, packages},
        registry::Registry,
    },
    ui::{Output, Ui},
};

const KIND: &str = "image";

/// Builds here, or builds and pushes.
pub async fn run(command: ImageCommand, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let definition = read::definition(&project, &session::environment(globals, &project)?, &Registry::standard())?;
    let steps: Vec<StepId> = definition.file.steps.iter().filter(|step| step.kind == KIND).map(|step| step.id.clone()).collect();
    if steps.is_empty() {
        return Err(Failure::usage(format!("the plan file has no step of kind `{KIND}`")));
    }
    match command {
        ImageCommand::Push => {
            let selection = Selection { only: steps, reason: Some("deployctl image push".to_owned()), ..Selection::default() };
            apply::selected(selection, globals, ui).await
        }
        ImageCommand::Build(args) => build(&definition, &steps, &args, &project, ui).await,
    }
}

async fn build(definition: &Definition, steps: &[StepId], args: &ImageArgs, project: &std::path::Path, ui: &Ui) -> Result<u8, Failure> {
    let mut digests = BTreeMap::new();
    let mut unknown: Vec<&ServiceName> = args.services.iter().collect();
    for id in steps {
        let input = input(definition, id)?;
        let packages = packages(&input)?;
        let asked = |name: &str| args.services.is_empty() || args.services.iter().any(|service| service.as_str() == name);
        unknown.retain(|name| !packages.iter().any(|package| package.name == name.as_str()));
        let wanted: Vec<&str> = packages.iter().map(|package| package.name.as_str()).filter(|name| asked(name)).collect();
        let scratch = tempfile::tempdir().map_err(|error| Failure::step("no folder to build in").because(error))?;
        // Ctrl-C ends the whole process here: nothing outside the scratch folder is touched.
        let cancel = CancellationToken::new();
        let progress = |line: &str| ui.note(line);
        let (builder, profile) = (input.builder, input.profile);
        let order = Order { builder, profile, project, scratch: scratch.path(), packages: &packages, wanted: &wanted };
        let images = image::build(order, &cancel, &progress).await?;
        digests.extend(images.into_iter().map(|(name, image)| (name, image.manifest.digest)));
    }
    if let Some(name) = unknown.first() {
        return Err(Failure::usage(format!("the plan file has no service `{name}`")));
    }
    match ui.output {
        Output::Json => ui.json(&digests)?,
        Output::Human => digests.iter().try_for_each(|(name, digest)| ui.data(&format!("{name} {digest}\n")))?,
    }
    Ok(exit::DONE)
}

fn input(definition: &Definition, id: &StepId) -> Result<Input, Failure> {
    match resolve::input(definition, definition.step(id)?, &BTreeMap::new())? {
        Resolved::Value(value) => serde_json::from_value(value)
            .map_err(|error| Failure::usage(format!("`with` of step {id} does not fit kind {KIND}")).because(error)),
        Resolved::Waits(waits) => {
            let waits: Vec<String> = waits.into_iter().collect();
            Err(Failure::usage(format!("step {id} needs {}, so that images cannot be built by themselves", waits.join(", "))))
        }
    }
}
