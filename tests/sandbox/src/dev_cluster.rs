//! `dev-cluster`: wants a whole cluster in each region without anybody asking EKS for it, for the sandbox's own development and tests.
use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    claim::write_private,
    kubernetes::{ControlPlaneSpec, Wanted},
    layout::Layout,
};

/// Notes that they are wanted; the next `up` of a daemon that does not run starts them.
pub fn start(layout: &Layout) -> Result<()> {
    [layout, &layout.of_dr_cluster()].into_iter().try_for_each(want)
}

fn want(layout: &Layout) -> Result<()> {
    let region = layout.region();
    let wanted = Wanted {
        control_plane: Some(ControlPlaneSpec {
            cluster_name: "dev".into(),
            version: "1.34".into(),
            oidc_issuer: format!("https://oidc.eks.{region}.amazonaws.com/id/DEV"),
        }),
        node: Some(BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), format!("{region}a"))])),
        dns: true,
        proxy: true,
    };
    write_private(&layout.file("kubernetes/wanted.json"), &serde_json::to_vec_pretty(&wanted)?)
}
