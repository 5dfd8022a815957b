//! What templates see: the environment, the services, the plan file's own values, and the database's authorities.
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::bound::template_texts;
use crate::{
    failure::{Failure, FailureKind},
    plan::{
        environment::{Environment, SecretStore},
        file::{Credentials, Services},
    },
    steps::StepContext,
};

/// Overrides `database.ca_bundle` of the environment file.
const CA_BUNDLE: &str = "DEPLOYCTL_DATABASE_CA_BUNDLE";

/// `env`, `services`, `credentials`, `prefix`, `secrets_prefix`, `secret_service` (as External Secrets calls it), `database_ca` and, at the top, every key of `own`.
pub fn template_values(cx: &StepContext, own: &Map<String, Value>) -> Result<Value, Failure> {
    values_of(&cx.project, &cx.environment, &cx.services, cx.credentials, own)
}

/// The same for whoever has no step.
pub fn values_of(
    project: &Path,
    environment: &Environment,
    services: &Services,
    credentials: Credentials,
    own: &Map<String, Value>,
) -> Result<Value, Failure> {
    let internal = |e: serde_json::Error| Failure::new(FailureKind::Internal, "values for templates").because(e);
    let mut values = Map::new();
    values.insert("env".into(), serde_json::to_value(environment).map_err(internal)?);
    values.insert("services".into(), serde_json::to_value(services).map_err(internal)?);
    values.insert("credentials".into(), serde_json::to_value(credentials).map_err(internal)?);
    values.insert("prefix".into(), Value::String(format!("deployctl-{}", environment.name)));
    let store = environment.secrets.store;
    values.insert("secrets_prefix".into(), Value::String(store.prefix(&environment.name)));
    let service = match store {
        SecretStore::SecretsManager => "SecretsManager",
        SecretStore::Ssm => "ParameterStore",
    };
    values.insert("secret_service".into(), Value::String(service.into()));
    // A template that asks for it where there is none fails by name; most steps never ask.
    if let Some(text) = authorities(project, environment)? {
        values.insert("database_ca".into(), Value::String(text));
    }
    values.extend(own.clone());
    Ok(Value::Object(values))
}

/// The database's authorities; none if nobody has said where they are.
fn authorities(project: &Path, environment: &Environment) -> Result<Option<String>, Failure> {
    let bundle = std::env::var_os(CA_BUNDLE).map(PathBuf::from);
    let bundle = bundle.or_else(|| environment.database.ca_bundle.as_ref().map(|path| project.join(path)));
    let Some(path) = bundle else { return Ok(None) };
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::new(FailureKind::Preflight, format!("the database's authorities in {} cannot be read", path.display())).because(e)
    })?;
    Ok(Some(text))
}

/// Refuses where a template in `with.templates` asks for the database's authorities and nobody has said where they are.
pub fn authorities_are_there(with: &Value, project: &Path, environment: &Environment) -> Result<(), Failure> {
    let texts = template_texts(with, project);
    let Some((asking, _)) = texts.iter().find(|(_, text)| asks_for_authorities(text)) else { return Ok(()) };
    if authorities(project, environment)?.is_some() {
        return Ok(());
    }
    let (name, region) = (&environment.name, &environment.aws.region);
    Err(Failure::new(FailureKind::Preflight, format!("{} needs the database's authorities, and none are named", asking.display()))
        .next(format!("curl -o plans/rds-ca.pem https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem"))
        .next(format!("then, in plans/environments/{name}.yaml, under database: `ca_bundle: plans/rds-ca.pem`")))
}

/// Whether a template uses the value `database_ca`, and not only one whose name begins like it.
fn asks_for_authorities(template: &str) -> bool {
    let name = "database_ca";
    template.match_indices(name).any(|(at, _)| !template[at + name.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_'))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_itself_asks_for_authorities() {
        assert!(asks_for_authorities(include_str!("../../../templates/config/authorities/10-database-ca.yaml.hbs")));
        assert!(!asks_for_authorities("{{#each database_ca_namespaces}}\n  name: database-ca\n"));
    }
}
