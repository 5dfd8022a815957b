//! Where a sandbox keeps its files and which addresses it uses. Everything is derived from its name and slot.
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The account that everything in the sandbox belongs to (one of AWS' documentation accounts).
pub const ACCOUNT: &str = "111122223333";
/// The region where deployments live.
pub const REGION: &str = "us-east-1";
/// The region where they are restored.
pub const DR_REGION: &str = "eu-west-1";
/// Pods, inside the sandbox's namespace only.
pub const POD_CIDR: &str = "198.19.0.0/24";
/// Services, inside the sandbox's namespace only.
pub const SERVICE_CIDR: &str = "198.19.128.0/17";
/// The API server's own service address: the first of `SERVICE_CIDR`.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 128, 1);

/// Which of a sandbox's clusters a layout speaks of. They are machines of their own: each has a network namespace, an address, control groups and
/// a folder. What there is once, AWS and Kafka, is beside the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// The one in `REGION`.
    #[default]
    Home,
    /// The one in `DR_REGION`; nothing of it is there until EKS is asked for it.
    Dr,
}

/// One sandbox. Slots are numbered from 0, so that several sandboxes can run at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layout {
    /// Its name; `demo` unless told otherwise.
    pub name: String,
    /// 0 to 63; decides its addresses.
    pub slot: u8,
    /// `$XDG_STATE_HOME/deployctl/sandbox/NAME`: everything it writes, removed by `down`.
    pub state: PathBuf,
    /// `$XDG_CACHE_HOME/deployctl`: downloads and builds by content, kept.
    pub cache: PathBuf,
    /// The checkout whose policies, modules and stacks it serves.
    pub project: PathBuf,
    /// Whose cluster it speaks of.
    #[serde(default)]
    pub site: Site,
}

impl Layout {
    /// The same for the cluster in the DR region.
    #[must_use]
    pub fn of_dr_cluster(&self) -> Self {
        Self { state: self.shared("dr-cluster"), site: Site::Dr, ..self.clone() }
    }
    /// The same for one of them.
    #[must_use]
    pub fn of(&self, site: Site) -> Self {
        match site {
            Site::Home => self.clone(),
            Site::Dr => self.of_dr_cluster(),
        }
    }
    /// A file or folder that both clusters use.
    pub fn shared(&self, relative: impl AsRef<Path>) -> PathBuf {
        let sandbox = match self.site {
            Site::Home => Some(self.state.as_path()),
            Site::Dr => self.state.parent(),
        };
        sandbox.unwrap_or(&self.state).join(relative)
    }
    /// The region of its cluster.
    pub fn region(&self) -> &'static str {
        match self.site {
            Site::Home => REGION,
            Site::Dr => DR_REGION,
        }
    }
    /// A name in the sandbox for a part of its cluster.
    pub fn part(&self, name: &str) -> String {
        match self.site {
            Site::Home => name.to_owned(),
            Site::Dr => format!("dr-{name}"),
        }
    }
    /// The network namespace's name. No sandbox is named with a dot.
    pub fn namespace(&self) -> String {
        match self.site {
            Site::Home => format!("deployctl-{}", self.name),
            Site::Dr => format!("deployctl-{}.dr", self.name),
        }
    }
    /// The host's end of the veth pair.
    pub fn host_interface(&self) -> String {
        format!("dctl{}", self.slot)
    }
    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.slot, last)
    }
    /// The host's address on the veth pair.
    pub fn host_address(&self) -> Ipv4Addr {
        self.address(1)
    }
    /// Where AWS and Kafka are, whichever cluster asks.
    pub fn door_address(&self) -> Ipv4Addr {
        self.address(2)
    }
    /// The node's address: API server, DNS.
    pub fn node_address(&self) -> Ipv4Addr {
        match self.site {
            Site::Home => self.door_address(),
            Site::Dr => self.address(3),
        }
    }
    /// Addresses of internet-facing load balancers, which the host reaches too: .64 to .127.
    pub fn public_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let layout = self.clone();
        (64..=127).map(move |last| layout.address(last))
    }
    /// Addresses of internal load balancers, .128 to .191; a packet filter refuses the host.
    pub fn internal_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let layout = self.clone();
        (128..=191).map(move |last| layout.address(last))
    }
    /// Addresses of database instances, .192 to .250; a packet filter refuses the host.
    pub fn database_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let layout = self.clone();
        (192..=250).map(move |last| layout.address(last))
    }
    /// The interface, inside the namespace, that carries internal and database addresses.
    pub const INTERNAL_INTERFACE: &'static str = "int0";
    /// The interface, inside the namespace, that carries the node's and public addresses.
    pub const NODE_INTERFACE: &'static str = "eth0";
    /// The interface, inside the namespace, behind which the DR region's cluster is.
    pub const DR_INTERFACE: &'static str = "dr0";
    /// AWS, for everybody: the front door.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}:4566", self.door_address())
    }
    /// The emulator behind the front door; loopback inside the namespace.
    pub const EMULATOR: &'static str = "127.0.0.1:4567";
    /// Our EKS and RDS behind the emulator's authentication; loopback inside the namespace.
    pub const BACKENDS: &'static str = "127.0.0.1:4568";
    /// Where a node's pods find the Pod Identity agent, as on AWS: the same on every node, and reached from nowhere else.
    pub const POD_IDENTITY_AGENT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);
    /// What pods are told of it.
    pub const POD_IDENTITY_AGENT_URL: &'static str = "http://169.254.170.23/v1/credentials";
    /// The API server's webhooks (tokens, pod identity, readiness gates), TLS, in the daemon: on loopback for the cluster beside it.
    pub fn webhooks(&self) -> SocketAddr {
        match self.site {
            Site::Home => (Ipv4Addr::LOCALHOST, 4569).into(),
            Site::Dr => (self.door_address(), 4570).into(),
        }
    }
    /// The API server.
    pub fn api_server_url(&self) -> String {
        format!("https://{}:6443", self.node_address())
    }
    /// Kafka, as pods know it; resolved by the cluster's DNS.
    pub const KAFKA: &'static str = "kafka.deployctl.internal:9092";
    /// A file or folder below the state folder.
    pub fn file(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.state.join(relative)
    }
    /// What load balancers there are; written by their stand-in, read by EC2.
    pub fn load_balancers(&self) -> PathBuf {
        self.file("alb.json")
    }
    /// The log of a process.
    pub fn log(&self, process: &str) -> PathBuf {
        self.state.join("log").join(format!("{process}.log"))
    }
    /// Names for the cluster's DNS, in the form of /etc/hosts; one file a writer, joined by the daemon into `dns/hosts`.
    pub fn dns_records(&self, writer: &str) -> PathBuf {
        self.shared("dns").join("records.d").join(writer)
    }
    /// The certificate authority that signs database servers.
    pub fn database_ca(&self) -> PathBuf {
        self.state.join("pki").join("rds-ca.pem")
    }
    /// The daemon's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }
    /// Every request that came through the front door, one JSON object a line.
    pub fn record(&self) -> PathBuf {
        self.state.join("log").join("requests.ndjson")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_of_a_sandbox_share_aws_and_nothing_else() {
        let folder = PathBuf::from("/state/demo");
        let home = Layout { name: "demo".into(), slot: 7, state: folder.clone(), cache: folder.clone(), project: folder, site: Site::Home };
        let dr = home.of_dr_cluster();
        assert_eq!((home.endpoint_url(), home.dns_records("rds")), (dr.endpoint_url(), dr.dns_records("rds")));
        assert_eq!(dr.of_dr_cluster().state, dr.state, "there are two, and not ever more");
        let own = |layout: &Layout| {
            [
                layout.namespace(),
                layout.node_address().to_string(),
                layout.part("etcd"),
                layout.webhooks().to_string(),
                layout.region().to_owned(),
            ]
        };
        assert!(own(&home).iter().zip(&own(&dr)).all(|(here, there)| here != there), "{:?} {:?}", own(&home), own(&dr));
        assert!(dr.file("etcd").starts_with(&home.state), "`down` removes it with the rest");
    }
}
