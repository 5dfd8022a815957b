//! RDS: snapshots as a list, and taking a database and its copies away.
use std::collections::BTreeMap;

use aws_sdk_rds::types::DbInstance as Described;
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

    /// Every manual snapshot in this region of instances that had these names. All pages are read.
    pub async fn manual_snapshots_of(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<SnapshotId>, Failure> {
        let found = self.described_snapshots(None, Some("manual")).await?.into_iter();
        let meant = found.filter(|snapshot| snapshot.db_instance_identifier().is_some_and(&is_meant));
        Ok(meant.filter_map(manual).map(|snapshot| snapshot.id).collect())
    }

    /// Asks for an instance's deletion after a last snapshot; its automated backups stay. False as long as it is there: to be asked again.
    pub async fn delete_db_instance(&self, id: &DbInstanceId, last: &SnapshotId) -> Result<bool, Failure> {
        match self.described(id).await? {
            Some(found) => self.delete_described(id, &found, Some(last)).await,
            None => Ok(true),
        }
    }

    /// Lifts the protection of an instance that is there, and asks for its deletion: after a last snapshot, or with its backups. One that is busy
    /// is refused by RDS: false, to be tried again.
    pub(super) async fn delete_described(&self, id: &DbInstanceId, found: &Described, last: Option<&SnapshotId>) -> Result<bool, Failure> {
        let busy = |code: Option<&str>| code.is_some_and(|code| code.starts_with("InvalidDBInstanceState"));
        if found.db_instance_status() == Some("deleting") {
            return Ok(false);
        }
        if found.deletion_protection() == Some(true) {
            let request = self.rds().modify_db_instance().db_instance_identifier(id.as_str()).deletion_protection(false);
            match request.apply_immediately(true).send().await {
                // The next look shows whether it is lifted.
                Ok(_) => return Ok(false),
                Err(e) if busy(error::code(&e)) => return Ok(false),
                Err(e) => return Err(self.failed("rds:ModifyDBInstance", id.as_str(), e)),
            }
        }
        let request = self.rds().delete_db_instance().db_instance_identifier(id.as_str()).skip_final_snapshot(last.is_none());
        let request = request.set_final_db_snapshot_identifier(last.map(ToString::to_string));
        match request.delete_automated_backups(last.is_none()).send().await {
            Ok(_) => Ok(false),
            Err(e) if busy(error::code(&e)) => Ok(false),
            Err(e) if error::code(&e).is_some_and(|code| code.starts_with("DBInstanceNotFound")) => Ok(true),
            Err(e) => Err(self.failed("rds:DeleteDBInstance", id.as_str(), e)),
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
        status: found.status.unwrap_or_default(),
        taken: taken.and_then(moment),
        storage_gib: found.allocated_storage.and_then(|gib| u32::try_from(gib).ok()).unwrap_or(0),
        tags: tags_of(found.tag_list),
    })
}
