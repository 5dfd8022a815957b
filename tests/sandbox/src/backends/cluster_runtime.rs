//! EKS' requests to the machine, carried out by the cluster's parts. The stand-ins for controllers come and go with the node, in the region where
//! services run: the DR region's cluster has none. The Pod Identity agent's comes and goes with its add-on.
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;

use crate::{
    eks::{ClusterRuntime, ControlPlane, ControlPlaneSpec, Part},
    kubernetes::Kubernetes,
    layout::{Layout, Site},
    process::{ProcessSpec, Ready, Stop, Supervisor},
};

const STAND_INS: [&str; 2] = ["alb", "external-secrets"];
/// It comes and goes with its add-on.
const POD_IDENTITY_AGENT: &str = "pod-identity-agent";
const STOP: Duration = Duration::from_secs(10);

fn stand_ins(site: Site) -> &'static [&'static str] {
    match site {
        Site::Home => &STAND_INS,
        Site::Dr => &[],
    }
}

/// The real cluster.
pub struct Runtime {
    pub layout: Layout,
    pub supervisor: Supervisor,
    pub kubernetes: Kubernetes,
}

impl Runtime {
    async fn start_stand_ins(&self) -> Result<()> {
        for which in stand_ins(self.layout.site) {
            self.start_stand_in(which, Ready::Immediately).await?;
        }
        Ok(())
    }

    async fn start_stand_in(&self, which: &str, ready: Ready) -> Result<()> {
        let own = std::env::current_exe().context("this program's own path")?;
        let site = match self.layout.site {
            Site::Home => "home",
            Site::Dr => "dr",
        };
        let mut spec = ProcessSpec::new(self.process(which), &own, ready);
        spec = spec.args(["--name", &self.layout.name, "stand-in", which, "--site", site]);
        spec.env = vec![("SANDBOX_KUBECONFIG".into(), self.kubernetes.admin_kubeconfig().into_os_string())];
        self.supervisor.start(spec).await
    }

    async fn stop_stand_ins(&self) -> Result<()> {
        for which in stand_ins(self.layout.site) {
            self.stop_stand_in(which).await?;
        }
        Ok(())
    }

    async fn stop_stand_in(&self, which: &str) -> Result<()> {
        self.supervisor.stop(&self.process(which), Stop::Terminate, STOP).await
    }

    fn process(&self, stand_in: &str) -> String {
        self.layout.part(&format!("stand-in-{stand_in}"))
    }
}

impl ClusterRuntime for Runtime {
    fn start_control_plane(&self, spec: ControlPlaneSpec) -> BoxFuture<'_, Result<ControlPlane>> {
        Box::pin(self.kubernetes.start_control_plane(spec))
    }

    fn start(&self, part: Part, labels: BTreeMap<String, String>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match part {
                Part::ControlPlane => self.kubernetes.resume().await,
                Part::Node => {
                    self.kubernetes.start_node(labels).await?;
                    self.start_stand_ins().await
                }
                Part::Dns => self.kubernetes.start_dns().await,
                Part::Proxy => self.kubernetes.start_proxy().await,
                Part::PodIdentityAgent => {
                    let listens = self.kubernetes.on_loopback(Ready::Tcp(SocketAddr::from((Layout::POD_IDENTITY_AGENT, 80))));
                    self.start_stand_in(POD_IDENTITY_AGENT, listens).await
                }
            }
        })
    }

    fn stop(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match part {
                Part::ControlPlane => {
                    self.stop_stand_ins().await?;
                    self.kubernetes.stop_control_plane().await
                }
                Part::Node => {
                    self.stop_stand_ins().await?;
                    self.kubernetes.stop_node().await
                }
                Part::Dns => self.kubernetes.stop_dns().await,
                Part::Proxy => self.kubernetes.stop_proxy().await,
                Part::PodIdentityAgent => self.stop_stand_in(POD_IDENTITY_AGENT).await,
            }
        })
    }

    fn running(&self, part: Part) -> bool {
        let name = match part {
            Part::ControlPlane => "kube-apiserver",
            Part::Node => "kubelet",
            Part::Dns => "coredns",
            // A DaemonSet on EKS: healthy where there is no node to run on.
            Part::Proxy if !self.running(Part::Node) => return true,
            Part::Proxy => "kube-proxy",
            Part::PodIdentityAgent => return self.supervisor.running(&self.process(POD_IDENTITY_AGENT)),
        };
        self.supervisor.running(&self.kubernetes.name_of(name))
    }

    fn admin_kubeconfig(&self) -> PathBuf {
        self.kubernetes.admin_kubeconfig()
    }

    fn service_account_public_key_pem(&self) -> Option<String> {
        Some(self.kubernetes.service_account_public_key_pem().to_owned())
    }
}
