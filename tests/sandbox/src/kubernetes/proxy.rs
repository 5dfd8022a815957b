//! kube-proxy: translates service addresses inside the namespace.
use anyhow::Result;
use serde_json::json;

use super::{Inner, PART};
use crate::{claim::write_private, layout::POD_CIDR, process::Ready};

/// Starts it.
pub async fn start(kubernetes: &Inner) -> Result<()> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": kubernetes.pki.kubeconfig("proxy") },
        "mode": "iptables",
        "hostnameOverride": kubernetes.node_name(),
        "clusterCIDR": POD_CIDR,
        "bindAddress": kubernetes.layout.node_address(),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // Pods share a bridge, so an answer to a service's client would not pass the node and keep the pod's address; masquerading brings it back.
        "iptables": { "masqueradeAll": true },
        // The limits are the machine's, not the namespace's: they stay as they are.
        "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    });
    let file = kubernetes.layout.file("kubernetes/kube-proxy.json");
    write_private(&file, &serde_json::to_vec_pretty(&config)?)?;
    let ready = kubernetes.on_loopback(Ready::Http { url: "http://127.0.0.1:10256/livez".into() });
    let mut spec = kubernetes.part("kube-proxy", kubernetes.program("kube-proxy"), ready).args(["--config".into(), file.into_os_string()]);
    spec.deadline = PART;
    kubernetes.supervisor.start(spec).await
}
