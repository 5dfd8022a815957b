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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cluster_pulls_with_its_own_nodes_role() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut nodes = Vec::new();
        for (last, (folder, role)) in folders.iter().zip(["home", "dr"]).enumerate() {
            std::fs::create_dir(folder.path().join("eks")).unwrap();
            let state = serde_json::json!({ "nodegroups": { "nodes": { "nodeRole": role } } });
            std::fs::write(folder.path().join("eks/state.json"), state.to_string()).unwrap();
            nodes.push((IpAddr::from([198, 18, 0, 2 + u8::try_from(last).unwrap()]), folder.path().to_owned()));
        }
        let uri: Uri = "/v2/deployctl-x/parser/manifests/a?ns=111122223333.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
        let by = |last: u8| role(&Method::GET, &uri, IpAddr::from([198, 18, 0, last]), &nodes);
        assert_eq!((by(2).as_deref(), by(3).as_deref(), by(4)), (Some("home"), Some("dr"), None), "and a pod with none");
        assert_eq!(role(&Method::PUT, &uri, nodes[0].0, &nodes), None, "a node pushes nothing");
    }
}
