//! What a person would look at after a failed rollout: events, and the last lines of every container that is not well.
use kube::{
    Api,
    api::{ListParams, LogParams},
    core::DynamicObject,
};
use serde_json::Value;

use super::{Cluster, WORKLOADS, resource_of, wait::selector_of};
use crate::manifests::ObjectKey;

/// Lines of a container's log that are shown.
const LOG_LINES: i64 = 50;
/// Events that are shown for one object.
const EVENTS: usize = 8;

impl Cluster {
    /// Gathers evidence; what cannot be read is left out, for the failure itself matters more.
    pub(super) async fn evidence_of(&self, key: &ObjectKey) -> Vec<String> {
        let mut lines = self.events_of(key).await;
        let Some(namespace) = key.namespace.as_deref() else { return lines };
        if key.kind != "Job" && !WORKLOADS.contains(&key.kind.as_str()) {
            return lines;
        }
        let selector = self.get(key).await.ok().flatten().as_ref().and_then(selector_of);
        let Some(selector) = selector else { return lines };
        for pod in self.list("v1", "Pod", Some(namespace), &selector).await.unwrap_or_default() {
            lines.extend(self.evidence_of_pod(namespace, &pod).await);
        }
        lines
    }

    pub(super) async fn evidence_of_pod(&self, namespace: &str, pod: &Value) -> Vec<String> {
        let Some(name) = pod.pointer("/metadata/name").and_then(Value::as_str) else { return Vec::new() };
        let mut lines = Vec::new();
        for list in ["/status/initContainerStatuses", "/status/containerStatuses"] {
            for container in pod.pointer(list).and_then(Value::as_array).into_iter().flatten() {
                if container["ready"] == true || container.pointer("/state/terminated/exitCode").is_some_and(|code| code == 0) {
                    continue;
                }
                let container_name = container["name"].as_str().unwrap_or_default();
                lines.push(format!("pod {namespace}/{name}, container {container_name}: {}", state(container)));
                let restarted = container["restartCount"].as_i64().unwrap_or(0) > 0;
                lines.extend(
                    self.last_lines(namespace, name, container_name, restarted && container.pointer("/state/waiting").is_some()).await,
                );
            }
        }
        if !lines.is_empty() || pod.pointer("/status/containerStatuses").is_none() {
            let key = ObjectKey { api_version: "v1".into(), kind: "Pod".into(), namespace: Some(namespace.into()), name: name.into() };
            lines.extend(self.events_of(&key).await);
        }
        lines
    }

    /// The last lines of a container; of its previous life if it has not come back from it.
    async fn last_lines(&self, namespace: &str, pod: &str, container: &str, previous: bool) -> Vec<String> {
        let Ok(client) = self.client().await else { return Vec::new() };
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, namespace);
        let params = LogParams { container: Some(container.to_owned()), previous, tail_lines: Some(LOG_LINES), ..LogParams::default() };
        let text = pods.logs(pod, &params).await.unwrap_or_default();
        text.lines().map(|line| format!("  {container}| {line}")).collect()
    }

    async fn events_of(&self, key: &ObjectKey) -> Vec<String> {
        let Ok(client) = self.client().await else { return Vec::new() };
        let resource = resource_of("v1", "Event");
        let api: Api<DynamicObject> = match &key.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let fields = format!("involvedObject.name={},involvedObject.kind={},type=Warning", key.name, key.kind);
        let Ok(events) = api.list(&ListParams::default().fields(&fields).limit(100)).await else { return Vec::new() };
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let mut events: Vec<(String, String)> = events
            .items
            .iter()
            .map(|e| {
                (text(&e.data, "lastTimestamp"), format!("event: {} {}: {}", key.kind, text(&e.data, "reason"), text(&e.data, "message")))
            })
            .collect();
        events.sort();
        events.into_iter().rev().take(EVENTS).map(|(_, line)| line).collect()
    }
}

fn state(container: &Value) -> String {
    for (kind, words) in [("waiting", "waits"), ("terminated", "has ended")] {
        if let Some(state) = container.pointer(&format!("/state/{kind}")) {
            let text = |key: &str| state[key].as_str().unwrap_or_default();
            let code = state["exitCode"].as_i64().map_or_else(String::new, |code| format!(" with exit code {code}"));
            return format!("{words}{code}: {} {}", text("reason"), text("message")).trim_end().to_owned();
        }
    }
    "is not ready".into()
}

/// Whether a selector can be had from it; for tests of what evidence looks at.
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_says_how_it_ended() {
        assert_eq!(state(&json!({"state": {"terminated": {"exitCode": 2, "reason": "Error"}}})), "has ended with exit code 2: Error");
        assert_eq!(
            state(&json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}})),
            "waits: ImagePullBackOff not found"
        );
    }
}
