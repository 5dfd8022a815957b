//! Secrets Manager and Parameter Store, read with a store's session.
use anyhow::{Context, Result, bail};
use aws_sdk_sts::config::{BehaviorVersion, Credentials, Region};
use serde_json::Value;

use super::resources::{RemoteRef, StoreSpec};

/// One of the two services that a store names.
pub enum Provider {
    SecretsManager(aws_sdk_secretsmanager::Client),
    ParameterStore(aws_sdk_ssm::Client),
}

impl Provider {
    /// Requests go to `endpoint`, whatever the region.
    pub fn new(session: Credentials, store: &StoreSpec, endpoint: &str) -> Result<Self> {
        let aws = store.provider.aws.as_ref().context("the store's provider is not aws")?;
        let region = Region::new(aws.region.clone());
        match aws.service.as_str() {
            "SecretsManager" => {
                let config = aws_sdk_secretsmanager::Config::builder().behavior_version(BehaviorVersion::latest()).region(region);
                Ok(Self::SecretsManager(aws_sdk_secretsmanager::Client::from_conf(
                    config.endpoint_url(endpoint).credentials_provider(session).build(),
                )))
            }
            "ParameterStore" => {
                let config = aws_sdk_ssm::Config::builder().behavior_version(BehaviorVersion::latest()).region(region);
                Ok(Self::ParameterStore(aws_sdk_ssm::Client::from_conf(
                    config.endpoint_url(endpoint).credentials_provider(session).build(),
                )))
            }
            other => bail!("unknown AWS service {other}: SecretsManager or ParameterStore"),
        }
    }

    /// The whole value of a reference.
    async fn read(&self, reference: &RemoteRef) -> Result<Vec<u8>> {
        match self {
            Self::SecretsManager(client) => {
                let request = client.get_secret_value().secret_id(&reference.key);
                let request = match reference.version.as_deref() {
                    Some(version) if version.starts_with("uuid/") => request.version_id(&version[5..]),
                    Some(stage) => request.version_stage(stage),
                    None => request.version_stage("AWSCURRENT"),
                };
                let answer = request.send().await.map_err(super::reason).with_context(|| format!("the secret {}", reference.key))?;
                match (answer.secret_string, answer.secret_binary) {
                    (Some(text), _) => Ok(text.into_bytes()),
                    (None, Some(bytes)) => Ok(bytes.into_inner()),
                    (None, None) => bail!("the secret {} has no value", reference.key),
                }
            }
            Self::ParameterStore(client) => {
                let name = match &reference.version {
                    Some(version) => format!("{}:{version}", reference.key),
                    None => reference.key.clone(),
                };
                let answer = client.get_parameter().name(&name).with_decryption(true).send().await.map_err(super::reason);
                let value = answer.with_context(|| format!("the parameter {name}"))?.parameter.and_then(|parameter| parameter.value);
                Ok(value.with_context(|| format!("the parameter {name} has no value"))?.into_bytes())
            }
        }
    }

    /// The value that a reference names: all of it, or one property of it.
    pub async fn get(&self, reference: &RemoteRef) -> Result<Vec<u8>> {
        let whole = self.read(reference).await?;
        match &reference.property {
            None => Ok(whole),
            Some(name) => {
                let document: Value = serde_json::from_slice(&whole).with_context(|| format!("{} is not JSON", reference.key))?;
                Ok(plain(property(&document, name).with_context(|| format!("key {name} does not exist in secret {}", reference.key))?))
            }
        }
    }

    /// Every key of a JSON object, as `dataFrom.extract` takes it.
    pub async fn extract(&self, reference: &RemoteRef) -> Result<Vec<(String, Vec<u8>)>> {
        let text = self.get(reference).await?;
        let document: Value = serde_json::from_slice(&text).with_context(|| format!("unable to unmarshal secret {}", reference.key))?;
        let object = document.as_object().with_context(|| format!("the secret {} is no JSON object", reference.key))?;
        Ok(object.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
    }
}

/// A key as it is written, with dots in it or as a path.
fn property<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    document.get(name).or_else(|| name.split('.').try_fold(document, |value, part| value.get(part)))
}

/// Text without its quotes, everything else as JSON.
fn plain(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_a_key_or_a_path() {
        let document = serde_json::json!({ "a.b": "dotted", "c": { "d": 5 } });
        assert_eq!(plain(property(&document, "a.b").unwrap()), b"dotted");
        assert_eq!(plain(property(&document, "c.d").unwrap()), b"5");
        assert!(property(&document, "c.e").is_none());
    }
}
