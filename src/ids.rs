//! The names and numbers that deployctl passes around, each a type of its own so that none can be taken for another.
use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text that is not of the form its type asks for.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{value:?} is not {what}")]
pub struct InvalidId {
    value: String,
    what: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);
        impl $name {
            /// Checks and takes the text.
            pub fn parse(value: impl Into<String>) -> Result<Self, InvalidId> {
                let value = value.into();
                let check: fn(&str) -> bool = $check;
                if check(&value) { Ok(Self(value)) } else { Err(InvalidId { value, what: $what }) }
            }
            /// The text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> { Self::parse(value) }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> { Self::parse(value) }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self { id.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    };
}

fn kebab(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

id!(
    /// A step of a plan file: lower case, digits and dashes.
    StepId, "a step id (lower-case letters, digits and dashes, starting with a letter)", kebab
);
id!(
    /// An environment: sandbox, staging, production, or a team's own.
    EnvironmentName, "an environment's name (lower-case letters, digits and dashes, starting with a letter)", kebab
);
id!(
    /// A service that the plan file declares.
    ServiceName, "a service's name (lower-case letters, digits and dashes, starting with a letter)", kebab
);
id!(
    /// A twelve-digit AWS account id.
    AccountId, "an AWS account id (twelve digits)", |t| t.len() == 12 && t.bytes().all(|b| b.is_ascii_digit())
);
id!(
    /// An AWS region, as in `eu-west-1`.
    Region, "an AWS region (as in eu-west-1)", |t| t.split('-').count() >= 3 && t.ends_with(|c: char| c.is_ascii_digit()) && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
id!(
    /// The ARN of an IAM role.
    RoleArn, "the ARN of an IAM role", |t| t.starts_with("arn:aws") && t.contains(":iam::") && t.contains(":role/")
);
id!(
    /// An S3 bucket's name.
    BucketName, "an S3 bucket's name (3 to 63 lower-case letters, digits, dots and dashes)", |t| (3..=63).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
);
id!(
    /// A version of an S3 object; `null` for one from before its bucket had versions.
    ObjectVersionId, "the id of an S3 object's version", |t| (1..=1024).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);
id!(
    /// A DynamoDB table's name.
    TableName, "a DynamoDB table's name (3 to 255 letters, digits, dots, dashes and underscores)", |t| (3..=255).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
);
id!(
    /// An ECR repository's name, as in `deployctl-staging/uploader`.
    RepositoryName, "an ECR repository's name", |t| (2..=256).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b'/'))
);
id!(
    /// An RDS instance's identifier.
    DbInstanceId, "an RDS instance's identifier (at most 63 letters, digits and dashes)", |t| !t.is_empty() && t.len() <= 63 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
);
id!(
    /// A KMS key: its id, ARN or alias.
    KmsKeyId, "a KMS key's id, ARN or alias", |t| !t.is_empty() && t.len() <= 2048 && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'/' | b'_'))
);
id!(
    /// The URL of an SQS queue.
    QueueUrl, "the URL of an SQS queue", |t| t.starts_with("http://") || t.starts_with("https://")
);
id!(
    /// A secret's short name, as in `deployctl secret set kafka`.
    SecretName, "a secret's name (letters, digits, dashes and underscores)", |t| !t.is_empty() && t.len() <= 128 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
);
id!(
    /// An EKS cluster's name.
    ClusterName, "an EKS cluster's name", |t| !t.is_empty() && t.len() <= 100 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
);
id!(
    /// An image's digest, `sha256:` and 64 hexadecimal digits.
    ImageDigest, "an image digest (sha256: and 64 hexadecimal digits)", |t| t.strip_prefix("sha256:").is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()))
);
id!(
    /// An RDS snapshot's identifier.
    SnapshotId, "an RDS snapshot identifier", |t| !t.is_empty() && t.len() <= 255 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b':')
);
id!(
    /// One run of apply; sorts by time (UUID version 7).
    RunId, "a run id", |t| uuid::Uuid::parse_str(t).is_ok()
);
id!(
    /// The digest over everything that a plan holds.
    PlanDigest, "a plan digest (sha256: and 64 hexadecimal digits)", |t| t.strip_prefix("sha256:").is_some_and(|h| h.len() == 64)
);
