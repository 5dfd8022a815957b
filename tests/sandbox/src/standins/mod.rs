//! Stand-ins: small programs that do what a controller of AWS' or of others does where that one can't be had. Each says what it stands for.
pub mod alb;
pub mod external_secrets;
pub mod pod_identity_agent;

use std::path::Path;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// A client by a kubeconfig file.
async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("the kubeconfig {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.context("the kubeconfig")?;
    kube::Client::try_from(config).context("a Kubernetes client")
}
