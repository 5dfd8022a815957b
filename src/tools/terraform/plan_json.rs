//! What `terraform show -json` says of a plan and of a state; only what deployctl reads.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, FailureKind};

/// A plan.
#[derive(Clone, Debug, Deserialize)]
pub struct PlanJson {
    format_version: String,
    /// What happens to each resource.
    #[serde(default)]
    pub resource_changes: Vec<ResourceChange>,
    /// Where the state says other than what is there.
    #[serde(default)]
    pub resource_drift: Vec<ResourceChange>,
    /// What happens to each output.
    #[serde(default)]
    pub output_changes: BTreeMap<String, Change>,
    /// What will be there.
    #[serde(default)]
    pub planned_values: Values,
    /// What was there.
    #[serde(default)]
    pub prior_state: Option<StateJson>,
    /// Whether there is anything to apply.
    #[serde(default)]
    pub applyable: bool,
    /// Whether planning failed.
    #[serde(default)]
    pub errored: bool,
}

/// A state.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StateJson {
    #[serde(default)]
    format_version: String,
    /// What is there; nothing in an empty state.
    #[serde(default)]
    pub values: Option<Values>,
}

/// Outputs and resources.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Values {
    /// By name.
    pub outputs: BTreeMap<String, Output>,
    /// The stack itself.
    pub root_module: Module,
}

/// An output.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Output {
    /// Its value must not be shown.
    pub sensitive: bool,
    /// Not there while it is unknown.
    pub value: Option<Value>,
}

/// A module's resources.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Module {
    /// Its own.
    pub resources: Vec<Resource>,
    /// Modules that it calls.
    pub child_modules: Vec<Module>,
}

/// A resource as it is, or will be.
#[derive(Clone, Debug, Deserialize)]
pub struct Resource {
    /// As in `module.vpc.aws_vpc.this[0]`.
    pub address: String,
    /// `managed` or `data`.
    #[serde(default)]
    pub mode: String,
    /// As in `aws_vpc`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its attributes; secrets among them.
    #[serde(default)]
    pub values: Value,
}

/// What happens to a resource.
#[derive(Clone, Debug, Deserialize)]
pub struct ResourceChange {
    /// As in `module.vpc.aws_vpc.this[0]`.
    pub address: String,
    /// Its address before a `moved` block.
    #[serde(default)]
    pub previous_address: Option<String>,
    /// `managed` or `data`.
    #[serde(default)]
    pub mode: String,
    /// As in `aws_vpc`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why a replacement is one, as in `replace_because_tainted`.
    #[serde(default)]
    pub action_reason: Option<String>,
    /// Whether it is kept although it is unfinished: [`PlanJson::keep_unfinished`].
    #[serde(skip)]
    pub is_kept: bool,
    /// The change.
    pub change: Change,
}

impl ResourceChange {
    /// Whether an earlier terraform made it and could not finish.
    fn is_unfinished(&self) -> bool {
        self.action_reason.as_deref() == Some("replace_because_tainted")
    }
}

/// A change of a resource or an output.
#[derive(Clone, Debug, Deserialize)]
pub struct Change {
    /// `no-op`, `create`, `read`, `update`, `delete`, `forget`; two of them mean a replacement.
    pub actions: Vec<String>,
    /// The attributes before.
    #[serde(default)]
    pub before: Value,
    /// The attributes after, as far as they are known.
    #[serde(default)]
    pub after: Value,
    /// `true` where they are not.
    #[serde(default)]
    pub after_unknown: Value,
    /// `true` where they must not be shown.
    #[serde(default)]
    pub before_sensitive: Value,
    /// `true` where they must not be shown.
    #[serde(default)]
    pub after_sensitive: Value,
    /// The attributes that force a replacement.
    #[serde(default)]
    pub replace_paths: Vec<Value>,
    /// What it is taken over from.
    #[serde(default)]
    pub importing: Option<Importing>,
}

/// What a resource is taken over from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Importing {
    /// The provider's id for it.
    pub id: Option<String>,
}

impl PlanJson {
    /// Reads it; refuses a major version that we do not know.
    pub fn parse(text: &[u8]) -> Result<Self, Failure> {
        let plan: Self = serde_json::from_slice(text).map_err(|e| unreadable("plan").because(e))?;
        known("plan", &plan.format_version).map(|()| plan)
    }
    /// Says of what an earlier terraform made and could not finish whether it is kept, and finished, instead of being replaced: what nothing may
    /// replace, these types; and where this terraform would make another before it deletes it, under the same name, which nothing takes twice.
    /// What others depend on that are made before they are deleted is made so, too (Terraform, "create_before_destroy").
    #[must_use]
    pub fn keeping_unfinished(mut self, is_protected: impl Fn(&str) -> bool) -> Self {
        for found in &mut self.resource_changes {
            found.is_kept = found.is_unfinished() && (found.change.actions == ["create", "delete"] || is_protected(&found.kind));
        }
        self
    }
    /// Outputs that are known and no secret: from the plan when nothing is left to do.
    pub fn known_outputs(&self) -> BTreeMap<String, Value> {
        open(&self.planned_values)
    }
    /// Every managed resource that was there.
    pub fn prior_resources(&self) -> Vec<&Resource> {
        self.prior_state.as_ref().map(StateJson::resources).unwrap_or_default()
    }
    /// Addresses that the state has and that nothing is behind any more.
    pub fn gone(&self) -> impl Iterator<Item = &str> {
        self.resource_drift.iter().filter(|drift| drift.change.actions == ["delete"]).map(|drift| drift.address.as_str())
    }
    /// Whether the state held nothing; what the plan takes over was not in it.
    pub fn starts_from_nothing(&self) -> bool {
        let taken_over = |resource: &Resource| {
            let mut changes = self.resource_changes.iter();
            changes.any(|change| change.address == resource.address && change.change.importing.is_some())
        };
        self.prior_resources().into_iter().all(taken_over)
    }
}

impl StateJson {
    /// Reads it; refuses a major version that we do not know.
    pub fn parse(text: &[u8]) -> Result<Self, Failure> {
        let state: Self = serde_json::from_slice(text).map_err(|e| unreadable("state").because(e))?;
        known("state", &state.format_version).map(|()| state)
    }
    /// Outputs that are no secret.
    pub fn outputs(&self) -> BTreeMap<String, Value> {
        self.values.as_ref().map(open).unwrap_or_default()
    }
    /// Every managed resource, in modules too.
    pub fn resources(&self) -> Vec<&Resource> {
        let mut found = Vec::new();
        let mut modules: Vec<&Module> = self.values.iter().map(|values| &values.root_module).collect();
        while let Some(module) = modules.pop() {
            found.extend(module.resources.iter().filter(|r| r.mode == "managed"));
            modules.extend(&module.child_modules);
        }
        found
    }
}

fn open(values: &Values) -> BTreeMap<String, Value> {
    let outputs = values.outputs.iter().filter(|(_, output)| !output.sensitive);
    outputs.filter_map(|(name, output)| Some((name.clone(), output.value.clone()?))).collect()
}

fn unreadable(what: &str) -> Failure {
    Failure::step(format!("terraform show printed a {what} that cannot be read"))
}

fn known(what: &str, version: &str) -> Result<(), Failure> {
    if version.split('.').next() == Some("1") {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Preflight, format!("terraform writes its {what} in format {version:?}; this deployctl reads 1.x"))
        .next("use a terraform of the series 1.11 to 1.14, or a newer deployctl"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_gone_is_told_from_what_has_changed() {
        let drift =
            |name: &str, action: &str| json!({"address": name, "mode": "managed", "type": "aws_flow_log", "change": {"actions": [action]}});
        let plan = json!({"format_version": "1.2", "resource_drift": [drift("a", "update"), drift("b", "delete")]});
        assert_eq!(PlanJson::parse(plan.to_string().as_bytes()).unwrap().gone().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_is_taken_over_was_not_in_the_state() {
        let secret = json!({"address": "aws_secretsmanager_secret.a", "mode": "managed", "type": "aws_secretsmanager_secret"});
        let data = json!({"address": "data.aws_partition.a", "mode": "data", "type": "aws_partition"});
        let plan = |resources: Value, importing: Value| {
            let mut change = secret.clone();
            change["change"] = json!({"actions": ["update"], "importing": importing});
            let prior = json!({"format_version": "1.0", "values": {"root_module": {"resources": resources}}});
            let plan = json!({"format_version": "1.2", "resource_changes": [change], "prior_state": prior});
            PlanJson::parse(plan.to_string().as_bytes()).unwrap()
        };
        assert!(plan(json!([]), Value::Null).starts_from_nothing());
        assert!(plan(json!([secret, data]), json!({"id": "arn"})).starts_from_nothing());
        assert!(!plan(json!([secret, data]), Value::Null).starts_from_nothing());
    }
}
