//! Secret values, for the agent inside the cluster only: read under its own role, wrapped so that no message can show them.
use secrecy::SecretString;

use super::Aws;
use crate::{failure::Failure, redact};

impl Aws {
    /// The current value of a Secrets Manager secret or of an SSM parameter, by name or ARN; a parameter's name begins with `/`.
    /// None where there is no such secret or it has no value yet.
    pub async fn secret_value(&self, name: &str) -> Result<Option<SecretString>, Failure> {
        if name.starts_with('/') || name.split(':').nth(2) == Some("ssm") {
            return match self.ssm().get_parameter().name(name).with_decryption(true).send().await {
                Ok(found) => Ok(found.parameter.and_then(|parameter| parameter.value).map(redact::secret)),
                Err(error) if error.as_service_error().is_some_and(|service| service.is_parameter_not_found()) => Ok(None),
                Err(error) => Err(self.failed("ssm:GetParameter", name, error)),
            };
        }
        match self.secrets().get_secret_value().secret_id(name).send().await {
            Ok(found) => Ok(found.secret_string.map(redact::secret)),
            Err(error) if error.as_service_error().is_some_and(|service| service.is_resource_not_found_exception()) => Ok(None),
            Err(error) => Err(self.failed("secretsmanager:GetSecretValue", name, error)),
        }
    }
}
