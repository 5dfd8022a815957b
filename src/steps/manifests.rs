//! Kind `manifests`: renders folders of templates, applies them, runs agent commands after them, checks the result.
mod roles;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Action, Applied, CHECK, Change, Facts, Kind, Outputs, StepContext, StepPlan,
    chart::{Used, unused},
    question::Asked,
    release::{
        AgentCommand, Findings, LOOKED_AT, Release, authorities_are_there, render_folders, template_bound, template_values, text_list,
    },
};
use crate::{
    cluster::{ApplySet, Cluster, Keep, PodSettings},
    engine::event::Outcome,
    failure::{Failure, FailureKind},
    ids::ClusterName,
    plan::environment::Charts,
};

/// Kind `manifests`.
pub struct ManifestsKind;

/// `with` of kind `manifests`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster.
    pub cluster: ClusterName,
    /// A folder of templates, or several: `*.yaml.hbs` and plain `*.yaml`.
    #[serde(deserialize_with = "text_list")]
    pub templates: Vec<PathBuf>,
    /// Where the parent of the step's ApplySet lives; the step may make it itself.
    #[serde(default = "home")]
    pub namespace: String,
    /// Name of the ApplySet; the step's id if it is left out.
    #[serde(default)]
    pub applyset: Option<String>,
    /// Values for the templates, beside `env`, `services`, `prefix`, `secrets_prefix` and `database_ca`.
    #[serde(default)]
    pub values: Map<String, Value>,
    /// Files whose text templates see as `files.NAME`: rules and dashboards that other tools must be able to check.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Folders, by their last name, that are rendered and validated but not applied, each with the reason.
    #[serde(default)]
    pub skip: BTreeMap<String, String>,
    /// `${env.charts}`, for `replaced_by`.
    #[serde(default)]
    pub charts: Charts,
    /// Folders, by their last name, that a chart takes the place of where it is used.
    #[serde(default)]
    pub replaced_by: BTreeMap<String, Replacement>,
    /// Where agent commands run.
    #[serde(default)]
    pub agent: Option<PodSettings>,
    /// Run after the objects are current; once for each specification.
    #[serde(default)]
    pub jobs: Vec<AgentCommand>,
    /// Roles that must be given to these service accounts, and to no other.
    #[serde(default)]
    pub roles: Option<roles::Roles>,
    /// Run at every apply, after everything else; they change nothing.
    #[serde(default)]
    pub checks: Vec<AgentCommand>,
}

/// The chart that is used instead of a folder of templates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// Its release.
    pub release: String,
    /// As the chart's own step says.
    #[serde(default)]
    pub used: Used,
}

impl Input {
    /// Folders that are not applied here, each with the reason.
    fn skipped(&self) -> BTreeMap<String, String> {
        let mut skipped = self.skip.clone();
        let replaced = self.replaced_by.iter().filter(|(_, chart)| unused(&self.charts, &chart.release, chart.used).is_none());
        for (folder, chart) in replaced {
            skipped.entry(folder.clone()).or_insert_with(|| format!("the chart {} is used instead", chart.release));
        }
        skipped
    }
}

fn home() -> String {
    "deployctl".into()
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// The objects.
    pub release: Release,
    /// Names of the commands that have not run with their present specification.
    pub pending: Vec<String>,
    /// What those that have run before, and can look, find now; by name.
    #[serde(default)]
    pub found: BTreeMap<String, Findings>,
}

fn pod(input: &Input) -> Result<&PodSettings, Failure> {
    input.agent.as_ref().ok_or_else(|| Failure::usage("kind manifests: `jobs` and `checks` need `agent`"))
}

async fn has_run(cx: &StepContext, cluster: &Cluster, command: &AgentCommand, pod: &PodSettings) -> Result<bool, Failure> {
    cluster.has_run(&command.job(cx, pod, Keep::UntilReplaced, "")?).await
}

impl Kind for ManifestsKind {
    const NAME: &'static str = "manifests";
    type Input = Input;
    type Observed = Observed;

    fn bound(with: &Value, project: &Path) -> Vec<String> {
        let mut bound = template_bound(with, project);
        bound.extend(["job", CHECK].map(String::from));
        let shows = with["jobs"].as_array().into_iter().flatten().flat_map(|job| job["shows"].as_array().cloned().unwrap_or_default());
        bound.extend(shows.filter_map(|shown| shown["resource"].as_str().map(String::from)));
        bound
    }

    async fn preflight(cx: &StepContext, with: &Value) -> Result<(), Failure> {
        authorities_are_there(with, &cx.project, &cx.environment)
    }

    async fn questions(cx: &StepContext, input: &Input) -> Result<Asked, Failure> {
        let asking: Vec<&AgentCommand> = input.jobs.iter().filter(|job| !job.observe_args.is_empty()).collect();
        if asking.is_empty() {
            return Ok(None);
        }
        let cluster = cx.cluster(&input.cluster).await?;
        let mut questions = Vec::new();
        for command in asking {
            if has_run(cx, &cluster, command, pod(input)?).await? {
                questions.push(command.question(cx, pod(input)?)?);
            }
        }
        Ok(Some((input.cluster.clone(), questions)))
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let mut values = template_values(cx, &input.values)?;
        for (name, path) in &input.files {
            let text = std::fs::read_to_string(cx.project.join(path));
            values["files"][name] =
                Value::String(text.map_err(|e| Failure::usage(format!("{} cannot be read", path.display())).because(e))?);
        }
        let (objects, skipped) = render_folders(cx, &input.templates, &values, &input.skipped())?;
        let cluster = cx.cluster(&input.cluster).await?;
        let release = Release::observe(cx, &cluster, &set(cx, input), objects, skipped).await?;
        let asked = async {
            let (mut pending, mut found) = (Vec::new(), BTreeMap::new());
            for command in &input.jobs {
                match has_run(cx, &cluster, command, pod(input)?).await {
                    Ok(true) if command.observe_args.is_empty() => {}
                    // That it ran well once says nothing about what others have changed since.
                    Ok(true) => drop(found.insert(command.name.clone(), command.look(cx, &cluster, pod(input)?).await?)),
                    Ok(false) => pending.push(command.name.clone()),
                    // Who may not look at Jobs still sees what is planned elsewhere.
                    Err(failure) if failure.kind == FailureKind::Credentials => {
                        found.insert(command.name.clone(), Findings::unknown(failure));
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Ok((pending, found))
        };
        let (pending, found) = cx.wait_until("word of the Jobs that have run", LOOKED_AT, asked).await?;
        Ok(Observed { release, pending, found })
    }

    fn plan(input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let mut changes = observed.release.changes.clone();
        changes.extend(input.jobs.iter().filter(|job| observed.pending.contains(&job.name)).flat_map(AgentCommand::changes));
        for (job, found) in input.jobs.iter().filter_map(|job| Some((job, observed.found.get(&job.name)?))) {
            found.refuse_drift(job)?;
            changes.extend(job.changes_of(found));
        }
        changes.extend(input.checks.iter().map(|check| Change {
            action: Action::Run,
            resource: CHECK.into(),
            name: check.name.clone(),
            details: Vec::new(),
        }));
        let payload =
            serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of kind manifests").because(e))?;
        Ok(StepPlan { changes, payload })
    }

    fn facts(input: &Input, observed: &Observed) -> Result<Facts, Failure> {
        let mut facts = observed.release.facts()?;
        for job in &input.jobs {
            match observed.found.get(&job.name) {
                Some(found) => facts.extend(job.facts(found)),
                None => drop(facts.insert(format!("job {}", job.name), observed.pending.contains(&job.name).into())),
            }
        }
        Ok(facts)
    }

    fn known_outputs(_input: &Input, _observed: &Observed, plan: &StepPlan) -> Option<Outputs> {
        plan.changes.iter().all(Change::is_check).then(Outputs::new)
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let planned: Observed = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of kind manifests").because(e))?;
        let cluster = cx.cluster(&input.cluster).await?;
        let mut outcome = planned.release.apply(cx, &cluster).await?;
        for command in input.jobs.iter().filter(|job| planned.pending.contains(&job.name)) {
            command.run_once(cx, &cluster, pod(input)?).await?;
            outcome = Outcome::Changed;
        }
        for (job, found) in input.jobs.iter().filter_map(|job| Some((job, planned.found.get(&job.name)?))) {
            if !job.changes_of(found).is_empty() {
                job.mend(cx, &cluster, pod(input)?).await?;
                outcome = Outcome::Changed;
            }
        }
        for (name, reason) in &planned.release.skipped {
            cx.progress(format!("{name}: rendered and validated, not applied: {reason}"));
        }
        Ok(Applied { outcome, outputs: Outputs::new() })
    }

    async fn verify(cx: &StepContext, input: &Input, _applied: &Applied) -> Result<(), Failure> {
        if input.checks.is_empty() && input.roles.is_none() {
            return Ok(());
        }
        let cluster = cx.cluster(&input.cluster).await?;
        if let Some(roles) = &input.roles {
            roles::check(cx, &cluster, roles).await?;
        }
        for check in &input.checks {
            check.run_now(cx, &cluster, pod(input)?).await.map_err(Failure::unverified)?;
        }
        Ok(())
    }

    async fn would_delete(cx: &StepContext, input: &Input) -> Result<Vec<Change>, Failure> {
        Release::would_delete(cx, &input.cluster, &set(cx, input)).await
    }

    async fn undo(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        Release::undo(cx, &input.cluster, &set(cx, input)).await
    }
}

fn set(cx: &StepContext, input: &Input) -> ApplySet {
    ApplySet::new(input.applyset.as_deref().unwrap_or(cx.step.as_str()), &input.namespace)
}
