//! One emulator, one front door and one EKS on free ports of loopback, in a folder of their own.
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use deployctl_sandbox::{
    door::{self, Door, emulator},
    eks::{self, ClusterRuntime, ControlPlane, ControlPlaneSpec, Eks, Part},
    iam,
    layout::{Layout, Site},
};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{aws::Key, installed};

/// Parts that are switched on and off without a machine behind them; the real ones have tests of their own.
#[derive(Default)]
pub struct Switches {
    pub on: Mutex<Vec<&'static str>>,
    pub key: Mutex<Option<String>>,
    /// Issuers besides the cluster's, each with its public key.
    pub issuers: Mutex<Vec<(String, String)>>,
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::ControlPlane => "control plane",
        Part::Node => "node",
        Part::Dns => "dns",
        Part::Proxy => "proxy",
        Part::PodIdentityAgent => "pod identity agent",
    }
}

impl ClusterRuntime for Switches {
    fn start_control_plane(&self, spec: ControlPlaneSpec) -> BoxFuture<'_, Result<ControlPlane>> {
        self.on.lock().unwrap().push("control plane");
        let endpoint = format!("https://127.0.0.1:1/{}", spec.cluster_name);
        Box::pin(async move { Ok(ControlPlane { endpoint, ca_pem: "CA".into() }) })
    }
    fn start(&self, part: Part, _: BTreeMap<String, String>) -> BoxFuture<'_, Result<()>> {
        self.on.lock().unwrap().push(part_name(part));
        Box::pin(async { Ok(()) })
    }
    fn stop(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        self.on.lock().unwrap().retain(|on| *on != part_name(part));
        Box::pin(async { Ok(()) })
    }
    fn running(&self, part: Part) -> bool {
        self.on.lock().unwrap().contains(&part_name(part))
    }
    fn admin_kubeconfig(&self) -> PathBuf {
        PathBuf::from("/nonexistent")
    }
    fn service_account_public_key_pem(&self) -> Option<String> {
        self.key.lock().unwrap().clone()
    }
}

/// A key that only the emulator's surroundings know.
pub const SHELL_KEY: &str = "AKIAOFTHESHELL000000";

pub struct Stack {
    pub folder: tempfile::TempDir,
    pub door: SocketAddr,
    pub emulator: SocketAddr,
    pub person: Key,
    pub switches: Arc<Switches>,
    /// The checkout.
    pub project: PathBuf,
    backends: SocketAddr,
    python: PathBuf,
    process: Child,
    stop: CancellationToken,
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl Stack {
    /// `None` where ministack is not installed; the test says that it is skipped.
    pub async fn start() -> Option<Self> {
        let python = installed::ministack()?;
        let folder = tempfile::tempdir().unwrap();
        let (door, emulator, backends) = (free(), free(), free());
        let process = start_emulator(&python, folder.path(), emulator, backends).await;
        let layout = Layout {
            name: "test".into(),
            slot: 0,
            state: folder.path().to_owned(),
            cache: folder.path().to_owned(),
            project: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."),
            site: Site::Home,
        };
        let key = iam::set_up(&layout, &emulator.to_string(), "deployctl-sandbox").await.unwrap();
        let switches = Arc::new(Switches::default());
        let eks = Eks::open(layout.clone(), &emulator.to_string(), Arc::clone(&switches) as Arc<dyn ClusterRuntime>).unwrap();
        let stop = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind(backends).await.unwrap();
        tokio::spawn(axum::serve(listener, eks::router(Arc::clone(&eks))).into_future());
        let (issuer, others) = (Arc::clone(&eks), Arc::clone(&switches));
        let front = Door {
            listen: vec![door],
            emulator: emulator.to_string(),
            nodes: vec![(Ipv4Addr::LOCALHOST.into(), folder.path().to_owned())],
            state: folder.path().to_owned(),
            record: layout.record(),
            project: layout.project.clone(),
            issuer_keys: Arc::new(move || issuer.issuer_key().into_iter().chain(others.issuers.lock().unwrap().clone()).collect()),
        };
        tokio::spawn(door::serve(front, stop.clone()));
        wait_for(door).await;
        let person = Key { id: key.access_key_id, secret: key.secret_access_key, token: None };
        Some(Self { folder, door, emulator, person, switches, project: layout.project, backends, python, process, stop })
    }

    /// kill -9 and a new start on the same state.
    pub async fn kill_emulator_and_start_again(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = start_emulator(&self.python, self.folder.path(), self.emulator, self.backends).await;
    }

    /// The record, one JSON object a request.
    pub fn requests(&self) -> Vec<serde_json::Value> {
        self.record().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn record(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log/requests.ndjson")).unwrap()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop.cancel();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

async fn start_emulator(python: &std::path::Path, state: &std::path::Path, listen: SocketAddr, backends: SocketAddr) -> Child {
    let script = emulator::write_scripts(&state.join("scripts")).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(state.join("emulator.log")).unwrap();
    let child = Command::new(python)
        .arg(script)
        .envs(emulator::environment(state, listen, &backends.to_string(), &state.join("alb.json")))
        // As in a shell that already has a sandbox's variables.
        .envs([("AWS_ACCESS_KEY_ID", SHELL_KEY), ("AWS_SECRET_ACCESS_KEY", "shell")])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    wait_for(listen).await;
    child
}

async fn wait_for(address: SocketAddr) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(tokio::time::Instant::now() < end, "nothing listens on {address} after 60 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks until the answer is right.
pub async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !check().await {
        assert!(tokio::time::Instant::now() < end, "waited 20 s for {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
