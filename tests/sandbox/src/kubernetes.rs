//! The sandbox's Kubernetes: a control plane, one node, DNS and the service proxy, each started when EKS is asked for it.
mod bootstrap;
mod control_plane;
mod dns;
mod node;
mod person;
mod pki;
mod proxy;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{
    claim::write_private,
    install::Installed,
    layout::{Layout, Site},
    network,
    process::{ProcessSpec, Ready, Stop, Supervisor},
};

pub use dns::join_records;
pub use pki::Pki;

/// How long a part of Kubernetes may take to start or stop on a busy machine.
const PART: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(20);

/// What EKS is asked for when it makes a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControlPlaneSpec {
    /// The cluster's name.
    pub cluster_name: String,
    /// The version asked for, such as 1.34; what runs is always what was built.
    pub version: String,
    /// The issuer of service account tokens, with https://.
    pub oidc_issuer: String,
}

/// How to reach a control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// https://ADDRESS:6443.
    pub endpoint: String,
    /// The authority that signed its certificate.
    pub ca_pem: String,
}

/// What runs when all is well; kept on disk, so that a daemon that was killed starts it again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// The control plane, when there is one.
    pub control_plane: Option<ControlPlaneSpec>,
    /// The labels of the node, when there is one.
    pub node: Option<BTreeMap<String, String>>,
    /// CoreDNS.
    pub dns: bool,
    /// kube-proxy.
    pub proxy: bool,
}

/// Starts and stops the parts of Kubernetes.
#[derive(Clone)]
pub struct Kubernetes {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    supervisor: Supervisor,
    installed: Installed,
    pki: Pki,
    wanted: Mutex<Wanted>,
}

impl Kubernetes {
    /// Makes the keys if there are none yet; starts nothing.
    pub fn new(layout: &Layout, supervisor: &Supervisor, installed: &Installed) -> Result<Self> {
        let pki = Pki::ensure(layout)?;
        let wanted = match fs::read(layout.file("kubernetes/wanted.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("reading kubernetes/wanted.json")?,
            Err(_) => Wanted::default(),
        };
        let inner =
            Inner { layout: layout.clone(), supervisor: supervisor.clone(), installed: installed.clone(), pki, wanted: Mutex::new(wanted) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts what ran before, in order: the control plane, then what needs it.
    pub async fn resume(&self) -> Result<()> {
        let wanted = self.inner.wanted.lock().await.clone();
        let Some(spec) = wanted.control_plane else { return Ok(()) };
        self.start_control_plane(spec).await?;
        let node = async {
            match wanted.node {
                Some(labels) => self.start_node(labels).await,
                None => Ok(()),
            }
        };
        let dns = async { if wanted.dns { self.start_dns().await } else { Ok(()) } };
        tokio::try_join!(node, dns)?;
        Ok(())
    }

    /// Starts etcd, the API server, the controller manager and the scheduler; returns when the API server is ready.
    pub async fn start_control_plane(&self, spec: ControlPlaneSpec) -> Result<ControlPlane> {
        let began = Instant::now();
        if self.inner.layout.site == Site::Dr {
            network::ensure_dr_cluster(&self.inner.layout).await?;
        }
        control_plane::start(&self.inner, &spec).await?;
        person::write(&self.inner, &spec.cluster_name)?;
        let ready = ControlPlane { endpoint: self.inner.layout.api_server_url(), ca_pem: self.inner.pki.ca_pem.clone() };
        self.keep(|wanted| wanted.control_plane = Some(spec)).await?;
        tracing::info!(seconds = began.elapsed().as_secs_f32(), "control plane ready");
        Ok(ready)
    }

    /// Starts containerd and kubelet, and kube-proxy if it is wanted; returns when the node is Ready.
    pub async fn start_node(&self, labels: BTreeMap<String, String>) -> Result<()> {
        let began = Instant::now();
        node::start(&self.inner, &labels).await?;
        self.keep(|wanted| wanted.node = Some(labels)).await?;
        if self.inner.wanted.lock().await.proxy {
            proxy::start(&self.inner).await?;
        }
        tracing::info!(seconds = began.elapsed().as_secs_f32(), "node Ready");
        Ok(())
    }

    /// Ends every pod, kubelet and containerd, and takes the node out of the cluster.
    pub async fn stop_node(&self) -> Result<()> {
        self.keep(|wanted| wanted.node = None).await?;
        self.stop("kube-proxy").await?;
        node::stop(&self.inner).await
    }

    /// Starts CoreDNS.
    pub async fn start_dns(&self) -> Result<()> {
        dns::start(&self.inner).await?;
        self.keep(|wanted| wanted.dns = true).await
    }

    /// Stops CoreDNS.
    pub async fn stop_dns(&self) -> Result<()> {
        self.keep(|wanted| wanted.dns = false).await?;
        self.stop("coredns").await
    }

    /// Starts kube-proxy, or has it start with the node: it asks for its node's address for half a minute and then goes on without.
    pub async fn start_proxy(&self) -> Result<()> {
        self.keep(|wanted| wanted.proxy = true).await?;
        let has_node = self.inner.wanted.lock().await.node.is_some();
        if has_node { proxy::start(&self.inner).await } else { Ok(()) }
    }

    /// Stops kube-proxy.
    pub async fn stop_proxy(&self) -> Result<()> {
        self.keep(|wanted| wanted.proxy = false).await?;
        self.stop("kube-proxy").await
    }

    /// Stops everything and forgets the cluster's data, as DeleteCluster does.
    pub async fn stop_control_plane(&self) -> Result<()> {
        self.stop_proxy().await?;
        self.stop_dns().await?;
        let has_node = self.inner.wanted.lock().await.node.is_some();
        if has_node {
            self.stop_node().await?;
        }
        self.keep(|wanted| wanted.control_plane = None).await?;
        for part in ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"] {
            self.stop(part).await?;
        }
        let data = self.inner.layout.file("etcd");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
        }
        Ok(())
    }

    /// What one of its processes is called in the sandbox.
    pub fn name_of(&self, part: &str) -> String {
        self.inner.layout.part(part)
    }

    /// A kubeconfig of the group system:masters. It stays inside the state folder.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.inner.pki.kubeconfig("admin")
    }

    /// With this key anybody checks service account tokens; EKS publishes it under the issuer's address.
    pub fn service_account_public_key_pem(&self) -> &str {
        &self.inner.pki.service_account_public_pem
    }

    /// Certificate and key (PEM) for the webhooks that the API server calls; it trusts their authority, its own.
    pub fn webhook_certificate(&self) -> Result<(String, String)> {
        self.inner.pki.pair("webhooks")
    }

    /// A client with the administrator's rights.
    pub async fn client(&self) -> Result<kube::Client> {
        self.inner.client().await
    }

    /// What says on loopback that it is ready: from another network that cannot be asked, and what needs it tries again.
    pub fn on_loopback(&self, ready: Ready) -> Ready {
        self.inner.on_loopback(ready)
    }

    async fn stop(&self, part: &str) -> Result<()> {
        self.inner.supervisor.stop(&self.inner.layout.part(part), Stop::Terminate, STOP).await
    }

    /// Notes what should run from now on, in memory and on disk.
    async fn keep(&self, change: impl FnOnce(&mut Wanted)) -> Result<()> {
        let mut wanted = self.inner.wanted.lock().await;
        change(&mut wanted);
        write_private(&self.inner.layout.file("kubernetes/wanted.json"), &serde_json::to_vec_pretty(&*wanted)?)
    }
}

impl Inner {
    /// One of the cluster's processes, in the cluster's network. The daemon itself is in the home cluster's.
    fn part(&self, name: &str, program: PathBuf, ready: Ready) -> ProcessSpec {
        let name = self.layout.part(name);
        match self.layout.site {
            Site::Home => ProcessSpec::new(name, program, ready),
            Site::Dr => {
                let enter = format!("--net={}", network::namespace_path(&self.layout).display());
                ProcessSpec::new(name, "nsenter", ready).args([enter.into(), "--".into(), program.into_os_string()])
            }
        }
    }

    fn on_loopback(&self, ready: Ready) -> Ready {
        match self.layout.site {
            Site::Home => ready,
            Site::Dr => Ready::Immediately,
        }
    }

    /// One of the programs of the kube-node binary.
    fn program(&self, name: &str) -> PathBuf {
        self.installed.kube_node.join(name)
    }

    /// The node's name, in the form that EKS gives.
    fn node_name(&self) -> String {
        node_name(&self.layout)
    }

    async fn client(&self) -> Result<kube::Client> {
        let kubeconfig =
            kube::config::Kubeconfig::read_from(self.pki.kubeconfig("admin")).context("reading the administrator's kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }
}

/// The node's name, in the form that EKS gives.
pub fn node_name(layout: &Layout) -> String {
    let domain = match layout.site {
        Site::Home => "ec2.internal".to_owned(),
        // Only us-east-1 has a domain without its name.
        Site::Dr => format!("{}.compute.internal", layout.region()),
    };
    format!("ip-{}.{domain}", layout.node_address().to_string().replace('.', "-"))
}
