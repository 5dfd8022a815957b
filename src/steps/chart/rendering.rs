//! From a pinned chart to its objects: fetched, checked, given its values, and rendered as often as wanted.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Input,
    rendered::{self, Reading, Rendered},
};
use crate::{
    aws::Aws,
    charts::{Chart, Origin, Reach},
    cluster::Capabilities,
    failure::{Failure, FailureKind},
    manifests::{Object, values_file},
    plan::{
        environment::Environment,
        file::{Credentials, Services},
    },
    steps::{StepContext, release::values_of},
    tools::helm,
};

/// Charts take seconds from the clock: two renderings that far apart see different ones.
const APART: Duration = Duration::from_millis(1_100);

/// Where a chart is rendered, and for what.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The project's folder.
    pub project: &'a Path,
    /// The environment file.
    pub environment: &'a Environment,
    /// The services that the plan file declares.
    pub services: &'a Services,
    /// How the plan file has pods come to their roles.
    pub credentials: Credentials,
    /// A folder of this rendering's own.
    pub scratch: &'a Path,
    /// For the account's own registry; none where nobody is logged in.
    pub aws: Option<&'a Aws>,
    /// Ends it.
    pub cancel: &'a CancellationToken,
    /// Hears what takes long.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Place<'a> {
    /// A step's.
    pub(super) fn of(cx: &'a StepContext, progress: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self {
            project: &cx.project,
            environment: &cx.environment,
            services: &cx.services,
            credentials: cx.credentials,
            scratch: &cx.scratch,
            aws: Some(&cx.aws),
            cancel: &cx.cancel,
            progress,
        }
    }
}

/// A chart that is ready to be rendered.
pub(super) struct Ready<'a> {
    place: Place<'a>,
    input: &'a Input,
    program: PathBuf,
    chart: Chart,
    values: Vec<PathBuf>,
    capabilities: Capabilities,
    api_versions: Vec<String>,
}

impl<'a> Ready<'a> {
    pub(super) async fn make(
        place: Place<'a>,
        input: &'a Input,
        capabilities: impl Future<Output = Result<Capabilities, Failure>>,
    ) -> Result<Self, Failure> {
        let (chart, capabilities) = tokio::try_join!(fetched(place, input), capabilities)?;
        let program = helm::program(place.cancel, place.progress).await?;
        let (values, api_versions) = (values_files(place, input)?, capabilities.api_versions());
        Ok(Self { place, input, program, chart, values, capabilities, api_versions })
    }

    /// One rendering; `home` is a name of its own.
    pub(super) async fn render(&self, home: &str) -> Result<Rendered, Failure> {
        let Self { place, input, .. } = self;
        let home = place.scratch.join(home);
        std::fs::create_dir_all(&home).map_err(|e| Failure::step(format!("no folder {}", home.display())).because(e))?;
        let rendering = helm::Rendering {
            chart: &self.chart.folder,
            release: &input.release,
            namespace: &input.namespace,
            values: &self.values,
            kubernetes_version: &self.capabilities.version,
            api_versions: &self.api_versions,
            home: &home,
        };
        let text = helm::template(&self.program, &rendering, place.cancel).await?;
        let reading = Reading { namespace: &input.namespace, capabilities: &self.capabilities, hooks: &input.hooks };
        let mut rendered = rendered::read(&text, &reading)?;
        if let Some(labels) = &input.create_namespace {
            let metadata = json!({ "name": input.namespace, "labels": labels });
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
            rendered.objects.insert(0, Object::new(namespace, "(create_namespace)".into(), 0)?);
        }
        Ok(rendered)
    }

    /// Two renderings, which differ in what the chart makes up.
    pub(super) async fn render_twice(&self) -> Result<(Rendered, Rendered), Failure> {
        let later = async {
            tokio::time::sleep(if asks_for_the_time(&self.chart.folder) { APART } else { Duration::ZERO }).await;
            self.render("two").await
        };
        tokio::try_join!(self.render("one"), later)
    }
}

/// What a chart comes to for a cluster that nobody can ask: of the environment file's version, serving what Kubernetes itself serves.
pub async fn render_offline(place: Place<'_>, input: &Input) -> Result<Rendered, Failure> {
    // An environment names no patch release.
    let version = format!("v{}.0", place.environment.cluster.version);
    Ready::make(place, input, async { Ok(Capabilities::of_version(&version)) }).await?.render("one").await
}

/// That a chart is pinned by nothing.
pub(super) fn unpinned(chart: &str, version: &str) -> Failure {
    let message = format!("the chart {chart} {version} has no digest: what is not pinned is not rendered");
    Failure::new(FailureKind::Policy, message).next("deployctl chart pin, where there is a network; it writes `digest` into the plan file")
}

async fn fetched(place: Place<'_>, input: &Input) -> Result<Chart, Failure> {
    let Some(digest) = &input.digest else { return Err(unpinned(&input.chart, &input.version)) };
    let origin = Origin::parse(&input.chart, input.repository.as_deref())?;
    origin.fetch(&input.version, digest, place.scratch, &Reach { project: place.project, aws: place.aws }).await
}

/// The files that helm is given, in the order in which they win.
fn values_files(place: Place<'_>, input: &Input) -> Result<Vec<PathBuf>, Failure> {
    let mut own = Map::from_iter([
        ("cluster".to_owned(), input.cluster.as_str().into()),
        ("release".to_owned(), input.release.as_str().into()),
        ("namespace".to_owned(), input.namespace.as_str().into()),
    ]);
    own.extend(input.template_values.clone());
    let seen = values_of(place.project, place.environment, place.services, place.credentials, &own)?;
    let mut all = Vec::new();
    for file in &input.values_files {
        all.push(values_file(&place.project.join(file), &seen)?);
    }
    all.push(Value::Object(input.values.clone()));
    let write = |(number, values): (usize, &Value)| {
        let path = place.scratch.join(format!("values-{number}.json"));
        let written = std::fs::write(&path, values.to_string());
        written.map_err(|e| Failure::step(format!("{} cannot be written", path.display())).because(e))?;
        Ok::<_, Failure>(path)
    };
    all.iter().enumerate().map(write).collect()
}

/// The texts of a chart's folder; none of one that is no folder.
fn texts(folder: &Path) -> Vec<String> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            } else {
                found.extend(std::fs::read_to_string(entry.path()));
            }
        }
    }
    found
}

/// Kinds that the files of a chart's folder mention.
pub(super) fn mentioned(folder: &Path) -> Vec<String> {
    let texts = texts(folder);
    let kinds = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("kind: ")).map(str::trim);
    kinds.filter(|kind| kind.chars().all(char::is_alphanumeric)).map(str::to_owned).collect()
}

/// Whether a template may ask what time it is: a word in a comment counts too, and costs a second.
fn asks_for_the_time(folder: &Path) -> bool {
    let is_call = |word: &str| matches!(word, "now" | "date" | "ago" | "htmlDate");
    texts(folder).iter().any(|text| text.contains("{{") && text.split(|letter: char| !letter.is_alphanumeric()).any(is_call))
}
