//! Gives every instance an address of its own and takes it back.
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::layout::Layout;

/// Where instances listen.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The addresses to choose from, in order.
    pub pool: Vec<Ipv4Addr>,
    /// How they come to exist.
    pub interface: Interface,
}

/// What carries the addresses.
#[derive(Clone, Debug)]
pub enum Interface {
    /// They are added to this interface and removed again.
    Named(String),
    /// Loopback: all of 127.0.0.0/8 is there already.
    Loopback,
}

impl Addresses {
    /// The sandbox's: on the interface that a packet filter closes to the host.
    pub fn of(layout: &Layout) -> Self {
        Self { pool: layout.database_addresses().collect(), interface: Interface::Named(Layout::INTERNAL_INTERFACE.to_owned()) }
    }

    /// Makes an address usable; doing it twice changes nothing.
    pub async fn add(&self, address: Ipv4Addr) -> Result<()> {
        match &self.interface {
            Interface::Loopback => Ok(()),
            Interface::Named(interface) => ip(&["address", "replace", &format!("{address}/32"), "dev", interface]).await,
        }
    }

    /// Takes an address away; one that is gone already is fine.
    pub async fn remove(&self, address: Ipv4Addr) -> Result<()> {
        match &self.interface {
            Interface::Loopback => Ok(()),
            Interface::Named(interface) => match ip(&["address", "del", &format!("{address}/32"), "dev", interface]).await {
                Err(error) if error.to_string().contains("Cannot assign requested address") => Ok(()),
                other => other,
            },
        }
    }
}

async fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).kill_on_drop(true).output().await.context("running ip")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
}
