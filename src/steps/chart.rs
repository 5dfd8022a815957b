//! Kind `chart`: a Helm chart, pinned by version and digest, rendered by helm and then treated like everything else.
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Applied, Change, Facts, Kind, Outputs, StepContext, StepPlan,
    release::{Release, bound_of},
};
use crate::{
    cluster::ApplySet,
    failure::{Failure, FailureKind},
    ids::{ClusterName, ImageDigest},
    manifests::Object,
    tools,
};

/// Kinds that charts hold, of a namespace.
const NAMESPACED: [&str; 16] = [
    "ConfigMap",
    "CronJob",
    "DaemonSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Job",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
];
/// Kinds that charts hold, of the whole cluster.
const WHOLE_CLUSTER: [&str; 12] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterSecretStore",
    "CSIDriver",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PriorityClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// Kind `chart`.
pub struct ChartKind;

/// `with` of kind `chart`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster.
    pub cluster: ClusterName,
    /// `oci://…`, or a packed chart's file from the project's root.
    pub chart: String,
    /// Its version.
    pub version: String,
    /// `sha256:` of the packed chart; without it nothing is rendered.
    #[serde(default)]
    pub digest: Option<ImageDigest>,
    /// Name of the release.
    pub release: String,
    /// Where its objects go.
    pub namespace: String,
    /// The chart's values.
    #[serde(default)]
    pub values: Map<String, Value>,
    /// As in `1.34`, for charts that render differently for each.
    pub kubernetes_version: String,
}

impl Input {
    fn set(&self) -> ApplySet {
        ApplySet::new(&format!("chart-{}", self.release), &self.namespace)
    }
}

/// The packed chart's file, its digest checked.
async fn packed(cx: &StepContext, input: &Input) -> Result<PathBuf, Failure> {
    let Some(digest) = &input.digest else {
        return Err(Failure::new(
            FailureKind::Policy,
            format!("chart {} {} has no digest: what is not pinned is not rendered", input.chart, input.version),
        )
        .next(format!(
            "helm pull {} --version {} && sha256sum *.tgz, then `digest: sha256:…` in the plan file",
            input.chart, input.version
        )));
    };
    let file = if input.chart.contains("://") {
        tools::helm::pull(&input.chart, &input.version, &cx.scratch, &cx.cancel).await?
    } else {
        cx.project.join(&input.chart)
    };
    let bytes = std::fs::read(&file)
        .map_err(|e| Failure::new(FailureKind::Preflight, format!("the chart {} cannot be read", file.display())).because(e))?;
    let found = crate::image::digest_of(&bytes)?;
    if found != *digest {
        return Err(Failure::new(FailureKind::Policy, format!("chart {} {} is {found}, not {digest}", input.chart, input.version))
            .next("find out who changed a published version before you change the digest"));
    }
    Ok(file)
}

impl Kind for ChartKind {
    const NAME: &'static str = "chart";
    type Input = Input;
    type Observed = Release;

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        bound_of(NAMESPACED.iter().chain(&WHOLE_CLUSTER).map(|kind| (*kind).to_owned()))
    }

    async fn observe(cx: &StepContext, input: &Input) -> Result<Release, Failure> {
        let chart = packed(cx, input).await?;
        let values = cx.scratch.join("values.json");
        std::fs::write(&values, Value::Object(input.values.clone()).to_string())
            .map_err(|e| Failure::step(format!("{} cannot be written", values.display())).because(e))?;
        let text = tools::helm::template(&chart, &input.release, &input.namespace, &values, &input.kubernetes_version, &cx.cancel).await?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).map_err(|e| Failure::step("what helm rendered is not valid YAML").because(e))?;
        let mut objects = Vec::new();
        for mut value in documents.into_iter().filter(|value| !value.is_null()) {
            // Charts leave the namespace to helm; for an object of the whole cluster the API server would refuse one.
            let whole_cluster = WHOLE_CLUSTER.iter().any(|kind| value["kind"] == **kind);
            if !whole_cluster && value["metadata"]["namespace"].is_null() {
                value["metadata"]["namespace"] = Value::String(input.namespace.clone());
            }
            objects.push(Object::new(value, chart.clone(), 0)?);
        }
        let cluster = cx.cluster(&input.cluster).await?;
        Release::observe(cx, &cluster, &input.set(), objects, std::collections::BTreeMap::new()).await
    }

    fn plan(_input: &Input, observed: &Release) -> Result<StepPlan, Failure> {
        let payload =
            serde_json::to_value(observed).map_err(|e| Failure::new(FailureKind::Internal, "the plan of kind chart").because(e))?;
        Ok(StepPlan { changes: observed.changes.clone(), payload })
    }

    fn facts(_input: &Input, observed: &Release) -> Result<Facts, Failure> {
        observed.facts()
    }

    fn known_outputs(_input: &Input, _observed: &Release, plan: &StepPlan) -> Option<Outputs> {
        plan.changes.iter().all(Change::is_check).then(Outputs::new)
    }

    async fn apply(cx: &StepContext, input: &Input, plan: &StepPlan) -> Result<Applied, Failure> {
        let cluster = cx.cluster(&input.cluster).await?;
        let outcome = Release::from_payload(&plan.payload)?.apply(cx, &cluster).await?;
        Ok(Applied { outcome, outputs: Outputs::new() })
    }

    async fn verify(_cx: &StepContext, _input: &Input, _applied: &Applied) -> Result<(), Failure> {
        // Apply has waited until every object was Current; a chart promises nothing more.
        Ok(())
    }

    async fn would_delete(cx: &StepContext, input: &Input) -> Result<Vec<Change>, Failure> {
        Release::would_delete(cx, &input.cluster, &input.set()).await
    }

    async fn undo(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        Release::undo(cx, &input.cluster, &input.set()).await
    }
}
