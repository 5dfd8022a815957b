//! What an API server serves: its version, its kinds, which of them belong to a namespace, and what they are called in paths.
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures::TryFutureExt;
use kube::core::ApiResource;

use super::{Cluster, resource_of};
use crate::failure::Failure;

/// Whether objects of a kind belong to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespace,
    /// They belong to the whole cluster.
    Cluster,
}

/// What an API server serves.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// As in `v1.34.4`.
    pub version: String,
    kinds: BTreeMap<(String, String), Scope>,
}

impl Capabilities {
    /// A cluster that nobody has asked yet: its version and nothing else.
    pub fn of_version(version: &str) -> Self {
        Self { version: version.to_owned(), kinds: BTreeMap::new() }
    }
    /// As charts ask for them: `apps/v1` and `apps/v1/Deployment`.
    pub fn api_versions(&self) -> Vec<String> {
        let mut versions: Vec<String> = self.kinds.keys().flat_map(|(api, kind)| [api.clone(), format!("{api}/{kind}")]).collect();
        versions.sort();
        versions.dedup();
        versions
    }
    /// Where objects of a kind live; none if it is not served.
    pub fn scope(&self, api_version: &str, kind: &str) -> Option<Scope> {
        self.kinds.get(&(api_version.to_owned(), kind.to_owned())).copied()
    }
}

/// Plural names of kinds that are not Kubernetes' own, as their API server has them.
pub(super) type Plurals = Mutex<BTreeMap<(String, String), String>>;

impl Cluster {
    /// Asks what is served.
    pub async fn capabilities(&self) -> Result<Capabilities, Failure> {
        let what = "asking what the API server serves";
        let client = self.client().await?;
        let both = || {
            let core = client.list_core_api_versions_aggregated().map_ok(|core| core.items);
            let groups = client.list_api_groups_aggregated().map_ok(|groups| groups.items);
            async move { futures::try_join!(core, groups) }
        };
        let (core, groups) = self.repeated(what, both).await?.map_err(|e| self.failed(what, e))?;
        let mut kinds = BTreeMap::new();
        for group in core.into_iter().chain(groups) {
            let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
            for version in group.versions {
                let Some(number) = version.version else { continue };
                let api = if name.is_empty() { number } else { format!("{name}/{number}") };
                for resource in version.resources {
                    let Some(kind) = resource.response_kind.and_then(|kind| kind.kind) else { continue };
                    let scope = if resource.scope.as_deref() == Some("Namespaced") { Scope::Namespace } else { Scope::Cluster };
                    kinds.insert((api.clone(), kind), scope);
                }
            }
        }
        Ok(Capabilities { version: self.version().await?, kinds })
    }

    /// What a kind is called in paths. Kubernetes' own follow its rule; others are looked up, for some do not (`ingressclassparams`).
    pub(super) async fn resource(&self, api_version: &str, kind: &str) -> Result<ApiResource, Failure> {
        let mut resource = resource_of(api_version, kind);
        if !resource.group.contains('.') || resource.group.ends_with(".k8s.io") {
            return Ok(resource);
        }
        let named = |plurals: &Plurals| {
            let plurals = plurals.lock().unwrap_or_else(PoisonError::into_inner);
            plurals.get(&(api_version.to_owned(), kind.to_owned())).cloned()
        };
        if named(&self.plurals).is_none() {
            let client = self.client().await?;
            let asked =
                self.repeated(format!("asking for the kinds of {api_version}"), || client.list_api_group_resources(api_version)).await?;
            // Its definition may come with the same apply, and who may not ask goes by the rule.
            if let Ok(list) = asked {
                let own = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
                let mut plurals = self.plurals.lock().unwrap_or_else(PoisonError::into_inner);
                plurals.extend(own.map(|resource| ((api_version.to_owned(), resource.kind), resource.name)));
            }
        }
        if let Some(plural) = named(&self.plurals) {
            resource.plural = plural;
        }
        Ok(resource)
    }
}
