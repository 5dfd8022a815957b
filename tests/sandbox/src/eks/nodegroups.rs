//! Node groups: the sandbox's one node. It becomes ready only where a CNI is, as on AWS: with self-managed add-ons or with vpc-cni.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::extract::{Path, Query, State as Shared};
use serde_json::{Value, json};

use super::{
    Eks, access,
    answer::{Answer, Body, Caller, Page, Refusal, now, text},
    clusters::{active, named},
    runtime::Part,
    store::State,
    updates,
};

/// Nodes without a CNI stay NotReady; AWS gives up after half an hour, and so that a test need not, we do after a minute and a half.
const CNI_DEADLINE: Duration = Duration::from_secs(90);
const NODE_DEADLINE: Duration = Duration::from_secs(180);

fn found<'a>(state: &'a mut State, group: &str) -> Result<&'a mut Value, Refusal> {
    state.nodegroups.get_mut(group).ok_or_else(|| Refusal::not_found(format!("No node group found for name: {group}.")))
}

pub async fn create(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Body(body): Body) -> Answer {
    let group = text(&body, "nodegroupName")?.to_owned();
    let role = text(&body, "nodeRole")?.to_owned();
    let document = eks.store.write(|state| -> Result<Value, Refusal> {
        let version = active(state, &caller, &name)?["version"].clone();
        if state.nodegroups.contains_key(&group) {
            return Err(Refusal::in_use(format!("NodeGroup already exists with name {group} and cluster name {name}")));
        }
        if let Some(other) = state.nodegroups.keys().next() {
            return Err(Refusal::limit(format!("A sandbox runs one node, and node group {other} has it")));
        }
        let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
        let id = uuid::Uuid::new_v4();
        let document = json!({
            "nodegroupName": group,
            "nodegroupArn": format!("arn:aws:eks:{}:{}:nodegroup/{name}/{group}/{id}", caller.region, caller.account),
            "clusterName": name,
            "version": version,
            "releaseVersion": body["releaseVersion"].as_str().map_or_else(|| format!("{}.4-20261101", version.as_str().unwrap_or_default()), str::to_owned),
            "createdAt": now(),
            "modifiedAt": now(),
            "status": "CREATING",
            "capacityType": or(&body["capacityType"], json!("ON_DEMAND")),
            "scalingConfig": or(&body["scalingConfig"], json!({ "minSize": 1, "maxSize": 2, "desiredSize": 2 })),
            "instanceTypes": or(&body["instanceTypes"], json!(["t3.medium"])),
            "subnets": body["subnets"],
            "amiType": or(&body["amiType"], json!("AL2023_x86_64_STANDARD")),
            "nodeRole": role,
            "labels": or(&body["labels"], json!({})),
            "taints": or(&body["taints"], json!([])),
            "resources": { "autoScalingGroups": [] },
            "diskSize": if body["launchTemplate"].is_null() { or(&body["diskSize"], json!(20)) } else { Value::Null },
            "health": { "issues": [] },
            "updateConfig": or(&body["updateConfig"], json!({ "maxUnavailable": 1 })),
            "nodeRepairConfig": body["nodeRepairConfig"],
            "launchTemplate": body["launchTemplate"],
            "tags": or(&body["tags"], json!({})),
        });
        state.nodegroups.insert(group.clone(), document.clone());
        access::admit_nodes(state, &caller, &name, &role);
        Ok(document)
    })?;
    tokio::spawn(join(Arc::clone(&eks), group));
    Ok(axum::Json(json!({ "nodegroup": document })))
}

/// Starts the node when there is a CNI for it.
async fn join(eks: Arc<Eks>, group: String) {
    let outcome = match wait_for_cni(&eks).await {
        Ok(()) => eks.start_node(&group).await,
        Err(issue) => Err(issue),
    };
    eks.store.note(|state| {
        let Some(document) = state.nodegroups.get_mut(&group) else { return };
        match outcome {
            Ok(()) => document["status"] = json!("ACTIVE"),
            Err(message) => {
                tracing::error!("node group {group}: {message}");
                document["status"] = json!("CREATE_FAILED");
                document["health"] = json!({ "issues": [{ "code": "NodeCreationFailure", "message": message, "resourceIds": [] }] });
            }
        }
    });
}

async fn wait_for_cni(eks: &Eks) -> Result<(), String> {
    let end = tokio::time::Instant::now() + CNI_DEADLINE;
    loop {
        let cni = eks.store.read(|state| {
            let self_managed = state.cluster.as_ref().is_some_and(|cluster| cluster["sandboxSelfManagedAddons"] == true);
            self_managed || state.addons.contains_key("vpc-cni")
        });
        if cni {
            return Ok(());
        }
        if tokio::time::Instant::now() > end {
            return Err("Unhealthy nodes in the kubernetes cluster: no CNI. The cluster was made without self-managed add-ons, so vpc-cni must be there before the nodes".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

impl Eks {
    async fn start_node(&self, group: &str) -> Result<(), String> {
        let mut labels: BTreeMap<String, String> = self.store.read(|state| {
            let document = state.nodegroups.get(group);
            let labels = document.and_then(|document| document["labels"].as_object()).into_iter().flatten();
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        });
        labels.insert("eks.amazonaws.com/nodegroup".to_owned(), group.to_owned());
        labels.insert("eks.amazonaws.com/capacityType".to_owned(), "ON_DEMAND".to_owned());
        match tokio::time::timeout(NODE_DEADLINE, self.runtime.start(Part::Node, labels)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("the node was not ready after {} s", NODE_DEADLINE.as_secs())),
        }
    }
}

/// After `up`: the node again.
pub fn resume(eks: &Arc<Eks>) {
    for group in eks.store.read(|state| state.nodegroups.keys().cloned().collect::<Vec<_>>()) {
        tokio::spawn(join(Arc::clone(eks), group));
    }
}

pub async fn describe(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, group)): Path<(String, String)>) -> Answer {
    eks.store.read(|state| {
        named(state, &caller, &name)?;
        let document = state.nodegroups.get(&group).ok_or_else(|| Refusal::not_found(format!("No node group found for name: {group}.")))?;
        Ok(axum::Json(json!({ "nodegroup": document })))
    })
}

pub async fn list(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Query(page): Query<Page>) -> Answer {
    let names = eks.store.read(|state| named(state, &caller, &name).map(|_| state.nodegroups.keys().map(|name| json!(name)).collect()))?;
    page.of("nodegroups", names)
}

pub async fn delete(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, group)): Path<(String, String)>) -> Answer {
    let document = eks.store.write(|state| -> Result<Value, Refusal> {
        named(state, &caller, &name)?;
        let document = found(state, &group)?;
        document["status"] = json!("DELETING");
        Ok(document.clone())
    })?;
    let eks = Arc::clone(&eks);
    tokio::spawn(async move {
        match eks.runtime.stop(Part::Node).await {
            Ok(()) => eks.store.note(|state| {
                state.nodegroups.remove(&group);
            }),
            Err(error) => eks.store.note(|state| {
                if let Some(document) = state.nodegroups.get_mut(&group) {
                    document["status"] = json!("DELETE_FAILED");
                    document["health"] =
                        json!({ "issues": [{ "code": "InternalFailure", "message": format!("{error:#}"), "resourceIds": [] }] });
                }
            }),
        }
    });
    Ok(axum::Json(json!({ "nodegroup": document })))
}

pub async fn update_config(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path((name, group)): Path<(String, String)>,
    Body(body): Body,
) -> Answer {
    let update = eks.store.write(|state| -> Result<Value, Refusal> {
        active(state, &caller, &name)?;
        let document = found(state, &group)?;
        let mut params = Vec::new();
        for field in ["scalingConfig", "updateConfig", "nodeRepairConfig"] {
            if !body[field].is_null() {
                document[field] = body[field].clone();
                params.push(json!({ "type": field, "value": body[field].to_string() }));
            }
        }
        for (key, value) in body["labels"]["addOrUpdateLabels"].as_object().into_iter().flatten() {
            document["labels"][key] = value.clone();
        }
        for key in body["labels"]["removeLabels"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(labels) = document["labels"].as_object_mut() {
                labels.remove(key);
            }
        }
        document["modifiedAt"] = now();
        Ok(updates::done(state, "ConfigUpdate", &params, Some(&group), None))
    })?;
    if !body["labels"].is_null() {
        eks.start_node(&group).await.map_err(Refusal::server)?;
    }
    Ok(axum::Json(json!({ "update": update })))
}

pub async fn update_version(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path((name, group)): Path<(String, String)>,
    Body(body): Body,
) -> Answer {
    let update = eks.store.write(|state| -> Result<Value, Refusal> {
        let version = active(state, &caller, &name)?["version"].clone();
        if body["version"].is_string() && body["version"] != version {
            return Err(Refusal::parameter(format!("Nodegroup Kubernetes version should be equal to the cluster's, {version}")));
        }
        let document = found(state, &group)?;
        for field in ["releaseVersion", "launchTemplate"] {
            if !body[field].is_null() {
                document[field] = body[field].clone();
            }
        }
        document["modifiedAt"] = now();
        Ok(updates::done(state, "VersionUpdate", &[], Some(&group), None))
    })?;
    Ok(axum::Json(json!({ "update": update })))
}
