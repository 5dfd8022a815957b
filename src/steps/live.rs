//! `live-ENV-DIGEST` tags: an image that an environment uses carries one, which lifecycle rules keep; it goes once nothing can need it.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Action, Change, StepContext};
use crate::{
    aws::{Aws, ecr::EcrImage},
    cluster::{Cluster, revision_of},
    failure::Failure,
    ids::{EnvironmentName, ImageDigest, RepositoryName},
    manifests::Object,
};

/// The tag that says that an environment uses a digest.
pub fn live_tag(environment: &EnvironmentName, digest: &ImageDigest) -> String {
    format!("{}{}", live_prefix(environment), &digest.as_str()["sha256:".len()..][..12])
}

/// The beginning of all such tags of an environment. A name may begin with another one and a dash, so what follows is looked at too.
fn live_prefix(environment: &EnvironmentName) -> String {
    format!("live-{environment}-")
}

/// A live tag that goes; the image keeps its build tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Retired {
    /// Where.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: String,
}

impl Retired {
    /// As the plan shows it.
    pub fn change(&self) -> Change {
        Change {
            action: Action::Update,
            resource: "image".into(),
            name: format!("{}:{}", self.repository, self.tag),
            details: vec!["no longer live here; its build tag stays".into()],
        }
    }
}

/// Takes the tags away. One that is gone already is fine.
pub async fn retire(cx: &StepContext, retired: &[Retired]) -> Result<(), Failure> {
    for Retired { repository, tag } in retired {
        cx.aws.remove_tag(repository, tag).await?;
        cx.progress(format!("{repository}:{tag}: no longer live"));
    }
    Ok(())
}

/// An environment's live tags in a repository, each with its image, the newest image first.
pub async fn live_images(
    aws: &Aws,
    environment: &EnvironmentName,
    repository: &RepositoryName,
) -> Result<Vec<(String, EcrImage)>, Failure> {
    let mut images = aws.tagged_images(repository).await?;
    images.sort_by_key(|image| std::cmp::Reverse(image.pushed_at));
    Ok(images.into_iter().filter_map(|image| Some((own_live_tag(environment, &image)?, image))).collect())
}

/// The image's live tag of this environment, unless it is the last that keeps the image in the registry.
fn own_live_tag(environment: &EnvironmentName, image: &EcrImage) -> Option<String> {
    let tag = live_tag(environment, &image.digest);
    (image.tags.contains(&tag) && image.tags.len() > 1).then_some(tag)
}

/// The live tags that nothing needs once these objects have rolled out: no pod runs their image, no set of replicas wants one, and it is not
/// the one that each workload would go back to.
pub async fn retirable(cx: &StepContext, cluster: &Cluster, objects: &[Object]) -> Result<Vec<Retired>, Failure> {
    let mut wanted: BTreeMap<RepositoryName, BTreeSet<ImageDigest>> = BTreeMap::new();
    let mut namespaces = BTreeSet::new();
    for object in objects {
        for (repository, digest) in images_of(&object.value, &cx.aws.registry_host()) {
            wanted.entry(repository).or_default().insert(digest);
            namespaces.extend(object.key.namespace.clone());
        }
    }
    let mut candidates = Vec::new();
    for (repository, digests) in &wanted {
        let live = live_images(&cx.aws, &cx.environment.name, repository).await?;
        let other = live.into_iter().filter(|(_, image)| !digests.contains(&image.digest));
        candidates.extend(other.map(|(tag, image)| (Retired { repository: repository.clone(), tag }, image.digest)));
    }
    // Most of the time there is none, and the cluster need not be asked.
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: BTreeSet<ImageDigest> = wanted.into_values().flatten().collect();
    let mut kept = BTreeSet::new();
    for namespace in &namespaces {
        let list = |version, kind| cluster.list(version, kind, Some(namespace), "");
        let (sets, revisions, pods) =
            tokio::try_join!(list("apps/v1", "ReplicaSet"), list("apps/v1", "ControllerRevision"), list("v1", "Pod"))?;
        let host = cx.aws.registry_host();
        kept.extend(needed(&host, &wanted, sets.iter().chain(&revisions)));
        kept.extend(pods.iter().filter(|pod| !is_over(pod)).flat_map(|pod| images_of(pod, &host)).map(|(_, digest)| digest));
    }
    Ok(candidates.into_iter().filter(|(_, digest)| !kept.contains(digest)).map(|(retired, _)| retired).collect())
}

/// Digests that revisions need: of every one with replicas, and of the newest of each workload that has another digest than `wanted`, which is
/// where it would go back to. By digest and not by number, so that the answer is the same before the rollout and after it.
fn needed<'a>(host: &str, wanted: &BTreeSet<ImageDigest>, revisions: impl Iterator<Item = &'a Value>) -> BTreeSet<ImageDigest> {
    let mut needed = BTreeSet::new();
    let mut newest: BTreeMap<(String, RepositoryName), (u64, ImageDigest)> = BTreeMap::new();
    for revision in revisions {
        let number = revision["revision"].as_u64().unwrap_or_else(|| revision_of(revision));
        let owner = revision.pointer("/metadata/ownerReferences/0/uid").or(revision.pointer("/metadata/uid"));
        let owner = owner.and_then(Value::as_str).unwrap_or_default();
        let replicas = ["/spec/replicas", "/status/replicas"].iter().any(|at| revision.pointer(at).and_then(Value::as_u64) > Some(0));
        for (repository, digest) in images_of(revision, host) {
            if replicas {
                needed.insert(digest.clone());
            }
            if !wanted.contains(&digest) {
                let known = newest.entry((owner.to_owned(), repository)).or_insert_with(|| (number, digest.clone()));
                if known.0 < number {
                    *known = (number, digest);
                }
            }
        }
    }
    needed.extend(newest.into_values().map(|(_, digest)| digest));
    needed
}

fn is_over(pod: &Value) -> bool {
    matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

/// Where a pod's specification is: in a workload, in a ControllerRevision, in a CronJob, in a pod.
const POD_SPECS: [&str; 4] = ["/spec/template/spec", "/data/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec"];

/// The images of this registry, by digest, that an object's pods run.
fn images_of(object: &Value, host: &str) -> Vec<(RepositoryName, ImageDigest)> {
    let specs = POD_SPECS.iter().filter_map(|at| object.pointer(at));
    let containers = specs.flat_map(|spec| ["containers", "initContainers"].map(|kind| &spec[kind]));
    let images = containers.filter_map(Value::as_array).flatten().filter_map(|container| container["image"].as_str());
    let ours = images.filter_map(|image| image.strip_prefix(host)?.strip_prefix('/')?.split_once('@'));
    ours.filter_map(|(repository, digest)| Some((RepositoryName::parse(repository).ok()?, ImageDigest::parse(digest).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    const HOST: &str = "111122223333.dkr.ecr.us-east-1.amazonaws.com";

    fn digest(letter: &str) -> ImageDigest {
        ImageDigest::parse(format!("sha256:{}", letter.repeat(64))).unwrap()
    }

    fn replica_set(owner: &str, revision: u64, replicas: u64, letter: &str) -> Value {
        json!({
            "metadata": { "annotations": { "deployment.kubernetes.io/revision": revision.to_string() }, "ownerReferences": [{ "uid": owner }] },
            "spec": { "replicas": replicas, "template": { "spec": { "containers": [
                { "image": format!("{HOST}/deployctl-x/parser@{}", digest(letter)) }, { "image": "docker.io/other@sha256:1" },
            ] } } },
        })
    }

    fn needs(wanted: &str, sets: &[Value]) -> Vec<String> {
        let found = needed(HOST, &BTreeSet::from([digest(wanted)]), sets.iter());
        found.iter().map(|digest| digest.as_str()[7..8].to_owned()).collect()
    }

    #[test]
    fn what_runs_and_what_one_would_go_back_to_is_needed() {
        let history = [replica_set("u", 1, 0, "a"), replica_set("u", 2, 0, "b"), replica_set("u", 3, 2, "c")];
        assert_eq!(needs("d", &history), ["c"], "the next rollout goes back to c; b and a are done");
        let after = [&history[..2], &[replica_set("u", 3, 0, "c"), replica_set("u", 4, 2, "d")]].concat();
        assert_eq!(needs("d", &after), ["c", "d"], "and the same once it has happened");
        let half = [replica_set("u", 1, 0, "a"), replica_set("u", 2, 1, "b"), replica_set("u", 3, 2, "c")];
        assert_eq!(needs("d", &half), ["b", "c"], "a set that still has replicas is needed, whatever its number");
        let setting = [replica_set("u", 1, 0, "a"), replica_set("u", 2, 0, "b"), replica_set("u", 3, 2, "b")];
        assert_eq!(needs("b", &setting), ["a", "b"], "another setting is no other image: b goes back to a");
        let back = [replica_set("u", 4, 2, "a"), replica_set("u", 3, 0, "b")];
        assert_eq!(needs("a", &back), ["a", "b"], "after a rollback");
        let mut rollouts = history.clone();
        for set in &mut rollouts {
            let annotations = set["metadata"]["annotations"].as_object_mut().unwrap();
            let number = annotations.remove("deployment.kubernetes.io/revision").unwrap();
            annotations.insert("rollout.argoproj.io/revision".into(), number);
        }
        assert_eq!(needs("d", &rollouts), ["c"], "a Rollout counts elsewhere");
        let two = [replica_set("u", 1, 0, "a"), replica_set("v", 9, 0, "b")];
        assert_eq!(needs("c", &two), ["a", "b"], "each workload has its own history");
    }

    #[test]
    fn revisions_of_daemons_and_pods_are_read() {
        let image = format!("{HOST}/deployctl-x/otel-collector@{}", digest("e"));
        let revision = json!({ "revision": 3, "metadata": { "ownerReferences": [{ "uid": "d" }] },
            "data": { "spec": { "template": { "spec": { "containers": [{ "image": image }] } } } } });
        assert_eq!(needs("f", &[revision]), ["e"]);
        let pod = json!({ "spec": { "initContainers": [{ "image": image }], "containers": [] } });
        assert_eq!(images_of(&pod, HOST), [(RepositoryName::parse("deployctl-x/otel-collector").unwrap(), digest("e"))]);
        assert_eq!(images_of(&pod, "other.host"), []);
    }

    #[test]
    fn a_tag_names_environment_and_digest_and_is_never_an_images_last() {
        let environment = EnvironmentName::parse("staging").unwrap();
        let tag = live_tag(&environment, &digest("0"));
        assert_eq!(tag, "live-staging-000000000000");
        let image = |tags: &[&str]| EcrImage {
            digest: digest("0"),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size: 1,
            pushed_at: 0,
        };
        assert_eq!(own_live_tag(&environment, &image(&["src-1", &tag])), Some(tag.clone()));
        assert_eq!(own_live_tag(&environment, &image(&[&tag])), None, "ECR would delete the image with it");
        let longer = EnvironmentName::parse("staging-two").unwrap();
        assert_eq!(own_live_tag(&environment, &image(&["src-1", &live_tag(&longer, &digest("0"))])), None, "another environment's");
    }
}
