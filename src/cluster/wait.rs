//! Waits until objects are what their specs ask for: by watches, with a deadline, and with evidence when they are not.
use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use super::{CALL, Cluster, Status, WORKLOADS, read::to_value, resource_of, status_of};
use crate::{
    failure::{Failure, FailureKind},
    manifests::ObjectKey,
    waiting,
};

/// A watch whose connection was cut without a word stays silent; after this long the API server is asked instead.
const ASK: Duration = Duration::from_secs(20);
/// A container that was started this often and died each time will not come up by waiting.
const CRASHES: i64 = 3;
/// Where a Deployment and a Rollout count the versions of their pods, and the labels by which they tell them.
const REVISIONS: [&str; 2] = ["deployment.kubernetes.io/revision", "rollout.argoproj.io/revision"];
const HASHES: [&str; 2] = ["pod-template-hash", super::apply::VERSION];

impl Cluster {
    /// Waits until every object is Current; the first that has failed ends the wait. `progress` hears what is missing, once a change.
    pub async fn wait_until_current(&self, keys: &[ObjectKey], deadline: Duration, progress: impl Fn(&str) + Sync) -> Result<(), Failure> {
        let mut waiting: FuturesUnordered<_> = keys.iter().map(|key| self.wait_for_one(key, deadline, &progress)).collect();
        while let Some(result) = waiting.next().await {
            result?;
        }
        Ok(())
    }

    async fn wait_for_one(&self, key: &ObjectKey, deadline: Duration, progress: &(impl Fn(&str) + Sync)) -> Result<(), Failure> {
        let _waiting = waiting::call(format!("{} {key} to be current", key.kind), deadline);
        let last = std::sync::Mutex::new("nothing is known of it".to_owned());
        let note = |missing: &str| {
            if let Ok(mut last) = last.lock() {
                if *last == missing {
                    return;
                }
                missing.clone_into(&mut last);
            }
            progress(&format!("{} {key}: {missing}", key.kind));
        };
        let failed = match tokio::time::timeout(deadline, self.watch_until_settled(key, &note)).await {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(why))) => Failure::step(format!("{} {key} has failed: {why}", key.kind)),
            Ok(Err(failure)) => return Err(failure),
            Err(_) => {
                let missing = last.lock().map(|text| text.clone()).unwrap_or_default();
                Failure::timeout(format!("{} {key}: {missing}", key.kind), deadline)
            }
        };
        let mut failed = failed.next(describe_command(key));
        // An API server that has fallen silent must not hold the failure back: what is not there by then is left out.
        failed.evidence = tokio::time::timeout(CALL, self.evidence_of(key)).await.unwrap_or_default();
        Err(failed)
    }

    /// None once it is Current, the reason once it has failed.
    async fn watch_until_settled(&self, key: &ObjectKey, note: &impl Fn(&str)) -> Result<Option<String>, Failure> {
        let api = self.api(key).await?;
        let mut objects = std::pin::pin!(watcher::watch_object(api, &key.name).default_backoff());
        let mut crashes = std::pin::pin!(self.crash_loop(key));
        loop {
            let item = tokio::select! {
                item = tokio::time::timeout(ASK, objects.next()) => item,
                why = &mut crashes => return Ok(Some(why)),
            };
            let found = match item {
                Err(_silent) => match self.get(key).await {
                    Ok(found) => found,
                    Err(failure) => {
                        note(&format!("its state cannot be read: {}", failure.message));
                        continue;
                    }
                },
                Ok(None) => return Err(Failure::step(format!("the watch on {} {key} has ended", key.kind))),
                Ok(Some(Ok(object))) => object.map(|object| to_value(&object)).transpose()?,
                Ok(Some(Err(watcher::Error::InitialListFailed(e)))) if forbidden(&e) => {
                    return Err(self.failed(format!("watching {} {key}", key.kind), e));
                }
                // The watcher starts again by itself, with a pause that grows; the deadline ends it.
                Ok(Some(Err(e))) => {
                    note(&format!("its state cannot be read: {e}"));
                    continue;
                }
            };
            match found.map(|value| status_of(&typed(value, key))) {
                None => note("it does not exist"),
                Some(Status::Current) => return Ok(None),
                Some(Status::Failed(why)) => return Ok(Some(why)),
                Some(Status::InProgress(missing)) => note(&missing),
            }
        }
    }

    /// Ends when a container of the newest version keeps crashing; never for what has no pods.
    async fn crash_loop(&self, key: &ObjectKey) -> String {
        let (true, Some(namespace)) = (WORKLOADS.contains(&key.kind.as_str()), &key.namespace) else {
            return std::future::pending().await;
        };
        let Ok(client) = self.client().await else { return std::future::pending().await };
        let pods = kube::Api::<kube::core::DynamicObject>::namespaced_with(client, namespace, &resource_of("v1", "Pod"));
        let selector = match self.get(key).await {
            Ok(Some(value)) => selector_of(&value),
            _ => None,
        };
        let Some(selector) = selector else { return std::future::pending().await };
        let mut events =
            std::pin::pin!(watcher::watcher(pods, watcher::Config::default().labels(&selector)).default_backoff().applied_objects());
        let mut judged = BTreeSet::new();
        while let Some(event) = events.next().await {
            let Some(pod) = event.ok().and_then(|pod| to_value(&pod).ok()) else { continue };
            if let Some(why) = crashing(&pod)
                && judged.insert(why.clone())
                && self.is_newest(key, namespace, &selector, &pod).await
            {
                return why;
            }
        }
        std::future::pending().await
    }

    /// Whether the pod is of the version that is being rolled out: an old version may well be crashing, that is why it is replaced.
    async fn is_newest(&self, key: &ObjectKey, namespace: &str, selector: &str, pod: &Value) -> bool {
        if !["Deployment", "Rollout"].contains(&key.kind.as_str()) {
            return true;
        }
        let Ok(sets) = self.list("apps/v1", "ReplicaSet", Some(namespace), selector).await else { return false };
        let hash = |object: &Value| HASHES.iter().find_map(|hash| object["metadata"]["labels"][hash].as_str().map(str::to_owned));
        sets.iter().max_by_key(|set| revision_of(set)).is_some_and(|newest| hash(newest) == hash(pod))
    }

    /// Waits until the object is gone.
    pub async fn wait_until_gone(&self, key: &ObjectKey, deadline: Duration) -> Result<(), Failure> {
        let _waiting = waiting::call(format!("{} {key} to be gone", key.kind), deadline);
        let api = self.api(key).await?;
        let gone = async {
            let mut objects = std::pin::pin!(watcher::watch_object(api, &key.name).default_backoff());
            loop {
                match tokio::time::timeout(ASK, objects.next()).await {
                    Ok(Some(Ok(None)) | None) => return,
                    Ok(Some(_)) => {}
                    // Whatever else comes of asking, the deadline ends it.
                    Err(_silent) => {
                        if matches!(self.get(key).await, Ok(None)) {
                            return;
                        }
                    }
                }
            }
        };
        let waited = tokio::time::timeout(deadline, gone).await;
        waited.map_err(|_| Failure::timeout(format!("{} {key} to be gone", key.kind), deadline).next(describe_command(key)))
    }
}

/// Which version of its Deployment or Rollout a set of replicas is; 0 if neither counts it.
pub fn revision_of(set: &Value) -> u64 {
    let annotations = &set["metadata"]["annotations"];
    REVISIONS.iter().find_map(|name| annotations[name].as_str()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Watches hand out objects without their type.
fn typed(mut value: Value, key: &ObjectKey) -> Value {
    value["kind"] = Value::String(key.kind.clone());
    value
}

fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 || status.code == 401)
}

/// `a=b,c=d` of a workload's matchLabels.
pub(super) fn selector_of(workload: &Value) -> Option<String> {
    let labels = workload.pointer("/spec/selector/matchLabels")?.as_object()?;
    Some(labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect::<Vec<_>>().join(","))
}

/// Which container keeps crashing, or can never start, and why.
fn crashing(pod: &Value) -> Option<String> {
    let name = pod.pointer("/metadata/name")?.as_str()?;
    let statuses = ["/status/initContainerStatuses", "/status/containerStatuses"];
    statuses.iter().filter_map(|pointer| pod.pointer(pointer)?.as_array()).flatten().find_map(|container| {
        let waiting = container.pointer("/state/waiting/reason").and_then(Value::as_str).unwrap_or_default();
        let restarts = container["restartCount"].as_i64().unwrap_or(0);
        let hopeless = waiting == "InvalidImageName" || (waiting == "CrashLoopBackOff" && restarts >= CRASHES - 1);
        let code = container.pointer("/lastState/terminated/exitCode").map_or_else(String::new, |code| format!(", exit code {code}"));
        hopeless.then(|| {
            format!("container {} of pod {name}: {waiting} after {restarts} restarts{code}", container["name"].as_str().unwrap_or("?"))
        })
    })
}

fn describe_command(key: &ObjectKey) -> String {
    let namespace = key.namespace.as_ref().map(|n| format!(" -n {n}")).unwrap_or_default();
    format!("kubectl describe {} {}{namespace}", key.kind.to_lowercase(), key.name)
}

impl Failure {
    /// Whether it was a deadline that passed.
    pub fn is_timeout(&self) -> bool {
        self.kind == FailureKind::Timeout
    }
}
