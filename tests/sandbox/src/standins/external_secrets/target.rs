//! The Secret that an ExternalSecret asks for: collected, then written by server-side apply, so that a key that goes away goes away.
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{provider::Provider, resources::ExternalSecret};

/// The real one's field manager.
const MANAGER: &str = "externalsecrets.external-secrets.io";

/// Reads `dataFrom`, then `data`, which wins.
pub async fn collect(secret: &ExternalSecret, provider: &Provider) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut data = BTreeMap::new();
    for from in &secret.spec.data_from {
        match &from.extract {
            Some(reference) => data.extend(provider.extract(reference).await.context("could not get secret data from provider")?),
            None => bail!("dataFrom knows `extract` only in this stand-in"),
        }
    }
    for item in &secret.spec.data {
        data.insert(item.secret_key.clone(), provider.get(&item.remote_ref).await.context("could not get secret data from provider")?);
    }
    Ok(data)
}

/// Writes the Secret and returns the hash of its data.
pub async fn write(client: &Client, secret: &ExternalSecret, data: BTreeMap<String, Vec<u8>>) -> Result<String> {
    let mut digest = Sha256::new();
    for (key, value) in &data {
        digest.update((key.len() as u64).to_be_bytes());
        digest.update(key);
        digest.update((value.len() as u64).to_be_bytes());
        digest.update(value);
    }
    let hash = hex::encode(&digest.finalize()[..16]);
    let target = secret.spec.target.clone().unwrap_or_default();
    let template = target.template.unwrap_or_default();
    if !template["data"].is_null() || !template["templateFrom"].is_null() {
        bail!("target.template with data is not supported by this stand-in");
    }
    let (name, namespace) = (secret.target_name(), secret.namespace().unwrap_or_default());
    let encoded: BTreeMap<&String, String> =
        data.iter().map(|(key, value)| (key, base64::engine::general_purpose::STANDARD.encode(value))).collect();
    let mut document = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": { "reconcile.external-secrets.io/managed": "true" },
            "annotations": { "reconcile.external-secrets.io/data-hash": hash },
        },
        "data": encoded,
    });
    for field in ["labels", "annotations"] {
        for (key, value) in template["metadata"][field].as_object().into_iter().flatten() {
            document["metadata"][field][key] = value.clone();
        }
    }
    if let Some(kind) = template["type"].as_str() {
        document["type"] = json!(kind);
    }
    if let Some(immutable) = target.immutable {
        document["immutable"] = json!(immutable);
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    match target.creation_policy.as_deref().unwrap_or("Owner") {
        "Owner" => {
            let owner = secret.controller_owner_ref(&()).context("the ExternalSecret has no uid")?;
            document["metadata"]["ownerReferences"] = json!([owner]);
        }
        "Orphan" => {}
        "Merge" => {
            api.get(&name).await.with_context(|| format!("creationPolicy Merge needs the Secret {name}"))?;
        }
        "None" => return Ok(hash),
        other => bail!("unknown creationPolicy {other}"),
    }
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&document))
        .await
        .with_context(|| format!("the Secret {namespace}/{name}"))?;
    Ok(hash)
}
