//! Kind `image`: builds the services and the agent and pushes them by digest; what was built from the same sources before is found by its tag.
pub mod copies;
mod lifecycle;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::copies::CopyState;
use super::{
    Action, Applied, Change, Facts, Kind, Outputs, StepContext, StepPlan,
    live::{self, Retired, live_tag},
};
use crate::{
    aws::Aws,
    cache,
    engine::event::Outcome,
    failure::{Failure, FailureKind, LeftBehind},
    ids::{EnvironmentName, ImageDigest, RepositoryName},
    image::{Builder, Order, Package, Profile, Registry, Source, build, source_hash},
    plan::file::Services,
};

/// The cargo package and image of the agent: deployctl itself.
const AGENT: &str = "deployctl";

/// Kind `image`.
pub struct ImageKind;

/// `with` of kind `image`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What is built: `${services}`. A service's cargo package carries its name.
    pub services: Services,
    /// Also builds `deployctl`, which in-cluster Jobs run.
    #[serde(default)]
    pub agent: bool,
    /// Images that others publish, by name; they are outputs as they are, for steps that run them.
    #[serde(default)]
    pub published: BTreeMap<String, String>,
    /// Programs of this machine that become images instead of the published ones; a relative path is one of $XDG_CACHE_HOME/deployctl.
    #[serde(default)]
    pub programs: BTreeMap<String, PathBuf>,
    /// Repositories are `PREFIX/NAME`.
    pub repositories: String,
    /// `native`, `buildah` or `docker`.
    #[serde(default)]
    pub builder: Builder,
    /// Cargo's profile.
    #[serde(default)]
    pub profile: Profile,
}

/// One image, as it was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Its repository.
    pub repository: RepositoryName,
    /// Where its program comes from.
    pub from: Source,
    /// The permanent tag that says from which sources it was built.
    pub build_tag: String,
    /// What that tag leads to.
    pub digest: Option<ImageDigest>,
    /// Whether the tag that keeps it alive in this environment is there.
    pub live: Live,
    /// What of its repository somebody has changed, and is put right.
    #[serde(default)]
    pub weakened: Vec<String>,
}

/// Whether a digest carries the tag that lifecycle rules keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Live {
    /// It does.
    Tagged,
    /// It does not yet.
    Untagged,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// By the name of the output.
    pub images: BTreeMap<String, Found>,
    /// The registry's name in manifests.
    pub host: String,
    /// Live tags of the agent's older images. Those of services go once their rollout has succeeded; the agent's Jobs are over with their step.
    #[serde(default)]
    pub retired: Vec<Retired>,
    /// Whether each is in the DR region too, by the name of the output.
    #[serde(default)]
    pub copies: BTreeMap<String, CopyState>,
}

fn reference(host: &str, repository: &RepositoryName, digest: &ImageDigest) -> Value {
    Value::String(format!("{host}/{repository}@{digest}"))
}

/// Everything that a step of this kind builds.
pub fn packages(input: &Input) -> Result<Vec<Package>, Failure> {
    let mut packages: Vec<Package> = input
        .services
        .iter()
        .map(|(name, service)| Package { name: name.to_string(), from: Source::Cargo(service.source.clone()) })
        .collect();
    if input.agent {
        packages.push(Package { name: AGENT.into(), from: Source::Cargo(".".into()) });
    }
    if !input.programs.is_empty() {
        let folder = cache::folder()?;
        packages.extend(input.programs.iter().map(|(name, path)| Package { name: name.clone(), from: Source::Program(folder.join(path)) }));
    }
    Ok(packages)
}

fn published(input: &Input) -> impl Iterator<Item = (String, Value)> {
    let taken = input.published.iter().filter(|(name, _)| !input.programs.contains_key(*name));
    taken.map(|(name, image)| (name.clone(), Value::String(image.clone())))
}

async fn look_up(
    aws: &Aws,
    environment: &EnvironmentName,
    repository: RepositoryName,
    package: &Package,
    hash: &str,
) -> Result<Found, Failure> {
    let build_tag = format!("src-{hash}");
    let from = package.from.clone();
    let Some(there) = aws.find_repository(&repository).await? else {
        return Ok(Found { repository, from, build_tag, digest: None, live: Live::Untagged, weakened: Vec::new() });
    };
    let policy = lifecycle::policy();
    let (known, keeps) = tokio::try_join!(aws.image_by_tag(&repository, &build_tag), aws.has_lifecycle_policy(&repository, &policy))?;
    let mut weakened = there.weakened();
    if !keeps {
        weakened.push("lifecycle_policy: put back to the one that keeps what is live".to_owned());
    }
    let live = match &known {
        Some(image) if image.tags.contains(&live_tag(environment, &image.digest)) => Live::Tagged,
        _ => Live::Untagged,
    };
    Ok(Found { repository, from, build_tag, digest: known.map(|image| image.digest), live, weakened })
}

impl Kind for ImageKind {
    const NAME: &'static str = "image";
    type Input = Input;
    type Observed = Observed;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        vec!["image".into(), "update image".into(), "update ecr_repository".into()]
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let mut images = BTreeMap::new();
        let lookups = packages(input)?.into_iter().map(|package| async move {
            let hash = source_hash(&cx.project, &package, input.builder, input.profile)?;
            let repository = RepositoryName::parse(format!("{}/{}", input.repositories, package.name));
            let repository = repository.map_err(|e| Failure::usage("`repositories` of kind image").because(e))?;
            let found = look_up(&cx.aws, &cx.environment.name, repository, &package, &hash).await?;
            let copy = copies::look(cx, &found.repository, &found.build_tag, found.digest.as_ref()).await;
            Ok::<_, Failure>((package.name, found, copy))
        });
        let mut copies = BTreeMap::new();
        for found in futures::future::join_all(lookups).await {
            let (name, found, copy) = found?;
            copies.insert(name.clone(), copy);
            images.insert(name, found);
        }
        let retired = match images.get(AGENT).filter(|_| input.agent) {
            Some(found) => older_agents(cx, found).await?,
            None => Vec::new(),
        };
        Ok(Observed { images, host: cx.aws.registry_host(), retired, copies })
    }

    fn plan(_input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let mut changes = Vec::new();
        for (name, found) in &observed.images {
            if !found.weakened.is_empty() {
                let (name, details) = (found.repository.to_string(), found.weakened.clone());
                changes.push(Change { action: Action::Update, resource: "ecr_repository".into(), name, details });
            }
            let (action, mut details) = match (&found.digest, found.live) {
                (None, _) => (Action::Create, vec![format!("built from {}", found.build_tag)]),
                (Some(digest), Live::Untagged) => (Action::Update, vec![format!("{digest} becomes live here")]),
                (Some(_), Live::Tagged) => (Action::Update, Vec::new()),
            };
            details.extend((observed.copies.get(name) == Some(&CopyState::Missing)).then(|| "copied to the DR region".to_owned()));
            if details.is_empty() {
                continue;
            }
            changes.push(Change { action, resource: "image".into(), name: format!("{}:{}", found.repository, found.build_tag), details });
        }
        changes.extend(observed.retired.iter().map(Retired::change));
        let payload =
            serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of kind image").because(e))?;
        Ok(StepPlan { changes, payload })
    }

    /// Whether the other region answers, or has its copies by now, makes no plan stale.
    fn facts(_input: &Input, observed: &Observed) -> Result<Facts, Failure> {
        let seen = Observed { copies: BTreeMap::new(), ..observed.clone() };
        match serde_json::to_value(seen) {
            Ok(Value::Object(fields)) => Ok(fields.into_iter().collect()),
            Ok(other) => Ok(Facts::from([("found".to_owned(), other)])),
            Err(error) => Err(Failure::new(FailureKind::Internal, "the images that were found").because(error)),
        }
    }

    fn known_outputs(input: &Input, observed: &Observed, _plan: &StepPlan) -> Option<Outputs> {
        let known = observed.images.iter().map(|(name, found)| {
            let digest = found.digest.as_ref()?;
            Some((name.clone(), reference(&observed.host, &found.repository, digest)))
        });
        Some(published(input).chain(known.collect::<Option<Outputs>>()?).collect())
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let planned: Observed = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of kind image").because(e))?;
        // Registry first: an unreachable one should be known before a quarter of an hour of compiling.
        let registry = Registry::connect(&cx.aws).await?;
        let mut left = Vec::new();
        for found in planned.images.values() {
            cx.aws.ensure_repository(&found.repository, &cx.environment.tags).await?;
            cx.aws.ensure_lifecycle_policy(&found.repository, &lifecycle::policy()).await?;
            left.push(format!("ECR repository {}", found.repository));
        }
        let result = build_and_push(cx, input, &planned, &registry).await;
        let (outcome, outputs) = result.map_err(|failure| failure.left(LeftBehind::Partial(left)))?;
        Ok(Applied { outcome, outputs })
    }

    async fn verify(cx: &StepContext, input: &Input, applied: &Applied) -> Result<(), Failure> {
        let others: Outputs = published(input).collect();
        for (name, output) in applied.outputs.iter().filter(|(name, _)| !others.contains_key(*name)) {
            let started = tokio::time::Instant::now();
            let text = output.as_str().unwrap_or_default();
            let parts = text.split_once('/').and_then(|(_, rest)| rest.split_once('@'));
            let (repository, digest) = parts.ok_or_else(|| Failure::verification(format!("{text} is no reference by digest")))?;
            let wrong = |e: crate::ids::InvalidId| Failure::verification(format!("the image of {name}")).because(e);
            let (repository, digest) = (RepositoryName::parse(repository).map_err(wrong)?, ImageDigest::parse(digest).map_err(wrong)?);
            if cx.aws.image_by_digest(&repository, &digest).await?.is_none() {
                return Err(Failure::verification(format!("{repository}@{digest} is not in the registry")));
            }
            cx.checked(format!("{repository}@{} is in the registry", &digest.as_str()[..19]), started.elapsed());
        }
        Ok(())
    }

    async fn undo(_cx: &StepContext, _input: &Input) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    async fn stays(_cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        Ok(packages(input)?
            .iter()
            .map(|p| {
                format!("ECR repository {}/{} and its images: another environment or a restore may need them", input.repositories, p.name)
            })
            .collect())
    }
}

/// Live tags of the agent's images but for the one that is wanted and the newest other, with which somebody may be planning just now.
async fn older_agents(cx: &StepContext, found: &Found) -> Result<Vec<Retired>, Failure> {
    let live = live::live_images(&cx.aws, &cx.environment.name, &found.repository).await?;
    let other = live.into_iter().filter(|(_, image)| Some(&image.digest) != found.digest.as_ref());
    Ok(other.skip(1).map(|(tag, _)| Retired { repository: found.repository.clone(), tag }).collect())
}

async fn build_and_push(cx: &StepContext, input: &Input, planned: &Observed, registry: &Registry) -> Result<(Outcome, Outputs), Failure> {
    let mut todo = Vec::new();
    let mut digests: BTreeMap<String, ImageDigest> = BTreeMap::new();
    for (name, found) in &planned.images {
        let package = Package { name: name.clone(), from: found.from.clone() };
        // The sources that were planned, and no others, are built.
        let hash = source_hash(&cx.project, &package, input.builder, input.profile)?;
        if found.build_tag != format!("src-{hash}") {
            return Err(
                Failure::new(FailureKind::PlanStale, format!("the sources of {name} have changed since the plan")).next("deployctl plan")
            );
        }
        // An earlier attempt of this very apply may have pushed it already.
        match cx.aws.image_by_tag(&found.repository, &found.build_tag).await? {
            Some(image) => drop(digests.insert(name.clone(), image.digest)),
            None => todo.push(name.as_str()),
        }
    }
    let mut outcome = Outcome::Unchanged;
    if !todo.is_empty() {
        outcome = Outcome::Changed;
        let packages = packages(input)?;
        let what = format!("the images of {}", todo.join(", "));
        let progress = |line: &str| cx.progress(line);
        let (builder, profile) = (input.builder, input.profile);
        let order = Order { builder, profile, project: &cx.project, scratch: &cx.scratch, packages: &packages, wanted: &todo };
        let work = build(order, &cx.cancel, &progress);
        for (name, image) in cx.wait_until(&what, Duration::from_secs(7200), work).await? {
            let Some(found) = planned.images.get(&name) else { continue };
            let tags = [found.build_tag.clone()];
            let pushed = registry.push(&found.repository, &image, &tags).await?;
            cx.progress(format!(
                "{}: pushed {} blobs, {}",
                found.repository,
                pushed.uploaded.blobs,
                bytesize::ByteSize(pushed.uploaded.bytes)
            ));
            digests.insert(name, pushed.digest);
        }
    }
    let mut outputs: Outputs = published(input).collect();
    let mut elsewhere = Vec::new();
    for (name, digest) in digests {
        let Some(found) = planned.images.get(&name) else { continue };
        if found.live == Live::Untagged {
            registry.tag_digest(&found.repository, &digest, &live_tag(&cx.environment.name, &digest)).await?;
            outcome = Outcome::Changed;
        }
        outputs.insert(name.clone(), reference(&planned.host, &found.repository, &digest));
        if planned.copies.get(&name) == Some(&CopyState::Missing) {
            elsewhere.push(copies::Wanted { repository: found.repository.clone(), digest, build_tag: found.build_tag.clone() });
        }
    }
    live::retire(cx, &planned.retired).await?;
    if copies::make(cx, registry, &lifecycle::policy(), &elsewhere).await > 0 {
        outcome = Outcome::Changed;
    }
    if !planned.retired.is_empty() || planned.images.values().any(|found| !found.weakened.is_empty()) {
        outcome = Outcome::Changed;
    }
    Ok((outcome, outputs))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn observed(digest: Option<&str>, live: Live) -> Observed {
        let found = Found {
            repository: RepositoryName::parse("deployctl-x/parser").unwrap(),
            from: Source::Cargo("services/parser".into()),
            build_tag: "src-1".into(),
            digest: digest.map(|d| ImageDigest::parse(format!("sha256:{}", d.repeat(64))).unwrap()),
            live,
            weakened: Vec::new(),
        };
        Observed { images: BTreeMap::from([("parser".to_owned(), found)]), host: "h".into(), retired: Vec::new(), copies: BTreeMap::new() }
    }

    #[test]
    fn a_repository_that_somebody_weakened_is_a_change() {
        let mut found = observed(Some("a"), Live::Tagged);
        found.images.get_mut("parser").unwrap().weakened = vec!["image_tag_mutability: MUTABLE -> IMMUTABLE".into()];
        let [change] = &ImageKind::plan(&input(), &found).unwrap().changes[..] else { panic!("one change") };
        assert_eq!(
            (change.action, change.resource.as_str(), change.name.as_str()),
            (Action::Update, "ecr_repository", "deployctl-x/parser")
        );
        assert!(ImageKind::bound(&Value::Null, Path::new(".")).contains(&"update ecr_repository".to_owned()));
    }

    #[test]
    fn a_missing_copy_is_a_change_and_one_that_is_not_known_is_none() {
        let with = |copy| Observed { copies: BTreeMap::from([("parser".to_owned(), copy)]), ..observed(Some("a"), Live::Tagged) };
        let plan = |copy| ImageKind::plan(&input(), &with(copy)).unwrap().changes;
        assert_eq!(plan(CopyState::Missing)[0].details, ["copied to the DR region"]);
        for copy in [CopyState::There, CopyState::Unknown, CopyState::NotWanted] {
            assert_eq!(plan(copy), []);
        }
        let facts = |copy| ImageKind::facts(&input(), &with(copy)).unwrap();
        assert_eq!(facts(CopyState::Missing), facts(CopyState::Unknown), "it makes no plan stale");
    }

    fn input() -> Input {
        serde_json::from_value(json!({"services": {}, "repositories": "deployctl-x"})).unwrap()
    }

    #[test]
    fn a_known_image_is_no_change_and_its_output_is_certain() {
        let found = observed(Some("a"), Live::Tagged);
        let plan = ImageKind::plan(&input(), &found).unwrap();
        assert_eq!(plan.changes, []);
        let outputs = ImageKind::known_outputs(&input(), &found, &plan).unwrap();
        assert_eq!(outputs["parser"], json!(format!("h/deployctl-x/parser@sha256:{}", "a".repeat(64))));
    }

    #[test]
    fn an_unknown_image_is_created_and_its_output_is_not_certain() {
        let found = observed(None, Live::Untagged);
        let plan = ImageKind::plan(&input(), &found).unwrap();
        assert_eq!(plan.changes[0].action, Action::Create);
        assert_eq!(ImageKind::known_outputs(&input(), &found, &plan), None);
    }

    #[test]
    fn which_digest_has_moved_is_named() {
        let facts = |digest| ImageKind::facts(&input(), &observed(digest, Live::Tagged)).unwrap();
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let moved = crate::plan::fresh::differing(&facts(Some("a")), &facts(Some("b")));
        assert_eq!(moved, [format!("images parser.digest: \"{}\" -> \"{}\"", digest("a"), digest("b"))]);
    }
}
