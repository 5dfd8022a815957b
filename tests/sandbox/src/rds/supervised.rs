//! RDS on the sandbox's own supervisor, emulator and addresses: what the daemon opens.
use std::{sync::Arc, time::Duration};

use anyhow::Result;
use futures::future::BoxFuture;

use super::{
    addresses::Addresses,
    emulator::Emulator,
    processes::{Processes, Server},
    service::Rds,
};
use crate::{
    layout::Layout,
    process::{ProcessSpec, Ready, Stop, Supervisor},
};

/// The longest that a server may take to write its last checkpoint.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// The longest until a server listens; it listens before crash recovery ends.
const START_DEADLINE: Duration = Duration::from_secs(60);

impl Processes for Supervisor {
    fn start(&self, server: Server) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut spec = ProcessSpec::new(server.name, server.program, Ready::Tcp(server.address)).args(server.args);
            spec.deadline = START_DEADLINE;
            Supervisor::start(self, spec).await
        })
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(Supervisor::stop(self, name, Stop::Interrupt, STOP_DEADLINE))
    }

    fn running(&self, name: &str) -> bool {
        Supervisor::running(self, name)
    }
}

/// The sandbox's RDS; nothing runs until its `resume` is called.
pub fn open(layout: &Layout, supervisor: &Supervisor) -> Result<Rds> {
    Rds::open(layout, Arc::new(supervisor.clone()), Arc::new(Emulator::new()?), Addresses::of(layout))
}
