//! Clusters: CreateCluster boots the region's control plane, DeleteCluster takes it away.
use std::{sync::Arc, time::Duration};

use axum::extract::{Path, Query, State as Shared};
use base64::Engine;
use serde_json::{Value, json};

use super::{
    Eks, access,
    answer::{Answer, Body, Caller, Page, Refusal, now, text},
    runtime::{ControlPlaneSpec, Part},
    store::State,
    updates,
};
use crate::door::emulator::element;

/// How long a control plane may take; it takes two seconds.
const BOOT_DEADLINE: Duration = Duration::from_secs(180);

/// The cluster, or AWS' error for a name that is not it.
pub fn named<'a>(state: &'a State, caller: &Caller, name: &str) -> Result<&'a Value, Refusal> {
    state
        .cluster
        .as_ref()
        .filter(|cluster| cluster["name"] == name && state.region == caller.region)
        .ok_or_else(|| Refusal::not_found(format!("No cluster found for name: {name}.")))
}

/// The cluster, when it can be changed.
pub fn active<'a>(state: &'a State, caller: &Caller, name: &str) -> Result<&'a Value, Refusal> {
    let cluster = named(state, caller, name)?;
    if cluster["status"] != "ACTIVE" {
        return Err(Refusal::request(format!("Cluster {name} is not in ACTIVE state: {}", cluster["status"].as_str().unwrap_or_default())));
    }
    Ok(cluster)
}

pub async fn create(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Body(body): Body) -> Answer {
    let name = text(&body, "name")?.to_owned();
    let valid = name.len() <= 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !valid {
        return Err(Refusal::parameter(
            "The cluster name can contain only alphanumeric characters (case-sensitive), hyphens and underscores",
        ));
    }
    let role = text(&body, "roleArn")?;
    let subnets: Vec<&str> = body["resourcesVpcConfig"]["subnetIds"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if subnets.len() < 2 {
        return Err(Refusal::parameter("Subnets specified must be in at least two different AZs"));
    }
    eks.store.read(|state| match &state.cluster {
        Some(cluster) if cluster["name"] == name.as_str() && state.region == caller.region => {
            Err(Refusal::in_use(format!("Cluster already exists with name: {name}")))
        }
        Some(cluster) => Err(Refusal::limit(format!(
            "A sandbox runs one cluster in a region, and {} is it: there is one node's machine behind it",
            cluster["name"]
        ))),
        None => Ok(()),
    })?;
    let version = body["version"].as_str().unwrap_or("1.34");
    if version != "1.34" {
        return Err(Refusal::parameter(format!("unsupported Kubernetes version {version}: the sandbox's node is built from 1.34")));
    }
    let vpc = eks.vpc_of(&caller.region, &subnets).await?;
    let group = eks.security_group(&caller.region, &name, &vpc).await?;
    let document = document(&caller, &name, version, role, &body, &vpc, &group);
    let bootstrap = body["accessConfig"]["bootstrapClusterCreatorAdminPermissions"].as_bool().unwrap_or(true);
    let kept = document.clone();
    eks.store.write(|state| -> Result<(), Refusal> {
        *state = State { region: caller.region.clone(), cluster: Some(kept), ..State::default() };
        if bootstrap {
            access::admit_creator(state, &caller, &name);
        }
        Ok(())
    })?;
    tokio::spawn(boot(Arc::clone(&eks), body["bootstrapSelfManagedAddons"].as_bool().unwrap_or(true)));
    Ok(axum::Json(json!({ "cluster": document })))
}

fn document(caller: &Caller, name: &str, version: &str, role: &str, body: &Value, vpc: &str, group: &str) -> Value {
    let network = &body["resourcesVpcConfig"];
    let id = hex::encode_upper(&uuid::Uuid::new_v4().as_bytes()[..]);
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    json!({
        "name": name,
        "arn": format!("arn:aws:eks:{}:{}:cluster/{name}", caller.region, caller.account),
        "createdAt": now(),
        "version": version,
        "roleArn": role,
        "resourcesVpcConfig": {
            "subnetIds": network["subnetIds"],
            "securityGroupIds": or(&network["securityGroupIds"], json!([])),
            "clusterSecurityGroupId": group,
            "vpcId": vpc,
            "endpointPublicAccess": or(&network["endpointPublicAccess"], json!(true)),
            "endpointPrivateAccess": or(&network["endpointPrivateAccess"], json!(false)),
            "publicAccessCidrs": or(&network["publicAccessCidrs"], json!(["0.0.0.0/0"])),
        },
        "kubernetesNetworkConfig": { "serviceIpv4Cidr": crate::layout::SERVICE_CIDR, "ipFamily": "ipv4", "elasticLoadBalancing": { "enabled": false } },
        "logging": or(&body["logging"], json!({ "clusterLogging": [] })),
        "identity": { "oidc": { "issuer": format!("https://oidc.eks.{}.amazonaws.com/id/{id}", caller.region) } },
        "status": "CREATING",
        "certificateAuthority": {},
        "platformVersion": "eks.1",
        "tags": or(&body["tags"], json!({})),
        "encryptionConfig": or(&body["encryptionConfig"], json!([])),
        "health": { "issues": [] },
        "accessConfig": {
            "authenticationMode": or(&body["accessConfig"]["authenticationMode"], json!("CONFIG_MAP")),
            "bootstrapClusterCreatorAdminPermissions": body["accessConfig"]["bootstrapClusterCreatorAdminPermissions"].as_bool().unwrap_or(true),
        },
        "upgradePolicy": or(&body["upgradePolicy"], json!({ "supportType": "EXTENDED" })),
        "deletionProtection": body["deletionProtection"].as_bool().unwrap_or(false),
        "zonalShiftConfig": or(&body["zonalShiftConfig"], json!({ "enabled": false })),
    })
}

/// Boots the control plane for the cluster in the state and writes what became of it.
async fn boot(eks: Arc<Eks>, self_managed: bool) {
    let Some((name, version, issuer)) = eks.store.read(|state| {
        let cluster = state.cluster.as_ref()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some((text(&cluster["name"]), text(&cluster["version"]), text(&cluster["identity"]["oidc"]["issuer"])))
    }) else {
        return;
    };
    let spec = ControlPlaneSpec { cluster_name: name.clone(), version, oidc_issuer: issuer };
    let outcome = match tokio::time::timeout(BOOT_DEADLINE, eks.runtime.start_control_plane(spec)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("the control plane was not ready after {} s", BOOT_DEADLINE.as_secs())),
    };
    if let Err(error) = &outcome {
        tracing::error!("the cluster {name} did not start: {error:#}");
    }
    // The self-managed add-ons that EKS installs unless it is told not to; without them only the add-on API brings them.
    if outcome.is_ok() && self_managed {
        for part in [Part::Proxy, Part::Dns] {
            if let Err(error) = eks.runtime.start(part, Default::default()).await {
                tracing::error!("{part:?} did not start: {error:#}");
            }
        }
    }
    eks.store.note(|state| {
        let Some(cluster) = state.cluster.as_mut().filter(|cluster| cluster["name"] == name.as_str()) else { return };
        match outcome {
            Ok(plane) => {
                cluster["endpoint"] = json!(plane.endpoint);
                cluster["certificateAuthority"] = json!({ "data": base64::engine::general_purpose::STANDARD.encode(plane.ca_pem) });
                cluster["status"] = json!("ACTIVE");
                cluster["sandboxSelfManagedAddons"] = json!(self_managed);
            }
            Err(error) => {
                cluster["status"] = json!("FAILED");
                cluster["health"] = json!({ "issues": [{ "code": "Other", "message": format!("{error:#}"), "resourceIds": [name] }] });
            }
        }
    });
}

/// After `up`: the control plane and everything on it that was there.
pub fn resume(eks: &Arc<Eks>) {
    let Some((status, self_managed)) = eks.store.read(|state| {
        let cluster = state.cluster.as_ref()?;
        Some((cluster["status"].as_str().unwrap_or_default().to_owned(), cluster["sandboxSelfManagedAddons"].as_bool().unwrap_or(false)))
    }) else {
        return;
    };
    let eks = Arc::clone(eks);
    tokio::spawn(async move {
        if status == "DELETING" {
            tear_down(eks).await;
            return;
        }
        boot(Arc::clone(&eks), self_managed).await;
        super::addons::resume(&eks).await;
        super::nodegroups::resume(&eks);
    });
}

pub async fn describe(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>) -> Answer {
    eks.store.read(|state| named(state, &caller, &name).map(|cluster| axum::Json(json!({ "cluster": public(cluster) }))))
}

/// The document without what only the sandbox keeps in it.
fn public(cluster: &Value) -> Value {
    let mut cluster = cluster.clone();
    if let Some(fields) = cluster.as_object_mut() {
        fields.remove("sandboxSelfManagedAddons");
    }
    cluster
}

pub async fn list(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Query(page): Query<Page>) -> Answer {
    page.of(
        "clusters",
        eks.store
            .read(|state| state.cluster.iter().filter(|_| state.region == caller.region).map(|cluster| cluster["name"].clone()).collect()),
    )
}

pub async fn delete(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>) -> Answer {
    let document = eks.store.write(|state| -> Result<Value, Refusal> {
        let cluster = named(state, &caller, &name)?;
        if !state.nodegroups.is_empty() {
            return Err(Refusal::in_use("Cluster has nodegroups attached"));
        }
        if cluster["deletionProtection"] == true {
            return Err(Refusal::request(format!("Cluster {name} has deletion protection enabled")));
        }
        let Some(cluster) = state.cluster.as_mut() else { return Err(Refusal::not_found(name.clone())) };
        cluster["status"] = json!("DELETING");
        Ok(public(cluster))
    })?;
    tokio::spawn(tear_down(Arc::clone(&eks)));
    Ok(axum::Json(json!({ "cluster": document })))
}

async fn tear_down(eks: Arc<Eks>) {
    for part in [Part::PodIdentityAgent, Part::Dns, Part::Proxy, Part::Node, Part::ControlPlane] {
        if let Err(error) = eks.runtime.stop(part).await {
            tracing::error!("{part:?} did not stop: {error:#}");
            eks.store.note(|state| {
                if let Some(cluster) = state.cluster.as_mut() {
                    cluster["health"] = json!({ "issues": [{ "code": "Other", "message": format!("{error:#}"), "resourceIds": [] }] });
                }
            });
            return;
        }
    }
    let group = eks.store.read(|state| {
        let cluster = state.cluster.as_ref()?;
        Some((state.region.clone(), cluster["resourcesVpcConfig"]["clusterSecurityGroupId"].as_str()?.to_owned()))
    });
    if let Some((region, group)) = group
        && let Err(error) = eks.root.query("ec2", &region, "2016-11-15", &[("Action", "DeleteSecurityGroup"), ("GroupId", &group)]).await
    {
        tracing::warn!("the cluster's security group {group} stays: {error:#}");
    }
    eks.store.note(|state| *state = State::default());
}

pub async fn update_config(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Body(body): Body) -> Answer {
    let update = eks.store.write(|state| -> Result<Value, Refusal> {
        active(state, &caller, &name)?;
        let Some(cluster) = state.cluster.as_mut() else { return Err(Refusal::not_found(name.clone())) };
        let mut params = Vec::new();
        let mut kind = "ConfigUpdate";
        for (field, update) in [
            ("resourcesVpcConfig", "EndpointAccessUpdate"),
            ("logging", "LoggingUpdate"),
            ("accessConfig", "AccessConfigUpdate"),
            ("upgradePolicy", "UpgradePolicyUpdate"),
            ("zonalShiftConfig", "ZonalShiftConfigUpdate"),
        ] {
            for (key, value) in body[field].as_object().into_iter().flatten() {
                kind = update;
                cluster[field][key] = value.clone();
                params.push(json!({ "type": key, "value": value.to_string() }));
            }
        }
        if let Some(protected) = body["deletionProtection"].as_bool() {
            kind = "DeletionProtectionUpdate";
            cluster["deletionProtection"] = json!(protected);
        }
        Ok(updates::done(state, kind, &params, None, None))
    })?;
    Ok(axum::Json(json!({ "update": update })))
}

pub async fn update_version(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Body(body): Body) -> Answer {
    let wanted = text(&body, "version")?;
    eks.store.read(|state| {
        let cluster = active(state, &caller, &name)?;
        if cluster["version"] == wanted {
            return Err(Refusal::parameter(format!("Cluster is already at the desired configuration with version {wanted}")));
        }
        Err(Refusal::parameter(format!(
            "Unsupported Kubernetes minor version update from {} to {wanted}: the sandbox has one version",
            cluster["version"]
        )))
    })
}

impl Eks {
    async fn vpc_of(&self, region: &str, subnets: &[&str]) -> Result<String, Refusal> {
        let names: Vec<String> = (1..=subnets.len()).map(|n| format!("SubnetId.{n}")).collect();
        let mut form = vec![("Action", "DescribeSubnets")];
        form.extend(names.iter().map(String::as_str).zip(subnets.iter().copied()));
        let answer = self.root.query("ec2", region, "2016-11-15", &form).await;
        let answer = answer.map_err(|error| Refusal::parameter(format!("The subnets cannot be read: {error:#}")))?;
        element(&answer, "vpcId").map(str::to_owned).ok_or_else(|| Refusal::parameter("The subnets do not exist"))
    }

    /// The security group that EKS makes for each cluster.
    async fn security_group(&self, region: &str, cluster: &str, vpc: &str) -> Result<String, Refusal> {
        let name = format!("eks-cluster-sg-{cluster}-{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
        let owner = format!("kubernetes.io/cluster/{cluster}");
        let form = [
            ("Action", "CreateSecurityGroup"),
            ("GroupName", name.as_str()),
            (
                "GroupDescription",
                "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, as well as any managed workloads.",
            ),
            ("VpcId", vpc),
            ("TagSpecification.1.ResourceType", "security-group"),
            ("TagSpecification.1.Tag.1.Key", &owner),
            ("TagSpecification.1.Tag.1.Value", "owned"),
            ("TagSpecification.1.Tag.2.Key", "aws:eks:cluster-name"),
            ("TagSpecification.1.Tag.2.Value", cluster),
        ];
        let answer = self.root.query("ec2", region, "2016-11-15", &form).await.map_err(|error| Refusal::server(format!("{error:#}")))?;
        element(&answer, "groupId").map(str::to_owned).ok_or_else(|| Refusal::server("EC2 answered without a group"))
    }
}
