//! What templates see: the environment, the services, the plan file's own values, and the database's authorities.
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{
    failure::{Failure, FailureKind},
    plan::environment::SecretStore,
    steps::StepContext,
};

/// Overrides `database.ca_bundle` of the environment file.
const CA_BUNDLE: &str = "DEPLOYCTL_DATABASE_CA_BUNDLE";

/// `env`, `services`, `prefix`, `secrets_prefix`, `secret_service` (as External Secrets calls it), `database_ca` and, at the top, every key of `own`.
pub fn template_values(cx: &StepContext, own: &Map<String, Value>) -> Result<Value, Failure> {
    let internal = |e: serde_json::Error| Failure::new(FailureKind::Internal, "values for templates").because(e);
    let mut values = Map::new();
    values.insert("env".into(), serde_json::to_value(&*cx.environment).map_err(internal)?);
    values.insert("services".into(), serde_json::to_value(&*cx.services).map_err(internal)?);
    values.insert("prefix".into(), Value::String(format!("deployctl-{}", cx.environment.name)));
    values.insert("secrets_prefix".into(), Value::String(format!("deployctl/{}", cx.environment.name)));
    let store = match cx.environment.secrets.store {
        SecretStore::SecretsManager => "SecretsManager",
        SecretStore::Ssm => "ParameterStore",
    };
    values.insert("secret_service".into(), Value::String(store.into()));
    let bundle = std::env::var_os(CA_BUNDLE).map(PathBuf::from);
    let bundle = bundle.or_else(|| cx.environment.database.ca_bundle.as_ref().map(|path| cx.project.join(path)));
    // A template that asks for it where there is none fails by name; most steps never ask.
    if let Some(path) = bundle {
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Failure::new(FailureKind::Preflight, format!("the database's authorities in {} cannot be read", path.display())).because(e)
        })?;
        values.insert("database_ca".into(), Value::String(text));
    }
    values.extend(own.clone());
    Ok(Value::Object(values))
}

/// A text or a list of texts, as plan files may write `templates`.
pub fn text_list<'de, D: serde::Deserializer<'de>, T: serde::Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    use serde::Deserialize;
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}
