//! Access entries: which IAM principals the cluster knows, as whom, and with which of EKS' access policies.
use std::{collections::BTreeMap, sync::Arc};

use axum::extract::{Path, Query, State as Shared};
use serde_json::{Value, json};

use super::{
    Eks,
    answer::{Answer, Body, Caller, Page, Refusal, now, text},
    clusters::{active, named},
    store::{AccessEntry, State},
};

const POLICY_START: &str = "arn:aws:eks::aws:cluster-access-policy/";

/// EKS' access policies that the sandbox has, and the ClusterRole that each one is.
pub const POLICIES: [(&str, &str); 5] = [
    ("AmazonEKSClusterAdminPolicy", "cluster-admin"),
    ("AmazonEKSAdminPolicy", "admin"),
    ("AmazonEKSEditPolicy", "edit"),
    ("AmazonEKSViewPolicy", "view"),
    ("AmazonEKSAdminViewPolicy", "eks:admin-view"),
];

/// Who a caller is in the cluster.
pub struct Admitted {
    pub username: String,
    pub groups: Vec<String>,
}

/// The IAM principal behind a caller: the role of an assumed role's session, or the user.
pub fn principal_of(caller_arn: &str) -> (String, Option<String>) {
    let fields: Vec<&str> = caller_arn.splitn(6, ':').collect();
    if let [arn, partition, "sts", region, account, rest] = fields.as_slice()
        && let Some((role, session)) = rest.strip_prefix("assumed-role/").and_then(|rest| rest.split_once('/'))
    {
        return (format!("{arn}:{partition}:iam:{region}:{account}:role/{role}"), Some(session.to_owned()));
    }
    (caller_arn.to_owned(), None)
}

/// The group that stands for an access policy in tokens; `bindings` gives it its rights. Nobody can put himself into it: EKS refuses the prefix.
pub fn policy_group(policy: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("eks:access-policy:{policy}:{namespace}"),
        None => format!("eks:access-policy:{policy}"),
    }
}

/// Finds the entry for a caller. The path of a role's ARN is not in its sessions' ARNs, so only the name is compared.
pub fn admit(state: &State, caller_arn: &str) -> Option<Admitted> {
    let (principal, session) = principal_of(caller_arn);
    let (start, name) = principal.rsplit_once('/')?;
    let kind = start.split('/').next()?;
    let (arn, found) = state.entries.iter().find(|(arn, _)| {
        arn.rsplit_once('/').is_some_and(|(entry_start, entry_name)| entry_name == name && entry_start.split('/').next() == Some(kind))
    })?;
    let mut username = found.entry["username"].as_str().unwrap_or(arn).to_owned();
    if let Some(session) = &session {
        username = username.replace("{{SessionName}}", session).replace("{{SessionNameRaw}}", session);
    }
    let mut groups: Vec<String> =
        found.entry["kubernetesGroups"].as_array().into_iter().flatten().filter_map(|g| g.as_str().map(str::to_owned)).collect();
    for (policy, association) in &found.policies {
        let policy = policy.strip_prefix(POLICY_START).unwrap_or(policy);
        let scope = &association["accessScope"];
        if scope["type"] == "namespace" {
            let namespaces = scope["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str);
            groups.extend(namespaces.map(|namespace| policy_group(policy, Some(namespace))));
        } else {
            groups.push(policy_group(policy, None));
        }
    }
    Some(Admitted { username, groups })
}

fn entry(caller: &Caller, cluster: &str, arn: &str, body: &Value) -> Value {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    let (account, path) = (fields.get(4).copied().unwrap_or(&caller.account), fields.get(5).copied().unwrap_or_default());
    let (kind, name) = (path.split('/').next().unwrap_or("role"), path.rsplit('/').next().unwrap_or_default());
    let username = body["username"].as_str().map(str::to_owned).unwrap_or_else(|| match body["type"].as_str() {
        Some("EC2_LINUX") => "system:node:{{EC2PrivateDNSName}}".to_owned(),
        _ if kind == "role" => format!("arn:aws:sts::{account}:assumed-role/{name}/{{{{SessionName}}}}"),
        _ => arn.to_owned(),
    });
    json!({
        "clusterName": cluster,
        "principalArn": arn,
        "kubernetesGroups": if body["kubernetesGroups"].is_null() { json!([]) } else { body["kubernetesGroups"].clone() },
        "accessEntryArn": format!("arn:aws:eks:{}:{}:access-entry/{cluster}/{kind}/{account}/{name}/{}", caller.region, caller.account, uuid::Uuid::new_v4()),
        "createdAt": now(),
        "modifiedAt": now(),
        "tags": if body["tags"].is_null() { json!({}) } else { body["tags"].clone() },
        "username": username,
        "type": body["type"].as_str().unwrap_or("STANDARD"),
    })
}

/// The entry of who made the cluster, unless he asked for none.
pub fn admit_creator(state: &mut State, caller: &Caller, cluster: &str) {
    let (arn, _) = principal_of(&caller.principal);
    let policy = format!("{POLICY_START}AmazonEKSClusterAdminPolicy");
    let association =
        json!({ "policyArn": policy, "accessScope": { "type": "cluster", "namespaces": [] }, "associatedAt": now(), "modifiedAt": now() });
    let made = AccessEntry { entry: entry(caller, cluster, &arn, &json!({})), policies: BTreeMap::from([(policy, association)]) };
    state.entries.insert(arn, made);
}

/// The entry that EKS makes for a managed node group's role.
pub fn admit_nodes(state: &mut State, caller: &Caller, cluster: &str, role: &str) {
    let made = entry(caller, cluster, role, &json!({ "type": "EC2_LINUX", "kubernetesGroups": ["system:nodes"] }));
    state.entries.entry(role.to_owned()).or_insert(AccessEntry { entry: made, policies: BTreeMap::new() });
}

fn found<'a>(state: &'a mut State, arn: &str) -> Result<&'a mut AccessEntry, Refusal> {
    state.entries.get_mut(arn).ok_or_else(|| missing(arn))
}

fn missing(arn: &str) -> Refusal {
    Refusal::not_found(format!("The specified principalArn could not be found: {arn}"))
}

fn allowed_groups(body: &Value) -> Result<(), Refusal> {
    let mut groups = body["kubernetesGroups"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match groups.find(|group| ["system:", "eks:", "aws:", "amazon:", "iam:"].iter().any(|start| group.starts_with(start))) {
        Some(group) => Err(Refusal::parameter(format!(
            "The kubernetes group name {group} is invalid, it cannot start with system:, eks:, aws:, amazon: or iam:"
        ))),
        None => Ok(()),
    }
}

pub async fn create(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Body(body): Body) -> Answer {
    let arn = text(&body, "principalArn")?;
    if !arn.starts_with("arn:aws:iam::") {
        return Err(Refusal::parameter(format!("The principalArn parameter format is not valid: {arn}")));
    }
    allowed_groups(&body)?;
    let entry = eks.store.write(|state| -> Result<Value, Refusal> {
        active(state, &caller, &name)?;
        if state.entries.contains_key(arn) {
            return Err(Refusal::in_use("The specified access entry resource is already in use on this cluster."));
        }
        let entry = entry(&caller, &name, arn, &body);
        state.entries.insert(arn.to_owned(), AccessEntry { entry: entry.clone(), policies: BTreeMap::new() });
        Ok(entry)
    })?;
    Ok(axum::Json(json!({ "accessEntry": entry })))
}

pub async fn describe(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, arn)): Path<(String, String)>) -> Answer {
    eks.store.read(|state| {
        named(state, &caller, &name)?;
        let found = state.entries.get(&arn).ok_or_else(|| missing(&arn))?;
        Ok(axum::Json(json!({ "accessEntry": found.entry })))
    })
}

pub async fn list(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Query(page): Query<Page>) -> Answer {
    let arns = eks.store.read(|state| named(state, &caller, &name).map(|_| state.entries.keys().map(|arn| json!(arn)).collect()))?;
    page.of("accessEntries", arns)
}

pub async fn update(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, arn)): Path<(String, String)>, Body(body): Body) -> Answer {
    allowed_groups(&body)?;
    let entry = eks.store.write(|state| -> Result<Value, Refusal> {
        named(state, &caller, &name)?;
        let entry = &mut found(state, &arn)?.entry;
        for field in ["kubernetesGroups", "username"] {
            if !body[field].is_null() {
                entry[field] = body[field].clone();
            }
        }
        entry["modifiedAt"] = now();
        Ok(entry.clone())
    })?;
    Ok(axum::Json(json!({ "accessEntry": entry })))
}

pub async fn delete(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, arn)): Path<(String, String)>) -> Answer {
    eks.store.write(|state| -> Result<(), Refusal> {
        named(state, &caller, &name)?;
        state.entries.remove(&arn).map(|_| ()).ok_or_else(|| missing(&arn))
    })?;
    Ok(axum::Json(json!({})))
}

pub async fn associate(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path((name, arn)): Path<(String, String)>,
    Body(body): Body,
) -> Answer {
    let policy = text(&body, "policyArn")?.to_owned();
    let short = policy.strip_prefix(POLICY_START).unwrap_or_default();
    if !POLICIES.iter().any(|(known, _)| *known == short) {
        return Err(Refusal::parameter(format!("The policyArn parameter format is not valid: {policy}")));
    }
    let scope = &body["accessScope"];
    let namespaces = scope["namespaces"].as_array().map_or(0, Vec::len);
    match scope["type"].as_str() {
        Some("cluster") if namespaces == 0 => {}
        Some("namespace") if namespaces > 0 => {}
        _ => return Err(Refusal::parameter("The access scope must be `cluster`, or `namespace` with namespaces")),
    }
    let association = eks.store.write(|state| -> Result<Value, Refusal> {
        active(state, &caller, &name)?;
        let found = found(state, &arn)?;
        if found.entry["type"] != "STANDARD" {
            return Err(Refusal::request("Access policies can be associated with entries of type STANDARD only"));
        }
        let association = json!({ "policyArn": policy, "accessScope": scope, "associatedAt": now(), "modifiedAt": now() });
        found.policies.insert(policy.clone(), association.clone());
        Ok(association)
    })?;
    Ok(axum::Json(json!({ "clusterName": name, "principalArn": arn, "associatedAccessPolicy": association })))
}

pub async fn disassociate(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path((name, arn, policy)): Path<(String, String, String)>,
) -> Answer {
    eks.store.write(|state| -> Result<(), Refusal> {
        named(state, &caller, &name)?;
        let removed = found(state, &arn)?.policies.remove(&policy);
        removed.map(|_| ()).ok_or_else(|| Refusal::not_found(format!("The policy {policy} is not associated")))
    })?;
    Ok(axum::Json(json!({})))
}

pub async fn list_associated(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path((name, arn)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Answer {
    let policies = eks.store.read(|state| -> Result<Vec<Value>, Refusal> {
        named(state, &caller, &name)?;
        Ok(state.entries.get(&arn).ok_or_else(|| missing(&arn))?.policies.values().cloned().collect())
    })?;
    let mut answer = page.of("associatedAccessPolicies", policies)?;
    answer.0["clusterName"] = json!(name);
    answer.0["principalArn"] = json!(arn);
    Ok(answer)
}

pub async fn list_policies(Query(page): Query<Page>) -> Answer {
    page.of("accessPolicies", POLICIES.iter().map(|(name, _)| json!({ "name": name, "arn": format!("{POLICY_START}{name}") })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::default();
        let caller = Caller { region: "us-east-1".into(), account: "111122223333".into(), principal: String::new() };
        let arn = "arn:aws:iam::111122223333:role/ops/deployer";
        let policy = format!("{POLICY_START}AmazonEKSEditPolicy");
        let association = json!({ "accessScope": { "type": "namespace", "namespaces": ["apps"] } });
        state.entries.insert(
            arn.into(),
            AccessEntry { entry: entry(&caller, "c", arn, &json!({})), policies: BTreeMap::from([(policy, association)]) },
        );
        state
    }

    #[test]
    fn a_session_of_a_role_is_admitted_by_its_entry() {
        let admitted = admit(&state(), "arn:aws:sts::111122223333:assumed-role/deployer/ci").unwrap();
        assert_eq!(admitted.username, "arn:aws:sts::111122223333:assumed-role/deployer/ci");
        assert_eq!(admitted.groups, ["eks:access-policy:AmazonEKSEditPolicy:apps"]);
    }

    #[test]
    fn a_user_of_the_same_name_or_another_account_is_not() {
        for arn in ["arn:aws:iam::111122223333:user/deployer", "arn:aws:sts::999999999999:assumed-role/deployer/ci"] {
            assert!(admit(&state(), arn).is_none(), "{arn}");
        }
    }
}
