//! Speaks to a server as its system user, over a socket that only this machine part's root can use (peer authentication).
use std::{
    os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{net::UnixStream, time::sleep};
use tokio_postgres::{Client, Config, NoTls};

use super::super::{ids::ResourceId, model::Instance};

/// The bootstrap superuser; RDS has one of that name, too.
pub const SYSTEM_USER: &str = "rdsadmin";

/// Abstract sockets have no path that could be too long, and end with the network namespace.
pub fn socket_folder(resource: &ResourceId) -> String {
    format!("@{}", resource.process())
}

/// Opens a session in a database.
pub async fn connect(instance: &Instance, database: &str) -> Result<Client> {
    let name = format!("{}/.s.PGSQL.{}", instance.resource.process(), instance.port);
    let address = SocketAddr::from_abstract_name(name.as_bytes())?;
    // Connecting to a local socket never blocks for longer than the server's accept queue is full.
    let stream = std::os::unix::net::UnixStream::connect_addr(&address).context("connecting to the server's local socket")?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let mut config = Config::new();
    config.user(SYSTEM_USER).dbname(database).application_name("rds");
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a system session ended");
        }
    });
    Ok(client)
}

/// Waits until the server takes sessions (recovery is over by then: hot standby is off).
pub async fn wait_until_open(instance: &Instance, deadline: Duration) -> Result<Client> {
    let end = Instant::now() + deadline;
    loop {
        match connect(instance, "postgres").await {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() >= end => bail!("{} took no session within {deadline:?}: {error:#}", instance.id),
            Err(_) => sleep(Duration::from_millis(40)).await,
        }
    }
}
