//! containerd's pulls: no login, so they are made with the role of the node group, and only from that node's own addresses.
use std::{net::IpAddr, path::PathBuf};

use http::{Method, Uri};

use super::identify::{parameter, registry_region};

/// The ARN of the role that a pull is made with; `None` when the request is not a pull of the node's.
pub fn role(method: &Method, uri: &Uri, peer: IpAddr, nodes: &[(IpAddr, PathBuf)]) -> Option<String> {
    let reads = method == Method::GET || method == Method::HEAD;
    let meant_for_ecr = parameter(uri.query().unwrap_or_default(), "ns").is_some_and(|host| registry_region(&host).is_some());
    if !reads || !meant_for_ecr || !uri.path().starts_with("/v2/") {
        return None;
    }
    let (_, state) = nodes.iter().find(|(address, _)| *address == peer)?;
    crate::eks::node_role(state)
}
