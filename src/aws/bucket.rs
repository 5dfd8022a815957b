//! S3 buckets: made, read back setting by setting, and put right one setting at a time.
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, ExpirationStatus,
    LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule, VersioningConfiguration,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Aws, error};
use crate::{failure::Failure, ids::BucketName};

/// The settings of a bucket that deployctl cares for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSettings {
    /// Old versions are kept.
    pub versioned: bool,
    /// Objects are encrypted by default: `AES256` or `aws:kms`.
    pub encryption: Option<String>,
    /// All four public access blocks are on.
    pub public_access_blocked: bool,
    /// The bucket's owner owns every object, ACLs are off.
    pub owner_enforced: bool,
    /// Requests without TLS are denied by policy.
    pub tls_only: bool,
    /// Days after which noncurrent versions go.
    pub noncurrent_days: Option<u32>,
}

/// One setting to put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BucketSetting {
    /// Turns versioning on.
    Versioning,
    /// Encrypts by default.
    Encryption,
    /// Blocks public access.
    PublicAccessBlock,
    /// Turns ACLs off.
    Ownership,
    /// Denies requests without TLS.
    TlsOnly,
    /// Deletes noncurrent versions after this many days.
    NoncurrentDays(u32),
}

const RULE: &str = "deployctl-noncurrent";
const SID: &str = "DeployctlTlsOnly";

impl Aws {
    /// Whether the bucket is there and ours; someone else's bucket of the same name is an error.
    pub async fn bucket_exists(&self, bucket: &BucketName) -> Result<bool, Failure> {
        match self.s3().head_bucket().bucket(bucket.as_str()).expected_bucket_owner(self.account().as_str()).send().await {
            Ok(_) => Ok(true),
            Err(e) if error::status(&e) == Some(404) => Ok(false),
            Err(e) => Err(self.failed("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"), e)),
        }
    }

    /// Makes the bucket in this region; one that is ours already is fine.
    pub async fn create_bucket(&self, bucket: &BucketName) -> Result<(), Failure> {
        let mut request = self.s3().create_bucket().bucket(bucket.as_str());
        // us-east-1 refuses to be named.
        if self.region().as_str() != "us-east-1" {
            let here = BucketLocationConstraint::from(self.region().as_str());
            request = request.create_bucket_configuration(CreateBucketConfiguration::builder().location_constraint(here).build());
        }
        match request.send().await {
            Ok(_) => Ok(()),
            Err(e) if error::code(&e) == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Err(e) => Err(self.failed("s3:CreateBucket", &format!("arn:aws:s3:::{bucket}"), e)),
        }
    }

    /// Reads the settings of a bucket that exists.
    pub async fn bucket_settings(&self, bucket: &BucketName) -> Result<BucketSettings, Failure> {
        let on = format!("arn:aws:s3:::{bucket}");
        let (client, name) = (self.s3(), bucket.as_str());
        let versioning = client.get_bucket_versioning().bucket(name).send();
        let encryption = client.get_bucket_encryption().bucket(name).send();
        let access = client.get_public_access_block().bucket(name).send();
        let ownership = client.get_bucket_ownership_controls().bucket(name).send();
        let policy = client.get_bucket_policy().bucket(name).send();
        let lifecycle = client.get_bucket_lifecycle_configuration().bucket(name).send();
        let (versioning, encryption, access, ownership, policy, lifecycle) =
            tokio::join!(versioning, encryption, access, ownership, policy, lifecycle);

        let versioned =
            versioning.map_err(|e| self.failed("s3:GetBucketVersioning", &on, e))?.status == Some(BucketVersioningStatus::Enabled);
        let encryption = match encryption {
            Ok(answer) => answer
                .server_side_encryption_configuration
                .and_then(|c| c.rules.into_iter().find_map(|r| r.apply_server_side_encryption_by_default))
                .map(|d| d.sse_algorithm.as_str().to_owned()),
            Err(e) if error::status(&e) == Some(404) => None,
            Err(e) => return Err(self.failed("s3:GetEncryptionConfiguration", &on, e)),
        };
        let public_access_blocked = match access {
            Ok(answer) => answer.public_access_block_configuration.is_some_and(|c| {
                [c.block_public_acls, c.block_public_policy, c.ignore_public_acls, c.restrict_public_buckets]
                    .iter()
                    .all(|b| *b == Some(true))
            }),
            Err(e) if error::status(&e) == Some(404) => false,
            Err(e) => return Err(self.failed("s3:GetBucketPublicAccessBlock", &on, e)),
        };
        let owner_enforced = match ownership {
            Ok(answer) => answer
                .ownership_controls
                .is_some_and(|c| c.rules.iter().any(|r| r.object_ownership == ObjectOwnership::BucketOwnerEnforced)),
            Err(e) if error::status(&e) == Some(404) => false,
            Err(e) => return Err(self.failed("s3:GetBucketOwnershipControls", &on, e)),
        };
        let tls_only = match policy {
            Ok(answer) => {
                answer.policy.is_some_and(|text| serde_json::from_str(&text).is_ok_and(|policy| denies_plain_text(&policy, bucket)))
            }
            Err(e) if error::status(&e) == Some(404) => false,
            Err(e) => return Err(self.failed("s3:GetBucketPolicy", &on, e)),
        };
        let noncurrent_days = match lifecycle {
            Ok(answer) => answer.rules.unwrap_or_default().into_iter().find_map(|rule| {
                let ours = rule.status == ExpirationStatus::Enabled && rule.id.as_deref() == Some(RULE);
                rule.noncurrent_version_expiration.filter(|_| ours)?.noncurrent_days.and_then(|d| u32::try_from(d).ok())
            }),
            Err(e) if error::status(&e) == Some(404) => None,
            Err(e) => return Err(self.failed("s3:GetLifecycleConfiguration", &on, e)),
        };
        Ok(BucketSettings { versioned, encryption, public_access_blocked, owner_enforced, tls_only, noncurrent_days })
    }

    /// Puts one setting right.
    pub async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), Failure> {
        let on = format!("arn:aws:s3:::{bucket}");
        let (client, name) = (self.s3(), bucket.as_str());
        let unbuildable = |e: aws_smithy_types::error::operation::BuildError| Failure::step(format!("a setting of {bucket}")).because(e);
        match setting {
            BucketSetting::Versioning => {
                let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
                let request = client.put_bucket_versioning().bucket(name).versioning_configuration(enabled);
                request.send().await.map(drop).map_err(|e| self.failed("s3:PutBucketVersioning", &on, e))
            }
            BucketSetting::Encryption => {
                let default =
                    ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256).build().map_err(unbuildable)?;
                let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(default).build();
                let rules = ServerSideEncryptionConfiguration::builder().rules(rule).build().map_err(unbuildable)?;
                let request = client.put_bucket_encryption().bucket(name).server_side_encryption_configuration(rules);
                request.send().await.map(drop).map_err(|e| self.failed("s3:PutEncryptionConfiguration", &on, e))
            }
            BucketSetting::PublicAccessBlock => {
                let block = PublicAccessBlockConfiguration::builder()
                    .block_public_acls(true)
                    .block_public_policy(true)
                    .ignore_public_acls(true)
                    .restrict_public_buckets(true)
                    .build();
                let request = client.put_public_access_block().bucket(name).public_access_block_configuration(block);
                request.send().await.map(drop).map_err(|e| self.failed("s3:PutBucketPublicAccessBlock", &on, e))
            }
            BucketSetting::Ownership => {
                let rule =
                    OwnershipControlsRule::builder().object_ownership(ObjectOwnership::BucketOwnerEnforced).build().map_err(unbuildable)?;
                let rules = OwnershipControls::builder().rules(rule).build().map_err(unbuildable)?;
                let request = client.put_bucket_ownership_controls().bucket(name).ownership_controls(rules);
                request.send().await.map(drop).map_err(|e| self.failed("s3:PutBucketOwnershipControls", &on, e))
            }
            BucketSetting::TlsOnly => {
                let request = client.put_bucket_policy().bucket(name).policy(tls_only_policy(bucket).to_string());
                request.send().await.map(drop).map_err(|e| self.failed("s3:PutBucketPolicy", &on, e))
            }
            BucketSetting::NoncurrentDays(days) => {
                let days = i32::try_from(days).unwrap_or(i32::MAX);
                let rule = LifecycleRule::builder()
                    .id(RULE)
                    .status(ExpirationStatus::Enabled)
                    .filter(LifecycleRuleFilter::builder().prefix("").build())
                    .noncurrent_version_expiration(NoncurrentVersionExpiration::builder().noncurrent_days(days).build())
                    .build()
                    .map_err(unbuildable)?;
                let rules = BucketLifecycleConfiguration::builder().rules(rule).build().map_err(unbuildable)?;
                let request = client.put_bucket_lifecycle_configuration().bucket(name).lifecycle_configuration(rules);
                request.send().await.map(drop).map_err(|e| self.failed("s3:PutLifecycleConfiguration", &on, e))
            }
        }
    }

    /// Whether S3 tells some queue of new objects: the queues' ARNs.
    pub async fn bucket_notification_queues(&self, bucket: &BucketName) -> Result<Vec<String>, Failure> {
        let answer = self.s3().get_bucket_notification_configuration().bucket(bucket.as_str()).send().await;
        let answer = answer.map_err(|e| self.failed("s3:GetBucketNotification", &format!("arn:aws:s3:::{bucket}"), e))?;
        Ok(answer.queue_configurations.unwrap_or_default().into_iter().map(|queue| queue.queue_arn).collect())
    }
}

fn tls_only_policy(bucket: &BucketName) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Sid": SID, "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }]})
}

/// Whether some statement denies everything that comes without TLS; other statements may stand beside it.
fn denies_plain_text(policy: &Value, bucket: &BucketName) -> bool {
    let wanted = &tls_only_policy(bucket)["Statement"][0];
    let statements = policy["Statement"].as_array().map(Vec::as_slice).unwrap_or_default();
    statements.iter().any(|s| ["Effect", "Principal", "Action", "Resource", "Condition"].iter().all(|key| s[key] == wanted[key]))
}
