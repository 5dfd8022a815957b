//! What RDS needs of the thing that keeps processes running.
use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use anyhow::Result;
use futures::future::BoxFuture;

/// A server to keep running.
#[derive(Clone, Debug)]
pub struct Server {
    /// Unique in the sandbox.
    pub name: String,
    /// What to run.
    pub program: PathBuf,
    /// With which arguments.
    pub args: Vec<OsString>,
    /// It is up once it accepts connections here.
    pub address: SocketAddr,
}

/// Starts servers, restarts those that die, stops those that should end.
pub trait Processes: Send + Sync + 'static {
    /// Starts a server; returns when it accepts connections.
    fn start(&self, server: Server) -> BoxFuture<'_, Result<()>>;
    /// Ends it with SIGINT (PostgreSQL's fast shutdown); one that does not run is fine.
    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;
    /// Whether it is under supervision and up.
    fn running(&self, name: &str) -> bool;
}
