//! Access policies in the cluster: a binding gives the group that stands for a policy its rights. EKS does it with an authorizer of its own.
use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    core::v1::Namespace,
    rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{
    Eks,
    access::{POLICIES, policy_group},
    store::State,
};

/// A namespace may be made after the policy was associated, so this looks again and again.
const PAUSE: Duration = Duration::from_secs(2);

/// Keeps the bindings as long as the daemon runs. Whoever loses a policy loses its group at once; a binding without members harms nobody.
pub fn keep(eks: Arc<Eks>) {
    tokio::spawn(async move {
        let mut applied: BTreeSet<(String, Option<String>)> = BTreeSet::new();
        loop {
            let active = eks.store.read(|state| state.cluster.as_ref().is_some_and(|cluster| cluster["status"] == "ACTIVE"));
            if !active {
                applied.clear();
            } else if let Err(error) = apply(&eks, &mut applied).await {
                tracing::warn!("the access policies' bindings: {error:#}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
}

/// Every policy for the whole cluster, and each (policy, namespace) that is associated.
fn wanted(state: &State) -> BTreeSet<(String, Option<String>)> {
    let mut wanted: BTreeSet<_> = POLICIES.iter().map(|(policy, _)| ((*policy).to_owned(), None)).collect();
    for association in state.entries.values().flat_map(|found| found.policies.values()) {
        let policy = association["policyArn"].as_str().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default();
        let namespaces = association["accessScope"]["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str);
        wanted.extend(namespaces.map(|namespace| (policy.to_owned(), Some(namespace.to_owned()))));
    }
    wanted
}

/// A client with the rights of EKS itself.
pub async fn admin(eks: &Eks) -> Result<Client> {
    let file = eks.runtime.admin_kubeconfig();
    let kubeconfig = Kubeconfig::read_from(&file).with_context(|| format!("the administrator's kubeconfig {}", file.display()))?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.context("the administrator's kubeconfig")?;
    Client::try_from(config).context("a Kubernetes client")
}

async fn apply(eks: &Eks, applied: &mut BTreeSet<(String, Option<String>)>) -> Result<()> {
    let missing: Vec<_> = eks.store.read(wanted).into_iter().filter(|pair| !applied.contains(pair)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let client = admin(eks).await?;
    let force = PatchParams::apply("eks").force();
    let view_all = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "eks:admin-view" },
        "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"] }],
    });
    Api::<ClusterRole>::all(client.clone())
        .patch("eks:admin-view", &force, &Patch::Apply(&view_all))
        .await
        .context("ClusterRole eks:admin-view")?;
    for (policy, namespace) in missing {
        let Some((_, role)) = POLICIES.iter().find(|(known, _)| *known == policy) else { continue };
        let name = format!("eks:access-policy:{policy}");
        let mut binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": policy_group(&policy, namespace.as_deref()) }],
        });
        match &namespace {
            None => {
                binding["kind"] = json!("ClusterRoleBinding");
                let api = Api::<ClusterRoleBinding>::all(client.clone());
                api.patch(&name, &force, &Patch::Apply(&binding)).await.with_context(|| format!("ClusterRoleBinding {name}"))?;
            }
            Some(namespace) => {
                if Api::<Namespace>::all(client.clone()).get_opt(namespace).await.context("a namespace")?.is_none() {
                    continue;
                }
                binding["kind"] = json!("RoleBinding");
                let api = Api::<RoleBinding>::namespaced(client.clone(), namespace);
                api.patch(&name, &force, &Patch::Apply(&binding)).await.with_context(|| format!("RoleBinding {namespace}/{name}"))?;
            }
        }
        applied.insert((policy, namespace));
    }
    Ok(())
}
