//! The one place where the daemon starts what stands behind the AWS endpoint: emulator, front door, EKS with its webhooks, RDS, stand-ins.
use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::{install::Installed, kubernetes::Kubernetes, layout::Layout, process::Supervisor};

/// Everything that a backend may need of the daemon.
#[derive(Clone)]
pub struct Parts {
    /// Paths and addresses.
    pub layout: Layout,
    /// Keeps processes running.
    pub supervisor: Supervisor,
    /// Starts and stops the cluster's parts.
    pub kubernetes: Kubernetes,
    /// Where the installed programs are.
    pub installed: Installed,
    /// Cancelled when the daemon stops.
    pub stop: CancellationToken,
}

/// Starts them; returns when they answer.
pub async fn start(parts: &Parts) -> Result<()> {
    parts.kubernetes.resume().await
}

/// Add-ons that a stand-in or nothing stands behind, with what or why.
pub fn notes(_layout: &Layout) -> Vec<(String, String)> {
    Vec::new()
}
