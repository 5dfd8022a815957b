//! etcd, the API server, the controller manager and the scheduler.
use anyhow::Result;
use serde_json::json;

use super::{ControlPlaneSpec, Inner, PART, bootstrap};
use crate::{
    claim::write_private,
    layout::{POD_CIDR, SERVICE_CIDR},
    process::{ProcessSpec, Ready},
};

const ETCD: &str = "http://127.0.0.1:2379";

/// Starts all of it; what runs already is left alone.
pub async fn start(kubernetes: &Inner, spec: &ControlPlaneSpec) -> Result<()> {
    kubernetes.supervisor.start(etcd(kubernetes)).await?;
    kubernetes.supervisor.start(api_server(kubernetes, spec)?).await?;
    let (objects, controllers, scheduler) = tokio::join!(
        bootstrap::apply(kubernetes),
        kubernetes.supervisor.start(controller_manager(kubernetes, spec)),
        kubernetes.supervisor.start(scheduler(kubernetes)),
    );
    objects.and(controllers).and(scheduler)
}

fn etcd(kubernetes: &Inner) -> ProcessSpec {
    let peers = "http://127.0.0.1:2380";
    let data = kubernetes.layout.file("etcd");
    let ready = kubernetes.on_loopback(Ready::Http { url: format!("{ETCD}/health") });
    let mut spec = kubernetes
        .part("etcd", kubernetes.program("etcd"), ready)
        .args(["--data-dir".into(), data.into_os_string()])
        .args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD, "--listen-peer-urls", peers])
        .args(["--initial-advertise-peer-urls", peers, "--initial-cluster", &format!("default={peers}")])
        // Skipping fsync risks data when the machine dies, not when etcd does; a sandbox does not outlive its machine.
        .args(["--unsafe-no-fsync", "--log-level", "warn"]);
    spec.deadline = PART;
    spec
}

fn api_server(kubernetes: &Inner, wanted: &ControlPlaneSpec) -> Result<ProcessSpec> {
    let (pki, layout) = (&kubernetes.pki, &kubernetes.layout);
    let node = layout.node_address().to_string();
    let tokens = layout.file("kubernetes/token-webhook.kubeconfig");
    write_private(&tokens, &serde_json::to_vec_pretty(&token_webhook(kubernetes))?)?;
    let audit = layout.file("kubernetes/audit-policy.json");
    write_private(&audit, &serde_json::to_vec_pretty(&audit_policy())?)?;
    let ready = Ready::Https { url: format!("{}/readyz", layout.api_server_url()), ca: pki.file("ca.crt") };
    let files = [
        ("--tls-cert-file", "apiserver.crt"),
        ("--tls-private-key-file", "apiserver.key"),
        ("--client-ca-file", "ca.crt"),
        ("--kubelet-certificate-authority", "ca.crt"),
        ("--kubelet-client-certificate", "kubelet-client.crt"),
        ("--kubelet-client-key", "kubelet-client.key"),
        ("--service-account-key-file", "service-account.pub"),
        ("--service-account-signing-key-file", "service-account.key"),
    ];
    let mut spec = kubernetes
        .part("kube-apiserver", kubernetes.program("kube-apiserver"), ready)
        .args(["--etcd-servers", ETCD, "--service-cluster-ip-range", SERVICE_CIDR, "--advertise-address", &node, "--bind-address", &node])
        .args(["--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction", "--allow-privileged"])
        .args(["--service-account-issuer", &wanted.oidc_issuer, "--service-account-jwks-uri", &format!("{}/keys", wanted.oidc_issuer)])
        .args(["--endpoint-reconciler-type", "lease", "--kubelet-preferred-address-types", "InternalIP", "--profiling=false"])
        .args(["--authentication-token-webhook-config-file".into(), tokens.into_os_string()])
        // A changed access entry counts after seconds, where the default would keep the old answer for two minutes.
        .args(["--authentication-token-webhook-version", "v1", "--authentication-token-webhook-cache-ttl", "5s"])
        .args(["--audit-policy-file".into(), audit.into_os_string()])
        .args(["--audit-log-path".into(), layout.file("log/kube-audit.ndjson").into_os_string()])
        .args(["--audit-log-maxsize", "50", "--audit-log-maxbackup", "1"]);
    for (flag, file) in files {
        spec = spec.args([flag.into(), pki.file(file).into_os_string()]);
    }
    spec.deadline = PART;
    Ok(spec)
}

/// What the API server's record holds: every request that may change something, without its body, but for what Kubernetes' own parts write all
/// the time.
fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "None", "verbs": ["get", "list", "watch"] },
            { "level": "None", "userGroups": ["system:nodes"] },
            { "level": "None", "resources": [{ "group": "coordination.k8s.io" }, { "group": "", "resources": ["events"] }, { "group": "events.k8s.io" }] },
            { "level": "Metadata" },
        ],
    })
}

/// Where the API server asks whom a bearer token belongs to.
fn token_webhook(kubernetes: &Inner) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "eks", "cluster": {
            "server": format!("https://{}/token", kubernetes.layout.webhooks()),
            "certificate-authority": kubernetes.pki.file("ca.crt"),
        } }],
        "users": [{ "name": "apiserver", "user": {} }],
        "contexts": [{ "name": "eks", "context": { "cluster": "eks", "user": "apiserver" } }],
        "current-context": "eks",
    })
}

fn controller_manager(kubernetes: &Inner, wanted: &ControlPlaneSpec) -> ProcessSpec {
    let pki = &kubernetes.pki;
    let mut spec = component(kubernetes, "kube-controller-manager", "controller-manager", 10257).args([
        "--use-service-account-credentials",
        "--cluster-cidr",
        POD_CIDR,
        "--cluster-name",
        &wanted.cluster_name,
    ]);
    for (flag, file) in [
        ("--service-account-private-key-file", "service-account.key"),
        ("--root-ca-file", "ca.crt"),
        ("--cluster-signing-cert-file", "ca.crt"),
        ("--cluster-signing-key-file", "ca.key"),
    ] {
        spec = spec.args([flag.into(), pki.file(file).into_os_string()]);
    }
    spec
}

fn scheduler(kubernetes: &Inner) -> ProcessSpec {
    component(kubernetes, "kube-scheduler", "scheduler", 10259)
}

fn component(kubernetes: &Inner, program: &str, user: &str, port: u16) -> ProcessSpec {
    let kubeconfig = kubernetes.pki.kubeconfig(user).into_os_string();
    let ready = kubernetes.on_loopback(Ready::Tcp(([127, 0, 0, 1], port).into()));
    let mut spec = kubernetes.part(program, kubernetes.program(program), ready).args([
        "--bind-address",
        "127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]);
    for flag in ["--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig"] {
        spec = spec.args([flag.into(), kubeconfig.clone()]);
    }
    spec.deadline = PART;
    spec
}
