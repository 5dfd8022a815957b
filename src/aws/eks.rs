//! EKS: where a cluster's API is, and what state the cluster and its add-ons are in.
use super::Aws;
use crate::{failure::Failure, ids::ClusterName};

/// What deployctl needs to know of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterDescription {
    /// Its API server, with https://.
    pub endpoint: String,
    /// The certificate authority that the endpoint's certificate must come from, as PEM.
    pub certificate_authority_pem: Vec<u8>,
    /// As in `1.34`.
    pub version: String,
    /// `ACTIVE` when it can be used.
    pub status: String,
    /// The issuer of its service accounts' tokens, with https://.
    pub oidc_issuer: Option<String>,
}

/// An add-on and its state.
#[derive(Clone, Debug)]
pub struct Addon {
    /// As in `vpc-cni`.
    pub name: String,
    /// `ACTIVE` when it works.
    pub status: String,
    /// Its version.
    pub version: String,
    /// What EKS says is wrong.
    pub issues: Vec<String>,
}

impl Aws {
    /// Describes a cluster; none if there is none.
    pub async fn find_cluster(&self, name: &ClusterName) -> Result<Option<ClusterDescription>, Failure> {
        use base64::Engine;
        let cluster = match self.eks().describe_cluster().name(name.as_str()).send().await {
            Ok(answer) => answer.cluster,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => return Ok(None),
            Err(e) => return Err(self.failed("eks:DescribeCluster", name.as_str(), e)),
        };
        let Some(cluster) = cluster else { return Ok(None) };
        let status = cluster.status.map(|s| s.as_str().to_owned()).unwrap_or_default();
        // A cluster that is still being made has neither yet; its status says so.
        let ca = cluster.certificate_authority.and_then(|ca| ca.data).unwrap_or_default();
        let certificate_authority_pem = base64::engine::general_purpose::STANDARD
            .decode(ca)
            .map_err(|e| Failure::step(format!("eks:DescribeCluster gave no certificate for {name}")).because(e))?;
        Ok(Some(ClusterDescription {
            endpoint: cluster.endpoint.unwrap_or_default(),
            certificate_authority_pem,
            version: cluster.version.unwrap_or_default(),
            status,
            oidc_issuer: cluster.identity.and_then(|i| i.oidc).and_then(|o| o.issuer),
        }))
    }

    /// Describes a cluster that must be there.
    pub async fn describe_cluster(&self, name: &ClusterName) -> Result<ClusterDescription, Failure> {
        self.find_cluster(name).await?.ok_or_else(|| {
            Failure::new(
                crate::failure::FailureKind::Preflight,
                format!("there is no EKS cluster {name} in {} of {}", self.region(), self.account()),
            )
            .next("deployctl apply makes it in the step `cluster`")
        })
    }

    /// Every add-on of a cluster, with its state.
    pub async fn addons(&self, cluster: &ClusterName) -> Result<Vec<Addon>, Failure> {
        let names: Result<Vec<String>, _> =
            self.eks().list_addons().cluster_name(cluster.as_str()).into_paginator().items().send().collect().await;
        let names = names.map_err(|e| self.failed("eks:ListAddons", cluster.as_str(), e))?;
        let mut addons = Vec::with_capacity(names.len());
        for name in names {
            let answer = self.eks().describe_addon().cluster_name(cluster.as_str()).addon_name(&name).send().await;
            let Some(addon) = answer.map_err(|e| self.failed("eks:DescribeAddon", &name, e))?.addon else { continue };
            let issues = addon.health.and_then(|h| h.issues).unwrap_or_default();
            addons.push(Addon {
                name,
                status: addon.status.map(|s| s.as_str().to_owned()).unwrap_or_default(),
                version: addon.addon_version.unwrap_or_default(),
                issues: issues.into_iter().filter_map(|issue| issue.message).collect(),
            });
        }
        Ok(addons)
    }

    /// The ARN of the role in an association; none if the association is gone.
    pub async fn role_of_association(&self, cluster: &ClusterName, id: &str) -> Result<Option<String>, Failure> {
        match self.eks().describe_pod_identity_association().cluster_name(cluster.as_str()).association_id(id).send().await {
            Ok(answer) => Ok(answer.association.and_then(|association| association.role_arn)),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(None),
            Err(e) => Err(self.failed("eks:DescribePodIdentityAssociation", id, e)),
        }
    }

    /// Ids of a service account's pod identity associations.
    pub async fn pod_identity_associations(&self, cluster: &str, namespace: &str, account: &str) -> Result<Vec<String>, Failure> {
        let request = self.eks().list_pod_identity_associations().cluster_name(cluster).namespace(namespace).service_account(account);
        let found: Result<Vec<_>, _> = request.into_paginator().items().send().collect().await;
        match found {
            Ok(found) => Ok(found.into_iter().filter_map(|association| association.association_id).collect()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(Vec::new()),
            Err(e) => Err(self.failed("eks:ListPodIdentityAssociations", cluster, e)),
        }
    }
}
