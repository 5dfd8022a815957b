//! Kind `chart`: a Helm chart, pinned by version and digest, rendered by helm and then treated like everything else.
mod made_up;
mod rendered;
mod rendering;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::{
    made_up::{MadeUp, Taken},
    rendering::{Ready, mentioned, unpinned},
};
use super::{
    Applied, Change, Facts, Kind, Outputs, StepContext, StepPlan,
    release::{Release, bound_of},
};
use crate::{
    cluster::{ApplySet, Cluster},
    failure::{Failure, FailureKind},
    ids::{ClusterName, ImageDigest},
    manifests::{Object, ObjectKey},
    plan::environment::Charts,
};

pub use rendered::{Hook, Rendered};
pub use rendering::{Place, render_offline};

/// Kinds that charts hold; what else a chart of the project mentions is added, what else a published one holds is `allow`ed.
const ORDINARY: [&str; 25] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CronJob",
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Ingress",
    "IngressClass",
    "Job",
    "MutatingWebhookConfiguration",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "PriorityClass",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// Kind `chart`.
pub struct ChartKind;

/// Whether a chart is used where nobody says anything about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Used {
    /// Unless `charts.skip` of the environment file names it.
    #[default]
    Always,
    /// If `charts.chosen` of the environment file names it.
    IfChosen,
}

/// `with` of kind `chart`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster.
    pub cluster: ClusterName,
    /// `oci://HOST/PATH/NAME`; or a chart's folder, or a packed chart, from the project's root; or, with `repository`, a chart's name there.
    pub chart: String,
    /// Address of a classic chart repository: the folder of its index.yaml.
    #[serde(default)]
    pub repository: Option<String>,
    /// Its version, exactly.
    pub version: String,
    /// `sha256:…` of a registry's manifest, of a packed chart, or of a folder's files. Without it plan says so and apply refuses;
    /// `deployctl chart pin` writes it.
    #[serde(default)]
    pub digest: Option<ImageDigest>,
    /// Name of the release; also what environment files call the chart.
    pub release: String,
    /// Where its objects go.
    pub namespace: String,
    /// Labels of that namespace, if the step makes it.
    #[serde(default)]
    pub create_namespace: Option<BTreeMap<String, String>>,
    /// The chart's values, as they are; they win over `values_files`.
    #[serde(default)]
    pub values: Map<String, Value>,
    /// Files of values from the project's root, the later ones winning: `*.yaml.hbs` are templates as those of kind `manifests`, strict.
    #[serde(default)]
    pub values_files: Vec<PathBuf>,
    /// What those templates see beside `env`, `services`, `prefix`, `secrets_prefix`, `cluster`, `release` and `namespace`.
    #[serde(default)]
    pub template_values: Map<String, Value>,
    /// What becomes of each of the chart's hooks, by `Kind/name`; one that is not named here is refused. Tests are always left out.
    #[serde(default)]
    pub hooks: BTreeMap<String, Hook>,
    /// Objects of the whole cluster that must be there afterwards, as in `networking.k8s.io/v1 IngressClass alb`.
    #[serde(default)]
    pub present: Vec<String>,
    /// `${env.charts}`: which charts this environment leaves out, and which it has chosen.
    #[serde(default)]
    pub charts: Charts,
    /// Whether it is used where the environment file says nothing.
    #[serde(default)]
    pub used: Used,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// The objects.
    pub release: Release,
    /// What was rendered; none if the chart is left out.
    pub chart: Option<ImageDigest>,
    /// Where in the objects are values that the chart makes up.
    pub made_up: MadeUp,
}

impl Input {
    fn set(&self) -> ApplySet {
        ApplySet::new(&format!("chart-{}", self.release), &self.namespace)
    }
}

/// Why a chart is not used in an environment; none if it is.
pub fn unused(charts: &Charts, release: &str, used: Used) -> Option<String> {
    let not_chosen = used == Used::IfChosen && !charts.chosen.iter().any(|chosen| chosen == release);
    let unnamed = || format!("a choice: `charts.chosen` of the environment file does not name {release}");
    charts.skip.get(release).cloned().or_else(|| not_chosen.then(unnamed))
}

/// The objects that hold made-up values, as the cluster has them. Who may not read one is told so by the comparison.
async fn kept(cluster: &Cluster, made_up: &MadeUp) -> Result<BTreeMap<ObjectKey, Value>, Failure> {
    let mut kept = BTreeMap::new();
    for key in made_up.keys() {
        match cluster.get(key).await {
            Ok(Some(live)) => drop(kept.insert(key.clone(), live)),
            Ok(None) => {}
            Err(failure) if failure.kind == FailureKind::Credentials => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(kept)
}

/// The plan's objects with their made-up values: the cluster's, or, where one is missing there, those of one fresh rendering, which must be the
/// planned one in everything else.
async fn completed(cx: &StepContext, input: &Input, cluster: &Cluster, planned: &Observed) -> Result<Vec<Object>, Failure> {
    let mut objects = planned.release.objects.clone();
    if planned.made_up.take(&mut objects, &kept(cluster, &planned.made_up).await?) == Taken::All {
        return Ok(objects);
    }
    let progress = |line: &str| cx.progress(line);
    let ready = Ready::make(Place::of(cx, &progress), input, cluster.capabilities()).await?;
    let mut fresh = ready.render("again").await?.objects;
    input.set().mark(&mut fresh);
    let mut blank = fresh.clone();
    planned.made_up.blank(&mut blank);
    let values = |objects: &[Object]| objects.iter().map(|object| (object.key.clone(), object.value.clone())).collect::<BTreeMap<_, _>>();
    if values(&blank) != values(&objects) {
        return Err(Failure::new(FailureKind::PlanStale, "the chart renders otherwise than when it was planned").next("deployctl plan"));
    }
    match planned.made_up.take(&mut objects, &values(&fresh)) {
        Taken::All => Ok(objects),
        Taken::Nothing => Err(Failure::new(FailureKind::Internal, "a rendering lacks what it was said to make up")),
    }
}

/// How long what a chart promises beside its objects may take.
const PRESENT: Duration = Duration::from_secs(120);

impl Kind for ChartKind {
    const NAME: &'static str = "chart";
    type Input = Input;
    type Observed = Observed;

    fn bound(with: &Value, project: &Path) -> Vec<String> {
        let own = with["chart"].as_str().map(|chart| mentioned(&project.join(chart))).unwrap_or_default();
        let namespace = (!with["create_namespace"].is_null()).then(|| "Namespace".to_owned());
        bound_of(ORDINARY.map(str::to_owned).into_iter().chain(own).chain(namespace).collect::<BTreeSet<_>>())
    }

    fn left_out(with: &Value) -> Option<String> {
        let part = |key: &str| with.get(key).cloned().unwrap_or_default();
        let charts: Charts = serde_json::from_value(part("charts")).unwrap_or_default();
        unused(&charts, with["release"].as_str()?, serde_json::from_value(part("used")).unwrap_or_default())
    }

    fn refused(with: &Value) -> Option<Failure> {
        let text = |key: &str| with[key].as_str().unwrap_or_default();
        with["digest"].is_null().then(|| unpinned(text("chart"), text("version")))
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Observed, Failure> {
        let cluster = cx.cluster(&input.cluster).await?;
        if let Some(reason) = unused(&input.charts, &input.release, input.used) {
            // What an earlier run made of it goes like anything that is no longer rendered.
            let left_out = BTreeMap::from([(input.release.clone(), reason)]);
            let release = Release::observe(cx, &cluster, &input.set(), Vec::new(), left_out).await?;
            return Ok(Observed { release, chart: None, made_up: MadeUp::default() });
        }
        let progress = |line: &str| cx.progress(line);
        let ready = Ready::make(Place::of(cx, &progress), input, cluster.capabilities()).await?;
        let (rendered, again) = ready.render_twice().await?;
        let mut objects = rendered.objects;
        let made_up = made_up::between(&objects, &again.objects)?;
        if !made_up.is_empty() {
            made_up.take(&mut objects, &kept(&cluster, &made_up).await?);
        }
        let mut release = Release::observe(cx, &cluster, &input.set(), objects, rendered.left_out).await?;
        made_up.blank(&mut release.objects);
        Ok(Observed { release, chart: input.digest.clone(), made_up })
    }

    fn plan(_input: &Input, observed: &Observed) -> Result<StepPlan, Failure> {
        let payload =
            serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of kind chart").because(e))?;
        Ok(StepPlan { changes: observed.release.changes.clone(), payload })
    }

    fn facts(_input: &Input, observed: &Observed) -> Result<Facts, Failure> {
        let mut facts = observed.release.facts()?;
        facts.insert("chart".to_owned(), observed.chart.as_ref().map_or(Value::Null, |digest| digest.as_str().into()));
        Ok(facts)
    }

    fn known_outputs(_input: &Input, _observed: &Observed, plan: &StepPlan) -> Option<Outputs> {
        plan.changes.iter().all(Change::is_check).then(Outputs::new)
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let mut planned: Observed = serde_json::from_value(plan.payload.clone())
            .map_err(|e| Failure::new(FailureKind::PlanStale, "the saved plan of kind chart").because(e))?;
        let cluster = cx.cluster(&input.cluster).await?;
        if planned.made_up.keys().any(|key| planned.release.changed.contains(key)) {
            planned.release.objects = completed(cx, input, &cluster, &planned).await?;
        }
        let outcome = planned.release.apply(cx, &cluster).await?;
        for (name, reason) in &planned.release.skipped {
            cx.progress(format!("{name}: not applied: {reason}"));
        }
        Ok(Applied { outcome, outputs: Outputs::new() })
    }

    async fn verify(cx: &StepContext, input: &Input, _applied: &Applied) -> Result<(), Failure> {
        // Apply has waited until every object was Current.
        if input.present.is_empty() || unused(&input.charts, &input.release, input.used).is_some() {
            return Ok(());
        }
        let cluster = cx.cluster(&input.cluster).await?;
        let keys = input.present.iter().map(|text| whole_cluster_key(text)).collect::<Result<Vec<_>, _>>()?;
        let progress = |line: &str| cx.progress(line);
        let waiting = cluster.wait_until_current(&keys, PRESENT, progress);
        let started = tokio::time::Instant::now();
        let what = input.present.join(", ");
        cx.wait_until(&what, PRESENT + Duration::from_secs(10), waiting).await.map_err(Failure::unverified)?;
        cx.checked(format!("{what}: there"), started.elapsed());
        Ok(())
    }

    async fn would_delete(cx: &StepContext, input: &Input) -> Result<Vec<Change>, Failure> {
        Release::would_delete(cx, &input.cluster, &input.set()).await
    }

    async fn undo(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        Release::undo(cx, &input.cluster, &input.set()).await
    }
}

fn whole_cluster_key(text: &str) -> Result<ObjectKey, Failure> {
    match text.split(' ').collect::<Vec<_>>().as_slice() {
        [api_version, kind, name] => {
            Ok(ObjectKey { api_version: (*api_version).to_owned(), kind: (*kind).to_owned(), namespace: None, name: (*name).to_owned() })
        }
        _ => Err(Failure::usage(format!("`present: {text}` is not of the form APIVERSION KIND NAME"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_environment_leaves_charts_out_or_chooses_them() {
        let with = |charts: Value, used: &str| json!({"release": "a", "chart": "c", "version": "1", "charts": charts, "used": used});
        let left_out = |charts: Value, used: &str| ChartKind::left_out(&with(charts, used));
        assert_eq!(left_out(json!({}), "always"), None);
        assert_eq!(left_out(json!({"skip": {"a": "not here"}}), "always").unwrap(), "not here");
        assert_eq!(left_out(json!({"skip": {"b": "not here"}}), "always"), None);
        assert!(left_out(json!({}), "if-chosen").unwrap().contains("charts.chosen"));
        assert_eq!(left_out(json!({"chosen": ["a"]}), "if-chosen"), None);
        assert_eq!(ChartKind::left_out(&json!({"release": "a"})), None);
    }

    #[test]
    fn a_chart_without_a_digest_is_refused_by_name() {
        let failure = ChartKind::refused(&json!({"chart": "oci://example.org/a", "version": "1.0.0"})).unwrap();
        assert_eq!(failure.kind, FailureKind::Policy);
        assert!(failure.message.contains("oci://example.org/a 1.0.0") && failure.next[0].starts_with("deployctl chart pin"));
        assert!(ChartKind::refused(&json!({"digest": format!("sha256:{}", "a".repeat(64))})).is_none());
    }

    #[test]
    fn what_must_be_there_is_of_the_whole_cluster() {
        assert_eq!(whole_cluster_key("networking.k8s.io/v1 IngressClass alb").unwrap().name, "alb");
        assert_eq!(whole_cluster_key("IngressClass alb").unwrap_err().kind, FailureKind::Usage);
    }
}
