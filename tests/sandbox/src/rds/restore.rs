//! RestoreDBInstanceFromDBSnapshot and RestoreDBInstanceToPointInTime.
use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::{
    backups::find_backup,
    create::{blank, class, read_password},
    fault::Fault,
    ids::{Arn, InstanceId, Region, ResourceId, SnapshotId},
    model::{AutomatedBackup, Instance, Origin, Snapshot, SnapshotStatus},
    postgres::{
        configuration::ArchiveSource,
        copy::{self, Scope},
        recovery::{self, Replayed},
    },
    query::Params,
    service::Rds,
    xml::Body,
};

impl Rds {
    /// RestoreDBInstanceFromDBSnapshot.
    pub(super) async fn restore_snapshot(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let id = InstanceId::parse(params.need("DBInstanceIdentifier")?)?;
        let named = params.need("DBSnapshotIdentifier")?;
        let snapshot_id = match Arn::parse(named) {
            Some(arn) if &arn.region == region && arn.kind == "snapshot" => SnapshotId::parse(&arn.name)?,
            Some(_) => return Err(Fault::snapshot_not_found(named)),
            None => SnapshotId::parse(named)?,
        };
        let snapshot: Snapshot = self.records().get(region, snapshot_id.as_str()).ok_or_else(|| Fault::snapshot_not_found(named))?;
        if snapshot.status != SnapshotStatus::Available {
            return Err(Fault::refused("InvalidDBSnapshotState", format!("DB snapshot {snapshot_id} is not in available state.")));
        }
        let mut instance = restored(region, id, &snapshot.instance, Origin::Snapshot(snapshot_id));
        instance.encrypted = snapshot.encrypted;
        instance.kms_key = snapshot.kms_key;
        self.begin_restore(instance, params).await
    }

    /// RestoreDBInstanceToPointInTime.
    pub(super) async fn restore_point_in_time(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let id = InstanceId::parse(params.need("TargetDBInstanceIdentifier")?)?;
        let backup = self.backup_to_restore(region, params)?;
        let until: Option<Timestamp> = params.value("RestoreTime")?;
        let latest = params.flag("UseLatestRestorableTime")?;
        if until.is_some() == latest {
            return Err(Fault::combination("Specify either RestoreTime or UseLatestRestorableTime, and not both."));
        }
        let (Some(first), Some(last)) = (backup.earliest(), backup.latest) else {
            return Err(Fault::refused("InvalidRestoreFault", format!("{} has no backup that can be restored yet.", backup.instance.id)));
        };
        if let Some(until) = until
            && !(first..=last).contains(&until)
        {
            let message = format!("The specified instance cannot be restored to {until}: it can be restored from {first} to {last}.");
            return Err(Fault::invalid_value(message));
        }
        let mut instance = restored(region, id, &backup.instance, Origin::Backup { source: backup.resource.clone(), until });
        instance.encrypted = backup.encrypted;
        instance.kms_key = backup.kms_key;
        self.begin_restore(instance, params).await
    }

    /// The backup that one of the three kinds of source names.
    fn backup_to_restore(&self, region: &Region, params: &Params) -> Result<AutomatedBackup, Fault> {
        let (name, resource, backup) = (
            params.get("SourceDBInstanceIdentifier"),
            params.get("SourceDbiResourceId"),
            params.get("SourceDBInstanceAutomatedBackupsArn"),
        );
        let records = self.records();
        let found = match (name, resource, backup) {
            (Some(name), None, None) => {
                let id = InstanceId::from_name_or_arn(region, name)?;
                let instance: Instance = records.get(region, id.as_str()).ok_or_else(|| Fault::instance_not_found(&id))?;
                if instance.backup_retention == 0 {
                    return Err(Fault::refused("PointInTimeRestoreNotEnabled", format!("Automated backups are not enabled for {id}.")));
                }
                records.get(region, instance.resource.as_str())
            }
            (None, Some(resource), None) => records.get(region, ResourceId::parse(resource)?.as_str()),
            (None, None, Some(arn)) => find_backup(&records, region, arn),
            _ => return Err(Fault::combination("Specify exactly one source: an instance, a resource id or an automated backup.")),
        };
        found.ok_or_else(|| Fault::backup_not_found(name.or(resource).or(backup).unwrap_or_default()))
    }

    /// What both kinds of restore take from the request. Groups are the default ones unless the request names others, as on AWS.
    async fn begin_restore(&self, mut instance: Instance, params: &Params) -> Result<Body, Fault> {
        if let Some(wanted) = params.get("DBInstanceClass") {
            instance.class = class(wanted)?;
        }
        let tags = params.tags();
        if !tags.is_empty() {
            instance.tags = tags;
        }
        // The key that the copy was encrypted with is used again, so it must still be usable.
        if let Some(key) = &instance.kms_key {
            self.key(&instance.region, Some(key)).await?;
        }
        self.adjust(&mut instance, params)?;
        let password = read_password(params)?;
        self.begin(instance, params, password).await
    }

    /// Fills the data folder from a snapshot; its own WAL makes it consistent at the server's start.
    pub(super) async fn data_from_snapshot(&self, instance: &Instance, snapshot: &SnapshotId) -> Result<()> {
        let place = &self.0.place;
        let from = place.snapshot(&instance.region, snapshot.as_str());
        copy::copy_data(place, from, place.data(&instance.region, &instance.resource), Scope::AtRest, |_| Ok(())).await?;
        Ok(())
    }

    /// Fills the data folder from the newest base backup before the moment and replays the archive up to it.
    pub(super) async fn data_from_backup(&self, instance: &Instance, source: &ResourceId, until: Option<Timestamp>) -> Result<()> {
        let place = &self.0.place;
        let backup: AutomatedBackup = self.records().get(&instance.region, source.as_str()).context("the automated backup is gone")?;
        let usable = backup.bases.iter().filter(|base| until.is_none_or(|until| base.finished <= until));
        let base = usable.max_by_key(|base| base.finished).context("no base backup is old enough")?;
        let wal = place.wal(&instance.region, source);
        let from = place.backup(&instance.region, source).join(&base.name);
        let data = place.data(&instance.region, &instance.resource);
        copy::copy_data(place, from, data, Scope::AtRest, |_| Ok(())).await?;
        self.configure(instance, Some(ArchiveSource { wal: wal.clone(), until })).await?;
        if recovery::replay(place, instance).await? == Replayed::EndBeforeTarget {
            // Nothing was committed between the moment and the archive's end, so the end is the moment.
            self.configure(instance, Some(ArchiveSource { wal, until: None })).await?;
            recovery::replay(place, instance).await?;
        }
        Ok(())
    }
}

/// A new instance with what a restore keeps of its source.
fn restored(region: &Region, id: InstanceId, source: &Instance, origin: Origin) -> Instance {
    Instance {
        class: source.class.clone(),
        db_name: source.db_name.clone(),
        port: source.port,
        allocated_storage: source.allocated_storage,
        max_allocated_storage: source.max_allocated_storage,
        storage_type: source.storage_type.clone(),
        iops: source.iops,
        storage_throughput: source.storage_throughput,
        backup_retention: source.backup_retention,
        backup_window: source.backup_window.clone(),
        maintenance_window: source.maintenance_window.clone(),
        copy_tags_to_snapshot: source.copy_tags_to_snapshot,
        ..blank(region, id, source.engine_version.clone(), source.master_username.clone(), origin)
    }
}
