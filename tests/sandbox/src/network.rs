//! The sandbox's network: a namespace, a veth pair to the host, and no way out; behind it, where there is one, the DR region's cluster's.
use std::{
    net::{SocketAddr, TcpListener},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    layout::{Layout, SERVICE_CIDR},
    tool::{self, SHORT},
};

/// Makes whatever is missing of it.
pub async fn ensure(layout: &Layout) -> Result<()> {
    let namespace = layout.namespace();
    let (outside, inside, internal) = (layout.host_interface(), Layout::NODE_INTERFACE, Layout::INTERNAL_INTERFACE);
    if !namespace_path(layout).exists() {
        ip(&["netns", "add", &namespace]).await?;
    }
    if !std::path::Path::new("/sys/class/net").join(&outside).exists() {
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", inside, "netns", &namespace]).await?;
    }
    // `replace` is for addresses what `ensure` is for us: no error when it is there already.
    ip(&["addr", "replace", &format!("{}/24", layout.host_address()), "dev", &outside]).await?;
    ip(&["link", "set", &outside, "up"]).await?;
    let n = namespace.as_str();
    ip(&["-n", n, "link", "set", "lo", "up"]).await?;
    place_of_the_agent(n).await?;
    ip(&["-n", n, "addr", "replace", &format!("{}/24", layout.node_address()), "dev", inside]).await?;
    ip(&["-n", n, "link", "set", inside, "up"]).await?;
    if ip(&["-n", n, "link", "show", internal]).await.is_err() {
        // A bridge without ports is what a dummy interface is; this kind of machine has no dummies.
        ip(&["-n", n, "link", "add", internal, "type", "bridge"]).await?;
    }
    ip(&["-n", n, "link", "set", internal, "up"]).await?;
    // Services are translated only after a route was found, and nothing else may find one: there is no way out.
    ip(&["-n", n, "route", "replace", SERVICE_CIDR, "dev", internal, "src", &layout.node_address().to_string()]).await?;
    ip(&["-n", n, "route", "replace", "unreachable", "default"]).await?;
    refuse_the_host(layout).await
}

/// On AWS its agent makes an interface for it; here it is of no use before the agent listens. Nothing else may be sent from there.
async fn place_of_the_agent(namespace: &str) -> Result<()> {
    let address = format!("{}/32", Layout::POD_IDENTITY_AGENT);
    ip(&["-n", namespace, "addr", "replace", &address, "dev", "lo", "scope", "host"]).await.map(drop)
}

/// Makes whatever is missing of the DR region's cluster's: a namespace behind the sandbox's own, from where AWS, Kafka and the databases are reached
/// by the node's address. The daemon calls it, inside the sandbox's namespace.
pub async fn ensure_dr_cluster(dr: &Layout) -> Result<()> {
    let (namespace, outside, inside, internal) = (dr.namespace(), Layout::DR_INTERFACE, Layout::NODE_INTERFACE, Layout::INTERNAL_INTERFACE);
    let (node, door, host) = (dr.node_address().to_string(), dr.door_address().to_string(), Layout::NODE_INTERFACE);
    if !namespace_path(dr).exists() {
        ip(&["netns", "add", &namespace]).await?;
    }
    if ip(&["link", "show", outside]).await.is_err() {
        ip(&["link", "add", outside, "type", "veth", "peer", "name", inside, "netns", &namespace]).await?;
    }
    ip(&["link", "set", outside, "up"]).await?;
    ip(&["route", "replace", &format!("{node}/32"), "dev", outside, "src", &door]).await?;
    // The host reaches its API server too: the sandbox's namespace answers for it and passes on.
    ip(&["neigh", "replace", "proxy", &node, "dev", host]).await?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("letting packets through to the DR region's cluster")?;
    let n = namespace.as_str();
    ip(&["-n", n, "link", "set", "lo", "up"]).await?;
    place_of_the_agent(n).await?;
    ip(&["-n", n, "addr", "replace", &format!("{node}/32"), "dev", inside]).await?;
    ip(&["-n", n, "link", "set", inside, "up"]).await?;
    let sandbox = format!("198.18.{}.0/24", dr.slot);
    ip(&["-n", n, "route", "replace", &sandbox, "via", &door, "dev", inside, "onlink", "src", &node]).await?;
    if ip(&["-n", n, "link", "show", internal]).await.is_err() {
        ip(&["-n", n, "link", "add", internal, "type", "bridge"]).await?;
    }
    ip(&["-n", n, "link", "set", internal, "up"]).await?;
    ip(&["-n", n, "route", "replace", SERVICE_CIDR, "dev", internal, "src", &node]).await?;
    ip(&["-n", n, "route", "replace", "unreachable", "default"]).await.map(drop)
}

/// Internal load balancers and databases answer pods only: what comes in from the host for them is refused.
async fn refuse_the_host(layout: &Layout) -> Result<()> {
    let private = format!("198.18.{}.128/25", layout.slot);
    let rule = ["INPUT", "-i", Layout::NODE_INTERFACE, "-d", &private, "-j", "REJECT"];
    if inside(layout, "iptables", [&["-w", "-C"][..], &rule].concat()).await.is_err() {
        inside(layout, "iptables", [&["-w", "-I"][..], &rule].concat()).await?;
    }
    Ok(())
}

/// Removes it; what is gone already is fine.
pub async fn remove(layout: &Layout) -> Result<()> {
    if std::path::Path::new("/sys/class/net").join(layout.host_interface()).exists() {
        ip(&["link", "del", &layout.host_interface()]).await?;
    }
    for layout in [&layout.of_dr_cluster(), layout] {
        if namespace_path(layout).exists() {
            ip(&["netns", "del", &layout.namespace()]).await?;
        }
    }
    Ok(())
}

/// Where the kernel's handle of the namespace is.
pub fn namespace_path(layout: &Layout) -> std::path::PathBuf {
    std::path::Path::new("/run/netns").join(layout.namespace())
}

/// Listens where the cluster's pods are, also from outside of its namespace: a socket stays where it was made.
pub fn listen(layout: &Layout, address: SocketAddr) -> Result<TcpListener> {
    let path = namespace_path(layout);
    let namespace = std::fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    // A thread has a network of its own, and this one ends.
    let listening = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        TcpListener::bind(address)
    });
    let listening = listening.join().map_err(|_panic| anyhow!("listening on {address} ended in a panic"))?;
    listening.with_context(|| format!("listening on {address} in {}", layout.namespace()))
}

/// Runs a program in the namespace. `ip netns exec` would also remount /sys and hide the cgroups, so it is not used.
pub async fn inside(layout: &Layout, program: &str, args: Vec<&str>) -> Result<String> {
    let enter = format!("--net={}", namespace_path(layout).display());
    let mut all = vec![enter.as_str(), "--", program];
    all.extend(args);
    tool::output("nsenter", all, SHORT).await
}

async fn ip(args: &[&str]) -> Result<String> {
    tool::output("ip", args, SHORT).await.context("setting up the sandbox's network")
}
