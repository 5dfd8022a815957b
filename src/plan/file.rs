//! The plan file, as written: steps by id, kind and needs, and the services that are deployed.
use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::environment::SecretStore;
use crate::ids::{ServiceName, StepId};

/// The services that a plan file declares, by name.
pub type Services = BTreeMap<ServiceName, Service>;

/// plans/deploy.yaml.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Format of the file; 1.
    pub version: u32,
    /// How pods come to the roles of their service accounts; `${all.credentials}` reads it.
    #[serde(default, skip_serializing_if = "Credentials::is_default")]
    pub credentials: Credentials,
    /// What the command that runs this plan file may set, with what holds unless it does; `${parameters.…}` reads them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
    /// What is deployed. Repositories, roles, policies and queues are made for each of these.
    #[serde(default)]
    pub services: Services,
    /// Service accounts that no service runs as, by a name of your choice: the agent, the cluster's own controllers.
    #[serde(default)]
    pub accounts: BTreeMap<String, Account>,
    /// What is done, in the order in which it is shown; `needs` decides what runs when.
    pub steps: Vec<StepDeclaration>,
}

impl PlanFile {
    /// Whether a role gives this secret its value in the cluster, so that no person has to.
    pub fn writes_secret(&self, name: &str) -> bool {
        let permissions = self.services.values().flat_map(|service| &service.permissions);
        let mut permissions = permissions.chain(self.accounts.values().flat_map(|account| &account.permissions));
        let (reference, text) = (format!(".{name}}}"), format!("/{name}"));
        permissions.any(|permission| {
            permission.secrets == Some(SecretAccess::Write)
                && permission.resources.iter().any(|resource| resource.ends_with(&reference) || resource.ends_with(&text))
        })
    }
}

/// How pods come to the roles of their service accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// IAM roles for service accounts: an account is annotated with its role, which trusts the cluster's issuer for that account.
    #[default]
    Irsa,
    /// EKS Pod Identity: an account is associated with its role, which trusts EKS for that account, and an agent on each node hands it out.
    PodIdentity,
}

impl Credentials {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A service: where its source is, who it runs as, and what it may do.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The folder with its Cargo.toml, Dockerfile and migrations, from the project's root.
    pub source: PathBuf,
    /// The folder of its manifests' templates.
    pub templates: PathBuf,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its Kubernetes service account, which is also its role's name.
    pub service_account: String,
    /// What its role may do. Resources may refer to `${steps.data.outputs.…}`.
    #[serde(default)]
    pub permissions: Vec<Permission>,
    /// Names of secrets (as in `deployctl secret set`) that it reads, mounted as files.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// An SQS queue (with its dead-letter queue) that S3 fills under these key prefixes.
    #[serde(default)]
    pub queue: Option<Queue>,
    /// Kafka topics that it writes.
    #[serde(default)]
    pub topics: Vec<String>,
}

/// A service account with a role of its own, which belongs to no service.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its Kubernetes service account, which is also its role's name.
    pub service_account: String,
    /// What its role may do.
    pub permissions: Vec<Permission>,
    /// Names of secrets that it reads.
    #[serde(default)]
    pub secrets: Vec<String>,
}

/// One statement of a role's policy. Wildcard actions are refused.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// As in `s3:GetObject`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Instead of `actions`, where the resources are secrets: what that takes in the environment's `secrets.store`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretAccess>,
    /// ARNs or references to them.
    pub resources: Vec<String>,
    /// What must hold besides, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One condition of a statement.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// IAM's operator, as in `StringEquals`.
    pub test: String,
    /// The condition key, as in `aws:ResourceTag/NAME`.
    pub variable: String,
    /// One of these.
    pub values: Vec<String>,
}

/// What a role may do with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretAccess {
    /// Read its value.
    Read,
    /// Give it a value.
    Write,
}

impl SecretAccess {
    /// The actions that it takes, and no other.
    pub fn actions(self, store: SecretStore) -> &'static [&'static str] {
        match (store, self) {
            (SecretStore::SecretsManager, Self::Read) => &["secretsmanager:GetSecretValue"],
            // Made by terraform, without a value: whoever writes one looks first.
            (SecretStore::SecretsManager, Self::Write) => &["secretsmanager:DescribeSecret", "secretsmanager:PutSecretValue"],
            (SecretStore::Ssm, Self::Read) => &["ssm:GetParameter"],
            (SecretStore::Ssm, Self::Write) => &["ssm:PutParameter"],
        }
    }
}

/// A queue that S3 notifies.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// As in `uploads/`.
    pub prefix: String,
    /// Seconds that a message stays hidden once received.
    pub visibility_seconds: u32,
    /// Deliveries before a message goes to the dead-letter queue.
    pub max_receives: u32,
}

/// One step, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDeclaration {
    /// Unique in the file.
    pub id: StepId,
    /// One of the kinds that `deployctl` knows.
    pub kind: String,
    /// Steps that must have ended well before this one starts.
    #[serde(default)]
    pub needs: Vec<StepId>,
    /// The kind's input; `${env.…}`, `${services…}` and `${steps.ID.outputs.NAME}` are its only templating.
    #[serde(default)]
    pub with: Value,
    /// What later steps may refer to, and its type: string, number, bool, list(T), map(T), any.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// Resource types that it may create when it is planned only at apply; more than the kind itself would say.
    #[serde(default)]
    pub allow: Vec<String>,
}
