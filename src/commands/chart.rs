//! `chart pin`: the digests of the plan file's charts, resolved where there is a network and written into the plan file. `chart render`: what a
//! chart comes to, for a cluster that is not there yet.
use std::{io::Write as _, path::Path};

use atomic_write_file::AtomicWriteFile;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::session;
use crate::{
    aws::Aws,
    charts::{Origin, Reach},
    cli::{ChartCommand, ChartPinArgs, ChartRenderArgs, Globals},
    failure::{Failure, FailureKind, exit},
    ids::{ImageDigest, StepId},
    plan::{
        definition::Definition,
        edit,
        locate::Key,
        read::{self, PLAN_FILE},
        resolve,
    },
    steps::{
        Kind,
        chart::{ChartKind, Input, Place, Rendered, render_offline},
        registry::Registry,
    },
    ui::{Output, Ui},
};

/// One chart and its digest.
#[derive(Serialize)]
struct Pin {
    step: StepId,
    chart: String,
    version: String,
    digest: ImageDigest,
    was: Option<ImageDigest>,
}

/// What a plan file's step says of its chart.
struct Asked {
    step: StepId,
    /// Its place in the plan file.
    position: usize,
    origin: Origin,
    version: String,
    digest: Option<ImageDigest>,
}

/// Runs the command.
pub async fn run(command: ChartCommand, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    match command {
        ChartCommand::Pin(args) => pin(args, globals, ui).await,
        ChartCommand::Render(args) => render(args, globals, ui).await,
    }
}

async fn render(args: ChartRenderArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let (project, registry) = (session::project(globals)?, Registry::standard());
    let definition = read::definition(&project, &session::environment(globals, &project)?, &registry)?;
    let charts = definition.file.steps.iter().filter(|step| step.kind == ChartKind::NAME);
    let mut objects = Vec::new();
    for step in charts.filter(|step| args.steps.is_empty() || args.steps.contains(&step.id)) {
        if args.steps.is_empty()
            && let Some(reason) = resolve::left_out(&definition, step, &registry)?
        {
            ui.note(&format!("{}: left out: {reason}", step.id));
            continue;
        }
        let with = resolve::with_names(&definition, step)?;
        let input: Input = serde_json::from_value(with)
            .map_err(|error| Failure::usage("`with` does not fit kind chart").because(error).in_step(&step.id))?;
        let rendered = rendered(&project, &definition, &input, ui).await.map_err(|failure| failure.in_step(&step.id))?;
        rendered.left_out.iter().for_each(|(name, reason)| ui.note(&format!("{}: {name}: {reason}", step.id)));
        objects.extend(rendered.objects.into_iter().map(|object| object.value));
    }
    if let Some(unknown) = args.steps.iter().find(|id| definition.step(id).is_ok_and(|step| step.kind != ChartKind::NAME)) {
        return Err(Failure::usage(format!("step `{unknown}` is not of kind chart")));
    }
    args.steps.iter().try_for_each(|id| definition.step(id).map(drop))?;
    ui.objects(&objects)?;
    Ok(exit::DONE)
}

async fn rendered(project: &Path, definition: &Definition, input: &Input, ui: &Ui) -> Result<Rendered, Failure> {
    let aws = account(definition, [Origin::parse(&input.chart, input.repository.as_deref())?].iter()).await?;
    let scratch = tempfile::tempdir().map_err(|error| Failure::step("no folder to render a chart in").because(error))?;
    let progress = |line: &str| ui.note(line);
    let place = Place {
        project,
        environment: &definition.environment,
        services: &definition.file.services,
        credentials: definition.file.credentials,
        scratch: scratch.path(),
        aws: aws.as_ref(),
        // Ctrl-C ends the whole process here: nothing outside the scratch folder is touched.
        cancel: &CancellationToken::new(),
        progress: &progress,
    };
    render_offline(place, input).await
}

/// The account's identity, if a chart is in its own registry.
async fn account(definition: &Definition, mut origins: impl Iterator<Item = &Origin>) -> Result<Option<Aws>, Failure> {
    if !origins.any(Origin::needs_account) {
        return Ok(None);
    }
    let aws = &definition.environment.aws;
    Aws::connect(&aws.region, aws.deployer_role_arn.as_ref(), &aws.account_id).await.map(Some)
}

async fn pin(args: ChartPinArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let definition = read::definition(&project, &session::environment(globals, &project)?, &Registry::standard())?;
    let asked = asked(&definition, &args)?;
    let aws = account(&definition, asked.iter().map(|chart| &chart.origin)).await?;
    let reach = Reach { project: &project, aws: aws.as_ref() };
    let mut pins = Vec::new();
    for chart in &asked {
        let digest = chart.origin.digest(&chart.version, &reach).await.map_err(|failure| failure.in_step(&chart.step))?;
        // A tag may lead anywhere: what is pinned is a chart of this version, and was looked into.
        let folder = tempfile::tempdir().map_err(|error| Failure::step("no folder to unpack a chart in").because(error))?;
        let fetched = chart.origin.fetch(&chart.version, &digest, folder.path(), &reach).await;
        fetched.map_err(|failure| failure.in_step(&chart.step))?;
        pins.push(Pin {
            step: chart.step.clone(),
            chart: chart.origin.to_string(),
            version: chart.version.clone(),
            was: chart.digest.clone(),
            digest,
        });
    }
    if !args.print {
        write(&project.join(PLAN_FILE), &asked, &pins, &args)?;
    }
    match ui.output {
        Output::Json => ui.json(&pins)?,
        Output::Human => pins.iter().try_for_each(|pin| ui.data(&line(pin)))?,
    }
    Ok(exit::DONE)
}

fn line(pin: &Pin) -> String {
    let change = match &pin.was {
        Some(was) if *was == pin.digest => "as it was".to_owned(),
        Some(was) => format!("was {was}"),
        None => "new".to_owned(),
    };
    format!("{}  {} {}  {}  ({change})\n", pin.step, pin.chart, pin.version, pin.digest)
}

fn asked(definition: &Definition, args: &ChartPinArgs) -> Result<Vec<Asked>, Failure> {
    let mut charts = Vec::new();
    for (position, step) in definition.file.steps.iter().enumerate().filter(|(_, step)| step.kind == ChartKind::NAME) {
        if !args.steps.is_empty() && !args.steps.contains(&step.id) {
            continue;
        }
        let with = resolve::known(definition, step)?;
        let text = |key: &str| with[key].as_str();
        let (Some(chart), Some(version)) = (text("chart"), text("version")) else {
            return Err(Failure::usage("`chart` and `version` of a chart must not wait for other steps").in_step(&step.id));
        };
        let digest = text("digest").map(ImageDigest::parse).transpose();
        charts.push(Asked {
            step: step.id.clone(),
            position,
            origin: Origin::parse(chart, text("repository")).map_err(|failure| failure.in_step(&step.id))?,
            version: version.to_owned(),
            digest: digest.map_err(|error| Failure::usage(error.to_string()).in_step(&step.id))?,
        });
    }
    match args.steps.iter().find(|id| !charts.iter().any(|chart| chart.step == **id)) {
        Some(unknown) => Err(Failure::usage(format!("the plan file has no step `{unknown}` of kind chart"))),
        None if charts.is_empty() => Err(Failure::usage("the plan file has no step of kind chart")),
        None => Ok(charts),
    }
}

/// Writes every digest, or none.
fn write(path: &Path, asked: &[Asked], pins: &[Pin], args: &ChartPinArgs) -> Result<(), Failure> {
    let other = |chart: &Asked, pin: &Pin| pin.was.as_ref().is_some_and(|was| *was != pin.digest) && !chart.origin.is_own();
    if let Some((_, pin)) = asked.iter().zip(pins).find(|(chart, pin)| other(chart, pin))
        && !args.replace
    {
        let was = pin.was.as_ref().map(ImageDigest::as_str).unwrap_or_default();
        return Err(Failure::new(
            FailureKind::Policy,
            format!("the chart {} {} is {} now, and is pinned as {was}", pin.chart, pin.version, pin.digest),
        )
        .next("if `version` is a new one: deployctl chart pin --replace")
        .next("if it is not: find out who has changed a published version"));
    }
    let broken = |error: std::io::Error| Failure::step(format!("{} cannot be written", path.display())).because(error);
    let before = std::fs::read_to_string(path).map_err(broken)?;
    let mut text = before.clone();
    for (chart, pin) in asked.iter().zip(pins).filter(|(_, pin)| pin.was.as_ref() != Some(&pin.digest)) {
        let with = [Key::from("steps"), Key::from(chart.position), Key::from("with")];
        text = edit::set(&text, &with, "digest", pin.digest.as_str(), "version").map_err(|why| {
            Failure::usage(format!("{PLAN_FILE} is left as it is: {why}")).next(format!("write it there yourself: digest: {}", pin.digest))
        })?;
    }
    if text == before {
        return Ok(());
    }
    // Unlike files of ours, it keeps its mode: it is one of the project's.
    let mut file = AtomicWriteFile::open(path).map_err(broken)?;
    file.write_all(text.as_bytes()).and_then(|()| file.commit()).map_err(broken)
}
