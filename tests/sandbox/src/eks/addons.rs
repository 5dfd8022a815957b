//! Add-ons: ACTIVE only while the process or the named stand-in behind one runs. Others are DEGRADED with a health issue that says so:
//! the status that AWS gives an add-on which is installed and does not work, so that a caller can tell it and go on.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::extract::{Path, Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Eks,
    answer::{Answer, Body, Caller, Page, Refusal, now, text},
    clusters::{active, named},
    runtime::Part,
    updates,
};
use crate::layout::Site;

/// What stands behind an add-on here.
enum Behind {
    /// A real process of the sandbox.
    Process(Part),
    /// A process of the sandbox that stands for the real one: what it is.
    StandInProcess(Part, &'static str),
    /// Something else with the same effect, by name.
    StandIn(&'static str),
    /// Nothing: why.
    Nothing(&'static str),
}

impl Behind {
    /// What starts and ends with the add-on.
    fn part(&self) -> Option<Part> {
        match self {
            Self::Process(part) | Self::StandInProcess(part, _) => Some(*part),
            Self::StandIn(_) | Self::Nothing(_) => None,
        }
    }
}

/// EKS has no code for an add-on that is deliberately not run; the message says so, and `sandbox status` lists it as Skipped.
const SKIPPED: &str = "InsufficientNumberOfReplicas";

struct Known {
    name: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    behind: Behind,
}

const ADDONS: [Known; 8] = [
    Known { name: "coredns", versions: &["v1.12.4-eksbuild.1"], kind: "networking", behind: Behind::Process(Part::Dns) },
    Known { name: "kube-proxy", versions: &["v1.34.0-eksbuild.4"], kind: "networking", behind: Behind::Process(Part::Proxy) },
    Known {
        name: "vpc-cni",
        versions: &["v1.20.4-eksbuild.1"],
        kind: "networking",
        behind: Behind::StandIn("the CNI plugins bridge and host-local"),
    },
    Known {
        name: "eks-pod-identity-agent",
        versions: &["v1.3.9-eksbuild.3"],
        kind: "security",
        behind: Behind::StandInProcess(Part::PodIdentityAgent, "stand-in-pod-identity-agent, at the real one's address"),
    },
    Known {
        name: "aws-ebs-csi-driver",
        versions: &["v1.51.0-eksbuild.1"],
        kind: "storage",
        behind: Behind::Nothing("there are no EBS volumes in a sandbox"),
    },
    Known {
        name: "metrics-server",
        versions: &["v0.8.0-eksbuild.2"],
        kind: "observability",
        behind: Behind::Nothing("its image can't be had offline"),
    },
    Known {
        name: "snapshot-controller",
        versions: &["v8.3.0-eksbuild.1"],
        kind: "storage",
        behind: Behind::Nothing("there are no volumes to take snapshots of"),
    },
    Known {
        name: "amazon-cloudwatch-observability",
        versions: &["v4.5.0-eksbuild.1"],
        kind: "observability",
        behind: Behind::Nothing("its image can't be had offline"),
    },
];

fn known(name: &str) -> Result<&'static Known, Refusal> {
    ADDONS.iter().find(|addon| addon.name == name).ok_or_else(|| Refusal::parameter(format!("Addon {name} specified is not supported")))
}

impl Eks {
    /// The document with its status as it is now, not as it was when written.
    fn judged(&self, document: &Value) -> Value {
        let mut document = document.clone();
        let name = document["addonName"].as_str().unwrap_or_default().to_owned();
        let settled = document["status"] == "ACTIVE" || document["status"] == "DEGRADED";
        let Ok(addon) = known(&name) else { return document };
        let issue = match (&addon.behind, addon.behind.part()) {
            (Behind::Nothing(why), _) => Some((SKIPPED, format!("Skipped in the sandbox: {why}"))),
            (_, Some(part)) if settled && !self.runtime.running(part) => {
                Some(("InsufficientNumberOfReplicas", format!("{part:?} does not run")))
            }
            _ => None,
        };
        if settled {
            document["status"] = json!(if issue.is_some() { "DEGRADED" } else { "ACTIVE" });
        }
        let issues: Vec<Value> =
            issue.into_iter().map(|(code, message)| json!({ "code": code, "message": message, "resourceIds": [name] })).collect();
        document["health"] = json!({ "issues": issues });
        document
    }

    /// Add-ons that nothing runs for, with the reason, for `sandbox status`; and the stand-ins by name.
    pub fn addon_notes(&self) -> Vec<(String, String)> {
        let names: Vec<String> = self.store.read(|state| state.addons.keys().cloned().collect());
        let note = |name: &str| match &known(name).ok()?.behind {
            Behind::Process(_) => None,
            Behind::StandIn(what) | Behind::StandInProcess(_, what) => Some(format!("stand-in: {what}")),
            Behind::Nothing(why) => Some(format!("Skipped: {why}")),
        };
        let shown = |name: String| match self.layout.site {
            Site::Home => name,
            Site::Dr => format!("{name} in {}", self.layout.region()),
        };
        names.into_iter().filter_map(|name| note(&name).map(|note| (shown(name), note))).collect()
    }
}

/// Starts what is behind an add-on; DNS needs a node no more than a Deployment does to exist.
async fn install(eks: Arc<Eks>, name: String) {
    let outcome = match known(&name).ok().and_then(|addon| addon.behind.part()) {
        Some(part) => match tokio::time::timeout(Duration::from_secs(60), eks.runtime.start(part, BTreeMap::new())).await {
            Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
            Err(_) => Err("not ready after 60 s".to_owned()),
        },
        None => Ok(()),
    };
    if let Err(message) = &outcome {
        tracing::error!("add-on {name}: {message}");
    }
    eks.store.note(|state| {
        if let Some(document) = state.addons.get_mut(&name) {
            document["status"] = json!(if outcome.is_ok() { "ACTIVE" } else { "CREATE_FAILED" });
            document["modifiedAt"] = now();
        }
    });
}

/// After `up`: the processes of the add-ons that were there.
pub async fn resume(eks: &Arc<Eks>) {
    for name in eks.store.read(|state| state.addons.keys().cloned().collect::<Vec<_>>()) {
        install(Arc::clone(eks), name).await;
    }
}

pub async fn create(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Body(body): Body) -> Answer {
    let addon = text(&body, "addonName")?.to_owned();
    let document = eks.store.write(|state| -> Result<Value, Refusal> {
        active(state, &caller, &name)?;
        let known = known(&addon)?;
        if state.addons.contains_key(&addon) {
            return Err(Refusal::in_use(format!("Addon already exists: {addon}")));
        }
        let version = body["addonVersion"].as_str().unwrap_or(known.versions[0]);
        if !version.starts_with('v') {
            return Err(Refusal::parameter(format!("Addon version specified is not supported: {version}")));
        }
        let document = json!({
            "addonName": addon,
            "clusterName": name,
            "status": "CREATING",
            "addonVersion": version,
            "health": { "issues": [] },
            "addonArn": format!("arn:aws:eks:{}:{}:addon/{name}/{addon}/{}", caller.region, caller.account, uuid::Uuid::new_v4()),
            "createdAt": now(),
            "modifiedAt": now(),
            "serviceAccountRoleArn": body["serviceAccountRoleArn"],
            "configurationValues": body["configurationValues"],
            "podIdentityAssociations": [],
            "owner": "aws",
            "publisher": "eks",
            "tags": if body["tags"].is_null() { json!({}) } else { body["tags"].clone() },
        });
        state.addons.insert(addon.clone(), document.clone());
        Ok(document)
    })?;
    tokio::spawn(install(Arc::clone(&eks), addon));
    Ok(axum::Json(json!({ "addon": document })))
}

pub async fn describe(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, addon)): Path<(String, String)>) -> Answer {
    let document = eks.store.read(|state| {
        named(state, &caller, &name)?;
        state.addons.get(&addon).cloned().ok_or_else(|| Refusal::not_found(format!("No addon: {addon} found in cluster: {name}")))
    })?;
    Ok(axum::Json(json!({ "addon": eks.judged(&document) })))
}

pub async fn list(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Query(page): Query<Page>) -> Answer {
    let names = eks.store.read(|state| named(state, &caller, &name).map(|_| state.addons.keys().map(|name| json!(name)).collect()))?;
    page.of("addons", names)
}

pub async fn delete(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, addon)): Path<(String, String)>) -> Answer {
    let document = eks.store.write(|state| -> Result<Value, Refusal> {
        named(state, &caller, &name)?;
        let document =
            state.addons.get_mut(&addon).ok_or_else(|| Refusal::not_found(format!("No addon: {addon} found in cluster: {name}")))?;
        document["status"] = json!("DELETING");
        Ok(document.clone())
    })?;
    let eks = Arc::clone(&eks);
    tokio::spawn(async move {
        if let Some(part) = known(&addon).ok().and_then(|addon| addon.behind.part())
            && let Err(error) = eks.runtime.stop(part).await
        {
            tracing::error!("{part:?} did not stop: {error:#}");
        }
        eks.store.note(|state| {
            state.addons.remove(&addon);
        });
    });
    Ok(axum::Json(json!({ "addon": document })))
}

pub async fn update(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path((name, addon)): Path<(String, String)>,
    Body(body): Body,
) -> Answer {
    let update = eks.store.write(|state| -> Result<Value, Refusal> {
        active(state, &caller, &name)?;
        let document =
            state.addons.get_mut(&addon).ok_or_else(|| Refusal::not_found(format!("No addon: {addon} found in cluster: {name}")))?;
        let mut params = Vec::new();
        for field in ["addonVersion", "serviceAccountRoleArn", "configurationValues"] {
            if !body[field].is_null() {
                document[field] = body[field].clone();
                params.push(json!({ "type": field, "value": body[field].as_str() }));
            }
        }
        document["modifiedAt"] = now();
        Ok(updates::done(state, "AddonUpdate", &params, None, Some(&addon)))
    })?;
    Ok(axum::Json(json!({ "update": update })))
}

/// The filters of DescribeAddonVersions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    addon_name: Option<String>,
    kubernetes_version: Option<String>,
}

pub async fn supported_versions(Query(wanted): Query<Wanted>, Query(page): Query<Page>) -> Answer {
    let fits = wanted.kubernetes_version.as_deref().is_none_or(|version| version == "1.34");
    let version = |version: &str| {
        json!({
            "addonVersion": version,
            "architecture": ["amd64"],
            "compatibilities": [{ "clusterVersion": "1.34", "platformVersions": ["*"], "defaultVersion": true }],
            "requiresConfiguration": false,
            "requiresIamPermissions": false,
        })
    };
    let addons = ADDONS.iter().filter(|addon| fits && wanted.addon_name.as_deref().is_none_or(|name| name == addon.name));
    let addons = addons.map(|addon| {
        let versions: Vec<Value> = addon.versions.iter().map(|v| version(v)).collect();
        json!({ "addonName": addon.name, "type": addon.kind, "addonVersions": versions, "publisher": "eks", "owner": "aws" })
    });
    page.of("addons", addons.collect())
}

/// One add-on's version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    addon_name: String,
    addon_version: String,
}

/// Any object is accepted: the sandbox has no add-on whose configuration does anything.
pub async fn configuration(Query(version): Query<Version>) -> Answer {
    known(&version.addon_name)?;
    Ok(axum::Json(json!({
        "addonName": version.addon_name,
        "addonVersion": version.addon_version,
        "configurationSchema": r#"{"$schema":"http://json-schema.org/draft-06/schema#","type":"object"}"#,
        "podIdentityConfiguration": [],
    })))
}
