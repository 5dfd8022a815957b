//! External Secrets' resources, as far as this stand-in reads them; the CRDs themselves are the real ones.
use std::time::Duration;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// `external-secrets.io/v1` ExternalSecret.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "external-secrets.io",
    version = "v1",
    kind = "ExternalSecret",
    namespaced,
    schema = "disabled",
    status = "serde_json::Value"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalSecretSpec {
    pub secret_store_ref: Option<StoreRef>,
    pub refresh_interval: Option<String>,
    pub target: Option<Target>,
    pub data: Vec<DataItem>,
    pub data_from: Vec<DataFrom>,
}

/// `external-secrets.io/v1` SecretStore and ClusterSecretStore have the same spec.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(group = "external-secrets.io", version = "v1", kind = "SecretStore", namespaced, schema = "disabled", status = "serde_json::Value")]
#[serde(default)]
pub struct StoreSpec {
    pub provider: Providers,
}

/// The cluster-wide one, with the same content.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClusterSecretStore {
    #[serde(flatten, default)]
    types: Option<kube::core::TypeMeta>,
    pub metadata: kube::core::ObjectMeta,
    pub spec: StoreSpec,
    pub status: Option<serde_json::Value>,
}

impl kube::Resource for ClusterSecretStore {
    type DynamicType = ();
    type Scope = kube::core::ClusterResourceScope;
    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "ClusterSecretStore".into()
    }
    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "external-secrets.io".into()
    }
    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "clustersecretstores".into()
    }
    fn meta(&self) -> &kube::core::ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut kube::core::ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Providers {
    pub aws: Option<Aws>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Aws {
    /// `SecretsManager` or `ParameterStore`.
    pub service: String,
    pub region: String,
    /// A further role to assume, from the account's or from the controller's own.
    pub role: Option<String>,
    pub auth: Option<Auth>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Auth {
    pub jwt: Option<Jwt>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Jwt {
    pub service_account_ref: Option<AccountRef>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AccountRef {
    pub name: String,
    pub namespace: Option<String>,
    pub audiences: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct StoreRef {
    pub name: String,
    pub kind: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    pub name: Option<String>,
    pub creation_policy: Option<String>,
    pub template: Option<serde_json::Value>,
    pub immutable: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataItem {
    pub secret_key: String,
    pub remote_ref: RemoteRef,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DataFrom {
    pub extract: Option<RemoteRef>,
    pub find: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RemoteRef {
    pub key: String,
    pub property: Option<String>,
    pub version: Option<String>,
}

impl ExternalSecret {
    /// The Secret's name.
    pub fn target_name(&self) -> String {
        self.spec.target.as_ref().and_then(|target| target.name.clone()).or_else(|| self.metadata.name.clone()).unwrap_or_default()
    }

    /// `1h` unless set; `None` for zero, which means once.
    pub fn interval(&self) -> Option<Duration> {
        match self.spec.refresh_interval.as_deref() {
            None => Some(Duration::from_secs(3600)),
            Some(text) => duration(text).filter(|interval| !interval.is_zero()),
        }
    }
}

/// Go's durations: `1h30m`, `15s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "" if value == 0.0 => 0.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(value * seconds).ok()?;
        rest = &rest[unit..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        assert_eq!(duration("5x"), None);
    }
}
