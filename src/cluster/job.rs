//! Runs a command of our own image as a Job in the cluster, follows its log and takes its result: how what is private is reached.
use std::{collections::BTreeMap, time::Duration};

use futures::{AsyncBufReadExt, TryStreamExt};
use kube::{Api, api::LogParams};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{CALL, Cluster, Status, status_of};
use crate::{
    failure::{Failure, FailureKind, LeftBehind},
    manifests::{Object, ObjectKey},
};

/// A finished Job that nobody needs to remember goes after this many seconds.
const KEEP_SECONDS: u32 = 3600;

/// How long a finished Job stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// For its log.
    Hour,
    /// Until its specification changes: that it is there and complete says that it need not run again.
    UntilReplaced,
}
/// Between a Job's creation and its container's start: scheduling and the image pull.
const START: Duration = Duration::from_secs(180);

/// Where and as whom a Job's pod runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its service account, which decides its IAM role.
    pub service_account: String,
    /// The full reference of the image, by digest.
    pub image: String,
}

/// A command to run once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentJob {
    /// Start of its name; a hash of everything below follows.
    pub name: String,
    /// Where it runs.
    pub pod: PodSettings,
    /// `agent migrate --…`; no secret is among them.
    pub args: Vec<String>,
    /// Environment variables; no secret is among them.
    pub env: BTreeMap<String, String>,
    /// ConfigMaps that are mounted, by path.
    pub config_maps: BTreeMap<String, String>,
    /// Secrets that are mounted, by path.
    pub secrets: BTreeMap<String, String>,
    /// It is ended after this long.
    pub deadline: Duration,
    /// How long it stays once it has ended.
    pub keep: Keep,
    /// Makes the name different where the same command must run again: a run's id.
    pub nonce: String,
}

/// What a Job has said.
#[derive(Clone, Debug)]
pub struct JobResult {
    /// Its last line of the form `{"result": …}`.
    pub result: Value,
}

impl AgentJob {
    /// The name with the hash of the specification, for a Job's template can never be changed.
    pub fn full_name(&self) -> Result<String, Failure> {
        let text = serde_json::to_string(self).map_err(|e| Failure::step("a Job's specification").because(e))?;
        Ok(format!("{}-{}", self.name, &hex::encode(Sha256::digest(text))[..10]))
    }

    /// The volumes and the container that mounts them; `prefix` tells both from those of others in the same pod.
    fn container(&self, prefix: &str) -> (Vec<Value>, Value) {
        let tmp = format!("{prefix}tmp");
        let mut volumes = vec![json!({ "name": tmp, "emptyDir": { "sizeLimit": "256Mi" } })];
        let mut mounts = vec![json!({ "name": tmp, "mountPath": "/tmp" })];
        let sources = self.config_maps.iter().map(|(path, name)| (path, json!({ "configMap": { "name": name } })));
        let sources = sources.chain(self.secrets.iter().map(|(path, name)| (path, json!({ "secret": { "secretName": name } }))));
        for (index, (path, mut volume)) in sources.enumerate() {
            let name = format!("{prefix}v{index}");
            volume["name"] = json!(name);
            mounts.push(json!({ "name": name, "mountPath": path, "readOnly": true }));
            volumes.push(volume);
        }
        let env: Vec<Value> = self.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let container = json!({
            "name": format!("{prefix}agent"), "image": self.pod.image, "args": self.args, "env": env, "volumeMounts": mounts,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "256Mi" } },
            "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } },
        });
        (volumes, container)
    }

    fn object(&self) -> Result<Object, Failure> {
        let (volumes, container) = self.container("");
        job_of(&self.full_name()?, self, self.deadline, &volumes, &[container])
    }
}

/// A Job whose pod runs these containers; where, as whom and for how long it stays is the first one's affair.
fn job_of(name: &str, first: &AgentJob, deadline: Duration, volumes: &[Value], containers: &[Value]) -> Result<Object, Failure> {
    let labels = json!({ "app.kubernetes.io/name": first.name, "app.kubernetes.io/managed-by": "deployctl" });
    let pod = json!({
        "serviceAccountName": first.pod.service_account,
        "restartPolicy": "Never",
        "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": containers,
        "volumes": volumes,
    });
    let mut value = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": first.pod.namespace, "labels": labels },
        "spec": {
            "backoffLimit": 0, "completions": 1, "parallelism": 1, "activeDeadlineSeconds": deadline.as_secs(),
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    });
    if first.keep == Keep::Hour {
        value["spec"]["ttlSecondsAfterFinished"] = json!(KEEP_SECONDS);
    }
    Object::new(value, "(job)".into(), 0)
}

/// One Job for all of them, each in a container of its own. What one of them mounts and is not there is its own failure and not that of all.
fn together(name: &str, jobs: &[AgentJob]) -> Result<Object, Failure> {
    let first = jobs.first().ok_or_else(|| Failure::step("a Job of no command"))?;
    let first = AgentJob { name: name.to_owned(), keep: Keep::Hour, nonce: uuid::Uuid::now_v7().to_string(), ..first.clone() };
    let (mut volumes, mut containers) = (Vec::new(), Vec::new());
    for (index, job) in jobs.iter().enumerate() {
        let (own, container) = job.container(&format!("q{index}-"));
        volumes.extend(own);
        containers.push(container);
    }
    for volume in &mut volumes {
        for kind in ["configMap", "secret"] {
            if let Some(source) = volume.get_mut(kind) {
                source["optional"] = json!(true);
            }
        }
    }
    let deadline = jobs.iter().map(|job| job.deadline).max().unwrap_or_default();
    job_of(&first.full_name()?, &first, deadline, &volumes, &containers)
}

impl Cluster {
    /// Whether a Job with exactly this specification has ended well.
    pub async fn has_run(&self, job: &AgentJob) -> Result<bool, Failure> {
        let found = self.get(&job.object()?.key).await?;
        Ok(found.is_some_and(|found| status_of(&found) == Status::Current))
    }

    /// Deletes the Jobs that earlier specifications of this one have left.
    pub async fn forget_older(&self, job: &AgentJob) -> Result<(), Failure> {
        let newest = job.full_name()?;
        let labels = format!("app.kubernetes.io/name={},app.kubernetes.io/managed-by=deployctl", job.name);
        for old in self.list("batch/v1", "Job", Some(&job.pod.namespace), &labels).await? {
            if let Some(key) = ObjectKey::of(&old).filter(|key| key.name != newest) {
                self.delete(&key).await?;
            }
        }
        Ok(())
    }

    /// Ends a Job whose command ends well when it is told to: its pod hears SIGTERM.
    pub async fn end_job(&self, job: &AgentJob) -> Result<(), Failure> {
        self.delete(&job.object()?.key).await
    }

    /// Runs the Job to its end, whichever that is; `line` hears each line of its log. One that was already run with the same specification
    /// and has ended well is not run again: its result is read.
    pub async fn run_job(&self, job: &AgentJob, line: impl Fn(&str) + Sync) -> Result<JobResult, Failure> {
        self.run_job_with(job, &[], line).await
    }

    /// As [`Cluster::run_job`], with objects that are this Job's alone: they are made before it and go when it goes.
    pub async fn run_job_with(&self, job: &AgentJob, own: &[Object], line: impl Fn(&str) + Sync) -> Result<JobResult, Failure> {
        let object = job.object()?;
        let key = object.key.clone();
        if let Some(found) = self.get(&key).await?
            && matches!(status_of(&found), Status::Failed(_))
        {
            self.delete(&key).await?;
            self.wait_until_gone(&key, START).await?;
        }
        self.make_job(&object, own).await?;
        let followed = async {
            match self.started_pod(&key).await? {
                Some(pod) => self.follow(&key, &pod, "agent", job.deadline, &line).await,
                None => Ok(String::new()),
            }
        };
        let followed = match followed.await {
            Err(failure) if failure.is_timeout() => return Err(with_job(failure, &key).next(logs(&key))),
            other => other,
        };
        // Its result is the last thing that an agent says before it ends well; the Job's status tells the same two seconds later.
        if let Some(result) = followed.as_ref().ok().and_then(|text| text.lines().last()).and_then(result_in) {
            // One whose presence says that it need not run again says so by that status only: the same command straight after must find it.
            if job.keep == Keep::UntilReplaced {
                self.wait_until_current(std::slice::from_ref(&key), START, |_| {}).await.map_err(|failure| with_job(failure, &key))?;
            }
            return Ok(JobResult { result });
        }
        let waited = self.wait_until_current(std::slice::from_ref(&key), job.deadline + START, |_| {}).await;
        if let Err(failure) = waited {
            // The agent's own words say more than the Job's status does.
            let said = self.whole_log(&key, followed).await.ok();
            let failure = said.and_then(|text| own_words(&key, &text)).unwrap_or(failure);
            return Err(with_job(failure, &key).next(logs(&key)));
        }
        let result = self.whole_log(&key, followed).await?.lines().last().and_then(result_in);
        Ok(JobResult { result: result.ok_or_else(|| silent(&key))? })
    }

    /// The log of a Job that has ended: as it was followed, or, where that broke off, read once more.
    async fn whole_log(&self, job: &ObjectKey, followed: Result<String, Failure>) -> Result<String, Failure> {
        let Err(broke_off) = followed else { return followed };
        match self.started_pod(job).await? {
            Some(pod) => self.follow(job, &pod, "agent", CALL, &|_| {}).await,
            None => Err(broke_off),
        }
    }

    /// Runs these commands side by side, as the containers of one Job: what each has said at last, in their order. `own` are objects that are
    /// this Job's alone.
    pub async fn run_together(&self, name: &str, jobs: &[AgentJob], own: &[Object]) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let object = together(name, jobs)?;
        let key = object.key.clone();
        self.make_job(&object, own).await?;
        let Some(pod) = self.started_pod(&key).await.map_err(|failure| failure.next(logs(&key)))? else {
            self.wait_until_current(std::slice::from_ref(&key), START, |_| {}).await?;
            return Err(silent(&key));
        };
        let (key, pod) = (&key, &pod);
        let answers = jobs.iter().enumerate().map(|(index, job)| async move {
            let text = self.follow(key, pod, &format!("q{index}-agent"), job.deadline, &|_: &str| {}).await?;
            let result = text.lines().last().and_then(result_in);
            result.ok_or_else(|| own_words(key, &text).unwrap_or_else(|| silent(key)))
        });
        Ok(futures::future::join_all(answers).await)
    }

    /// Makes a Job and what is its alone.
    async fn make_job(&self, job: &Object, own: &[Object]) -> Result<(), Failure> {
        self.apply_quietly(own).await?;
        let made = self.apply_one(job).await?;
        let owned: Vec<Object> = own.iter().cloned().map(|own| owned_by(own, &made)).collect();
        self.apply_quietly(&owned).await.map_err(|failure| with_job(failure, &job.key))
    }

    /// Follows the log of one container of a pod that has started, to its result or its end.
    async fn follow(
        &self,
        job: &ObjectKey,
        pod: &str,
        container: &str,
        deadline: Duration,
        line: &(impl Fn(&str) + Sync),
    ) -> Result<String, Failure> {
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client().await?, job.namespace.as_deref().unwrap_or_default());
        let params = LogParams { follow: true, container: Some(container.to_owned()), ..LogParams::default() };
        let read = async {
            let mut text = String::new();
            let mut lines = loop {
                match pods.log_stream(pod, &params).await {
                    Ok(stream) => break stream.lines(),
                    // Its pod runs, and this container of it a moment later.
                    Err(kube::Error::Api(status)) if status.code == 400 => tokio::time::sleep(Duration::from_millis(200)).await,
                    Err(e) => return Err(self.failed(format!("the log of {pod}"), e)),
                }
            };
            while let Some(next) = lines.try_next().await.map_err(|e| Failure::step(format!("the log of {pod} broke off")).because(e))? {
                line(&next);
                text.push_str(&next);
                text.push('\n');
                // The stream ends only when the kubelet has seen the container end, a second or two later.
                if result_in(&next).is_some() {
                    break;
                }
            }
            Ok(text)
        };
        match tokio::time::timeout(deadline + START, read).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timeout(format!("the log of {pod} to end"), deadline + START)),
        }
    }

    /// The Job's pod once its container runs or has run; none if the Job ended without one.
    async fn started_pod(&self, job: &ObjectKey) -> Result<Option<String>, Failure> {
        use futures::StreamExt;
        use kube::runtime::{WatchStreamExt, watcher};
        let namespace = job.namespace.as_deref().unwrap_or_default();
        let selector = format!("batch.kubernetes.io/job-name={}", job.name);
        let client = self.client().await?;
        let pods = Api::<kube::core::DynamicObject>::namespaced_with(client, namespace, &super::resource_of("v1", "Pod"));
        let mut events =
            std::pin::pin!(watcher::watcher(pods, watcher::Config::default().labels(&selector)).default_backoff().applied_objects());
        let mut ended = std::pin::pin!(self.wait_until_current(std::slice::from_ref(job), START, |_| {}));
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                result = &mut ended => match result {
                    // Not started in time: an image that cannot be pulled, a node that is full. Waiting on would not help.
                    Err(failure) if failure.is_timeout() => return Err(failure),
                    // Ended or failed: the caller's own wait on the Job says which.
                    _ => break,
                },
            };
            let Some(Ok(pod)) = event else { continue };
            let phase = pod.data.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
            if matches!(phase, "Running" | "Succeeded" | "Failed") {
                return Ok(pod.metadata.name);
            }
        }
        let found = self.list("v1", "Pod", Some(namespace), &selector).await?;
        Ok(found.first().and_then(|pod| pod.pointer("/metadata/name")?.as_str().map(String::from)))
    }
}

/// How a person reads what it said.
fn logs(job: &ObjectKey) -> String {
    format!("kubectl logs -n {} job/{} --all-containers", job.namespace.as_deref().unwrap_or_default(), job.name)
}

fn silent(job: &ObjectKey) -> Failure {
    Failure::step(format!("Job {job} ended but printed no result")).next(logs(job))
}

/// Kubernetes deletes the object once its owner is gone; nobody else's Job can lose it.
fn owned_by(mut object: Object, owner: &Value) -> Object {
    object.value["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    }]);
    object
}

/// The Job stays for its log, besides whatever else was left behind.
fn with_job(failure: Failure, job: &ObjectKey) -> Failure {
    let stays = format!("Job {job}, for its log");
    let left = match failure.left_behind.clone() {
        LeftBehind::Nothing => LeftBehind::Partial(vec![stays]),
        LeftBehind::Partial(mut things) => {
            things.push(stays);
            LeftBehind::Partial(things)
        }
        LeftBehind::Unknown(what) => LeftBehind::Unknown(format!("{what}; also {stays}")),
    };
    failure.left(left)
}

/// The last line that an agent prints when it has ended well: `{"result": …}`.
fn result_in(line: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line).ok()?.get_mut("result").map(Value::take)
}

/// What the agent printed as its failure: `{"failed": [outermost, …], "kind": …, "evidence": […], "left_behind": …, "next": […]}`.
fn own_words(job: &ObjectKey, log: &str) -> Option<Failure> {
    let said = log.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok().filter(|said| said.get("failed").is_some()))?;
    let texts =
        |key: &str| said[key].as_array().into_iter().flatten().filter_map(|text| text.as_str().map(String::from)).collect::<Vec<_>>();
    let mut chain = texts("failed").into_iter();
    // A refusal is the caller's refusal too; the agent's credentials or arguments are no fault of the caller's.
    let kind = if said["kind"] == json!(FailureKind::Policy) { FailureKind::Policy } else { FailureKind::Step };
    let mut failure = Failure::new(kind, format!("Job {job}: {}", chain.next()?));
    failure.evidence = chain.chain(texts("evidence")).collect();
    failure.next = texts("next");
    // An older image's agent does not say; then only the Job is known to stay.
    failure.left_behind = serde_json::from_value(said["left_behind"].clone()).unwrap_or(LeftBehind::Nothing);
    Some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_words_become_the_failure() {
        let key = ObjectKey { api_version: "batch/v1".into(), kind: "Job".into(), namespace: Some("d".into()), name: "smoke-1".into() };
        let log = "starting\n{\"checked\":\"kafka\"}\n{\"failed\":[\"hop sqs: late\",\"cause\"],\"evidence\":[\"line\"]}\n";
        assert!(own_words(&key, log).is_some_and(|f| f.message == "Job d/smoke-1: hop sqs: late" && f.evidence == ["cause", "line"]));
        assert!(own_words(&key, "nothing\n").is_none());
    }

    #[test]
    fn a_refusal_stays_one_and_nothing_else_becomes_one() {
        let key = ObjectKey { api_version: "batch/v1".into(), kind: "Job".into(), namespace: Some("d".into()), name: "migrate-1".into() };
        for (said, kind) in [(FailureKind::Policy, FailureKind::Policy), (FailureKind::Credentials, FailureKind::Step)] {
            let log = json!({"failed": ["no"], "kind": said, "evidence": [], "next": []}).to_string();
            assert!(own_words(&key, &log).is_some_and(|failure| failure.kind == kind), "{said:?}");
        }
    }

    #[test]
    fn what_the_agent_left_behind_and_proposes_crosses_the_log() {
        let key = ObjectKey { api_version: "batch/v1".into(), kind: "Job".into(), namespace: Some("d".into()), name: "migrate-1".into() };
        let left = LeftBehind::Unknown("the connection broke".into());
        let log = json!({"failed": ["late"], "evidence": [], "left_behind": left, "next": ["look"]}).to_string();
        let failure = own_words(&key, &log).map(|failure| with_job(failure, &key));
        let stays = "Job d/migrate-1, for its log";
        let expected = LeftBehind::Unknown(format!("the connection broke; also {stays}"));
        assert!(failure.is_some_and(|f| f.left_behind == expected && f.next == ["look"]));
        let things = with_job(Failure::step("late").left(LeftBehind::Partial(vec!["rows".into()])), &key).left_behind;
        assert_eq!(things, LeftBehind::Partial(vec!["rows".into(), stays.into()]));
    }

    #[test]
    fn what_a_job_mounts_goes_with_it() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files", "namespace": "d"}});
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate-1", "namespace": "d", "uid": "u"}});
        let owned = Object::new(map, "(migrations)".into(), 0).map(|map| owned_by(map, &job).value["metadata"]["ownerReferences"].take());
        let expected = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "migrate-1", "uid": "u"}]);
        assert!(owned.is_ok_and(|owners| owners == expected));
    }

    #[test]
    fn commands_together_are_containers_of_one_job_and_meet_nowhere() {
        let pod = PodSettings { namespace: "d".into(), service_account: "agent".into(), image: "i@sha256:1".into() };
        let job = |name: &str, seconds| AgentJob {
            name: name.into(),
            pod: pod.clone(),
            args: vec!["agent".into(), name.into()],
            env: BTreeMap::new(),
            config_maps: BTreeMap::from([("/files".into(), format!("{name}-files"))]),
            secrets: BTreeMap::new(),
            deadline: Duration::from_secs(seconds),
            keep: Keep::UntilReplaced,
            nonce: String::new(),
        };
        let Ok(object) = together("questions", &[job("topics", 5), job("schema", 9)]) else { panic!("no Job") };
        let spec = &object.value["spec"];
        assert!(object.key.name.starts_with("questions-") && spec["ttlSecondsAfterFinished"] == KEEP_SECONDS);
        assert_eq!(spec["activeDeadlineSeconds"], 9);
        let pod = &spec["template"]["spec"];
        let names = |list: &Value| list.as_array().map(|all| all.iter().map(|one| one["name"].clone()).collect::<Vec<_>>());
        assert_eq!(names(&pod["containers"]), Some(vec!["q0-agent".into(), "q1-agent".into()]));
        assert_eq!(names(&pod["volumes"]), Some(vec!["q0-tmp".into(), "q0-v0".into(), "q1-tmp".into(), "q1-v0".into()]));
        assert_eq!(pod["containers"][1]["volumeMounts"][1], json!({ "name": "q1-v0", "mountPath": "/files", "readOnly": true }));
        assert_eq!(pod["volumes"][3]["configMap"], json!({ "name": "schema-files", "optional": true }));
    }

    #[test]
    fn another_specification_is_another_job() {
        let pod = PodSettings { namespace: "d".into(), service_account: "agent".into(), image: "i@sha256:1".into() };
        let job = AgentJob {
            name: "topics".into(),
            pod,
            args: vec!["agent".into()],
            env: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            deadline: START,
            keep: Keep::UntilReplaced,
            nonce: String::new(),
        };
        let mut other = job.clone();
        other.args.push("--retention-hours".into());
        assert_eq!(job.full_name().ok(), job.clone().full_name().ok());
        assert_ne!(job.full_name().ok(), other.full_name().ok());
    }
}
