//! RDS: snapshots as a list, and taking a database and its copies away.
use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Aws, error,
    rds::{moment, tags_of},
};
use crate::{
    failure::Failure,
    ids::{DbInstanceId, SnapshotId},
};

/// A snapshot that somebody took, as far as keeping or deleting it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManualSnapshot {
    /// Its identifier.
    pub id: SnapshotId,
    /// Of which instance, under the name that it had. Not for scripts, whose lists have it elsewhere.
    #[serde(skip)]
    pub instance: Option<DbInstanceId>,
    /// `available` when it can be restored.
    pub status: String,
    /// When the data in it was the database's: a copy has its original's. None while it is being made.
    pub taken: Option<Timestamp>,
    /// Gibibytes of the instance's storage.
    pub storage_gib: u32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Aws {
    /// Every manual snapshot of an instance in this region, copies from another one among them, the newest first. All pages are read.
    pub async fn manual_snapshots(&self, instance: &DbInstanceId) -> Result<Vec<ManualSnapshot>, Failure> {
        let found = self.described_snapshots(Some(instance), Some("manual")).await?;
        let mut snapshots: Vec<ManualSnapshot> = found.into_iter().filter_map(manual).collect();
        // What is still being made is the newest.
        snapshots.sort_by(|a, b| (b.taken.is_none(), b.taken, &b.id).cmp(&(a.taken.is_none(), a.taken, &a.id)));
        Ok(snapshots)
    }

    /// Every manual snapshot in this region, of whichever instance. All pages are read.
    pub async fn all_manual_snapshots(&self) -> Result<Vec<ManualSnapshot>, Failure> {
        Ok(self.described_snapshots(None, Some("manual")).await?.into_iter().filter_map(manual).collect())
    }

    /// Deletes an instance after a last snapshot, and waits until it is gone; its automated backups stay. One that is busy is asked again.
    pub async fn delete_db_instance(&self, id: &DbInstanceId, last: &SnapshotId, deadline: Duration) -> Result<(), Failure> {
        let started = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            let Some(found) = self.db_instance(id).await? else { return Ok(()) };
            if found.status != "deleting" {
                let request = self.rds().delete_db_instance().db_instance_identifier(id.as_str()).delete_automated_backups(false);
                match request.skip_final_snapshot(false).final_db_snapshot_identifier(last.as_str()).send().await {
                    Ok(_) => {}
                    Err(e) if error::code(&e).is_some_and(|code| code.starts_with("InvalidDBInstanceState")) => {}
                    Err(e) if error::code(&e).is_some_and(|code| code.starts_with("DBInstanceNotFound")) => return Ok(()),
                    Err(e) => return Err(self.failed("rds:DeleteDBInstance", id.as_str(), e)),
                }
            }
            if started.elapsed() >= deadline {
                return Err(Failure::timeout(format!("database instance {id} to be gone; it is {}", found.status), deadline));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(10));
        }
    }

    /// Deletes a snapshot; one that is gone is deleted.
    pub async fn delete_db_snapshot(&self, id: &SnapshotId) -> Result<(), Failure> {
        match self.rds().delete_db_snapshot().db_snapshot_identifier(id.as_str()).send().await {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error().is_some_and(|e| e.is_db_snapshot_not_found_fault())
                    || error::code(&e) == Some("DBSnapshotNotFound") =>
            {
                Ok(())
            }
            Err(e) => Err(self.failed("rds:DeleteDBSnapshot", &format!("{id} in {}", self.region()), e)),
        }
    }

    /// Lets an instance be deleted; one that is not there needs nothing.
    pub async fn lift_deletion_protection(&self, id: &DbInstanceId) -> Result<(), Failure> {
        let request =
            self.rds().modify_db_instance().db_instance_identifier(id.as_str()).deletion_protection(false).apply_immediately(true);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_instance_not_found_fault()) => Ok(()),
            Err(e) => Err(self.failed("rds:ModifyDBInstance", id.as_str(), e)),
        }
    }

    /// ARNs of automated backups that outlive their instances in this region, by the instances' ARNs.
    pub async fn retained_backups(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<String>, Failure> {
        let found = self.all_described_backups("retained").await?.into_iter();
        let meant = found.filter(|backup| backup.db_instance_arn.as_deref().is_some_and(&is_meant));
        let retained = meant.filter(|backup| backup.status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("retained")));
        Ok(retained.filter_map(|backup| backup.db_instance_automated_backups_arn).collect())
    }

    /// Deletes such a backup; one that is gone is deleted.
    pub async fn delete_retained_backup(&self, arn: &str) -> Result<(), Failure> {
        match self.rds().delete_db_instance_automated_backup().db_instance_automated_backups_arn(arn).send().await {
            Ok(_) => Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_instance_automated_backup_not_found_fault()) => Ok(()),
            Err(e) => Err(self.failed("rds:DeleteDBInstanceAutomatedBackup", arn, e)),
        }
    }
}

fn manual(found: aws_sdk_rds::types::DbSnapshot) -> Option<ManualSnapshot> {
    let taken = found.original_snapshot_create_time.or(found.snapshot_create_time);
    Some(ManualSnapshot {
        id: SnapshotId::parse(found.db_snapshot_identifier?).ok()?,
        instance: found.db_instance_identifier.and_then(|id| DbInstanceId::parse(id).ok()),
        status: found.status.unwrap_or_default(),
        taken: taken.and_then(moment),
        storage_gib: found.allocated_storage.and_then(|gib| u32::try_from(gib).ok()).unwrap_or(0),
        tags: tags_of(found.tag_list),
    })
}
