//! Tags of everything that EKS holds, by ARN.
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State as Shared};
use serde_json::{Value, json};

use super::{
    Eks,
    answer::{Answer, Body, Caller, Refusal},
    store::State,
};

/// The document whose ARN it is.
fn by_arn<'a>(state: &'a mut State, arn: &str) -> Result<&'a mut Value, Refusal> {
    let documents = state
        .cluster
        .iter_mut()
        .map(|document| ("arn", document))
        .chain(state.nodegroups.values_mut().map(|document| ("nodegroupArn", document)))
        .chain(state.addons.values_mut().map(|document| ("addonArn", document)))
        .chain(state.entries.values_mut().map(|found| ("accessEntryArn", &mut found.entry)))
        .chain(state.associations.values_mut().map(|document| ("associationArn", document)));
    documents
        .into_iter()
        .find(|(name, document)| document[*name] == arn)
        .map(|(_, document)| document)
        .ok_or_else(|| Refusal::not_found(format!("Not found: {arn}")))
}

pub async fn list(Shared(eks): Shared<Arc<Eks>>, _: Caller, Path(arn): Path<String>) -> Answer {
    let mut state = eks.store.read(Clone::clone);
    Ok(axum::Json(json!({ "tags": by_arn(&mut state, &arn)?["tags"] })))
}

pub async fn tag(Shared(eks): Shared<Arc<Eks>>, _: Caller, Path(arn): Path<String>, Body(body): Body) -> Answer {
    eks.store.write(|state| -> Result<(), Refusal> {
        let document = by_arn(state, &arn)?;
        for (key, value) in body["tags"].as_object().into_iter().flatten() {
            document["tags"][key] = value.clone();
        }
        Ok(())
    })?;
    Ok(axum::Json(json!({})))
}

pub async fn untag(Shared(eks): Shared<Arc<Eks>>, _: Caller, Path(arn): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let query = query.unwrap_or_default();
    let keys = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "tagKeys");
    eks.store.write(|state| -> Result<(), Refusal> {
        if let Some(tags) = by_arn(state, &arn)?["tags"].as_object_mut() {
            for (_, key) in keys {
                tags.remove(key.as_ref());
            }
        }
        Ok(())
    })?;
    Ok(axum::Json(json!({})))
}
