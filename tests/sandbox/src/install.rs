//! Gets what a sandbox needs onto the machine: Debian packages, and downloads and builds cached by content.
mod cached;
mod debian;
mod go;
mod kafka;
mod kube_node;
mod ministack;
mod otel_collector;
mod parliament;
mod pause;
mod prometheus;
mod provider;
mod stable;
mod terraform;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use crate::layout::Layout;

pub use cached::Cache;
pub use pause::NAME as PAUSE_IMAGE;

const RECORD: &str = "installed.json";

/// Where everything is that `install` got.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Installed {
    /// Folder with kube-apiserver, kubelet, etcd, coredns and the rest.
    pub kube_node: PathBuf,
    /// Python of the virtual environment that has ministack.
    pub python: PathBuf,
    /// Folder with Kafka's jars.
    pub kafka: PathBuf,
    /// terraform 1.11.4.
    pub terraform: PathBuf,
    /// The offline provider as a filesystem mirror; none while the checkout has no provider.
    pub provider: Option<PathBuf>,
    /// The pause image, as a tarball that containerd imports.
    pub pause: PathBuf,
    /// Python of the virtual environment that has parliament, for tests; a sandbox of before has none.
    #[serde(default)]
    pub parliament: Option<PathBuf>,
}

/// Installs what is missing. Everything after the Debian packages goes side by side.
pub async fn install(project: &Path, folder: &Path) -> Result<Installed> {
    debian::install().await?;
    let cache = Cache::open(folder)?;
    // The last two are for images that deployctl makes; no part of the sandbox starts them.
    let (kube_node, python, kafka, terraform, provider, pause, parliament, (), ()) = tokio::try_join!(
        kube_node::install(&cache),
        ministack::install(&cache),
        kafka::install(&cache),
        terraform::install(&cache),
        provider::install(&cache, project),
        pause::install(&cache),
        parliament::install(&cache),
        otel_collector::install(&cache),
        prometheus::install(&cache),
    )?;
    let installed = Installed { kube_node, python, kafka, terraform, provider, pause, parliament: Some(parliament) };
    installed.write_into(folder)?;
    Ok(installed)
}

impl Installed {
    /// What the last `install` of a sandbox got.
    pub fn read(layout: &Layout) -> Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(layout.file(RECORD))?)?)
    }

    /// Keeps it for the daemon.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        self.write_into(&layout.state)
    }

    /// In the cache it tells tests what this machine has.
    fn write_into(&self, folder: &Path) -> Result<()> {
        crate::claim::write_private(&folder.join(RECORD), &serde_json::to_vec_pretty(self)?)
    }

    /// The folders of kubectl and of terraform, where they are not the machine's own.
    pub fn commands(&self, layout: &Layout) -> Vec<PathBuf> {
        let terraform = self.terraform.parent().filter(|folder| folder.starts_with(&layout.cache));
        std::iter::once(self.kube_node.join(kube_node::COMMANDS)).chain(terraform.map(Path::to_owned)).collect()
    }
}

/// The longest that a download or a build may take on a slow machine.
const BUILD: Duration = Duration::from_secs(30 * 60);
