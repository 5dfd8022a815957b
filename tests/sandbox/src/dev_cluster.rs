//! `dev-cluster`: wants a whole cluster without anybody asking EKS for it, for the sandbox's own development and tests.
use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    claim::write_private,
    kubernetes::{ControlPlaneSpec, Wanted},
    layout::Layout,
};

/// Notes that it is wanted; the next `up` of a daemon that does not run starts it.
pub fn start(layout: &Layout) -> Result<()> {
    let wanted = Wanted {
        control_plane: Some(ControlPlaneSpec {
            cluster_name: "dev".into(),
            version: "1.34".into(),
            oidc_issuer: "https://oidc.eks.us-east-1.amazonaws.com/id/DEV".into(),
        }),
        node: Some(BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), "us-east-1a".to_owned())])),
        dns: true,
        proxy: true,
    };
    write_private(&layout.file("kubernetes/wanted.json"), &serde_json::to_vec_pretty(&wanted)?)
}
