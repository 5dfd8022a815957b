//! Kind `external-resources`: what controllers in a cluster have made outside of it, load balancers and volumes. Nobody else knows of it, so it
//! must be taken away while they run, and before network and cluster: their subnets can't be deleted under a load balancer's interfaces.
use std::{collections::BTreeSet, path::Path, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Applied, Change, Kind, Outputs, StepContext, StepPlan, release::deletion};
use crate::{cluster::Cluster, engine::event::Outcome, failure::Failure, ids::ClusterName, manifests::ObjectKey};

/// Between two looks at the network.
const LOOK: Duration = Duration::from_secs(2);

/// Kind `external-resources`.
pub struct ExternalResources;

/// `with` of kind `external-resources`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The EKS cluster.
    pub cluster: ClusterName,
    /// How long each of them may take to go.
    #[serde(default = "a_quarter_of_an_hour")]
    pub deadline_seconds: u64,
}

fn a_quarter_of_an_hour() -> u64 {
    900
}

/// What is there of it.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Ingresses and Services that have a load balancer, or will.
    balanced: Vec<ObjectKey>,
    /// Claims of volumes.
    claims: Vec<ObjectKey>,
    /// Volumes that go with their claims.
    volumes: Vec<ObjectKey>,
    /// Volumes that do not, with what AWS calls each.
    retained: Vec<(ObjectKey, String)>,
    /// Workloads whose pods use a claim: it is not gone before they are.
    users: Vec<ObjectKey>,
}

async fn find(cluster: &Cluster) -> Result<Found, Failure> {
    let (ingresses, services, claims, volumes, pods) = tokio::try_join!(
        cluster.list("networking.k8s.io/v1", "Ingress", None, ""),
        cluster.list("v1", "Service", None, ""),
        cluster.list("v1", "PersistentVolumeClaim", None, ""),
        cluster.list("v1", "PersistentVolume", None, ""),
        cluster.list("v1", "Pod", None, "")
    )?;
    let services = services.into_iter().filter(|service| service["spec"]["type"] == "LoadBalancer");
    let balanced = ingresses.into_iter().chain(services).filter_map(|object| ObjectKey::of(&object)).collect();
    let mut found = Found { balanced, claims: claims.iter().filter_map(ObjectKey::of).collect(), ..Found::default() };
    for volume in &volumes {
        let Some(key) = ObjectKey::of(volume) else { continue };
        match volume["spec"]["persistentVolumeReclaimPolicy"].as_str() {
            Some("Retain") => found.retained.push((key, handle(volume))),
            _ => found.volumes.push(key),
        }
    }
    let mut users = BTreeSet::new();
    for pod in pods.iter().filter(|pod| uses_a_claim(pod)) {
        users.extend(root_of(cluster, pod).await?);
    }
    found.users = users.into_iter().collect();
    Ok(found)
}

/// With what AWS calls it, as in ` (vol-0123)`.
fn handle(volume: &Value) -> String {
    volume["spec"]["csi"]["volumeHandle"].as_str().map(|id| format!(" ({id})")).unwrap_or_default()
}

fn uses_a_claim(pod: &Value) -> bool {
    pod["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| volume["persistentVolumeClaim"].is_object())
}

fn controller_of(object: &Value) -> Option<ObjectKey> {
    let owner = object["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)?;
    let text = |key: &str| owner[key].as_str().map(str::to_owned);
    let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
    Some(ObjectKey { api_version: text("apiVersion")?, kind: text("kind")?, namespace, name: text("name")? })
}

/// The workload at the top: deleting a pod, or a ReplicaSet, makes another.
async fn root_of(cluster: &Cluster, pod: &Value) -> Result<Option<ObjectKey>, Failure> {
    let mut key = ObjectKey::of(pod);
    let mut above = controller_of(pod);
    while let Some(owner) = above {
        above = cluster.get(&owner).await?.as_ref().and_then(controller_of);
        key = Some(owner);
    }
    Ok(key)
}

/// Load balancers' interfaces in the environment's network.
async fn interfaces(cx: &StepContext) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for vpc in cx.aws.vpcs_of(cx.environment.name.as_str()).await? {
        let there = cx.aws.network_interfaces(&vpc).await?.into_iter().filter(|one| one.description.starts_with("ELB "));
        found.extend(there.map(|one| format!("{} ({})", one.id, one.description)));
    }
    Ok(found)
}

impl Kind for ExternalResources {
    const NAME: &'static str = "external-resources";
    type Input = Input;
    type Observed = ();

    fn bound(_with: &Value, _project: &Path) -> Vec<String> {
        Vec::new()
    }

    async fn observe(_cx: &StepContext, _input: &Input) -> Result<(), Failure> {
        Ok(())
    }

    /// It makes nothing itself.
    fn plan(_input: &Input, (): &()) -> Result<StepPlan, Failure> {
        Ok(StepPlan::default())
    }

    async fn apply(_cx: &StepContext, _input: &Input, _plan: &StepPlan) -> Result<Applied, Failure> {
        Ok(Applied { outcome: Outcome::Unchanged, outputs: Outputs::new() })
    }

    async fn verify(_cx: &StepContext, _input: &Input, _applied: &Applied) -> Result<(), Failure> {
        Ok(())
    }

    async fn would_delete(cx: &StepContext, input: &Input) -> Result<Vec<Change>, Failure> {
        let Some(cluster) = cx.standing_cluster(&input.cluster).await? else { return Ok(Vec::new()) };
        let found = find(&cluster).await?;
        let balanced = found.balanced.iter().map(|key| deletion(key, "with its load balancer"));
        let users = found.users.iter().map(|key| deletion(key, "its pods use a volume"));
        let claims = found.claims.iter().map(|key| deletion(key, "with its volume and what is on it"));
        Ok(balanced.chain(users).chain(claims).collect())
    }

    async fn stays(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        let Some(cluster) = cx.standing_cluster(&input.cluster).await? else { return Ok(Vec::new()) };
        let retained = find(&cluster).await?.retained.into_iter();
        Ok(retained.map(|(key, handle)| format!("volume {}{handle} stays: its reclaim policy is Retain", key.name)).collect())
    }

    async fn undo(cx: &StepContext, input: &Input) -> Result<Vec<String>, Failure> {
        let deadline = Duration::from_secs(input.deadline_seconds);
        if let Some(cluster) = cx.standing_cluster(&input.cluster).await? {
            let found = find(&cluster).await?;
            for key in found.balanced.iter().chain(&found.users).chain(&found.claims) {
                cx.progress(format!("{} {key}: deleting", key.kind));
                cluster.delete(key).await?;
            }
            // A volume is gone when its driver has deleted it, which is after its claim is.
            for key in found.balanced.iter().chain(&found.claims).chain(&found.volumes) {
                cx.wait_until(&format!("{} {key} to be gone", key.kind), deadline, cluster.wait_until_gone(key, deadline)).await?;
            }
        }
        let gone = async {
            loop {
                let left = interfaces(cx).await?;
                if left.is_empty() {
                    return Ok(());
                }
                cx.progress(format!("{} network interfaces of load balancers are still there", left.len()));
                tokio::time::sleep(LOOK).await;
            }
        };
        if let Err(failure) = cx.wait_until("load balancers and their network interfaces to be gone", deadline, gone).await {
            return Err(if failure.is_timeout() { failure.evidence(interfaces(cx).await?.join("\n")) } else { failure });
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_controller_is_followed_and_no_other_owner() {
        let owner = |kind: &str, controller: bool| json!({ "apiVersion": "apps/v1", "kind": kind, "name": "a", "controller": controller });
        let pod = json!({ "metadata": { "namespace": "apps", "ownerReferences": [owner("Other", false), owner("StatefulSet", true)] } });
        assert_eq!(controller_of(&pod).map(|key| format!("{} {key}", key.kind)).as_deref(), Some("StatefulSet apps/a"));
        assert!(controller_of(&json!({ "metadata": {} })).is_none());
    }

    #[test]
    fn a_pod_uses_a_claim_or_it_does_not() {
        let pod = |volume: Value| json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }, volume] } });
        assert!(uses_a_claim(&pod(json!({ "name": "d", "persistentVolumeClaim": { "claimName": "d" } }))));
        assert!(!uses_a_claim(&pod(json!({ "name": "d", "configMap": {} }))));
    }
}
