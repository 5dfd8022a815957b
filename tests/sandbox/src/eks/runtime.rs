//! What EKS asks of the machine: start and stop the real parts of the cluster. The supervisor's side implements it.
use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use futures::future::BoxFuture;

pub use crate::kubernetes::{ControlPlane, ControlPlaneSpec};

/// A part that an add-on or a node group stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// etcd, API server, controllers, scheduler.
    ControlPlane,
    /// containerd and kubelet.
    Node,
    /// CoreDNS.
    Dns,
    /// kube-proxy.
    Proxy,
    /// The Pod Identity agent's stand-in.
    PodIdentityAgent,
}

/// Starts and stops the cluster's parts; all of it may be repeated.
pub trait ClusterRuntime: Send + Sync + 'static {
    /// Returns when the API server is ready.
    fn start_control_plane(&self, spec: ControlPlaneSpec) -> BoxFuture<'_, Result<ControlPlane>>;
    /// Starts a part other than the control plane and returns when it is ready. Labels are the node's.
    fn start(&self, part: Part, labels: BTreeMap<String, String>) -> BoxFuture<'_, Result<()>>;
    /// Stops a part; the control plane takes its data with it, as DeleteCluster does.
    fn stop(&self, part: Part) -> BoxFuture<'_, Result<()>>;
    /// Whether the part's processes run now.
    fn running(&self, part: Part) -> bool;
    /// A kubeconfig of O=system:masters, for EKS' own objects.
    fn admin_kubeconfig(&self) -> PathBuf;
    /// The public half of the key that signs service account tokens.
    fn service_account_public_key_pem(&self) -> Option<String>;
}
