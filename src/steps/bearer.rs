//! A service account as AWS sees its pods: by its own token, the way in which the plan file has pods come to their roles.
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use super::StepContext;
use crate::{
    aws::{
        Aws,
        eks_auth::POD_IDENTITY_AUDIENCE,
        sts::{Assumed, WEB_IDENTITY_AUDIENCE},
    },
    cluster::Cluster,
    failure::Failure,
    ids::RoleArn,
    plan::file::Credentials,
};

/// A service account of a cluster.
#[derive(Clone, Copy)]
pub struct Bearer<'a> {
    /// The step that wants to know.
    pub cx: &'a StepContext,
    /// Where the account is.
    pub cluster: &'a Cluster,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub account: &'a str,
}

impl Bearer<'_> {
    /// Whether its pods are given this role.
    pub async fn assumes(&self, role: &RoleArn) -> Result<Assumed, Failure> {
        let (aws, cluster) = (&self.cx.aws, self.cluster);
        match self.cx.credentials {
            Credentials::Irsa => {
                let token = cluster.account_token(self.namespace, self.account, WEB_IDENTITY_AUDIENCE).await?;
                aws.assume_with_token(role, &token).await
            }
            Credentials::PodIdentity => {
                let asked = |token: SecretString| async move { aws.pod_assumes(cluster.name(), role, &token).await };
                cluster.with_pod_token(self.namespace, self.account, POD_IDENTITY_AUDIENCE, &self.pod(role), asked).await
            }
        }
    }

    /// AWS as its pods see it, under this role.
    pub async fn becomes(&self, role: &RoleArn) -> Result<Aws, Failure> {
        let (aws, cluster) = (&self.cx.aws, self.cluster);
        match self.cx.credentials {
            Credentials::Irsa => {
                let token = cluster.account_token(self.namespace, self.account, WEB_IDENTITY_AUDIENCE).await?;
                aws.as_bearer(role, &token).await
            }
            Credentials::PodIdentity => {
                let asked = |token: SecretString| async move { aws.as_pod(cluster.name(), role, &token).await };
                cluster.with_pod_token(self.namespace, self.account, POD_IDENTITY_AUDIENCE, &self.pod(role), asked).await
            }
        }
    }

    /// One for each question, as several are asked at once: of one account for several roles, too.
    fn pod(&self, role: &RoleArn) -> String {
        let digest = hex::encode(Sha256::digest(role.as_str()));
        format!("deployctl-asks-{}-{}", self.account, &digest[..8])
    }
}
