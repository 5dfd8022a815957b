//! Pod identity associations: which role a service account's pods get by EKS Auth (`auth.rs`), and that they are told so (`pod_identity_webhook.rs`).
use std::sync::Arc;

use axum::extract::{Path, Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Eks,
    answer::{Answer, Body, Caller, Page, Refusal, now, text},
    clusters::{active, named},
};

fn missing(id: &str) -> Refusal {
    Refusal::not_found(format!("Association not found: {id}"))
}

pub async fn create(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path(name): Path<String>, Body(body): Body) -> Answer {
    let (namespace, account, role) = (text(&body, "namespace")?, text(&body, "serviceAccount")?, text(&body, "roleArn")?);
    let made = eks.store.write(|state| -> Result<Value, Refusal> {
        active(state, &caller, &name)?;
        if state.associations.values().any(|known| known["namespace"] == namespace && known["serviceAccount"] == account) {
            return Err(Refusal::in_use(format!("Association already exists: {namespace}/{account}")));
        }
        let id = format!("a-{}", &uuid::Uuid::new_v4().simple().to_string()[..17]);
        let made = json!({
            "clusterName": name, "namespace": namespace, "serviceAccount": account, "roleArn": role, "associationId": id,
            "associationArn": format!("arn:aws:eks:{}:{}:podidentityassociation/{name}/{id}", caller.region, caller.account),
            "disableSessionTags": body["disableSessionTags"] == true,
            "tags": if body["tags"].is_null() { json!({}) } else { body["tags"].clone() },
            "createdAt": now(), "modifiedAt": now(),
        });
        state.associations.insert(id, made.clone());
        Ok(made)
    })?;
    Ok(axum::Json(json!({ "association": made })))
}

pub async fn describe(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, id)): Path<(String, String)>) -> Answer {
    eks.store.read(|state| {
        named(state, &caller, &name)?;
        Ok(axum::Json(json!({ "association": state.associations.get(&id).ok_or_else(|| missing(&id))? })))
    })
}

/// The filters of ListPodIdentityAssociations.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    namespace: Option<String>,
    service_account: Option<String>,
}

pub async fn list(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    Query(page): Query<Page>,
) -> Answer {
    let fits = |known: &&Value| {
        wanted.namespace.as_deref().is_none_or(|namespace| known["namespace"] == namespace)
            && wanted.service_account.as_deref().is_none_or(|account| known["serviceAccount"] == account)
    };
    // A summary: who wants to know the role asks for the association itself.
    let summary = |known: &Value| {
        json!({
            "clusterName": known["clusterName"], "namespace": known["namespace"], "serviceAccount": known["serviceAccount"],
            "associationArn": known["associationArn"], "associationId": known["associationId"],
        })
    };
    let all =
        eks.store.read(|state| named(state, &caller, &name).map(|_| state.associations.values().filter(fits).map(summary).collect()))?;
    page.of("associations", all)
}

pub async fn update(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, id)): Path<(String, String)>, Body(body): Body) -> Answer {
    let updated = eks.store.write(|state| -> Result<Value, Refusal> {
        named(state, &caller, &name)?;
        let known = state.associations.get_mut(&id).ok_or_else(|| missing(&id))?;
        if body["roleArn"].is_string() {
            known["roleArn"] = body["roleArn"].clone();
        }
        if body["disableSessionTags"].is_boolean() {
            known["disableSessionTags"] = body["disableSessionTags"].clone();
        }
        known["modifiedAt"] = now();
        Ok(known.clone())
    })?;
    Ok(axum::Json(json!({ "association": updated })))
}

pub async fn delete(Shared(eks): Shared<Arc<Eks>>, caller: Caller, Path((name, id)): Path<(String, String)>) -> Answer {
    let removed = eks.store.write(|state| -> Result<Value, Refusal> {
        named(state, &caller, &name)?;
        state.associations.remove(&id).ok_or_else(|| missing(&id))
    })?;
    Ok(axum::Json(json!({ "association": removed })))
}
