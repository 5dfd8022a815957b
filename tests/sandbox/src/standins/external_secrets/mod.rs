//! Stand-in for External Secrets: an ExternalSecret becomes a Secret, read from AWS with the identity that its store names.
mod controller;
mod identity;
mod provider;
mod resources;
mod target;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use aws_sdk_sts::error::{DisplayErrorContext, ProvideErrorMetadata};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::json;
use tokio::{sync::Notify, time::Instant};

use crate::layout::Layout;
use provider::Provider;
use resources::{ClusterSecretStore, ExternalSecret, SecretStore, StoreSpec};

/// How often it looks for secrets whose interval has passed.
const TICK: Duration = Duration::from_secs(1);
/// After a failure; the real one backs off further.
const RETRY: Duration = Duration::from_secs(5);

/// When an ExternalSecret is due, and what it was like when it was last written.
struct Due {
    at: Instant,
    seen: Seen,
    written: Written,
}

/// A change of the specification, or of a label or an annotation, makes it due at once, as in the real controller: `force-sync` is such a one.
type Seen = (Option<i64>, Labels, Labels);
type Labels = Option<std::collections::BTreeMap<String, String>>;

fn seen(secret: &ExternalSecret) -> Seen {
    (secret.metadata.generation, secret.metadata.labels.clone(), secret.metadata.annotations.clone())
}

/// Whether there is a Secret to miss.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    No,
}

struct Controller {
    layout: Layout,
    client: Client,
    due: HashMap<String, Due>,
    providers: identity::Sessions,
}

/// Runs until the process is stopped.
pub async fn run(layout: Layout, kubeconfig: &Path) -> Result<()> {
    tracing::info!(
        "stand-in for External Secrets v1.3.2: ExternalSecret, SecretStore and ClusterSecretStore (v1), provider aws, auth.jwt, or its own Pod Identity with a role for each store"
    );
    let client = super::client(kubeconfig).await?;
    let (store, writer) = reflector::store::<ExternalSecret>();
    let changed = Arc::new(Notify::new());
    let api: Api<ExternalSecret> = Api::all(client.clone());
    let notified = Arc::clone(&changed);
    tokio::spawn(async move {
        // The CRD comes with the deployment, and a watch that failed for long would look for it only now and then.
        while api.list(&ListParams::default().limit(1)).await.is_err() {
            tokio::time::sleep(TICK).await;
        }
        let backoff = watcher::DefaultBackoff::default();
        let stream = watcher(api, watcher::Config::default()).backoff(backoff).reflect(writer).touched_objects();
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(_) => notified.notify_one(),
                Err(error) => tracing::debug!("the watch of ExternalSecrets: {error}"),
            }
        }
    });
    let providers = identity::Sessions::new(layout.endpoint_url());
    let mut controller = Controller { layout, client, due: HashMap::new(), providers };
    loop {
        for secret in store.state() {
            controller.look(&secret).await;
        }
        let known: Vec<String> = store.state().iter().map(|secret| key(secret)).collect();
        controller.due.retain(|key, _| known.contains(key));
        // Either end of the wait is fine.
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

fn key(secret: &ExternalSecret) -> String {
    format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any())
}

impl Controller {
    /// Syncs one ExternalSecret if it changed, its interval has passed or its Secret is gone.
    async fn look(&mut self, secret: &ExternalSecret) {
        if secret.metadata.deletion_timestamp.is_some() {
            return;
        }
        let key = key(secret);
        if let Some(due) = self.due.get(&key)
            && due.seen == seen(secret)
            && Instant::now() < due.at
            && (due.written == Written::No || self.target_exists(secret).await)
        {
            return;
        }
        let outcome = self.sync(secret).await;
        let wait = match (&outcome, secret.interval()) {
            (Err(_), _) => RETRY,
            (Ok(_), Some(interval)) => interval,
            // Zero means once.
            (Ok(_), None) => Duration::from_secs(365 * 24 * 3600),
        };
        let written = if outcome.is_ok() { Written::Yes } else { Written::No };
        self.due.insert(key.clone(), Due { at: Instant::now() + wait, seen: seen(secret), written });
        if let Err(error) = self.report(secret, &outcome).await {
            tracing::warn!("the status of {key}: {error:#}");
        }
        match outcome {
            Ok(version) => tracing::info!(version, "{key} synced"),
            Err(error) => tracing::warn!("{key}: {error:#}"),
        }
    }

    async fn target_exists(&self, secret: &ExternalSecret) -> bool {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace().unwrap_or_default());
        // An API server that does not answer is no reason to ask AWS again.
        api.get_metadata_opt(&secret.target_name()).await.map_or(true, |found| found.is_some())
    }

    /// Reads everything and writes the Secret; returns the hash of what it wrote.
    async fn sync(&mut self, secret: &ExternalSecret) -> Result<String> {
        let namespace = secret.namespace().unwrap_or_default();
        let (spec, store_namespace) = self.store(secret, &namespace).await?;
        let session = self.providers.session(&self.client, &spec, &store_namespace).await;
        let valid = session.as_ref().map(|_| ()).map_err(|error| format!("{error:#}"));
        self.report_store(secret, &namespace, &valid).await;
        let provider = Provider::new(session?, &spec, &self.layout.endpoint_url())?;
        let data = target::collect(secret, &provider).await?;
        target::write(&self.client, secret, data).await
    }

    async fn store(&self, secret: &ExternalSecret, namespace: &str) -> Result<(StoreSpec, String)> {
        let reference = secret.spec.secret_store_ref.clone().context("the ExternalSecret has no secretStoreRef")?;
        match reference.kind.as_deref().unwrap_or("SecretStore") {
            "SecretStore" => {
                let api: Api<SecretStore> = Api::namespaced(self.client.clone(), namespace);
                let found = api.get(&reference.name).await.with_context(|| format!("could not get SecretStore {:?}", reference.name))?;
                Ok((found.spec, namespace.to_owned()))
            }
            "ClusterSecretStore" => {
                let api: Api<ClusterSecretStore> = Api::all(self.client.clone());
                let found =
                    api.get(&reference.name).await.with_context(|| format!("could not get ClusterSecretStore {:?}", reference.name))?;
                Ok((found.spec, namespace.to_owned()))
            }
            other => bail!("secretStoreRef has the unknown kind {other}"),
        }
    }

    /// The conditions that External Secrets sets, with its reasons.
    async fn report(&self, secret: &ExternalSecret, outcome: &Result<String>) -> Result<()> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = match outcome {
            Ok(_) => json!({ "type": "Ready", "status": "True", "reason": "SecretSynced", "message": "secret synced" }),
            Err(error) => json!({ "type": "Ready", "status": "False", "reason": "SecretSyncedError", "message": format!("{error:#}") }),
        };
        let mut status = json!({ "conditions": [with_transition(condition, secret.status.as_ref(), &now)] });
        if let Ok(version) = outcome {
            status["refreshTime"] = json!(now);
            status["syncedResourceVersion"] = json!(format!("{}-{version}", secret.metadata.generation.unwrap_or_default()));
            status["binding"] = json!({ "name": secret.target_name() });
        }
        let api: Api<ExternalSecret> = Api::namespaced(self.client.clone(), &secret.namespace().unwrap_or_default());
        api.patch_status(&secret.name_any(), &PatchParams::default(), &Patch::Merge(&json!({ "status": status })))
            .await
            .context("the status")?;
        Ok(())
    }

    async fn report_store(&self, secret: &ExternalSecret, namespace: &str, valid: &Result<(), String>) {
        let Some(reference) = &secret.spec.secret_store_ref else { return };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = match valid {
            Ok(()) => json!({ "type": "Ready", "status": "True", "reason": "Valid", "message": "store validated" }),
            Err(message) => json!({ "type": "Ready", "status": "False", "reason": "InvalidProviderConfig", "message": message }),
        };
        let cluster = reference.kind.as_deref() == Some("ClusterSecretStore");
        let shown = if cluster {
            Api::<ClusterSecretStore>::all(self.client.clone()).get(&reference.name).await.map(|store| store.status)
        } else {
            Api::<SecretStore>::namespaced(self.client.clone(), namespace).get(&reference.name).await.map(|store| store.status)
        };
        let condition = with_transition(condition, shown.ok().flatten().as_ref(), &now);
        let patch = json!({ "status": { "conditions": [condition], "capabilities": "ReadWrite" } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let written = if cluster {
            Api::<ClusterSecretStore>::all(self.client.clone()).patch_status(&reference.name, &params, &patch).await.map(|_| ())
        } else {
            Api::<SecretStore>::namespaced(self.client.clone(), namespace).patch_status(&reference.name, &params, &patch).await.map(|_| ())
        };
        if let Err(error) = written {
            tracing::warn!("the status of the store {}: {error}", reference.name);
        }
    }
}

/// A condition's transition time stays while its status stays.
fn with_transition(mut condition: serde_json::Value, status: Option<&serde_json::Value>, now: &str) -> serde_json::Value {
    let before =
        status.and_then(|status| status["conditions"].as_array()?.iter().find(|known| known["type"] == condition["type"]).cloned());
    let same = before.filter(|before| before["status"] == condition["status"] && before["lastTransitionTime"].is_string());
    condition["lastTransitionTime"] = same.map_or_else(|| json!(now), |before| before["lastTransitionTime"].clone());
    condition
}

/// AWS' own reason, without the request id that would make each report of the same failure a new one.
fn reason(error: impl ProvideErrorMetadata + std::error::Error) -> anyhow::Error {
    match error.code() {
        Some(code) => anyhow::anyhow!("{code}: {}", error.message().unwrap_or_default()),
        None => anyhow::anyhow!("{}", DisplayErrorContext(&error)),
    }
}
