//! The kubeconfig that `env` names: it holds no secret, each call gets its token as EKS clients do.
use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use super::Inner;
use crate::claim::write_private;

/// Writes it for the cluster of that name.
pub fn write(kubernetes: &Inner, cluster: &str) -> Result<()> {
    let layout = &kubernetes.layout;
    let own = std::env::current_exe().context("finding this program")?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": {
            "server": layout.api_server_url(),
            "certificate-authority-data": BASE64_STANDARD.encode(&kubernetes.pki.ca_pem),
        } }],
        "users": [{ "name": "person", "user": { "exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": own,
            "args": ["eks-token", "--name", layout.name, "--cluster-name", cluster, "--region", layout.region()],
            // A sandbox lies where this variable says; another shell may not have it.
            "env": [{ "name": "XDG_STATE_HOME", "value": layout.shared("").ancestors().nth(3) }],
            "interactiveMode": "Never",
        } } }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": "person" } }],
        "current-context": cluster,
    });
    write_private(&layout.file("person.kubeconfig"), &serde_json::to_vec_pretty(&config)?)
}
