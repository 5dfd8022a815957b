//! Kind `service`: a snapshot and migrations where any are pending, then the rollout, then what the load balancer answers with.
mod certificate;
pub mod migration;
pub mod paused;
mod reads;
pub mod snapshot;
mod upload;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Action, Applied, CHECK, Change, Facts, Kind, Outputs, StepContext, StepPlan,
    question::Asked,
    release::{AgentCommand, LOOKED_AT, Release, authorities_are_there, render_folders, template_bound, template_values, text_list},
};
use crate::{
    cluster::{ApplySet, Cluster, PodSettings},
    engine::event::Outcome,
    failure::{Failure, FailureKind, LeftBehind},
    ids::{ClusterName, ServiceName},
    manifests::Object,
    plan::environment::Strategy,
};

pub use certificate::address_authorities;
pub use migration::{Migrations, Schema};
pub use paused::Pause;
pub use reads::Reads;
pub use snapshot::Snapshot;
pub use upload::Upload;

/// Kind `service`.
pub struct ServiceKind;

/// `with` of kind `service`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster.
    pub cluster: ClusterName,
    /// The service, as the plan file declares it.
    pub service: ServiceName,
    /// Its image by digest.
    pub image: String,
    /// Its folder of templates, or several.
    #[serde(deserialize_with = "text_list")]
    pub templates: Vec<PathBuf>,
    /// Values for the templates, beside `service`, `settings`, `image` and those of kind `manifests`.
    #[serde(default)]
    pub values: Map<String, Value>,
    /// How a new version replaces the old one.
    #[serde(default)]
    pub strategy: Strategy,
    /// Where agent commands run.
    #[serde(default)]
    pub agent: Option<PodSettings>,
    /// Its migrations.
    #[serde(default)]
    pub migrations: Option<Migrations>,
    /// The snapshot that is taken before migrations run.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
    /// What it must be able to read; checked at every apply, after the rollout.
    #[serde(default)]
    pub reads: Option<Reads>,
    /// A file that is uploaded through it at every apply, after the rollout, and removed.
    #[serde(default)]
    pub upload: Option<Upload>,
    /// Run at every apply, after the rollout; they change nothing.
    #[serde(default)]
    pub checks: Vec<AgentCommand>,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// The objects.
    pub release: Release,
    /// The schema and what is pending; none without migrations.
    pub schema: Option<Schema>,
    /// The address that a load balancer has given it already.
    pub address: Option<String>,
}

impl Input {
    fn set(&self) -> ApplySet {
        ApplySet::new(self.service.as_str(), "deployctl")
    }
    /// Where agent commands run.
    pub fn agent(&self) -> Result<&PodSettings, Failure> {
        self.agent.as_ref().ok_or_else(|| Failure::usage("kind service: `migrations`, `upload` and `checks` need `agent`"))
    }
    /// Writes paused for no longer than `limit`, by an agent in this cluster.
    pub fn pause<'a>(&'a self, cluster: &'a Cluster, limit: std::time::Duration) -> Result<Pause<'a>, Failure> {
        let migrations = self.migrations.as_ref();
        let migrations = migrations
            .ok_or_else(|| Failure::usage("kind service: to pause writes needs `migrations`, which say how the database is reached"))?;
        Ok(Pause { cluster, pod: self.agent()?, ca_config_map: &migrations.ca_config_map, limit })
    }
    /// Names of what is checked at every apply.
    fn check_names(&self) -> Vec<&str> {
        let own = [
            self.migrations.is_some().then_some("schema"),
            self.reads.is_some().then_some("reads"),
            self.upload.is_some().then_some("upload"),
        ];
        own.into_iter().flatten().chain(self.checks.iter().map(|check| check.name.as_str())).collect()
    }
    fn outputs(&self, address: Option<String>) -> Outputs {
        let mut outputs = Outputs::from([("image".to_owned(), json!(self.image))]);
        outputs.extend(address.map(|address| ("address".to_owned(), json!(address))));
        outputs
    }
}

impl Kind for ServiceKind {
    const NAME: &'static str = "service";
    type Input = Input;
    type Observed = Observed;

    fn bound(with: &Value, project: &Path) -> Vec<String> {
        let mut bound = template_bound(with, project);
        bound.push(CHECK.to_owned());
        if !with["migrations"].is_null() {
            bound.extend(["migration", "snapshot"].map(String::from));
        }
        bound
    }

    async fn preflight(cx: &StepContext, with: &Value) -> Result<(), Failure> {
        authorities_are_there(with, &cx.project, &cx.environment)?;
        let named = with["service"].as_str();
        for (name, settings) in cx.environment.services.iter().filter(|(name, _)| named == Some(name.as_str())) {
            certificate::is_taken(cx, name, &settings.ingress).await?;
        }
        Ok(())
    }

    async fn questions(cx: &StepContext, input: &Input) -> Result<Asked, Failure> {
        let Some(migrations) = &input.migrations else { return Ok(None) };
        let question = migration::question(cx, input.agent()?, &input.service, migrations)?;
        Ok(Some((input.cluster.clone(), vec![question])))
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let mut values = template_values(cx, &input.values)?;
        let service = cx
            .services
            .get(&input.service)
            .ok_or_else(|| Failure::usage(format!("the plan file declares no service {}", input.service)))?;
        let settings = cx
            .environment
            .services
            .get(&input.service)
            .ok_or_else(|| Failure::usage(format!("the environment {} has no services.{}", cx.environment.name, input.service)))?;
        let internal = |e: serde_json::Error| Failure::new(FailureKind::Internal, "values for templates").because(e);
        values["name"] = json!(input.service);
        values["image"] = json!(input.image);
        values["service"] = serde_json::to_value(service).map_err(internal)?;
        values["settings"] = serde_json::to_value(settings).map_err(internal)?;
        let (objects, skipped) = render_folders(cx, &input.templates, &values, &std::collections::BTreeMap::new())?;
        is_replaced_by(input, &objects)?;
        let cluster = cx.cluster(&input.cluster).await?;
        let set = input.set();
        let release = Release::observe(cx, &cluster, &set, objects, skipped);
        let schema = async {
            match &input.migrations {
                Some(migrations) => migration::observe(cx, &cluster, input.agent()?, &input.service, migrations).await.map(Some),
                None => Ok(None),
            }
        };
        let (release, schema) = tokio::try_join!(release, schema)?;
        let address = match cx.wait_until("the load balancer's address to be read", LOOKED_AT, release.reached(&cluster)).await {
            // Who may not read it still sees what is planned elsewhere.
            Err(failure) if failure.kind == FailureKind::Credentials && cx.run.is_none() => None,
            reached => reached?.map(|reached| reached.address),
        };
        Ok(Observed { release, schema, address })
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let mut changes = Vec::new();
        if let Some(schema) = &observed.schema {
            schema.refuse(&input.service)?;
            if let (false, Some(snapshot)) = (schema.is_settled(), &input.snapshot) {
                changes.push(Change {
                    action: Action::Create,
                    resource: "snapshot".into(),
                    name: snapshot.instance.to_string(),
                    details: std::iter::once("before the migrations; copied to the DR region".to_owned())
                        .chain(snapshot.pause_seconds.map(|seconds| format!("nobody writes meanwhile, for {seconds} s at most")))
                        .collect(),
                });
            }
            changes.extend(schema.changes());
        }
        changes.extend(observed.release.changes.clone());
        changes.extend(input.check_names().into_iter().map(|name| Change {
            action: Action::Run,
            resource: CHECK.into(),
            name: name.to_owned(),
            details: Vec::new(),
        }));
        let payload =
            serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of kind service").because(e))?;
        Ok(StepPlan { changes, payload })
    }

    fn facts(_input: &Input, observed: &Observed) -> Result<Facts, Failure> {
        let mut facts = observed.release.facts()?;
        facts.insert("schema".to_owned(), json!(observed.schema));
        facts.insert("address".to_owned(), json!(observed.address));
        Ok(facts)
    }

    fn known_outputs(input: &Input, observed: &Observed, _plan: &StepPlan) -> Option<Outputs> {
        let expects_address = observed.release.objects.iter().any(|o| o.key.kind == "Ingress");
        (observed.address.is_some() || !expects_address).then(|| input.outputs(observed.address.clone()))
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let planned: Observed = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of kind service").because(e))?;
        let cluster = cx.cluster(&input.cluster).await?;
        let mut left = Vec::new();
        let (mut migrated, mut copy) = (Outcome::Unchanged, None);
        if let (Some(schema), Some(migrations)) = (planned.schema.as_ref().filter(|s| !s.is_settled()), &input.migrations) {
            if let Some(snapshot) = &input.snapshot {
                let limit = snapshot.pause_seconds.map(std::time::Duration::from_secs);
                let pause = limit.map(|limit| input.pause(&cluster, limit)).transpose()?;
                let taken = snapshot::take(cx, snapshot, pause.as_ref(), &input.service, schema).await?;
                left.push(format!("snapshot {}", taken.id));
                // The copy takes as long as it takes; migrations and rollout need not wait for it, the step's end does.
                copy = Some((snapshot, taken));
            }
            migration::run(cx, &cluster, input.agent()?, &input.service, migrations, schema)
                .await
                .map_err(|failure| with_left(failure, &left))?;
            left.push(format!("migrations of {}", input.service));
            migrated = Outcome::Changed;
        }
        let rolled_out = planned.release.apply(cx, &cluster).await.map_err(|failure| with_left(failure, &left))?;
        if let Some((snapshot, taken)) = copy {
            snapshot::wait_for_copy(cx, snapshot, &taken).await.map_err(|failure| with_left(failure, &left))?;
        }
        let reached = planned.release.reached(&cluster).await?;
        let mut outputs = input.outputs(reached.as_ref().map(|reached| reached.address.clone()));
        outputs.extend(reached.and_then(|reached| reached.load_balancer).map(|name| (upload::LOAD_BALANCER.to_owned(), json!(name))));
        let outcome = if migrated == Outcome::Changed { migrated } else { rolled_out };
        Ok(Applied { outcome, outputs })
    }

    async fn verify(cx: &StepContext, input: &Input, applied: &Applied) -> Result<(), Failure> {
        if input.check_names().is_empty() {
            return Ok(());
        }
        let cluster = cx.cluster(&input.cluster).await?;
        let schema = async {
            let Some(migrations) = &input.migrations else { return Ok(()) };
            let started = tokio::time::Instant::now();
            let found = migration::observe(cx, &cluster, input.agent()?, &input.service, migrations).await?;
            cx.checked(expected_schema(&input.service, &found)?, started.elapsed());
            Ok(())
        };
        let reads = async {
            match &input.reads {
                Some(reads) => reads::check(cx, &cluster, &input.service, reads).await,
                None => Ok(()),
            }
        };
        let upload = async {
            match &input.upload {
                Some(upload) => upload.command(cx, &input.service, applied)?.run_now(cx, &cluster, input.agent()?).await.map(drop),
                None => Ok(()),
            }
        };
        // A Job takes a second to start: what does not depend on each other is checked at the same time.
        tokio::try_join!(schema, reads, upload).map_err(Failure::unverified)?;
        for check in &input.checks {
            check.run_now(cx, &cluster, input.agent()?).await.map_err(Failure::unverified)?;
        }
        Ok(())
    }

    async fn would_delete(cx: &StepContext, input: &Input) -> Result<Vec<Change>, Failure> {
        Release::would_delete(cx, &input.cluster, &input.set()).await
    }

    async fn undo(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        Release::undo(cx, &input.cluster, &input.set()).await
    }
}

/// Refuses templates that do not know the strategy: they would bring the new version in another way than the environment file says.
fn is_replaced_by(input: &Input, objects: &[Object]) -> Result<(), Failure> {
    let (wanted, key) = match input.strategy {
        Strategy::Rolling => return Ok(()),
        Strategy::BlueGreen => ("blue-green", "blueGreen"),
        Strategy::Canary => ("canary", "canary"),
    };
    if objects.iter().any(|object| object.key.kind == "Rollout" && object.value["spec"]["strategy"][key].is_object()) {
        return Ok(());
    }
    let message =
        format!("services.{}.strategy: its templates have no Rollout with spec.strategy.{key}, so {wanted} is not for it", input.service);
    // Both versions of a queue's reader read it; there are no requests that could be sent to one of them.
    Err(Failure::usage(message).next("use `rolling`, or `canary` for a service that reads from a queue"))
}

/// Says the version if the history table has all that the folder has, and nothing else.
fn expected_schema(service: &ServiceName, found: &Schema) -> Result<String, Failure> {
    let next = "deployctl db status";
    if let Some(reason) = &found.unknown {
        return Err(Failure::verification(format!("the schema of {service} cannot be read back: {reason}")).next(next));
    }
    if let Some(problem) = found.problems.iter().chain(&found.pending).next() {
        let mut failure = Failure::verification(format!("the schema of {service} is not as its migrations have it: {problem}"));
        failure.evidence =
            found.problems.iter().cloned().chain(found.pending.iter().map(|script| format!("not applied: {script}"))).collect();
        return Err(failure.next(next));
    }
    Ok(format!("the schema of {service} is at version {}, its newest migration", found.version.as_deref().unwrap_or("(none)")))
}

fn with_left(failure: Failure, more: &[String]) -> Failure {
    let mut all = more.to_vec();
    match &failure.left_behind {
        LeftBehind::Nothing if all.is_empty() => return failure,
        LeftBehind::Nothing => {}
        LeftBehind::Partial(own) => all.extend(own.iter().cloned()),
        LeftBehind::Unknown(_) => return failure,
    }
    failure.left(LeftBehind::Partial(all))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_schema_is_expected_only_if_nothing_is_pending_odd_or_unknown() {
        let service = ServiceName::parse("parser").unwrap();
        let good = Schema { version: Some("3".into()), ..Schema::default() };
        assert_eq!(expected_schema(&service, &good).unwrap(), "the schema of parser is at version 3, its newest migration");
        let bad = [
            Schema { pending: vec!["V4__x.sql".into()], ..good.clone() },
            Schema { problems: vec!["V2__a.sql was changed".into()], ..good.clone() },
            Schema { unknown: Some("forbidden".into()), ..good },
        ];
        for (schema, word) in bad.iter().zip(["V4__x.sql", "was changed", "forbidden"]) {
            let failure = expected_schema(&service, schema).unwrap_err();
            assert!(failure.kind == FailureKind::Verification && failure.message.contains(word), "{failure:?}");
        }
    }

    #[test]
    fn which_migration_has_moved_is_named() {
        let facts = |version: &str, pending: &[&str]| {
            let pending = pending.iter().map(ToString::to_string).collect();
            let schema = Schema { version: Some(version.into()), pending, files: "f".into(), ..Schema::default() };
            let input = json!({ "cluster": "c", "service": "parser", "image": "i", "templates": "t" });
            let observed = Observed { release: Release::default(), schema: Some(schema), address: None };
            ServiceKind::facts(&serde_json::from_value(input).unwrap(), &observed).unwrap()
        };
        let moved = crate::plan::fresh::differing(&facts("2", &["V3__x.sql"]), &facts("3", &[]));
        assert_eq!(moved, ["schema pending: [\"V3__x.sql\"] -> []", "schema version: \"2\" -> \"3\""]);
    }

    #[test]
    fn what_is_checked_is_shown() {
        let with = json!({
            "cluster": "c", "service": "parser", "image": "i", "templates": "t",
            "migrations": { "folder": "m", "endpoint_secret": "e", "credentials_secret": "c", "ca_config_map": "a" },
            "reads": { "role": "arn:aws:iam::111122223333:role/r", "bucket": "bucket", "queue_url": "https://q", "complaint": "c" },
            "upload": { "bucket": "bucket", "token_secret": "t", "endpoint_secret": "e", "credentials_secret": "c", "ca_config_map": "a" },
            "checks": [{ "name": "more", "args": ["x"] }],
        });
        let input: Input = serde_json::from_value(with).unwrap();
        assert_eq!(input.check_names(), ["schema", "reads", "upload", "more"]);
    }
}
