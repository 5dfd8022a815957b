//! The node: containerd with its image mirror and pod network, and kubelet.
use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::DeleteParams,
    runtime::wait::{Condition, await_condition},
};
use serde_json::json;
use tokio::time::timeout;

use super::{Inner, PART, STOP};
use crate::{
    cgroup,
    claim::write_private,
    install::PAUSE_IMAGE,
    layout::{Layout, POD_CIDR},
    mounts,
    process::{ProcessSpec, Ready, Stop},
    tool,
};

/// Starts containerd and kubelet; returns when the node is Ready.
pub async fn start(kubernetes: &Inner, labels: &BTreeMap<String, String>) -> Result<()> {
    cgroup::ensure(&kubernetes.layout)?;
    containerd(kubernetes).await?;
    let mut spec = kubelet(kubernetes, labels)?;
    spec.deadline = PART;
    kubernetes.supervisor.start(spec).await?;
    let nodes: Api<Node> = Api::all(kubernetes.client().await?);
    let name = kubernetes.node_name();
    timeout(PART, await_condition(nodes, &name, ReadyNow))
        .await
        .with_context(|| format!("node {name} was not Ready within {PART:?}"))??;
    Ok(())
}

/// Ends every pod and the node.
pub async fn stop(kubernetes: &Inner) -> Result<()> {
    let layout = &kubernetes.layout;
    kubernetes.supervisor.stop(&layout.part("kubelet"), Stop::Terminate, STOP).await?;
    cgroup::kill_pods(layout, Duration::from_secs(20)).await?;
    kubernetes.supervisor.stop(&layout.part("containerd"), Stop::Terminate, STOP).await?;
    for folder in ["kubelet", "containerd"] {
        mounts::remove_below(&kubernetes.layout.file(folder))?;
        mounts::remove_folder(&kubernetes.layout.file(folder)).await?;
    }
    if kubernetes.supervisor.running(&layout.part("kube-apiserver")) {
        let nodes: Api<Node> = Api::all(kubernetes.client().await?);
        match nodes.delete(&kubernetes.node_name(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.context("taking the node out of the cluster")?),
        }
    }
    Ok(())
}

/// Ready, and said so by the kubelet that runs now: what an earlier one said is older than a lease.
struct ReadyNow;

impl Condition<Node> for ReadyNow {
    fn matches_object(&self, node: Option<&Node>) -> bool {
        let conditions = node.and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    }
}

async fn containerd(kubernetes: &Inner) -> Result<()> {
    let layout = &kubernetes.layout;
    let socket = socket(layout);
    let file = layout.file("containerd/config.toml");
    write_private(&file, config(layout).as_bytes())?;
    // No host is named: whatever registry an image says, it comes from the front door.
    let door = layout.endpoint_url();
    let hosts = format!("server = \"{door}\"\n\n[host.\"{door}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    write_private(&layout.file("containerd/hosts/_default/hosts.toml"), hosts.as_bytes())?;
    write_private(&layout.file("cni/10-sandbox.conflist"), &serde_json::to_vec_pretty(&pod_network(layout))?)?;
    let program = tool::find("containerd").context("containerd is not installed")?;
    let mut spec = kubernetes.part("containerd", program, Ready::Unix(socket.clone())).args(["--config".into(), file.into_os_string()]);
    spec.deadline = PART;
    kubernetes.supervisor.start(spec).await?;
    let socket = socket.to_string_lossy().into_owned();
    let pause = kubernetes.installed.pause.to_string_lossy().into_owned();
    tool::output("ctr", ["--address", &socket, "--namespace", "k8s.io", "images", "import", &pause], Duration::from_secs(60))
        .await
        .context("importing the pause image")?;
    Ok(())
}

fn socket(layout: &Layout) -> std::path::PathBuf {
    layout.file("containerd.sock")
}

fn config(layout: &Layout) -> String {
    let (folder, socket) = (layout.file("containerd"), socket(layout));
    let (folder, socket, cni) = (folder.display(), socket.display(), layout.file("cni"));
    let cni = cni.display();
    // restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE cannot lower it, and runc dies trying.
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/run"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "{socket}"

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/hosts"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{folder}/runc"
"#
    )
}

fn pod_network(layout: &Layout) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        // The plugins keep files of their own below /var/lib/cni; by this name `down` knows ours.
        "name": cgroup::root(layout),
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": POD_CIDR }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": layout.file("containerd/addresses"),
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

fn kubelet(kubernetes: &Inner, labels: &BTreeMap<String, String>) -> Result<ProcessSpec> {
    let (layout, pki) = (&kubernetes.layout, &kubernetes.pki);
    let folder = layout.file("kubelet");
    let resolv = layout.file("kubernetes/resolv.conf");
    write_private(&resolv, format!("nameserver {}\n", layout.node_address()).as_bytes())?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_address(),
        "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": true }, "x509": { "clientCAFile": pki.file("ca.crt") } },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": pki.file("kubelet-serving.crt"),
        "tlsPrivateKeyFile": pki.file("kubelet-serving.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cgroup::root(layout)),
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "containerRuntimeEndpoint": format!("unix://{}", socket(layout).display()),
        "clusterDNS": [layout.node_address()],
        "clusterDomain": "cluster.local",
        "resolvConf": resolv,
        "podLogsDir": layout.file("log/pods"),
        "volumePluginDir": folder.join("volume-plugins"),
        "readOnlyPort": 0,
        "serializeImagePulls": false,
        // A changed ConfigMap reaches its pods within this; the default is a minute, which every test of rules would wait.
        "syncFrequency": "5s",
        // The disk is the person's: a full one must not empty the cache of images or evict pods.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
    });
    let file = layout.file("kubernetes/kubelet.json");
    write_private(&file, &serde_json::to_vec_pretty(&config)?)?;
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
    let (node, address) = (kubernetes.node_name(), layout.node_address().to_string());
    let ready = kubernetes.on_loopback(Ready::Http { url: "http://127.0.0.1:10248/healthz".into() });
    Ok(kubernetes
        .part("kubelet", kubernetes.program("kubelet"), ready)
        .args(["--config".into(), file.into_os_string(), "--kubeconfig".into(), pki.kubeconfig("node").into_os_string()])
        .args(["--root-dir".into(), folder.clone().into_os_string(), "--cert-dir".into(), folder.join("pki").into_os_string()])
        .args(["--hostname-override", &node, "--node-ip", &address, "--node-labels", &labels]))
}
