//! Secrets, in Secrets Manager or SSM Parameter Store: put, looked up by name, never read back into a message.
use aws_sdk_ssm::types::ParameterType;
use secrecy::{ExposeSecret, SecretString};

use super::Aws;
use crate::{
    failure::Failure,
    ids::{EnvironmentName, SecretName},
    plan::environment::SecretStore,
};

/// A secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// Its full name in its store.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Secrets Manager's version id or SSM's number; none while it has no value.
    pub version: Option<String>,
}

impl Aws {
    /// Looks a secret up, without its value; none if there is none.
    pub async fn find_secret(
        &self,
        store: SecretStore,
        environment: &EnvironmentName,
        name: &SecretName,
    ) -> Result<Option<StoredSecret>, Failure> {
        let full = store.full_name(environment, name);
        match store {
            SecretStore::SecretsManager => {
                let found = match self.secrets().describe_secret().secret_id(&full).send().await {
                    Ok(found) => found,
                    Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => return Ok(None),
                    Err(e) => return Err(self.failed("secretsmanager:DescribeSecret", &full, e)),
                };
                // A secret on its way out can be neither written nor adopted.
                if found.deleted_date.is_some() {
                    return Err(Failure::step(format!("the secret {full} is scheduled for deletion"))
                        .next(format!("aws secretsmanager restore-secret --secret-id {full} --region {}", self.region())));
                }
                let current = |stages: &Vec<String>| stages.iter().any(|s| s == "AWSCURRENT");
                let version =
                    found.version_ids_to_stages.unwrap_or_default().into_iter().find(|(_, stages)| current(stages)).map(|(id, _)| id);
                Ok(Some(StoredSecret { name: full, arn: found.arn.unwrap_or_default(), version }))
            }
            SecretStore::Ssm => {
                let filter = aws_sdk_ssm::types::ParameterStringFilter::builder().key("Name").option("Equals").values(&full).build();
                let filter = filter.map_err(|e| Failure::step("a filter for SSM").because(e))?;
                let mut pages = self.ssm().describe_parameters().parameter_filters(filter).into_paginator().send();
                let mut found = None;
                while let Some(page) = pages.next().await {
                    let page = page.map_err(|e| self.failed("ssm:DescribeParameters", &full, e))?;
                    found = found.or(page.parameters.unwrap_or_default().into_iter().find(|p| p.name.as_deref() == Some(&full)));
                }
                let arn = format!("arn:aws:ssm:{}:{}:parameter{full}", self.region(), self.account());
                Ok(found.map(|p| StoredSecret { name: full, arn: p.arn.unwrap_or(arn), version: Some(p.version.to_string()) }))
            }
        }
    }

    /// Stores a value: makes the secret or gives it a new version.
    pub async fn put_secret(
        &self,
        store: SecretStore,
        environment: &EnvironmentName,
        name: &SecretName,
        value: &SecretString,
    ) -> Result<StoredSecret, Failure> {
        let full = store.full_name(environment, name);
        match store {
            SecretStore::SecretsManager => {
                if self.find_secret(store, environment, name).await?.is_none() {
                    let tag = |key: &str, value: &str| aws_sdk_secretsmanager::types::Tag::builder().key(key).value(value).build();
                    let request = self.secrets().create_secret().name(&full).secret_string(value.expose_secret());
                    let request = request.tags(tag("deployctl:environment", environment.as_str())).tags(tag("managed-by", "deployctl"));
                    match request.send().await {
                        Ok(made) => return Ok(StoredSecret { name: full, arn: made.arn.unwrap_or_default(), version: made.version_id }),
                        // Somebody was faster, or an earlier attempt's answer was lost: it is given the value below.
                        Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_exists_exception()) => {}
                        Err(e) => return Err(self.failed("secretsmanager:CreateSecret", &full, e)),
                    }
                }
                let request = self.secrets().put_secret_value().secret_id(&full).secret_string(value.expose_secret());
                let put = request.send().await.map_err(|e| self.failed("secretsmanager:PutSecretValue", &full, e))?;
                Ok(StoredSecret { name: full, arn: put.arn.unwrap_or_default(), version: put.version_id })
            }
            SecretStore::Ssm => {
                let request =
                    self.ssm().put_parameter().name(&full).value(value.expose_secret()).r#type(ParameterType::SecureString).overwrite(true);
                let put = request.send().await.map_err(|e| self.failed("ssm:PutParameter", &full, e))?;
                let arn = format!("arn:aws:ssm:{}:{}:parameter{full}", self.region(), self.account());
                Ok(StoredSecret { name: full, arn, version: Some(put.version.to_string()) })
            }
        }
    }

    /// The ARN of a secret by its full name, in Secrets Manager; none if there is none, or if it is scheduled for deletion.
    pub async fn secret_arn(&self, full: &str) -> Result<Option<String>, Failure> {
        match self.secrets().describe_secret().secret_id(full).send().await {
            Ok(found) if found.deleted_date.is_some() => Ok(None),
            Ok(found) => Ok(found.arn),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(None),
            Err(e) => Err(self.failed("secretsmanager:DescribeSecret", full, e)),
        }
    }
}
