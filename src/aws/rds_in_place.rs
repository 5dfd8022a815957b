//! RDS: everything that decides how an instance runs, so that a restored one runs as the one whose place it takes and not by AWS' defaults.
use std::collections::BTreeMap;

use aws_sdk_rds::types::DbInstance as Described;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Aws, error,
    rds::{is_replicated, rds_tags, tags_of},
};
use crate::{
    failure::Failure,
    ids::{DbInstanceId, KmsKeyId, SnapshotId},
};

/// An instance's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbSettings {
    /// Its identifier, which a rename changes.
    pub id: DbInstanceId,
    /// `DbiResourceId`, which nothing changes.
    pub resource: String,
    /// Its ARN, which follows its identifier.
    pub arn: String,
    /// `available` when it can be used.
    pub status: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether RDS keeps the master user's password in a secret.
    pub managed_password: bool,
    /// The key of that secret.
    pub password_key: Option<String>,
    /// What else there is, which must be the same for the one that takes its place.
    pub kept: Kept,
}

/// What must be the same for the instance that takes another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS' own")]
pub struct Kept {
    pub class: String,
    pub parameter_group: String,
    pub subnet_group: Option<String>,
    pub security_groups: Vec<String>,
    pub multi_az: bool,
    pub deletion_protection: bool,
    pub publicly_accessible: bool,
    pub port: Option<i32>,
    pub storage_type: Option<String>,
    pub iops: Option<i32>,
    pub storage_throughput: Option<i32>,
    pub max_allocated_storage: Option<i32>,
    pub encrypted: bool,
    pub kms_key: Option<String>,
    pub backup_days: Option<i32>,
    pub backup_window: Option<String>,
    pub maintenance_window: Option<String>,
    pub auto_minor_version_upgrade: bool,
    pub copy_tags_to_snapshot: bool,
    pub iam_authentication: bool,
    pub ca_certificate: Option<String>,
    pub log_exports: Vec<String>,
    pub performance_insights: bool,
    pub performance_insights_key: Option<String>,
    pub performance_insights_days: Option<i32>,
    pub monitoring_interval: Option<i32>,
    pub monitoring_role: Option<String>,
}

impl Kept {
    /// What differs, as NAME: this one's, the other's.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = |kept: &Self| match serde_json::to_value(kept) {
            Ok(Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (ours, theirs) = (fields(self), fields(other));
        ours.into_iter()
            .filter(|(name, value)| theirs.get(name) != Some(value))
            .map(|(name, value)| format!("{name}: {value}, {}", theirs[&name]))
            .collect()
    }
}

fn settings(found: Described) -> Option<DbSettings> {
    let secret = found.master_user_secret;
    let mut security_groups: Vec<String> =
        found.vpc_security_groups.unwrap_or_default().into_iter().filter_map(|group| group.vpc_security_group_id).collect();
    security_groups.sort_unstable();
    let mut log_exports = found.enabled_cloudwatch_logs_exports.unwrap_or_default();
    log_exports.sort_unstable();
    Some(DbSettings {
        id: DbInstanceId::parse(found.db_instance_identifier?).ok()?,
        resource: found.dbi_resource_id?,
        arn: found.db_instance_arn.unwrap_or_default(),
        status: found.db_instance_status.unwrap_or_default(),
        tags: tags_of(found.tag_list),
        managed_password: secret.is_some(),
        password_key: secret.and_then(|secret| secret.kms_key_id),
        kept: Kept {
            class: found.db_instance_class.unwrap_or_default(),
            parameter_group: found
                .db_parameter_groups
                .unwrap_or_default()
                .into_iter()
                .find_map(|group| group.db_parameter_group_name)
                .unwrap_or_default(),
            subnet_group: found.db_subnet_group.and_then(|group| group.db_subnet_group_name),
            security_groups,
            multi_az: found.multi_az == Some(true),
            deletion_protection: found.deletion_protection == Some(true),
            publicly_accessible: found.publicly_accessible == Some(true),
            port: found.endpoint.and_then(|endpoint| endpoint.port),
            storage_type: found.storage_type,
            iops: found.iops,
            storage_throughput: found.storage_throughput,
            max_allocated_storage: found.max_allocated_storage,
            encrypted: found.storage_encrypted == Some(true),
            kms_key: found.kms_key_id,
            backup_days: found.backup_retention_period,
            backup_window: found.preferred_backup_window,
            maintenance_window: found.preferred_maintenance_window,
            auto_minor_version_upgrade: found.auto_minor_version_upgrade == Some(true),
            copy_tags_to_snapshot: found.copy_tags_to_snapshot == Some(true),
            iam_authentication: found.iam_database_authentication_enabled == Some(true),
            ca_certificate: found.ca_certificate_identifier,
            log_exports,
            performance_insights: found.performance_insights_enabled == Some(true),
            performance_insights_key: found.performance_insights_kms_key_id,
            performance_insights_days: found.performance_insights_retention_period,
            monitoring_interval: found.monitoring_interval,
            monitoring_role: found.monitoring_role_arn,
        },
    })
}

impl Aws {
    /// An instance's settings; none if there is none.
    pub async fn db_settings(&self, id: &DbInstanceId) -> Result<Option<DbSettings>, Failure> {
        Ok(self.described(id).await?.and_then(settings))
    }

    /// Every instance of this region that carries this tag; all pages are read.
    pub async fn db_instances_tagged(&self, key: &str) -> Result<Vec<DbSettings>, Failure> {
        Ok(self.described_with_tag(key).await?.into_iter().filter_map(settings).collect())
    }

    /// Restores a snapshot under a new name, as `like` is set up. One that is there already under that name is taken for the same one.
    pub async fn restore_db_instance_like(
        &self,
        snapshot: &SnapshotId,
        id: &DbInstanceId,
        like: &DbSettings,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let kept = &like.kept;
        let mut request = self
            .rds()
            .restore_db_instance_from_db_snapshot()
            .db_instance_identifier(id.as_str())
            .db_snapshot_identifier(snapshot.as_str())
            .db_instance_class(&kept.class)
            .db_parameter_group_name(&kept.parameter_group)
            .set_db_subnet_group_name(kept.subnet_group.clone())
            .set_vpc_security_group_ids((!kept.security_groups.is_empty()).then(|| kept.security_groups.clone()))
            .multi_az(kept.multi_az)
            .deletion_protection(kept.deletion_protection)
            .publicly_accessible(kept.publicly_accessible)
            .set_port(kept.port)
            .set_storage_type(kept.storage_type.clone())
            .set_iops(kept.iops)
            .set_storage_throughput(kept.storage_throughput)
            .auto_minor_version_upgrade(kept.auto_minor_version_upgrade)
            .copy_tags_to_snapshot(kept.copy_tags_to_snapshot)
            .enable_iam_database_authentication(kept.iam_authentication)
            .set_ca_certificate_identifier(kept.ca_certificate.clone())
            .set_enable_cloudwatch_logs_exports((!kept.log_exports.is_empty()).then(|| kept.log_exports.clone()))
            .set_tags(Some(rds_tags(tags)));
        if like.managed_password {
            request = request.manage_master_user_password(true).set_master_user_secret_kms_key_id(like.password_key.clone());
        }
        match request.send().await {
            Ok(_) => Ok(()),
            Err(e) if error::code(&e) == Some("DBInstanceAlreadyExists") => Ok(()),
            Err(e) => Err(self.failed("rds:RestoreDBInstanceFromDBSnapshot", &format!("{snapshot} as {id}"), e)),
        }
    }

    /// Gives an instance the settings that a restore does not take.
    pub async fn modify_db_instance_like(&self, id: &DbInstanceId, like: &Kept) -> Result<(), Failure> {
        let mut request = self
            .rds()
            .modify_db_instance()
            .db_instance_identifier(id.as_str())
            .apply_immediately(true)
            .set_backup_retention_period(like.backup_days)
            .set_preferred_backup_window(like.backup_window.clone())
            .set_preferred_maintenance_window(like.maintenance_window.clone())
            .set_max_allocated_storage(like.max_allocated_storage)
            .enable_performance_insights(like.performance_insights)
            .set_monitoring_interval(like.monitoring_interval)
            .set_monitoring_role_arn(like.monitoring_role.clone());
        if like.performance_insights {
            request = request
                .set_performance_insights_kms_key_id(like.performance_insights_key.clone())
                .set_performance_insights_retention_period(like.performance_insights_days);
        }
        request.send().await.map(drop).map_err(|e| self.failed("rds:ModifyDBInstance", id.as_str(), e))
    }

    /// Starts to rename an instance. A second attempt, whose first one's answer was lost, finds it under the new name or on its way there.
    pub async fn rename_db_instance(&self, id: &DbInstanceId, to: &DbInstanceId) -> Result<(), Failure> {
        let request = self.rds().modify_db_instance().db_instance_identifier(id.as_str()).new_db_instance_identifier(to.as_str());
        let Err(refused) = request.apply_immediately(true).send().await else { return Ok(()) };
        let begun = match error::code(&refused) {
            Some(code) if code.starts_with("DBInstanceNotFound") => self.db_settings(to).await?.is_some(),
            Some(code) if code.starts_with("InvalidDBInstanceState") => {
                self.db_settings(id).await?.is_some_and(|it| it.status == "renaming")
            }
            _ => false,
        };
        if begun { Ok(()) } else { Err(self.failed("rds:ModifyDBInstance", &format!("{id} to {to}"), refused)) }
    }

    /// Takes tags off an instance, by its ARN.
    pub async fn untag_db_instance(&self, arn: &str, keys: &[&str]) -> Result<(), Failure> {
        let request = self.rds().remove_tags_from_resource().resource_name(arn);
        let request = request.set_tag_keys(Some(keys.iter().map(|key| (*key).to_owned()).collect()));
        request.send().await.map(drop).map_err(|e| self.failed("rds:RemoveTagsFromResource", arn, e))
    }

    /// The ARN of the backup that this region replicates of an instance, by its resource id; none if it replicates none.
    pub async fn replicated_backup_of(&self, resource: &str) -> Result<Option<String>, Failure> {
        let pages = self.rds().describe_db_instance_automated_backups().dbi_resource_id(resource).into_paginator();
        let found: Result<Vec<_>, _> = pages.items().send().collect().await;
        let found = match found {
            Ok(found) => found,
            Err(e) if error::code(&e) == Some("DBInstanceAutomatedBackupNotFound") => Vec::new(),
            Err(e) => return Err(self.failed("rds:DescribeDBInstanceAutomatedBackups", resource, e)),
        };
        let ours = found.into_iter().find(|backup| backup.dbi_resource_id.as_deref() == Some(resource) && is_replicated(backup));
        Ok(ours.and_then(|backup| backup.db_instance_automated_backups_arn))
    }

    /// Starts to replicate an instance's backups into this region; one that is replicated already is left alone.
    pub async fn replicate_backups(&self, source_arn: &str, key: &KmsKeyId, days: Option<i32>) -> Result<(), Failure> {
        let request = self.rds().start_db_instance_automated_backups_replication().source_db_instance_arn(source_arn);
        match request.kms_key_id(key.as_str()).set_backup_retention_period(days).send().await {
            Ok(_) => Ok(()),
            Err(e) if error::code(&e) == Some("DBInstanceAutomatedBackupAlreadyExists") => Ok(()),
            Err(e) => Err(self.failed("rds:StartDBInstanceAutomatedBackupsReplication", source_arn, e)),
        }
    }
}
