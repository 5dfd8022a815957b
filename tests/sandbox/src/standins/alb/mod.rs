//! Stand-in for the AWS Load Balancer Controller: an Ingress of class `alb` gets an address and a listener that serves HTTP to ready pods.
mod addresses;
mod listener;
mod rules;
mod targets;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, reflector, reflector::ObjectRef, reflector::Store, watcher},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::layout::{Layout, REGION};
use addresses::{Addresses, Place, Scheme};
use listener::{Listener, Routing};
use rules::Rules;
use targets::HealthCheck;

/// Changes come in bursts; one pass serves all of a burst.
const BURST: Duration = Duration::from_millis(50);
/// A pass is made at least this often, so that a failed one is made again.
const AGAIN: Duration = Duration::from_secs(10);

struct Watched {
    ingresses: Store<Ingress>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    changed: Arc<Notify>,
}

/// Runs until the process is stopped.
pub async fn run(layout: Layout, kubeconfig: &Path) -> Result<()> {
    tracing::info!("stand-in for the AWS Load Balancer Controller v3.5.0: serves Ingresses of class alb, target-type ip, HTTP only");
    let client = super::client(kubeconfig).await?;
    let changed = Arc::new(Notify::new());
    let watched = Watched {
        ingresses: watch(Api::all(client.clone()), &changed),
        services: watch(Api::all(client.clone()), &changed),
        slices: watch(Api::all(client.clone()), &changed),
        changed,
    };
    watched.ingresses.wait_until_ready().await.context("the watch of Ingresses")?;
    watched.services.wait_until_ready().await.context("the watch of Services")?;
    watched.slices.wait_until_ready().await.context("the watch of EndpointSlices")?;
    let mut controller = Controller { addresses: Addresses::open(&layout)?, client, listeners: BTreeMap::new(), watched };
    loop {
        if let Err(error) = controller.pass().await {
            tracing::error!("{error:#}");
        }
        // Either end of the wait is fine.
        tokio::select! {
            () = controller.watched.changed.notified() => tokio::time::sleep(BURST).await,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

fn watch<K>(api: Api<K>, changed: &Arc<Notify>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changed = Arc::clone(changed);
    let stream = watcher(api, watcher::Config::default()).default_backoff().reflect(writer).touched_objects();
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(_) => changed.notify_one(),
                Err(error) => tracing::warn!("a watch: {error}"),
            }
        }
    });
    store
}

struct Controller {
    client: Client,
    addresses: Addresses,
    listeners: BTreeMap<String, (Place, Listener)>,
    watched: Watched,
}

fn is_ours(ingress: &Ingress) -> bool {
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    class == Some("alb") && ingress.metadata.deletion_timestamp.is_none()
}

fn annotation<'a>(ingress: &'a Ingress, name: &str) -> Option<&'a str> {
    ingress.annotations().get(&format!("alb.ingress.kubernetes.io/{name}")).map(String::as_str)
}

/// `k8s-NAMESPACE-NAME-HASH`, as the controller names load balancers.
fn hostname(namespace: &str, name: &str, scheme: Scheme) -> String {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>();
    let hash = hex::encode(Sha256::digest(format!("{namespace}/{name}/{scheme:?}")));
    let start = if scheme == Scheme::Internal { "internal-" } else { "" };
    format!("{start}k8s-{}-{}-{}.{REGION}.elb.amazonaws.com", plain(namespace), plain(name), &hash[..10])
}

impl Controller {
    async fn pass(&mut self) -> Result<()> {
        let ingresses: Vec<Arc<Ingress>> = self.watched.ingresses.state().into_iter().filter(|ingress| is_ours(ingress)).collect();
        let keys: Vec<String> = ingresses.iter().map(|ingress| key(ingress)).collect();
        for gone in self.addresses.known().into_iter().filter(|known| !keys.contains(known)) {
            self.listeners.remove(&gone);
            self.addresses.remove(&gone).await.with_context(|| format!("the load balancer of {gone}"))?;
            tracing::info!("the load balancer of {gone} is gone");
        }
        for ingress in ingresses {
            let key = key(&ingress);
            if let Err(error) = self.serve(&ingress, &key).await {
                tracing::error!("the load balancer of {key}: {error:#}");
            }
        }
        Ok(())
    }

    async fn serve(&mut self, ingress: &Ingress, key: &str) -> Result<()> {
        let scheme = match annotation(ingress, "scheme") {
            Some("internet-facing") => Scheme::InternetFacing,
            _ => Scheme::Internal,
        };
        if annotation(ingress, "target-type").is_some_and(|kind| kind != "ip") {
            anyhow::bail!("target-type must be ip: there are no instances to register");
        }
        let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
        let place = self.addresses.ensure(key, hostname(&namespace, &name, scheme), scheme).await?;
        let routing = self.routing(ingress, &namespace);
        match self.listeners.get(key).filter(|(known, _)| *known == place) {
            Some((_, listener)) => {
                listener.routing.send_if_modified(|now| {
                    let differs = **now != routing;
                    if differs {
                        *now = Arc::new(routing.clone());
                    }
                    differs
                });
            }
            None => {
                self.listeners.remove(key);
                let listener = listener::start(SocketAddr::from((place.address, port(ingress))), routing).await?;
                tracing::info!("{key} is served on {} as {}", place.address, place.hostname);
                self.listeners.insert(key.to_owned(), (place.clone(), listener));
            }
        }
        self.set_status(ingress, &namespace, &name, &place).await
    }

    fn routing(&self, ingress: &Ingress, namespace: &str) -> Routing {
        let (rules, slices) = (Rules::of(ingress), self.watched.slices.state());
        let mut all = HashMap::new();
        for backend in rules.backends() {
            let service = self.watched.services.get(&ObjectRef::new(&backend.service).within(namespace));
            let of_service = |slice: &&Arc<EndpointSlice>| {
                slice.namespace().as_deref() == Some(namespace)
                    && slice.labels().get("kubernetes.io/service-name") == Some(&backend.service)
            };
            let slices: Vec<Arc<EndpointSlice>> = slices.iter().filter(of_service).cloned().collect();
            all.insert(backend.clone(), targets::ready(backend, service.as_deref(), &slices));
        }
        Routing { rules, check: HealthCheck::of(ingress), targets: all }
    }

    async fn set_status(&self, ingress: &Ingress, namespace: &str, name: &str, place: &Place) -> Result<()> {
        let shown = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first()?.hostname.clone());
        if shown.as_deref() == Some(&place.hostname) {
            return Ok(());
        }
        let status = json!({ "status": { "loadBalancer": { "ingress": [{ "hostname": place.hostname, "ip": place.address }] } } });
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), namespace);
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.context("the Ingress' status")?;
        Ok(())
    }
}

fn key(ingress: &Ingress) -> String {
    format!("{}/{}", ingress.namespace().unwrap_or_default(), ingress.name_any())
}

/// The first HTTP port of `listen-ports`; HTTPS needs a certificate of ACM's, which is not to be had here.
fn port(ingress: &Ingress) -> u16 {
    let listed: Option<Vec<BTreeMap<String, u16>>> = annotation(ingress, "listen-ports").and_then(|text| serde_json::from_str(text).ok());
    listed.into_iter().flatten().find_map(|port| port.get("HTTP").copied()).unwrap_or(80)
}
