//! EKS and EKS Auth of one region: the API in front of its one real cluster, and the webhooks of an API server there: EKS' own two and the load
//! balancer controller's.
mod access;
mod addons;
mod answer;
mod auth;
mod bindings;
mod clusters;
mod nodegroups;
mod pod_identity_associations;
mod pod_identity_webhook;
mod pod_token;
mod readiness_gates;
mod runtime;
mod store;
mod tags;
mod token_webhook;
mod updates;
mod webhooks;

use std::{path::Path, sync::Arc};

use anyhow::Result;
use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::Response,
    routing::{delete, get, post},
};

pub use pod_token::AUDIENCE as POD_IDENTITY_AUDIENCE;
pub use runtime::{ClusterRuntime, ControlPlane, ControlPlaneSpec, Part};
pub use webhooks::{Webhooks, serve as serve_webhooks};

use crate::{door::emulator::Root, layout::Layout, region};
use store::Store;

/// What every operation needs.
pub struct Eks {
    layout: Layout,
    store: Store,
    runtime: Arc<dyn ClusterRuntime>,
    root: Root,
}

impl Eks {
    /// Reads the state that an earlier run left; `emulator` is `host:port`.
    pub fn open(layout: Layout, emulator: &str, runtime: Arc<dyn ClusterRuntime>) -> Result<Arc<Self>> {
        let store = Store::open(&layout.file("eks/state.json"))?;
        Ok(Arc::new(Self { root: Root::new(emulator)?, store, runtime, layout }))
    }

    /// Starts again what the state says is there, after `up` or a restart of the daemon, and keeps the access policies' bindings.
    pub fn resume(self: &Arc<Self>) {
        clusters::resume(self);
        bindings::keep(Arc::clone(self));
    }

    /// The OIDC issuer and the key of the cluster's service account tokens, when there is a cluster.
    pub fn issuer_key(&self) -> Option<(String, String)> {
        let issuer =
            self.store.read(|state| state.cluster.as_ref().and_then(|c| c["identity"]["oidc"]["issuer"].as_str().map(str::to_owned)))?;
        Some((issuer, self.runtime.service_account_public_key_pem()?))
    }
}

/// The role of a cluster's node group, for containerd's pulls; read from the state file, as the front door has nothing else of EKS.
pub fn node_role(state: &Path) -> Option<String> {
    store::State::read(&state.join("eks/state.json"))
        .ok()?
        .nodegroups
        .values()
        .find_map(|group| group["nodeRole"].as_str().map(str::to_owned))
}

/// Whether this layout's cluster is there, or on its way.
pub fn has_cluster(layout: &Layout) -> bool {
    store::State::read(&layout.file("eks/state.json")).is_ok_and(|state| state.cluster.is_some())
}

/// What the Pod Identity agent of a node knows of where it is, and that it is: the cluster, its region, the node's role.
pub struct Node {
    /// The cluster's name.
    pub cluster: String,
    /// The region that it was made in.
    pub region: String,
    /// The ARN of the node group's role.
    pub role: String,
}

/// The node; none while there is no node group. Read from the state file, as the agent has nothing else of EKS.
pub fn node(state: &Path) -> Option<Node> {
    let role = node_role(state)?;
    let known = store::State::read(&state.join("eks/state.json")).ok()?;
    let cluster = known.cluster?["name"].as_str()?.to_owned();
    Some(Node { cluster, region: known.region, role })
}

/// The EKS API, and EKS Auth's one operation, paths as AWS has them; the caller is in the `x-sandbox-*` headers, authenticated and authorized.
pub fn router(eks: Arc<Eks>) -> Router {
    Router::new()
        .route("/clusters", post(clusters::create).get(clusters::list))
        .route("/clusters/{name}", get(clusters::describe).delete(clusters::delete))
        .route("/clusters/{name}/update-config", post(clusters::update_config))
        .route("/clusters/{name}/updates", post(clusters::update_version).get(updates::list))
        .route("/clusters/{name}/updates/{id}", get(updates::describe))
        .route("/clusters/{name}/node-groups", post(nodegroups::create).get(nodegroups::list))
        .route("/clusters/{name}/node-groups/{group}", get(nodegroups::describe).delete(nodegroups::delete))
        .route("/clusters/{name}/node-groups/{group}/update-config", post(nodegroups::update_config))
        .route("/clusters/{name}/node-groups/{group}/update-version", post(nodegroups::update_version))
        .route("/clusters/{name}/addons", post(addons::create).get(addons::list))
        .route("/clusters/{name}/addons/{addon}", get(addons::describe).delete(addons::delete))
        .route("/clusters/{name}/addons/{addon}/update", post(addons::update))
        .route("/addons/supported-versions", get(addons::supported_versions))
        .route("/addons/configuration-schemas", get(addons::configuration))
        .route("/clusters/{name}/access-entries", post(access::create).get(access::list))
        .route("/clusters/{name}/access-entries/{arn}", get(access::describe).post(access::update).delete(access::delete))
        .route("/clusters/{name}/access-entries/{arn}/access-policies", post(access::associate).get(access::list_associated))
        .route("/clusters/{name}/access-entries/{arn}/access-policies/{policy}", delete(access::disassociate))
        .route("/access-policies", get(access::list_policies))
        .route("/clusters/{name}/assume-role-for-pod-identity", post(auth::assume_role_for_pod_identity))
        .route("/clusters/{name}/pod-identity-associations", post(pod_identity_associations::create).get(pod_identity_associations::list))
        .route(
            "/clusters/{name}/pod-identity-associations/{id}",
            get(pod_identity_associations::describe).post(pod_identity_associations::update).delete(pod_identity_associations::delete),
        )
        .route("/tags/{*arn}", get(tags::list).post(tags::tag).delete(tags::untag))
        .fallback(answer::unknown)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&eks), lent))
        .with_state(eks)
}

/// Whoever asks in a region that the cluster is lent to is answered as in its own.
async fn lent(State(eks): State<Arc<Eks>>, mut request: Request, next: Next) -> Response {
    const ASKED: &str = "x-sandbox-region";
    let region = request.headers().get(ASKED).and_then(|region| region.to_str().ok()).unwrap_or_default();
    if region::is_lent(&eks.layout.state, region)
        && let Ok(own) = eks.store.read(|state| state.region.parse())
    {
        request.headers_mut().insert(ASKED, own);
    }
    next.run(request).await
}
