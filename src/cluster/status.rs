//! Whether an object has become what its spec asks for: kstatus' rules, which look at observedGeneration first.
use serde_json::Value;

/// What an object's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is what its spec asks for.
    Current,
    /// Not yet; what is missing.
    InProgress(String),
    /// It will not become it by itself; why.
    Failed(String),
}

fn number(value: &Value, pointer: &str) -> Option<i64> {
    // Argo Rollouts writes its observedGeneration as a text.
    let found = value.pointer(pointer)?;
    found.as_i64().or_else(|| found.as_str().and_then(|text| text.parse().ok()))
}

fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    value.pointer("/status/conditions")?.as_array()?.iter().find(|c| c["type"] == kind)
}

fn is(condition: Option<&Value>, status: &str) -> bool {
    condition.is_some_and(|c| c["status"] == status)
}

fn reason(condition: Option<&Value>) -> String {
    let text = |key: &str| condition.and_then(|c| c[key].as_str()).unwrap_or_default();
    [text("reason"), text("message")].iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>().join(": ")
}

/// The status of any object.
pub fn status_of(value: &Value) -> Status {
    if value.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null()) {
        return Status::InProgress("it is being deleted".into());
    }
    let generation = number(value, "/metadata/generation");
    if let (Some(wanted), Some(seen)) = (generation, number(value, "/status/observedGeneration"))
        && wanted != seen
    {
        return Status::InProgress(format!("its controller has seen generation {seen}, not yet {wanted}"));
    }
    match value["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(value),
        "StatefulSet" => stateful_set(value),
        "DaemonSet" => daemon_set(value),
        "Job" => job(value),
        "Pod" => pod(value),
        "Ingress" => address(value, "no load balancer has taken it"),
        "Service" if value.pointer("/spec/type").is_some_and(|t| t == "LoadBalancer") => address(value, "no load balancer has taken it"),
        "PersistentVolumeClaim" => phase(value, "Bound"),
        "CustomResourceDefinition" => definition(value),
        "PodDisruptionBudget" => budget(value),
        "HorizontalPodAutoscaler" => autoscaler(value),
        "ExternalSecret" | "SecretStore" | "ClusterSecretStore" => external_secret(value, generation),
        "Rollout" => rollout(value),
        // A core object that carries no status is what it is once it is stored.
        "Namespace" => phase(value, "Active"),
        _ => generic(value),
    }
}

fn deployment(value: &Value) -> Status {
    let progressing = condition(value, "Progressing");
    if progressing.is_some_and(|c| c["reason"] == "ProgressDeadlineExceeded") {
        return Status::Failed(reason(progressing));
    }
    let Some(_) = number(value, "/status/observedGeneration") else { return Status::InProgress("its controller has not seen it".into()) };
    let wanted = number(value, "/spec/replicas").unwrap_or(1);
    let count = |name: &str| number(value, &format!("/status/{name}")).unwrap_or(0);
    let (all, updated, ready, available) =
        (count("replicas"), count("updatedReplicas"), count("readyReplicas"), count("availableReplicas"));
    if updated < wanted {
        Status::InProgress(format!("{updated} of {wanted} pods are of the new version"))
    } else if all > updated {
        Status::InProgress(format!("{} pods of the old version are going", all - updated))
    } else if available < updated {
        Status::InProgress(format!("{available} of {updated} pods are available"))
    } else if ready < wanted {
        Status::InProgress(format!("{ready} of {wanted} pods are ready"))
    } else if is(condition(value, "Available"), "False") {
        Status::InProgress(reason(condition(value, "Available")))
    } else {
        Status::Current
    }
}

fn stateful_set(value: &Value) -> Status {
    let Some(_) = number(value, "/status/observedGeneration") else { return Status::InProgress("its controller has not seen it".into()) };
    let wanted = number(value, "/spec/replicas").unwrap_or(1);
    let count = |name: &str| number(value, &format!("/status/{name}")).unwrap_or(0);
    let ready = count("readyReplicas");
    if ready < wanted {
        return Status::InProgress(format!("{ready} of {wanted} pods are ready"));
    }
    let same = value.pointer("/status/currentRevision") == value.pointer("/status/updateRevision");
    if same || count("updatedReplicas") >= wanted { Status::Current } else { Status::InProgress("pods of the old version remain".into()) }
}

fn daemon_set(value: &Value) -> Status {
    let Some(_) = number(value, "/status/observedGeneration") else { return Status::InProgress("its controller has not seen it".into()) };
    let count = |name: &str| number(value, &format!("/status/{name}")).unwrap_or(0);
    let wanted = count("desiredNumberScheduled");
    let least = count("updatedNumberScheduled").min(count("numberAvailable")).min(count("numberReady"));
    if least < wanted { Status::InProgress(format!("{least} of {wanted} pods are ready")) } else { Status::Current }
}

fn job(value: &Value) -> Status {
    if is(condition(value, "Failed"), "True") {
        Status::Failed(reason(condition(value, "Failed")))
    } else if is(condition(value, "Complete"), "True") {
        Status::Current
    } else {
        Status::InProgress("it is running".into())
    }
}

fn pod(value: &Value) -> Status {
    match value.pointer("/status/phase").and_then(Value::as_str) {
        Some("Succeeded") => Status::Current,
        Some("Failed") => Status::Failed(value.pointer("/status/message").and_then(Value::as_str).unwrap_or("it has failed").into()),
        _ if is(condition(value, "Ready"), "True") => Status::Current,
        _ => Status::InProgress("it is not ready".into()),
    }
}

fn address(value: &Value, missing: &str) -> Status {
    let taken = value.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if taken { Status::Current } else { Status::InProgress(missing.into()) }
}

fn phase(value: &Value, wanted: &str) -> Status {
    match value.pointer("/status/phase").and_then(Value::as_str) {
        Some(phase) if phase == wanted => Status::Current,
        phase => Status::InProgress(format!("it is {}", phase.unwrap_or("new"))),
    }
}

fn definition(value: &Value) -> Status {
    let names = condition(value, "NamesAccepted");
    if is(names, "False") {
        Status::Failed(reason(names))
    } else if is(condition(value, "Established"), "True") {
        Status::Current
    } else {
        Status::InProgress("it is not established".into())
    }
}

fn budget(value: &Value) -> Status {
    let (Some(healthy), Some(wanted)) = (number(value, "/status/currentHealthy"), number(value, "/status/desiredHealthy")) else {
        return Status::InProgress("its controller has not seen it".into());
    };
    if healthy < wanted { Status::InProgress(format!("{healthy} of {wanted} pods are healthy")) } else { Status::Current }
}

/// An autoscaler that has no metrics yet still holds the number of pods between its bounds; one that may not scale is broken.
fn autoscaler(value: &Value) -> Status {
    let able = condition(value, "AbleToScale");
    // What it scales may be new, and what that replaces is not taken away before there are as many pods as there must be.
    let (least, found) = (number(value, "/spec/minReplicas").unwrap_or(1), number(value, "/status/currentReplicas").unwrap_or(0));
    if is(able, "False") {
        Status::InProgress(reason(able))
    } else if least > 1 && found < least {
        Status::InProgress(format!("there are {found} of at least {least} pods"))
    } else {
        Status::Current
    }
}

fn external_secret(value: &Value, generation: Option<i64>) -> Status {
    // `syncedResourceVersion` is GENERATION-HASH: a Ready of an older generation says nothing.
    if let (Some(wanted), Some(synced)) = (generation, value.pointer("/status/syncedResourceVersion").and_then(Value::as_str))
        && synced.split_once('-').and_then(|(seen, _)| seen.parse::<i64>().ok()).is_some_and(|seen| seen != wanted)
    {
        return Status::InProgress("its new version has not been synchronised".into());
    }
    match condition(value, "Ready") {
        ready if is(ready, "True") => Status::Current,
        None => Status::InProgress("its controller has not seen it".into()),
        ready => Status::InProgress(reason(ready)),
    }
}

fn rollout(value: &Value) -> Status {
    let message = value.pointer("/status/message").and_then(Value::as_str).unwrap_or_default().to_owned();
    // Its controller has not heard yet of the Service or the analysis that were made a moment before it.
    let early = condition(value, "InvalidSpec").is_some_and(|c| c["message"].as_str().is_some_and(|said| said.contains("not found")));
    match value.pointer("/status/phase").and_then(Value::as_str) {
        Some("Healthy") => Status::Current,
        Some("Degraded") if early => Status::InProgress(message),
        Some("Degraded") => Status::Failed(message),
        Some(phase) => Status::InProgress(format!("{phase} {message}").trim().to_owned()),
        None => Status::InProgress("its controller has not seen it".into()),
    }
}

fn generic(value: &Value) -> Status {
    let stalled = condition(value, "Stalled");
    if is(stalled, "True") {
        return Status::Failed(reason(stalled));
    }
    let reconciling = condition(value, "Reconciling");
    if is(reconciling, "True") {
        return Status::InProgress(reason(reconciling));
    }
    match condition(value, "Ready") {
        Some(ready) if ready["status"] != "True" => Status::InProgress(reason(Some(ready))),
        _ => Status::Current,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment_with(generation: i64, observed: i64, updated: i64, available: i64) -> Value {
        json!({"kind": "Deployment", "metadata": {"generation": generation}, "spec": {"replicas": 2},
            "status": {"observedGeneration": observed, "replicas": 2, "updatedReplicas": updated, "readyReplicas": available,
                "availableReplicas": available, "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}})
    }

    #[test]
    fn an_old_status_counts_for_nothing() {
        assert!(matches!(status_of(&deployment_with(2, 1, 2, 2)), Status::InProgress(_)));
        assert_eq!(status_of(&deployment_with(2, 2, 2, 2)), Status::Current);
    }

    #[test]
    fn a_rollout_is_done_when_every_new_pod_is_available() {
        assert!(matches!(status_of(&deployment_with(2, 2, 1, 2)), Status::InProgress(_)));
        assert!(matches!(status_of(&deployment_with(2, 2, 2, 1)), Status::InProgress(_)));
    }

    #[test]
    fn a_job_can_fail() {
        let job = |kind: &str| json!({"kind": "Job", "status": {"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]}});
        assert!(matches!(status_of(&job("Failed")), Status::Failed(_)));
        assert_eq!(status_of(&job("Complete")), Status::Current);
        assert!(matches!(status_of(&json!({"kind": "Job", "status": {}})), Status::InProgress(_)));
    }

    #[test]
    fn an_exceeded_progress_deadline_is_final() {
        let mut value = deployment_with(1, 1, 1, 0);
        value["status"]["conditions"][0]["reason"] = json!("ProgressDeadlineExceeded");
        assert!(matches!(status_of(&value), Status::Failed(_)));
    }

    #[test]
    fn an_external_secret_must_be_ready_for_its_generation() {
        let secret = |synced: &str| {
            json!({"kind": "ExternalSecret", "metadata": {"generation": 2},
            "status": {"syncedResourceVersion": synced, "conditions": [{"type": "Ready", "status": "True"}]}})
        };
        assert!(matches!(status_of(&secret("1-abc")), Status::InProgress(_)));
        assert_eq!(status_of(&secret("2-abc")), Status::Current);
    }

    #[test]
    fn observed_generation_may_be_a_text() {
        let rollout = json!({"kind": "Rollout", "metadata": {"generation": 3}, "status": {"observedGeneration": "2", "phase": "Healthy"}});
        assert!(matches!(status_of(&rollout), Status::InProgress(_)));
    }

    #[test]
    fn a_rollout_that_was_given_up_has_failed_but_one_that_came_before_its_service_has_not() {
        let degraded = |kind: &str, message: &str| {
            json!({"kind": "Rollout", "status": {"phase": "Degraded", "message": format!("{kind}: {message}"),
                "conditions": [{"type": kind, "status": "True", "message": message}]}})
        };
        assert!(matches!(status_of(&degraded("Progressing", "RolloutAborted: Rollout is aborted")), Status::Failed(_)));
        assert!(matches!(status_of(&degraded("InvalidSpec", "spec.strategy.canary.maxSurge: Invalid value")), Status::Failed(_)));
        assert!(matches!(status_of(&degraded("InvalidSpec", "service \"a\" not found")), Status::InProgress(_)));
    }

    #[test]
    fn an_autoscaler_has_brought_as_many_pods_as_there_must_be() {
        let scaled = |least: i64, found: i64| {
            status_of(&json!({"kind": "HorizontalPodAutoscaler", "spec": {"minReplicas": least}, "status": {"currentReplicas": found}}))
        };
        assert!(matches!(scaled(2, 1), Status::InProgress(_)));
        assert_eq!((scaled(2, 2), scaled(1, 0)), (Status::Current, Status::Current));
    }

    #[test]
    fn an_object_without_status_is_current() {
        assert_eq!(status_of(&json!({"kind": "ConfigMap", "data": {}})), Status::Current);
    }
}
