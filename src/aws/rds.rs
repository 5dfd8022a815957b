//! RDS: what an instance is, and snapshots of it, here and in the other region.
use std::{collections::BTreeMap, time::Duration};

use aws_sdk_rds::{
    primitives::DateTime,
    types::{DbInstance as Described, DbInstanceAutomatedBackup, DbSnapshot as DescribedSnapshot, Tag},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Aws, error};
use crate::{
    failure::Failure,
    ids::{DbInstanceId, KmsKeyId, SnapshotId},
};

/// An instance, as far as deployctl checks or uses it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DbInstance {
    /// Its identifier.
    pub id: DbInstanceId,
    /// Its ARN.
    pub arn: String,
    /// `available` when it can be used.
    pub status: String,
    /// Its endpoint's host, once it has one.
    pub host: Option<String>,
    /// Its endpoint's port.
    pub port: Option<u16>,
    /// As in `15.8`.
    pub engine_version: String,
    /// Whether its storage is encrypted.
    pub encrypted: bool,
    /// With which key.
    pub kms_key: Option<String>,
    /// Whether a standby waits in another zone.
    pub multi_az: bool,
    /// Whether it refuses to be deleted.
    pub deletion_protection: bool,
    /// Days of automated backups; 0 means none, and no point-in-time recovery.
    pub backup_days: u32,
    /// Whether it has an address in the internet.
    pub publicly_accessible: bool,
    /// The secret that RDS manages for the master user.
    pub master_secret_arn: Option<String>,
}

/// What became of the wish for a snapshot.
#[derive(Debug)]
pub enum Started {
    /// It is being made, or is there.
    Begun(DbSnapshot),
    /// The instance is busy, as RDS says it.
    Not(Box<Failure>),
}

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DbSnapshot {
    /// Its identifier.
    pub id: SnapshotId,
    /// Its ARN.
    pub arn: String,
    /// `available` when it can be restored.
    pub status: String,
    /// How far it is.
    pub percent: u8,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Aws {
    /// What RDS says of an instance; none if there is none.
    pub(super) async fn described(&self, id: &DbInstanceId) -> Result<Option<Described>, Failure> {
        match self.rds().describe_db_instances().db_instance_identifier(id.as_str()).send().await {
            Ok(answer) => Ok(answer.db_instances.unwrap_or_default().into_iter().next()),
            Err(e)
                if e.as_service_error().is_some_and(|e| e.is_db_instance_not_found_fault())
                    || error::code(&e).is_some_and(|code| code.starts_with("DBInstanceNotFound")) =>
            {
                Ok(None)
            }
            Err(e) => Err(self.failed("rds:DescribeDBInstances", id.as_str(), e)),
        }
    }

    /// Every instance of this region that carries this tag; all pages are read.
    pub(super) async fn described_with_tag(&self, key: &str) -> Result<Vec<Described>, Failure> {
        let found: Result<Vec<_>, _> = self.rds().describe_db_instances().into_paginator().items().send().collect().await;
        let found = found.map_err(|e| self.failed("rds:DescribeDBInstances", key, e))?;
        Ok(found.into_iter().filter(|instance| instance.tag_list().iter().any(|tag| tag.key() == Some(key))).collect())
    }

    /// Every snapshot of an instance in this region, or of all, whichever region it lived in; of one kind (`manual`), or of all. All pages are
    /// read.
    pub(super) async fn described_snapshots(
        &self,
        instance: Option<&DbInstanceId>,
        kind: Option<&str>,
    ) -> Result<Vec<DescribedSnapshot>, Failure> {
        let request = self.rds().describe_db_snapshots().set_db_instance_identifier(instance.map(ToString::to_string));
        let pages = request.set_snapshot_type(kind.map(str::to_owned)).into_paginator();
        let found: Result<Vec<_>, _> = pages.items().send().collect().await;
        found.map_err(|e| self.failed("rds:DescribeDBSnapshots", instance.map_or("every instance", DbInstanceId::as_str), e))
    }

    /// Backups that this region keeps of the instance with this ARN, also those whose replication has ended.
    pub(super) async fn described_backups(&self, instance_arn: &str) -> Result<Vec<DbInstanceAutomatedBackup>, Failure> {
        let found = self.all_described_backups(instance_arn).await?;
        Ok(found.into_iter().filter(|backup| backup.db_instance_arn.as_deref() == Some(instance_arn)).collect())
    }

    /// Backups that this region keeps of any instance; `of` is what a failure names. All pages are read.
    pub(super) async fn all_described_backups(&self, of: &str) -> Result<Vec<DbInstanceAutomatedBackup>, Failure> {
        let found: Result<Vec<_>, _> = self.rds().describe_db_instance_automated_backups().into_paginator().items().send().collect().await;
        found.map_err(|e| self.failed("rds:DescribeDBInstanceAutomatedBackups", of, e))
    }

    /// Describes an instance; none if there is none.
    pub async fn db_instance(&self, id: &DbInstanceId) -> Result<Option<DbInstance>, Failure> {
        let Some(found) = self.described(id).await? else { return Ok(None) };
        let (host, port) = found.endpoint.map(|e| (e.address, e.port)).unwrap_or_default();
        Ok(Some(DbInstance {
            id: id.clone(),
            arn: found.db_instance_arn.unwrap_or_default(),
            status: found.db_instance_status.unwrap_or_default(),
            host,
            port: port.and_then(|p| u16::try_from(p).ok()),
            engine_version: found.engine_version.unwrap_or_default(),
            encrypted: found.storage_encrypted == Some(true),
            kms_key: found.kms_key_id,
            multi_az: found.multi_az == Some(true),
            deletion_protection: found.deletion_protection == Some(true),
            backup_days: found.backup_retention_period.and_then(|d| u32::try_from(d).ok()).unwrap_or(0),
            publicly_accessible: found.publicly_accessible == Some(true),
            master_secret_arn: found.master_user_secret.and_then(|s| s.secret_arn),
        }))
    }

    /// Describes a snapshot; none if there is none.
    pub async fn db_snapshot(&self, id: &SnapshotId) -> Result<Option<DbSnapshot>, Failure> {
        let answer = match self.rds().describe_db_snapshots().db_snapshot_identifier(id.as_str()).send().await {
            Ok(answer) => answer,
            Err(e)
                if e.as_service_error().is_some_and(|e| e.is_db_snapshot_not_found_fault())
                    || error::code(&e) == Some("DBSnapshotNotFound") =>
            {
                return Ok(None);
            }
            Err(e) => return Err(self.failed("rds:DescribeDBSnapshots", id.as_str(), e)),
        };
        Ok(answer.db_snapshots.unwrap_or_default().into_iter().next().and_then(snapshot))
    }

    /// Starts a snapshot under this name; one that is there already is taken for the same one. An instance that is busy, with its nightly backup or
    /// a change, takes none.
    pub async fn start_db_snapshot(
        &self,
        instance: &DbInstanceId,
        id: &SnapshotId,
        tags: &BTreeMap<String, String>,
    ) -> Result<Started, Failure> {
        let request = self.rds().create_db_snapshot().db_instance_identifier(instance.as_str()).db_snapshot_identifier(id.as_str());
        if let Err(refused) = request.set_tags(Some(rds_tags(tags))).send().await {
            let code = error::code(&refused).unwrap_or_default();
            let (there, busy) = (code.starts_with("DBSnapshotAlreadyExists"), code.starts_with("InvalidDBInstanceState"));
            // What keeps it busy may be this very snapshot, begun by a run that was killed.
            let is_there = there || busy && self.db_snapshot(id).await?.is_some();
            if !is_there {
                let failure = self.failed("rds:CreateDBSnapshot", &format!("{instance} as {id}"), refused);
                return if busy { Ok(Started::Not(Box::new(failure))) } else { Err(failure) };
            }
        }
        Ok(Started::Begun(self.started(id).await?))
    }

    /// Starts a copy of another region's snapshot into this one, encrypted with a key of this region; `self` must be the destination.
    pub async fn start_db_snapshot_copy(
        &self,
        source_arn: &str,
        id: &SnapshotId,
        key: &KmsKeyId,
        tags: &BTreeMap<String, String>,
    ) -> Result<DbSnapshot, Failure> {
        let request = self.rds().copy_db_snapshot().source_db_snapshot_identifier(source_arn).target_db_snapshot_identifier(id.as_str());
        match request.kms_key_id(key.as_str()).copy_tags(true).set_tags(Some(rds_tags(tags))).send().await {
            Ok(_) => {}
            Err(e) if error::code(&e).is_some_and(|code| code.starts_with("DBSnapshotAlreadyExists")) => {}
            Err(e) => return Err(self.failed("rds:CopyDBSnapshot", &format!("{source_arn} to {id} in {}", self.region()), e)),
        }
        self.started(id).await
    }

    async fn started(&self, id: &SnapshotId) -> Result<DbSnapshot, Failure> {
        self.db_snapshot(id)
            .await?
            .ok_or_else(|| Failure::step(format!("snapshot {id} was started but cannot be found in {}", self.region())))
    }

    /// Waits until a snapshot is available; `on_progress` hears how far it is.
    pub async fn wait_until_db_snapshot_available(
        &self,
        id: &SnapshotId,
        deadline: Duration,
        on_progress: impl Fn(&DbSnapshot) + Send,
    ) -> Result<DbSnapshot, Failure> {
        let started = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            let found =
                self.db_snapshot(id).await?.ok_or_else(|| Failure::step(format!("snapshot {id} has gone while it was being made")))?;
            match found.status.as_str() {
                "available" => return Ok(found),
                "failed" | "incompatible-restore" | "deleting" => {
                    return Err(Failure::step(format!("snapshot {id} is {}", found.status)).next(format!(
                        "see why: aws rds describe-events --source-type db-snapshot --source-identifier {id} --region {}",
                        self.region()
                    )));
                }
                _ => on_progress(&found),
            }
            if started.elapsed() >= deadline {
                return Err(Failure::timeout(
                    format!("snapshot {id} to be available; it is {} at {} %", found.status, found.percent),
                    deadline,
                ));
            }
            tokio::time::sleep(pause).await;
            // A small snapshot takes a second, a large one an hour: start quick, end gentle.
            pause = (pause * 3 / 2).min(Duration::from_secs(10));
        }
    }

    /// Waits until an instance is available: until it serves and can be snapshotted, as it can while its storage is optimized for hours after a
    /// change (Amazon RDS API Reference, CreateDBSnapshot).
    pub async fn wait_until_db_instance_available(&self, id: &DbInstanceId, deadline: Duration) -> Result<DbInstance, Failure> {
        let started = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            let found = self
                .db_instance(id)
                .await?
                .ok_or_else(|| Failure::step(format!("there is no database instance {id} in {}", self.region())))?;
            match found.status.as_str() {
                "available" | "storage-optimization" => return Ok(found),
                status if stays(status) => return Err(Failure::step(format!("database instance {id} is {status}"))),
                _ => {}
            }
            if started.elapsed() >= deadline {
                return Err(Failure::timeout(format!("database instance {id} to be available; it is {}", found.status), deadline));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(10));
        }
    }

    /// ARNs of backups that this region replicates of an instance in another one.
    pub async fn replicated_backups(&self, source: &str) -> Result<Vec<String>, Failure> {
        let ours = self.described_backups(source).await?.into_iter().filter(is_replicated);
        Ok(ours.filter_map(|backup| backup.db_instance_automated_backups_arn).collect())
    }
}

/// Whether an instance of this status becomes available only by somebody's hand: Amazon RDS User Guide, "Viewing Amazon RDS DB instance status".
fn stays(status: &str) -> bool {
    const STAY: [&str; 7] = ["failed", "restore-error", "insufficient-capacity", "storage-full", "stopped", "stopping", "deleting"];
    STAY.contains(&status) || ["incompatible-", "inaccessible-"].iter().any(|start| status.starts_with(start))
}

pub(super) fn rds_tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

pub(super) fn tags_of(tags: Option<Vec<Tag>>) -> BTreeMap<String, String> {
    tags.unwrap_or_default().into_iter().filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()
}

pub(super) fn moment(time: DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}

/// What has stopped being replicated stays for as long as it is to be kept, and can't go on.
pub(super) fn is_replicated(backup: &DbInstanceAutomatedBackup) -> bool {
    backup.status.as_deref().is_some_and(|status| ["pending", "replicating"].contains(&status.to_lowercase().as_str()))
}

fn snapshot(found: DescribedSnapshot) -> Option<DbSnapshot> {
    Some(DbSnapshot {
        id: SnapshotId::parse(found.db_snapshot_identifier?).ok()?,
        arn: found.db_snapshot_arn.unwrap_or_default(),
        status: found.status.unwrap_or_default(),
        percent: found.percent_progress.and_then(|p| u8::try_from(p).ok()).unwrap_or(0),
        encrypted: found.encrypted == Some(true),
        tags: tags_of(found.tag_list),
    })
}
