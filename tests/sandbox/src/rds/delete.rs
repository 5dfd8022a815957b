//! DeleteDBInstance: protection, final snapshot, backups that stay.
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{
    fault::Fault,
    ids::{InstanceId, Region, SnapshotId},
    instances::draw_instance,
    model::{AutomatedBackup, BackupStatus, Instance, Snapshot, Status},
    query::Params,
    service::Rds,
    snapshots::taken_of,
    xml::Body,
};

impl Rds {
    /// DeleteDBInstance.
    pub(super) fn delete_instance(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let id = InstanceId::from_name_or_arn(region, params.need("DBInstanceIdentifier")?)?;
        let instance = self.instance(region, &id)?;
        if instance.deletion_protection {
            return Err(Fault::combination("Cannot delete protected DB Instance, please disable deletion protection and try again."));
        }
        let last = match (params.flag("SkipFinalSnapshot")?, params.get("FinalDBSnapshotIdentifier")) {
            (true, None) => None,
            (true, Some(_)) => {
                return Err(Fault::combination("FinalDBSnapshotIdentifier can not be specified when deleting with SkipFinalSnapshot."));
            }
            (false, None) => {
                return Err(Fault::combination("FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified."));
            }
            (false, Some(name)) => Some(SnapshotId::parse(name)?),
        };
        if let Some(name) = &last
            && self.records().get::<Snapshot>(region, name.as_str()).is_some()
        {
            return Err(Fault::refused(
                "DBSnapshotAlreadyExists",
                format!("Cannot create the snapshot because one with the identifier {name} already exists."),
            ));
        }
        let keep_backups = params.value("DeleteAutomatedBackups")? == Some(false);
        let allowed =
            if last.is_some() { &[Status::Available, Status::Stopped][..] } else { &[Status::Available, Status::Stopped, Status::Failed] };
        let was = instance.status;
        let instance = self.claim(region, &id, allowed, Status::Deleting)?;
        let last = match last {
            Some(name) => {
                let snapshot = taken_of(&instance, name, instance.tags.clone());
                self.records().put(region, snapshot.clone())?;
                Some((snapshot, was))
            }
            None => None,
        };
        if keep_backups {
            // Noted before the instance is gone: the backup's status is what keeps its files.
            self.update::<AutomatedBackup>(region, instance.resource.as_str(), |backup| backup.status = BackupStatus::Retained)?;
        }
        let (rds, work) = (self.clone(), instance.clone());
        tokio::spawn(async move { rds.finish_deletion(work, last).await });
        Ok(Body::default().nested("DBInstance", draw_instance(self, &instance)))
    }

    /// Final snapshot, then server, secret, files, record, in this order: a crash in between leaves a record to go on from.
    pub(super) async fn finish_deletion(&self, instance: Instance, last: Option<(Snapshot, Status)>) {
        let lock = self.work_lock(&instance.resource);
        let _working = lock.lock().await;
        if let Err(error) = self.try_deletion(&instance, last).await {
            self.instance_failed(&instance.region, &instance.resource, "The DB instance could not be deleted", &error);
        }
    }

    async fn try_deletion(&self, instance: &Instance, last: Option<(Snapshot, Status)>) -> Result<()> {
        let region = &instance.region;
        if let Some((snapshot, was)) = last {
            self.fill_snapshot(instance, &snapshot, was).await.context("taking the final snapshot")?;
        }
        self.halt(instance).await?;
        if let Some(secret) = &instance.secret {
            self.0.platform.delete_secret(region, &secret.arn).await?;
        }
        let data = self.0.place.data(region, &instance.resource);
        remove_folder(data.parent().context("a data folder has a parent")?).await?;
        let key = instance.resource.as_str();
        let backup = self.records().get::<AutomatedBackup>(region, key);
        if backup.is_some_and(|backup| backup.status != BackupStatus::Retained) {
            self.records().remove::<AutomatedBackup>(region, key)?;
            remove_folder(&self.0.place.backup(region, &instance.resource)).await?;
        }
        self.retain_replicas(instance)?;
        self.0.addresses.remove(instance.address).await?;
        self.instance_event(instance, "deletion", "DB instance deleted");
        self.records().remove::<Instance>(region, instance.id.as_str())?;
        self.publish()
    }

    /// Replicas in other regions end with their source but stay until somebody deletes them.
    fn retain_replicas(&self, instance: &Instance) -> Result<()> {
        let regions = self.records().regions();
        for other in regions.iter().filter(|region| **region != instance.region) {
            self.update::<AutomatedBackup>(other, instance.resource.as_str(), |backup| {
                if backup.status == BackupStatus::Replicating {
                    backup.status = BackupStatus::Retained;
                }
            })?;
        }
        Ok(())
    }
}

/// Removes a folder; an absent one is fine.
pub async fn remove_folder(folder: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {}", folder.display())),
        _ => Ok(()),
    }
}
