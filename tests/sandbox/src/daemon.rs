//! The sandbox's daemon, which `up` starts inside the namespace: starts the parts side by side, keeps them running, answers `status`.
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    backends::{self, Notes, Parts},
    cgroup,
    claim::write_private,
    control::{self, Request, Stage, Status},
    install::Installed,
    kafka,
    kubernetes::{self, Kubernetes},
    layout::Layout,
    process::{ProcessId, RunRecord, Stop, Supervisor},
};

/// How long the children may take to end together: enough for a database. The API server would wait a minute for its watchers.
const STOP: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
pub async fn run(layout: Layout) -> Result<()> {
    cgroup::join(&layout)?;
    let own = RunRecord { name: "daemon".into(), process: ProcessId::of(std::process::id())? };
    // Outside `run`, where the supervisor looks for children of an earlier daemon to end.
    write_private(&record(&layout), &serde_json::to_vec(&own)?)?;
    let supervisor = Supervisor::new(&layout).await?;
    let installed = Installed::read(&layout).context("reading what was installed")?;
    let kubernetes = Kubernetes::new(&layout, &supervisor, &installed)?;
    let dr_kubernetes = Kubernetes::new(&layout.of_dr_cluster(), &supervisor, &installed)?;
    let stop = CancellationToken::new();
    let notes = Notes::default();
    let parts = Parts {
        notes: notes.clone(),
        layout: layout.clone(),
        supervisor: supervisor.clone(),
        kubernetes,
        dr_kubernetes,
        installed,
        stop: stop.clone(),
    };
    let daemon = Daemon {
        notes,
        layout: layout.clone(),
        supervisor: supervisor.clone(),
        stage: Arc::new(Mutex::new((Stage::Starting, Timestamp::now()))),
    };

    let control = tokio::spawn(daemon.clone().serve(control::listen(&layout)?, stop.clone()));
    tokio::spawn(kubernetes::join_records(layout.clone()));
    let starting = daemon.clone();
    let start = tokio::spawn(async move {
        match start(&parts).await {
            Ok(()) => starting.set(Stage::Up),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the sandbox did not come up");
                starting.set(Stage::Failed(format!("{error:#}")));
            }
        }
        parts
    });

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stop.cancelled() => {}
    }
    daemon.set(Stage::Stopping);
    stop.cancel();
    start.abort();
    control.abort();
    supervisor.stop_all(Stop::Interrupt, STOP).await
}

/// Where `up` and `down` find the daemon's process id.
pub fn record(layout: &Layout) -> std::path::PathBuf {
    layout.file("daemon.json")
}

async fn start(parts: &Parts) -> Result<()> {
    tokio::try_join!(kafka::start(&parts.layout, &parts.supervisor, &parts.installed), backends::start(parts))?;
    Ok(())
}

#[derive(Clone)]
struct Daemon {
    notes: Notes,
    layout: Layout,
    supervisor: Supervisor,
    stage: Arc<Mutex<(Stage, Timestamp)>>,
}

impl Daemon {
    fn set(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = (stage, Timestamp::now());
    }

    fn status(&self) -> Status {
        let (stage, since) = self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Status {
            name: self.layout.name.clone(),
            pid: std::process::id(),
            stage,
            since,
            processes: self.supervisor.status(),
            notes: self.notes.list(),
        }
    }

    async fn serve(self, listener: tokio::net::UnixListener, stop: CancellationToken) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::error!(%error, "the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (daemon, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                let answered = control::answer(stream, |request| {
                    if request == Request::Stop {
                        stop.cancel();
                    }
                    daemon.status()
                });
                if let Err(error) = answered.await {
                    tracing::warn!(error = format!("{error:#}"), "a question on the control socket");
                }
            });
        }
    }
}
