//! PostgreSQL servers under the daemon's supervisor, as the user that Debian's package makes.
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;

use crate::{
    process::{ProcessSpec, Ready, Stop, Supervisor},
    rds::{Processes, Server},
};

/// Crash recovery replays what was written since the last checkpoint.
const START: Duration = Duration::from_secs(300);
const STOP: Duration = Duration::from_secs(60);

/// The supervisor, for RDS.
pub struct Supervised {
    supervisor: Supervisor,
}

impl Supervised {
    /// Uses the daemon's supervisor.
    pub fn new(supervisor: &Supervisor) -> Result<Self> {
        Ok(Self { supervisor: supervisor.clone() })
    }
}

impl Processes for Supervised {
    fn start(&self, server: Server) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut spec = ProcessSpec::new(&server.name, &server.program, Ready::Tcp(server.address)).args(server.args);
            spec.deadline = START;
            self.supervisor.start(spec).await.with_context(|| format!("the server {}", server.name))
        })
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.supervisor.stop(name, Stop::Interrupt, STOP))
    }

    fn running(&self, name: &str) -> bool {
        self.supervisor.running(name)
    }
}
