//! DynamoDB: terraform's lock table, its settings and its items.
use std::time::Duration;

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::SdkError,
    operation::update_table::UpdateTableError,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, ContinuousBackupsStatus, KeySchemaElement, KeyType,
        PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, ScalarAttributeType, SseSpecification, SseStatus, TableStatus, Tag,
    },
};
use serde::{Deserialize, Serialize};

use super::{Aws, error};
use crate::{failure::Failure, ids::TableName};

/// The key that terraform's S3 backend uses.
const KEY: &str = "LockID";

/// A table's settings that deployctl cares for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockTable {
    /// `ACTIVE` when it can be used.
    pub status: String,
    /// Its partition key is terraform's `LockID`.
    pub has_terraforms_key: bool,
    /// Paid by request.
    pub on_demand: bool,
    /// Refuses to be deleted.
    pub deletion_protection: bool,
    /// Encrypted with a KMS key, not only DynamoDB's own.
    pub encrypted: bool,
    /// Can be restored to any second of the last 35 days.
    pub point_in_time_recovery: bool,
}

/// One setting to put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableSetting {
    /// Paid by request.
    OnDemand,
    /// Refuses to be deleted.
    DeletionProtection,
    /// Encrypted with a KMS key.
    Encryption,
    /// Can be restored.
    PointInTimeRecovery,
}

impl Aws {
    /// Reads a table's settings; none if there is no table.
    pub async fn lock_table(&self, table: &TableName) -> Result<Option<LockTable>, Failure> {
        let answer = match self.dynamodb().describe_table().table_name(table.as_str()).send().await {
            Ok(answer) => answer,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => return Ok(None),
            Err(e) => return Err(self.failed("dynamodb:DescribeTable", table.as_str(), e)),
        };
        let Some(found) = answer.table else { return Ok(None) };
        let backups = self.dynamodb().describe_continuous_backups().table_name(table.as_str()).send().await;
        let backups =
            backups.map_err(|e| self.failed("dynamodb:DescribeContinuousBackups", table.as_str(), e))?.continuous_backups_description;
        let recovery = backups
            .filter(|b| b.continuous_backups_status == ContinuousBackupsStatus::Enabled)
            .and_then(|b| b.point_in_time_recovery_description);
        Ok(Some(LockTable {
            status: found.table_status.as_ref().map(|s| s.as_str().to_owned()).unwrap_or_default(),
            has_terraforms_key: found.key_schema.unwrap_or_default().iter().any(|k| k.attribute_name == KEY && k.key_type == KeyType::Hash),
            on_demand: found.billing_mode_summary.and_then(|b| b.billing_mode) == Some(BillingMode::PayPerRequest),
            deletion_protection: found.deletion_protection_enabled == Some(true),
            encrypted: matches!(found.sse_description.and_then(|s| s.status), Some(SseStatus::Enabled | SseStatus::Enabling)),
            point_in_time_recovery: recovery.and_then(|r| r.point_in_time_recovery_status) == Some(PointInTimeRecoveryStatus::Enabled),
        }))
    }

    /// Makes the table, on demand, protected and encrypted, and waits until it is active; one that is there already is fine.
    pub async fn create_lock_table(&self, table: &TableName, tags: &[(String, String)], deadline: Duration) -> Result<(), Failure> {
        let unbuildable = |e: aws_smithy_types::error::operation::BuildError| Failure::step(format!("the table {table}")).because(e);
        let key = AttributeDefinition::builder().attribute_name(KEY).attribute_type(ScalarAttributeType::S).build().map_err(unbuildable)?;
        let schema = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash).build().map_err(unbuildable)?;
        let mut request = self
            .dynamodb()
            .create_table()
            .table_name(table.as_str())
            .attribute_definitions(key)
            .key_schema(schema)
            .billing_mode(BillingMode::PayPerRequest)
            .deletion_protection_enabled(true)
            .sse_specification(SseSpecification::builder().enabled(true).build());
        for (key, value) in tags {
            request = request.tags(Tag::builder().key(key).value(value).build().map_err(unbuildable)?);
        }
        match request.send().await {
            Ok(_) => {}
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) => {}
            Err(e) => return Err(self.failed("dynamodb:CreateTable", table.as_str(), e)),
        }
        self.wait_until_table_active(table, deadline).await
    }

    /// Waits until a table is active.
    pub async fn wait_until_table_active(&self, table: &TableName, deadline: Duration) -> Result<(), Failure> {
        let started = tokio::time::Instant::now();
        loop {
            let answer = self.dynamodb().describe_table().table_name(table.as_str()).send().await;
            let status = answer.map_err(|e| self.failed("dynamodb:DescribeTable", table.as_str(), e))?.table.and_then(|t| t.table_status);
            if status == Some(TableStatus::Active) {
                return Ok(());
            }
            if started.elapsed() >= deadline {
                let status = status.map(|s| s.as_str().to_owned()).unwrap_or_default();
                return Err(Failure::timeout(format!("the table {table} to be ACTIVE; it is {status}"), deadline));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Puts one setting right and waits until the table takes the next one.
    pub async fn put_table_setting(&self, table: &TableName, setting: TableSetting, deadline: Duration) -> Result<(), Failure> {
        let client = self.dynamodb();
        let name = table.as_str();
        // A table that takes a setting already is waited for below; an earlier attempt, whose answer was lost, may be what it takes.
        let taken = |e: SdkError<UpdateTableError, HttpResponse>| match e.as_service_error() {
            Some(service) if service.is_resource_in_use_exception() => Ok(()),
            _ => Err(self.failed("dynamodb:UpdateTable", name, e)),
        };
        match setting {
            TableSetting::PointInTimeRecovery => {
                let enabled = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
                let enabled = enabled.map_err(|e| Failure::step(format!("the table {table}")).because(e))?;
                let request = client.update_continuous_backups().table_name(name).point_in_time_recovery_specification(enabled);
                request.send().await.map_err(|e| self.failed("dynamodb:UpdateContinuousBackups", name, e))?;
            }
            TableSetting::OnDemand => {
                let request = client.update_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
                request.send().await.map(drop).or_else(taken)?;
            }
            TableSetting::DeletionProtection => {
                let request = client.update_table().table_name(name).deletion_protection_enabled(true);
                request.send().await.map(drop).or_else(taken)?;
            }
            TableSetting::Encryption => {
                let request = client.update_table().table_name(name).sse_specification(SseSpecification::builder().enabled(true).build());
                request.send().await.map(drop).or_else(taken)?;
            }
        }
        self.wait_until_table_active(table, deadline).await
    }

    /// Takes a lock as terraform does; false if somebody else holds it. One that is refused because an earlier attempt took it, whose answer
    /// was lost, is told by what it says.
    pub async fn take_lock_item(&self, table: &TableName, id: &str, info: &str) -> Result<bool, Failure> {
        let request = self.dynamodb().put_item().table_name(table.as_str()).item(KEY, AttributeValue::S(id.into()));
        let request = request.item("Info", AttributeValue::S(info.into())).condition_expression("attribute_not_exists(LockID)");
        match request.send().await {
            Ok(_) => Ok(true),
            Err(e) if error::code(&e) == Some("ConditionalCheckFailedException") => {
                Ok(self.lock_item(table, id).await?.as_deref() == Some(info))
            }
            Err(e) => Err(self.failed("dynamodb:PutItem", table.as_str(), e)),
        }
    }

    /// What the holder of a lock wrote; none if nobody holds it.
    pub async fn lock_item(&self, table: &TableName, id: &str) -> Result<Option<String>, Failure> {
        let request = self.dynamodb().get_item().table_name(table.as_str()).key(KEY, AttributeValue::S(id.into())).consistent_read(true);
        let item = match request.send().await {
            Ok(answer) => answer.item,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => return Ok(None),
            Err(e) => return Err(self.failed("dynamodb:GetItem", table.as_str(), e)),
        };
        // terraform keeps the state's MD5 under the same key with "-md5"; an item without Info is no lock.
        Ok(item.and_then(|mut item| item.remove("Info")).and_then(|info| info.as_s().ok().cloned()))
    }

    /// Releases a lock.
    pub async fn release_lock_item(&self, table: &TableName, id: &str) -> Result<(), Failure> {
        let request = self.dynamodb().delete_item().table_name(table.as_str()).key(KEY, AttributeValue::S(id.into()));
        request.send().await.map(drop).map_err(|e| self.failed("dynamodb:DeleteItem", table.as_str(), e))
    }

    /// Releases a lock if its holder still is who wrote `info`; false if somebody else holds it. None there is fine: an earlier attempt's answer
    /// may have been lost.
    pub async fn release_lock_item_of(&self, table: &TableName, id: &str, info: &str) -> Result<bool, Failure> {
        let request = self.dynamodb().delete_item().table_name(table.as_str()).key(KEY, AttributeValue::S(id.into()));
        let request = request.condition_expression("Info = :info").expression_attribute_values(":info", AttributeValue::S(info.into()));
        match request.send().await {
            Ok(_) => Ok(true),
            Err(e) if error::code(&e) == Some("ConditionalCheckFailedException") => Ok(self.lock_item(table, id).await?.is_none()),
            Err(e) => Err(self.failed("dynamodb:DeleteItem", table.as_str(), e)),
        }
    }

    /// The MD5 that terraform wrote of a state; none if there is none.
    pub async fn state_digest(&self, table: &TableName, id: &str) -> Result<Option<String>, Failure> {
        let key = AttributeValue::S(format!("{id}-md5"));
        let request = self.dynamodb().get_item().table_name(table.as_str()).key(KEY, key).consistent_read(true);
        let item = match request.send().await {
            Ok(answer) => answer.item,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => return Ok(None),
            Err(e) => return Err(self.failed("dynamodb:GetItem", table.as_str(), e)),
        };
        Ok(item.and_then(|mut item| item.remove("Digest")).and_then(|digest| digest.as_s().ok().cloned()))
    }

    /// Puts a state's MD5 right if it still is `wrong`; false if somebody else has written it.
    pub async fn correct_state_digest(&self, table: &TableName, id: &str, wrong: &str, right: &str) -> Result<bool, Failure> {
        let request = self.dynamodb().put_item().table_name(table.as_str()).item(KEY, AttributeValue::S(format!("{id}-md5")));
        let request = request.item("Digest", AttributeValue::S(right.into())).condition_expression("Digest = :wrong");
        match request.expression_attribute_values(":wrong", AttributeValue::S(wrong.into())).send().await {
            Ok(_) => Ok(true),
            // Or an earlier attempt of this call did, and its answer was lost.
            Err(e) if error::code(&e) == Some("ConditionalCheckFailedException") => {
                Ok(self.state_digest(table, id).await?.as_deref() == Some(right))
            }
            Err(e) => Err(self.failed("dynamodb:PutItem", table.as_str(), e)),
        }
    }
}
