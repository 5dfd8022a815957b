//! Updates: AWS answers each change of a cluster, node group or add-on with one, to be looked at until it is done.
use std::sync::Arc;

use axum::extract::{Path, Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Eks,
    answer::{Answer, Caller, Page, Refusal, now},
    clusters::named,
    store::{State, Update},
};

/// Notes an update that took effect at once.
pub fn done(state: &mut State, kind: &str, params: &[Value], nodegroup: Option<&str>, addon: Option<&str>) -> Value {
    let id = uuid::Uuid::new_v4().to_string();
    let update = json!({ "id": id, "status": "Successful", "type": kind, "params": params, "createdAt": now(), "errors": [] });
    state.updates.insert(id, Update { nodegroup: nodegroup.map(str::to_owned), addon: addon.map(str::to_owned), update: update.clone() });
    update
}

/// What an update belongs to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    nodegroup_name: Option<String>,
    addon_name: Option<String>,
}

impl Scope {
    fn holds(&self, update: &Update) -> bool {
        self.nodegroup_name == update.nodegroup && self.addon_name == update.addon
    }
}

pub async fn describe(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    Query(scope): Query<Scope>,
) -> Answer {
    eks.store.read(|state| {
        named(state, &caller, &name)?;
        let update = state.updates.get(&id).filter(|update| scope.holds(update));
        let update = update.ok_or_else(|| Refusal::not_found(format!("No update found for ID: {id}")))?;
        Ok(axum::Json(json!({ "update": update.update })))
    })
}

pub async fn list(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    Path(name): Path<String>,
    Query(scope): Query<Scope>,
    Query(page): Query<Page>,
) -> Answer {
    let ids = eks.store.read(|state| -> Result<Vec<Value>, Refusal> {
        named(state, &caller, &name)?;
        Ok(state.updates.iter().filter(|(_, update)| scope.holds(update)).map(|(id, _)| json!(id)).collect())
    })?;
    page.of("updateIds", ids)
}
