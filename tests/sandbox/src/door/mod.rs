//! The front door on NODE:4566: everybody's AWS endpoint. It records each request and passes it to the emulator with the Host header as signed.
pub mod emulator;
mod identify;
mod modules;
mod node_pull;
mod proxy;
mod record;
mod region_switch;
pub mod service_role;
mod web_identity;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use axum::{Router, routing::any};
use tokio_util::sync::CancellationToken;

pub use record::Record;
pub use region_switch::RegionSwitch;
pub use web_identity::IssuerKeys;

use crate::layout::Layout;

/// Where the front door stands and what it needs to know; tests put all of it on loopback.
#[derive(Clone)]
pub struct Door {
    /// Addresses it listens on.
    pub listen: Vec<SocketAddr>,
    /// The emulator behind it, `host:port`.
    pub emulator: String,
    /// The nodes' own addresses, from which containerd's pulls come, each with the folder of its cluster's state.
    pub nodes: Vec<(std::net::IpAddr, PathBuf)>,
    /// The sandbox's state folder: region switch, record.
    pub state: PathBuf,
    /// The file that each request is appended to.
    pub record: PathBuf,
    /// The checkout whose `tests/sandbox/modules` it serves to terraform.
    pub project: PathBuf,
    /// The keys that the clusters' service account tokens are signed with.
    pub issuer_keys: IssuerKeys,
}

impl Door {
    /// The front door of a sandbox.
    pub fn of(layout: &Layout, issuer_keys: IssuerKeys) -> Self {
        let dr = layout.of_dr_cluster();
        let home = [layout.node_address(), std::net::Ipv4Addr::LOCALHOST].map(|address| (address.into(), layout.state.clone()));
        Self {
            listen: vec![SocketAddr::from((layout.door_address(), 4566))],
            emulator: Layout::EMULATOR.to_owned(),
            nodes: home.into_iter().chain([(dr.node_address().into(), dr.state)]).collect(),
            state: layout.state.clone(),
            record: layout.record(),
            project: layout.project.clone(),
            issuer_keys,
        }
    }
}

/// Serves until `stop`; returns early only with the reason why it cannot listen.
pub async fn serve(door: Door, stop: CancellationToken) -> Result<()> {
    let record = Record::open(&door.record)?;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .pool_idle_timeout(std::time::Duration::from_secs(60))
        .build_http();
    let listen = door.listen.clone();
    let shared = Arc::new(proxy::Proxy { switch: RegionSwitch::new(&door.state), record, client, door });
    let router = Router::new()
        .route("/.well-known/terraform.json", any(modules::discovery))
        .route("/v1/modules/{*rest}", any(modules::registry))
        .fallback(any(proxy::handle))
        .with_state(shared);
    let mut servers = tokio::task::JoinSet::new();
    for address in listen {
        let listener =
            tokio::net::TcpListener::bind(address).await.with_context(|| format!("the front door cannot listen on {address}"))?;
        let (router, stop) = (router.clone(), stop.clone());
        servers.spawn(async move {
            axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
                .with_graceful_shutdown(async move { stop.cancelled().await })
                .await
        });
    }
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = servers.join_next() => match ended {
            Some(outcome) => outcome.context("the front door's task")?.context("the front door"),
            None => Ok(()),
        },
    }
}
