//! The one place where the daemon starts what stands behind the AWS endpoint: emulator, front door, EKS of each region with its webhooks, RDS,
//! stand-ins.
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
    layout::{DR_REGION, Layout},
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
    /// Those of the DR region's cluster.
    pub dr_kubernetes: Kubernetes,
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
    let eks = open_eks(parts, &parts.layout, &parts.kubernetes)?;
    let dr_eks = open_eks(parts, &parts.layout.of_dr_cluster(), &parts.dr_kubernetes)?;
    // Set once in a daemon's life: `start` runs once.
    drop(parts.notes.0.set([Arc::clone(&eks), Arc::clone(&dr_eks)]));
    let processes = Arc::new(Supervised::new(&parts.supervisor)?);
    let databases = Rds::open(&parts.layout, processes, Arc::new(rds::Emulator::new()?), rds::Addresses::of(&parts.layout))
        .context("reading RDS' state")?;
    serve_backends(parts, [&eks, &dr_eks], &databases).await?;
    let keys_of = [Arc::clone(&eks), Arc::clone(&dr_eks)];
    let door = Door::of(&parts.layout, Arc::new(move || keys_of.iter().filter_map(|eks| eks.issuer_key()).collect()));
    spawn(parts, "the front door", door::serve(door, parts.stop.clone()));
    for (layout, kubernetes, eks) in
        [(parts.layout.clone(), &parts.kubernetes, &eks), (parts.layout.of_dr_cluster(), &parts.dr_kubernetes, &dr_eks)]
    {
        serve_webhooks(parts, &layout, kubernetes, eks)?;
        spawn(parts, "the region switch", region::freeze_cluster(layout, parts.supervisor.clone(), parts.stop.clone()));
    }
    let (stop, archives) = (parts.stop.clone(), databases.clone());
    // Before the servers go, so that no round of archiving takes their end for a failure.
    spawn(parts, "RDS' archives", async move {
        stop.cancelled().await;
        archives.close().await
    });
    databases.resume().await.context("starting the databases again")?;
    // First what ran, in order and waited for; then EKS' own records, which start what a crash cut short.
    tokio::try_join!(parts.kubernetes.resume(), parts.dr_kubernetes.resume()).context("starting the clusters again")?;
    eks.resume();
    dr_eks.resume();
    Ok(())
}

fn open_eks(parts: &Parts, layout: &Layout, kubernetes: &Kubernetes) -> Result<Arc<Eks>> {
    let runtime = Runtime { layout: layout.clone(), supervisor: parts.supervisor.clone(), kubernetes: kubernetes.clone() };
    Eks::open(layout.clone(), Layout::EMULATOR, Arc::new(runtime)).with_context(|| format!("reading EKS' state of {}", layout.region()))
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

/// One port for all; the emulator says in headers which service it means, and in which region.
async fn serve_backends(parts: &Parts, eks: [&Arc<Eks>; 2], databases: &Rds) -> Result<()> {
    let ([eks, dr_eks], databases) = (eks.map(|eks| eks::router(Arc::clone(eks))), databases.router());
    let state = parts.layout.state.clone();
    let app = axum::Router::new().fallback(move |request: Request| {
        let says = |name: &str, wanted: &str| request.headers().get(name).is_some_and(|value| value == wanted);
        let chosen = if says("x-sandbox-service", "rds") {
            databases.clone()
        } else if says("x-sandbox-region", DR_REGION) && !region::is_lent(&state, DR_REGION) {
            dr_eks.clone()
        } else {
            eks.clone()
        };
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

fn serve_webhooks(parts: &Parts, layout: &Layout, kubernetes: &Kubernetes, eks: &Arc<Eks>) -> Result<()> {
    let (certificate, key) = kubernetes.webhook_certificate()?;
    let webhooks = Webhooks { listen: layout.webhooks(), certificate, key };
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
pub struct Notes(Arc<OnceLock<[Arc<Eks>; 2]>>);

impl Notes {
    /// For `sandbox status`.
    pub fn list(&self) -> Vec<(String, String)> {
        self.0.get().into_iter().flatten().flat_map(|eks| eks.addon_notes()).collect()
    }
}
