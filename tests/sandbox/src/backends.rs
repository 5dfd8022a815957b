//! The one place where the daemon starts what stands behind the AWS endpoint: emulator, front door, EKS with its webhooks, RDS, stand-ins.
mod cluster_runtime;
mod database_processes;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::extract::Request;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::{cluster_runtime::Runtime, database_processes::Supervised};
use crate::{
    door::{self, Door},
    eks::{self, Eks, Webhooks},
    iam,
    install::Installed,
    kubernetes::Kubernetes,
    layout::Layout,
    process::{ProcessSpec, Ready, Supervisor},
    rds::{self, Rds},
    region,
};

/// Python imports 90 modules on a machine that may be busy building.
const EMULATOR_START: Duration = Duration::from_secs(120);

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
    /// What `status` says beside the processes.
    pub notes: Notes,
    /// Cancelled when the daemon stops.
    pub stop: CancellationToken,
}

/// Starts them; returns when they answer.
pub async fn start(parts: &Parts) -> Result<()> {
    start_emulator(parts).await?;
    iam::set_up(&parts.layout, Layout::EMULATOR, "deployctl-sandbox").await.context("setting up IAM")?;
    let runtime =
        Arc::new(Runtime { layout: parts.layout.clone(), supervisor: parts.supervisor.clone(), kubernetes: parts.kubernetes.clone() });
    let eks = Eks::open(parts.layout.clone(), Layout::EMULATOR, runtime).context("reading EKS' state")?;
    // Set once in a daemon's life: `start` runs once.
    drop(parts.notes.0.set(Arc::clone(&eks)));
    let processes = Arc::new(Supervised::new(&parts.supervisor)?);
    let databases = Rds::open(&parts.layout, processes, Arc::new(rds::Emulator::new()?), rds::Addresses::of(&parts.layout))
        .context("reading RDS' state")?;
    serve_backends(parts, &eks, &databases).await?;
    serve_webhooks(parts, &eks)?;
    let key_of = Arc::clone(&eks);
    let door = Door::of(&parts.layout, Arc::new(move || key_of.issuer_key().into_iter().collect()));
    spawn(parts, "the front door", door::serve(door, parts.stop.clone()));
    let frozen = region::freeze_cluster(parts.layout.clone(), parts.supervisor.clone(), parts.stop.clone());
    spawn(parts, "the region switch", frozen);
    let (stop, archives) = (parts.stop.clone(), databases.clone());
    // Before the servers go, so that no round of archiving takes their end for a failure.
    spawn(parts, "RDS' archives", async move {
        stop.cancelled().await;
        archives.close().await
    });
    databases.resume().await.context("starting the databases again")?;
    // First what ran, in order and waited for; then EKS' own records, which start what a crash cut short.
    parts.kubernetes.resume().await.context("starting the cluster again")?;
    eks.resume();
    Ok(())
}

async fn start_emulator(parts: &Parts) -> Result<()> {
    let script = door::emulator::write_scripts(&parts.layout.file("emulator-scripts"))?;
    let listen: SocketAddr = Layout::EMULATOR.parse().context("the emulator's address")?;
    let ready = Ready::Http { url: format!("http://{}/_ministack/health", Layout::EMULATOR) };
    let mut spec = ProcessSpec::new("ministack", &parts.installed.python, ready).args([script]);
    let environment = door::emulator::environment(&parts.layout.state, listen, Layout::BACKENDS, &parts.layout.load_balancers());
    spec.env = environment.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    spec.deadline = EMULATOR_START;
    parts.supervisor.start(spec).await
}

/// One port for both; the emulator says in a header which of them it means.
async fn serve_backends(parts: &Parts, eks: &Arc<Eks>, databases: &Rds) -> Result<()> {
    let (eks, databases) = (eks::router(Arc::clone(eks)), databases.router());
    let app = axum::Router::new().fallback(move |request: Request| {
        let service = request.headers().get("x-sandbox-service").is_some_and(|value| value == "rds");
        let chosen = if service { databases.clone() } else { eks.clone() };
        async move { chosen.oneshot(request).await }
    });
    let listener = tokio::net::TcpListener::bind(Layout::BACKENDS)
        .await
        .with_context(|| format!("EKS and RDS cannot listen on {}", Layout::BACKENDS))?;
    let stop = parts.stop.clone();
    spawn(parts, "EKS and RDS", async move {
        Ok(axum::serve(listener, app).with_graceful_shutdown(async move { stop.cancelled().await }).await?)
    });
    Ok(())
}

fn serve_webhooks(parts: &Parts, eks: &Arc<Eks>) -> Result<()> {
    let (certificate, key) = parts.kubernetes.webhook_certificate()?;
    let webhooks = Webhooks { listen: Layout::WEBHOOKS.parse().context("the webhooks' address")?, certificate, key };
    spawn(parts, "the webhooks", eks::serve_webhooks(Arc::clone(eks), webhooks, parts.stop.clone()));
    Ok(())
}

/// A server that ends before it is told to takes the daemon with it: half a sandbox is worse than one that `up` starts again.
fn spawn(parts: &Parts, what: &'static str, server: impl Future<Output = Result<()>> + Send + 'static) {
    let stop = parts.stop.clone();
    tokio::spawn(async move {
        let ended = server.await;
        if !stop.is_cancelled() {
            tracing::error!(what, reason = ended.err().map(|error| format!("{error:#}")), "ended; the daemon stops");
            stop.cancel();
        }
    });
}

/// Add-ons that a stand-in or nothing stands behind, with what or why; known once EKS has read its state.
#[derive(Clone, Default)]
pub struct Notes(Arc<OnceLock<Arc<Eks>>>);

impl Notes {
    /// For `sandbox status`.
    pub fn list(&self) -> Vec<(String, String)> {
        self.0.get().map(|eks| eks.addon_notes()).unwrap_or_default()
    }
}
