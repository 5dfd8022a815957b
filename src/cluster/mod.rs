//! The only users of kube: one EKS cluster, reached by what DescribeCluster says and a token from STS, never by KUBECONFIG.
mod account_token;
mod again;
mod apply;
mod diff;
mod discovery;
mod evidence;
mod gate;
mod idle_pod;
mod job;
mod merge;
mod prune;
mod read;
mod status;
mod wait;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

pub use apply::Conflict;
pub use diff::{Diff, Verdict};
pub use discovery::{Capabilities, Scope};
pub use job::{AgentJob, JobResult, Keep, PodSettings};
pub use prune::ApplySet;
pub use status::{Status, status_of};
pub use wait::revision_of;

use crate::{
    aws::Aws,
    failure::{Failure, FailureKind},
    ids::ClusterName,
    manifests::ObjectKey,
    permit::{Permit, Refused},
    waiting,
};

/// Kinds whose pods are replaced one after another.
pub const WORKLOADS: [&str; 4] = ["Deployment", "Rollout", "StatefulSet", "DaemonSet"];
/// Everything that deployctl applies is owned by this field manager.
pub const FIELD_MANAGER: &str = "deployctl";
/// An EKS token lives 15 minutes; a client is made anew with a fresh one well before.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
/// Longest time for one call that is answered at once, with all its attempts. An admission webhook that needs all of it is broken.
const CALL: Duration = Duration::from_secs(30);
/// Shorter than a call's, so that an address at which nobody answers is told from a call that hangs.
const CONNECT: Duration = Duration::from_secs(10);
/// Requests in flight at once; more only queue up in the API server.
const PARALLEL: usize = 16;

/// A client for one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    name: ClusterName,
    endpoint: http::Uri,
    /// Of one call.
    patience: Duration,
    access: Arc<Access>,
    plurals: Arc<discovery::Plurals>,
}

enum Access {
    /// An EKS cluster: the token is renewed from STS.
    Eks { aws: Arc<Aws>, config: Box<Config>, current: Mutex<Option<(Client, Instant)>> },
    /// From inside the cluster (an agent), or a test's own API server: kube renews what needs renewing.
    Fixed(Client),
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Endpoint and CA from DescribeCluster, token from STS; never KUBECONFIG.
    pub async fn connect(aws: &Arc<Aws>, name: &ClusterName) -> Result<Self, Failure> {
        let found = aws.describe_cluster(name).await?;
        if found.status != "ACTIVE" && found.status != "UPDATING" {
            return Err(Failure::new(FailureKind::Preflight, format!("the cluster {name} is {}", found.status)));
        }
        let endpoint: http::Uri = found.endpoint.parse().map_err(|e| broken(name, "no usable endpoint", e))?;
        let mut config = Config::new(endpoint.clone());
        config.connect_timeout = Some(CONNECT);
        let authorities: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&found.certificate_authority_pem).map(|der| der.map(|der| der.to_vec())).collect();
        config.root_cert = Some(authorities.map_err(|e| broken(name, "no usable certificate authority", e))?);
        let access = Access::Eks { aws: aws.clone(), config: Box::new(config), current: Mutex::new(None) };
        Ok(Self { name: name.clone(), endpoint, patience: CALL, access: Arc::new(access), plurals: Arc::default() })
    }

    /// The cluster that this process runs in, as the pod's service account.
    pub fn in_cluster(name: &ClusterName) -> Result<Self, Failure> {
        let config = Config::incluster().map_err(|e| broken(name, "no service account: this is no pod of it", e))?;
        Self::with_config(name, config)
    }

    /// A cluster by an explicit configuration: for an API server that is not EKS.
    pub fn with_config(name: &ClusterName, mut config: Config) -> Result<Self, Failure> {
        install_crypto();
        let endpoint = config.cluster_url.clone();
        config.connect_timeout = Some(CONNECT);
        let client = gate::client(config, &Permit::unleased()).map_err(|e| broken(name, "no client", e))?;
        Ok(Self { name: name.clone(), endpoint, patience: CALL, access: Arc::new(Access::Fixed(client)), plurals: Arc::default() })
    }

    /// Its name.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    async fn client(&self) -> Result<Client, Failure> {
        let (aws, config, current) = match &*self.access {
            Access::Fixed(client) => return Ok(client.clone()),
            Access::Eks { aws, config, current } => (aws, config, current),
        };
        let mut current = current.lock().await;
        if let Some((client, made)) = &*current
            && made.elapsed() < TOKEN_LIFE
        {
            return Ok(client.clone());
        }
        install_crypto();
        let token = aws.eks_token(&self.name).await?;
        let mut config = config.as_ref().clone();
        config.auth_info.token = Some(token.expose_secret().to_owned().into());
        let client = gate::client(config, aws.permit()).map_err(|e| broken(&self.name, "no client", e))?;
        *current = Some((client.clone(), Instant::now()));
        Ok(client)
    }

    async fn api(&self, key: &ObjectKey) -> Result<Api<DynamicObject>, Failure> {
        let client = self.client().await?;
        let resource = self.resource(&key.api_version, &key.kind).await?;
        Ok(match &key.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        })
    }

    /// One call that is answered at once, its repetitions counted in. kube itself waits for ever for an API server that takes a connection and
    /// says nothing.
    async fn answered<T>(&self, what: impl fmt::Display, call: impl Future<Output = kube::Result<T>>) -> Result<kube::Result<T>, Failure> {
        let _waiting = waiting::call(what.to_string(), self.patience);
        tokio::time::timeout(self.patience, call).await.map_err(|_late| {
            let silence =
                format!("the API server of {} at {} has not answered within {} s", self.name, self.endpoint, self.patience.as_secs());
            Failure::new(FailureKind::Timeout, format!("{what}: {silence}")).next(self.way_there())
        })
    }

    /// As [`Cluster::answered`], for a call that twice does what it does once. An answer of which only the beginning came is asked for once more:
    /// what happens after the first byte, [`again::Again`] does not see.
    async fn repeated<T, F>(&self, what: impl fmt::Display, call: impl Fn() -> F) -> Result<kube::Result<T>, Failure>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let twice = async {
            match call().await {
                Err(error) if again::may_have_arrived(&error) => call().await,
                other => other,
            }
        };
        self.answered(what, twice).await
    }

    /// What to look at when the API server cannot be spoken to.
    fn way_there(&self) -> String {
        let host = self.endpoint.host().unwrap_or_default();
        match (&*self.access, host.parse::<std::net::Ipv4Addr>()) {
            // 198.18.0.0/15, where every sandbox lives.
            (Access::Eks { .. }, Ok(address)) if matches!(address.octets(), [198, 18 | 19, ..]) => "deployctl-sandbox up".to_owned(),
            (Access::Eks { .. }, _) => {
                format!(
                    "check cluster.public_access_cidrs in the environment file against your own address (a private endpoint answers inside \
                     its VPC or through a tunnel: deployctl doctor), then: curl -k {}version",
                    self.endpoint
                )
            }
            (Access::Fixed(_), _) => "kubectl get --raw /readyz".to_owned(),
        }
    }

    /// A failure that says which call on which object failed, and why the API server thinks so.
    fn failed(&self, what: impl fmt::Display, error: kube::Error) -> Failure {
        if let Some(refused) = Refused::within(&error) {
            return refused.failure(&what.to_string());
        }
        let failure = match &error {
            kube::Error::Api(status) if status.code == 401 => {
                Failure::new(FailureKind::Credentials, format!("{what}: the cluster {} does not know this identity", self.name))
                    .next("add its ARN to cluster.access_entries in the environment file, then: deployctl apply --only cluster")
            }
            kube::Error::Api(status) if status.code == 403 => {
                Failure::new(FailureKind::Credentials, format!("{what}: forbidden: {}", status.message))
                    .next("give this identity the access policy that allows it, in cluster.access_entries of the environment file")
            }
            kube::Error::Api(status) => return Failure::step(format!("{what}: {}", status.message)),
            _ => Failure::step(format!("{what}: the API server of {} at {} cannot be reached", self.name, self.endpoint))
                .next(self.way_there()),
        };
        failure.because(error)
    }
}

/// Plural and path follow from the kind by Kubernetes' own rule, so that no discovery request is needed.
fn resource_of(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn install_crypto() {
    // An error means that a provider is there already, which is all that is wanted.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

fn broken(name: &ClusterName, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(FailureKind::Preflight, format!("the cluster {name}: {what}")).because(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;
    use crate::manifests::Object;

    #[tokio::test]
    async fn an_api_server_that_never_answers_ends_every_call() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
        let mut cluster = Cluster::with_config(&ClusterName::parse("quiet").unwrap(), config).unwrap();
        cluster.patience = Duration::from_millis(50);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
        let object = Object::new(map, "a.yaml".into(), 1).unwrap();
        let failures = [
            cluster.get(&object.key).await.unwrap_err(),
            cluster.list("v1", "Pod", None, "").await.unwrap_err(),
            cluster.diff(std::slice::from_ref(&object)).await.unwrap_err(),
            cluster.apply(std::slice::from_ref(&object), |_| {}).await.unwrap_err(),
            cluster.delete(&object.key).await.unwrap_err(),
            cluster.version().await.unwrap_err(),
        ];
        for failure in failures {
            assert_eq!(failure.kind, FailureKind::Timeout, "{failure:?}");
            assert!(failure.message.contains("the API server of quiet at http://127.0.0.1:"), "{}", failure.message);
            assert!(!failure.next.is_empty());
        }
    }
}
