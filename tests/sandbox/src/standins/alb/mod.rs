//! Stand-in for the AWS Load Balancer Controller: an Ingress of class `alb` gets an address and a listener that serves HTTP, or HTTPS with its
//! certificate of ACM, to registered pods.
mod addresses;
mod front;
pub mod gates;
mod listener;
mod rules;
mod targets;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
};
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
use front::Front;
use listener::{Listener, Routing};
use rules::{Backend, Rules};
use targets::HealthCheck;

/// Changes come in bursts; one pass serves all of a burst.
const BURST: Duration = Duration::from_millis(50);
/// A pass is made at least this often, so that a failed one is made again.
const AGAIN: Duration = Duration::from_secs(10);

struct Watched {
    ingresses: Store<Ingress>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    changed: Arc<Notify>,
}

/// Runs until the process is stopped.
pub async fn run(layout: Layout, kubeconfig: &Path) -> Result<()> {
    tracing::info!("stand-in for the AWS Load Balancer Controller v3.5.0: serves Ingresses of class alb, target-type ip");
    let client = super::client(kubeconfig).await?;
    let changed = Arc::new(Notify::new());
    let watched = Watched {
        ingresses: watch(Api::all(client.clone()), &changed),
        services: watch(Api::all(client.clone()), &changed),
        slices: watch(Api::all(client.clone()), &changed),
        pods: watch(Api::all(client.clone()), &changed),
        changed,
    };
    watched.ingresses.wait_until_ready().await.context("the watch of Ingresses")?;
    watched.services.wait_until_ready().await.context("the watch of Services")?;
    watched.slices.wait_until_ready().await.context("the watch of EndpointSlices")?;
    watched.pods.wait_until_ready().await.context("the watch of Pods")?;
    let mut controller = Controller { addresses: Addresses::open(&layout)?, layout, client, listeners: BTreeMap::new(), watched };
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
    layout: Layout,
    client: Client,
    addresses: Addresses,
    listeners: BTreeMap<String, (Front, Listener)>,
    watched: Watched,
}

/// Of the controller's own on every Ingress that has a load balancer: one is not gone before the other.
const FINALIZER: &str = "ingress.k8s.aws/resources";

fn is_ours(ingress: &Ingress) -> bool {
    ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref()) == Some("alb")
}

/// The backends of an Ingress that has its load balancer: their pods are held back until they are its healthy targets.
pub fn served_backends(ingress: &Ingress) -> Vec<Backend> {
    let has_one =
        ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()).is_some_and(|all| !all.is_empty());
    if !is_ours(ingress) || !has_one || ingress.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    Rules::of(ingress).backends().cloned().collect()
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
        let ours = self.watched.ingresses.state().into_iter().filter(|ingress| is_ours(ingress));
        let (leaving, ingresses): (Vec<Arc<Ingress>>, Vec<_>) = ours.partition(|ingress| ingress.metadata.deletion_timestamp.is_some());
        let keys: Vec<String> = ingresses.iter().map(|ingress| key(ingress)).collect();
        for gone in self.addresses.known().into_iter().filter(|known| !keys.contains(known)) {
            self.listeners.remove(&gone);
            self.addresses.remove(&gone).await.with_context(|| format!("the load balancer of {gone}"))?;
            tracing::info!("the load balancer of {gone} is gone");
        }
        for ingress in leaving {
            self.set_finalizer(&ingress, Finalizer::Off).await.with_context(|| format!("the finalizer of {}", key(&ingress)))?;
        }
        for ingress in ingresses {
            let key = key(&ingress);
            if let Err(error) = self.serve(&ingress, &key).await {
                tracing::error!("the load balancer of {key}: {error:#}");
            }
        }
        Ok(())
    }

    async fn set_finalizer(&self, ingress: &Ingress, wanted: Finalizer) -> Result<()> {
        let mut finalizers = ingress.metadata.finalizers.clone().unwrap_or_default();
        if finalizers.iter().any(|found| found == FINALIZER) == (wanted == Finalizer::On) {
            return Ok(());
        }
        match wanted {
            Finalizer::On => finalizers.push(FINALIZER.to_owned()),
            Finalizer::Off => finalizers.retain(|found| found != FINALIZER),
        }
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), &ingress.namespace().unwrap_or_default());
        // The resource version makes it a conflict, and another pass, when somebody else has changed the list meanwhile.
        let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": ingress.resource_version() } });
        match api.patch(&ingress.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn serve(&mut self, ingress: &Ingress, key: &str) -> Result<()> {
        let scheme = match annotation(ingress, "scheme") {
            Some("internet-facing") => Scheme::InternetFacing,
            Some("internal") | None => Scheme::Internal,
            Some(other) => anyhow::bail!("unknown scheme: {other}"),
        };
        // The controller's default is `instance`.
        if annotation(ingress, "target-type") != Some("ip") {
            anyhow::bail!("target-type must be ip: there are no instances to register");
        }
        let front = Front::of(ingress, &self.layout)?;
        self.set_finalizer(ingress, Finalizer::On).await?;
        let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
        let place = self.addresses.ensure(key, hostname(&namespace, &name, scheme), scheme).await?;
        let (routing, front) = (self.routing(ingress, &namespace), front.at(place.address));
        if let Some((_, listener)) = self.listeners.get(key) {
            self.open_gates(&namespace, &routing, listener).await?;
        }
        match self.listeners.get(key).filter(|(known, _)| *known == front) {
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
                let (certificate, changed) = (front.acceptor()?, Arc::clone(&self.watched.changed));
                self.listeners.remove(key);
                let listener = listener::start(front.address, certificate, routing, changed).await?;
                tracing::info!("{key} is served on {} as {}", front.address, place.hostname);
                self.listeners.insert(key.to_owned(), (front, listener));
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
            let gate = gates::name(namespace, backend);
            let waits =
                |pod: &str| self.watched.pods.get(&ObjectRef::new(pod).within(namespace)).is_some_and(|pod| gates::waits_for(&pod, &gate));
            all.insert(backend.clone(), targets::registrable(backend, service.as_deref(), &slices, waits));
        }
        Routing { rules, check: HealthCheck::of(ingress), delay: targets::deregistration_delay(ingress), targets: all }
    }

    /// Says of every pod that waits behind a gate whether its target is well.
    async fn open_gates(&self, namespace: &str, routing: &Routing, listener: &Listener) -> Result<()> {
        for (backend, targets) in &routing.targets {
            let gate = gates::name(namespace, backend);
            for (target, pod) in targets {
                let Some(found) = self.watched.pods.get(&ObjectRef::new(pod).within(namespace)) else { continue };
                let Some(status) = gates::condition(&found, &gate, listener.targets.is_well(target)) else { continue };
                let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
                match api.patch_status(pod, &PatchParams::default(), &Patch::Strategic(&status)).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error).with_context(|| format!("the readiness gate of {namespace}/{pod}")),
                }
            }
        }
        Ok(())
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

/// Whether an Ingress is to carry the controller's finalizer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finalizer {
    On,
    Off,
}
