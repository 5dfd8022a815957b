//! Snapshots: CreateDBSnapshot, DescribeDBSnapshots, DeleteDBSnapshot and CopyDBSnapshot, within a region and across regions.
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;

use super::{
    delete::remove_folder,
    fault::Fault,
    ids::{Arn, InstanceId, Region, SnapshotId},
    model::{Instance, Snapshot, SnapshotStatus, Status, Tags},
    postgres::{
        copy::{self, Scope},
        session,
    },
    query::Params,
    service::Rds,
    tags::draw_tags,
    xml::Body,
};

/// The longest that the archiver may take for the last segment that a copy needs.
const ARCHIVE_DEADLINE: Duration = Duration::from_secs(120);

impl Rds {
    /// CreateDBSnapshot.
    pub(super) fn create_snapshot(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let instance_id = InstanceId::from_name_or_arn(region, params.need("DBInstanceIdentifier")?)?;
        let id = SnapshotId::parse(params.need("DBSnapshotIdentifier")?)?;
        self.check_new(region, &id)?;
        let was = self.instance(region, &instance_id)?.status;
        let next = if was == Status::Stopped { Status::Stopped } else { Status::BackingUp };
        let instance = self.claim(region, &instance_id, &[Status::Available, Status::Stopped], next)?;
        let mut tags = if instance.copy_tags_to_snapshot { instance.tags.clone() } else { Tags::new() };
        tags.extend(params.tags());
        let snapshot = taken_of(&instance, id, tags);
        self.records().put(region, snapshot.clone())?;
        let (rds, work) = (self.clone(), snapshot.clone());
        tokio::spawn(async move {
            let lock = rds.work_lock(&instance.resource);
            let _working = lock.lock().await;
            // The instance serves its clients whether the copy succeeds or not; the snapshot's own status tells.
            if let Err(error) = rds.fill_snapshot(&instance, &work, was).await {
                tracing::error!(snapshot = %work.id, "{error:#}");
            }
            if let Err(error) = rds.update_instance(&instance.region, &instance.resource, |instance| instance.status = was) {
                tracing::error!("{error:#}");
            }
        });
        Ok(Body::default().nested("DBSnapshot", draw_snapshot(&snapshot)))
    }

    fn check_new(&self, region: &Region, id: &SnapshotId) -> Result<(), Fault> {
        if self.records().get::<Snapshot>(region, id.as_str()).is_some() {
            let message = format!("Cannot create the snapshot because one with the identifier {id} already exists.");
            return Err(Fault::refused("DBSnapshotAlreadyExists", message));
        }
        Ok(())
    }

    /// Copies the instance's data into the snapshot; says in the record how it went.
    pub(super) async fn fill_snapshot(&self, instance: &Instance, snapshot: &Snapshot, was: Status) -> Result<()> {
        let filled = self.try_fill(instance, snapshot, was).await;
        self.close_snapshot(snapshot, filled, "Manual snapshot created")
    }

    async fn try_fill(&self, instance: &Instance, snapshot: &Snapshot, was: Status) -> Result<u64> {
        let place = &self.0.place;
        let (from, to) = (place.data(&instance.region, &instance.resource), place.snapshot(&snapshot.region, snapshot.id.as_str()));
        let progress = self.progress(snapshot);
        if was == Status::Stopped {
            return copy::copy_data(place, from, to, Scope::AtRest, progress).await;
        }
        let client = session::connect(instance, "postgres").await?;
        let (bytes, last) = copy::copy_running(place, &client, from, to.clone(), progress).await?;
        let wal = place.wal(&instance.region, &instance.resource);
        copy::wait_until_archived(&wal, &last, ARCHIVE_DEADLINE).await?;
        copy::add_wal(place, wal, to, last).await?;
        Ok(bytes)
    }

    /// Tells PercentProgress; the last few percent are for the WAL.
    fn progress(&self, snapshot: &Snapshot) -> impl Fn(u8) -> Result<()> + Send + 'static + use<> {
        let (rds, region, id) = (self.clone(), snapshot.region.clone(), snapshot.id.clone());
        move |percent| rds.update::<Snapshot>(&region, id.as_str(), |snapshot| snapshot.percent = percent.min(99)).map(|_| ())
    }

    fn close_snapshot(&self, snapshot: &Snapshot, filled: Result<u64>, message: &str) -> Result<()> {
        match filled {
            Ok(bytes) => {
                self.update::<Snapshot>(&snapshot.region, snapshot.id.as_str(), |snapshot| {
                    snapshot.status = SnapshotStatus::Available;
                    snapshot.percent = 100;
                    snapshot.bytes = bytes;
                })?;
                self.snapshot_event(snapshot, "creation", message);
                Ok(())
            }
            Err(error) => {
                self.update::<Snapshot>(&snapshot.region, snapshot.id.as_str(), |snapshot| snapshot.status = SnapshotStatus::Failed)?;
                self.snapshot_event(snapshot, "failure", format!("The snapshot failed: {error:#}"));
                Err(error)
            }
        }
    }

    /// CopyDBSnapshot, called in the region that the copy is to be in.
    pub(super) async fn copy_snapshot(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let named = params.need("SourceDBSnapshotIdentifier")?;
        let id = SnapshotId::parse(params.need("TargetDBSnapshotIdentifier")?)?;
        let (from, source) = locate(region, named)?;
        if self.is_down(&from) {
            return Err(Fault::region_down(&from));
        }
        let source: Snapshot = self.records().get(&from, source.as_str()).ok_or_else(|| Fault::snapshot_not_found(named))?;
        if source.status != SnapshotStatus::Available {
            return Err(Fault::refused("InvalidDBSnapshotState", format!("DB snapshot {named} is not in available state.")));
        }
        let wanted = params.get("KmsKeyId");
        if from != *region && source.encrypted && wanted.is_none() {
            return Err(Fault::combination("Must specify new KMS key for cross region encrypted snapshot copy"));
        }
        let kms_key = match wanted {
            Some(key) => Some(self.key(region, Some(key)).await?),
            None => source.kms_key.clone(),
        };
        let mut tags = if params.flag("CopyTags")? { source.tags.clone() } else { Tags::new() };
        tags.extend(params.tags());
        let copy = Snapshot {
            id,
            region: region.clone(),
            status: if from == *region { SnapshotStatus::Creating } else { SnapshotStatus::Copying },
            percent: 0,
            created: Timestamp::now(),
            encrypted: kms_key.is_some(),
            kms_key,
            source: Some((from.clone(), source.id.clone())),
            bytes: 0,
            tags,
            shared_with: Vec::new(),
            ..source.clone()
        };
        {
            let mut records = self.records();
            if records.get::<Snapshot>(region, copy.id.as_str()).is_some() {
                return Err(Fault::refused("DBSnapshotAlreadyExists", format!("DBSnapshot {} already exists.", copy.id)));
            }
            records.put(region, copy.clone())?;
        }
        let (rds, work) = (self.clone(), copy.clone());
        tokio::spawn(async move {
            let copied = rds.try_copy(&source, &work).await;
            if let Err(error) = rds.close_snapshot(&work, copied, "Snapshot copy finished") {
                tracing::error!(snapshot = %work.id, "{error:#}");
            }
        });
        Ok(Body::default().nested("DBSnapshot", draw_snapshot(&copy)))
    }

    async fn try_copy(&self, source: &Snapshot, copy: &Snapshot) -> Result<u64> {
        let place = &self.0.place;
        let (from, to) = (place.snapshot(&source.region, source.id.as_str()), place.snapshot(&copy.region, copy.id.as_str()));
        let (tell, rds, region) = (self.progress(copy), self.clone(), source.region.clone());
        let watched = move |percent| {
            if rds.is_down(&region) {
                bail!("the region {region} was lost while its snapshot was copied");
            }
            tell(percent)
        };
        copy::copy_data(place, from, to, Scope::AtRest, watched).await
    }

    /// DescribeDBSnapshots.
    pub(super) fn describe_snapshots(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let mut snapshots: Vec<Snapshot> = match params.get("DBSnapshotIdentifier") {
            Some(named) => {
                let (from, id) = locate(region, named)?;
                let found = self.records().get::<Snapshot>(region, id.as_str()).filter(|_| from == *region);
                vec![found.ok_or_else(|| Fault::snapshot_not_found(named))?]
            }
            None => self.records().list(region),
        };
        if let Some(instance) = params.get("DBInstanceIdentifier") {
            snapshots.retain(|one| one.instance.id.as_str().eq_ignore_ascii_case(instance));
        }
        if let Some(resource) = params.get("DbiResourceId") {
            snapshots.retain(|one| one.instance.resource.as_str() == resource);
        }
        if let Some(kind) = params.get("SnapshotType") {
            snapshots.retain(|_| kind == "manual");
        }
        for (name, values) in params.filters() {
            let keep: fn(&Snapshot, &str) -> bool = match name.as_str() {
                "db-snapshot-id" => |one, value| one.id.as_str() == value,
                "db-instance-id" => |one, value| one.instance.id.as_str() == value || one.instance.arn() == value,
                "dbi-resource-id" => |one, value| one.instance.resource.as_str() == value,
                "snapshot-type" => |_, value| value == "manual",
                "engine" => |_, value| value == "postgres",
                other => return Err(Fault::invalid_value(format!("Unrecognized filter name: {other}"))),
            };
            snapshots.retain(|one| values.iter().any(|value| keep(one, value)));
        }
        params.paged("DBSnapshots", "DBSnapshot", snapshots, draw_snapshot)
    }

    /// DeleteDBSnapshot.
    pub(super) async fn delete_snapshot(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let id = SnapshotId::parse(params.need("DBSnapshotIdentifier")?)?;
        let snapshot = {
            let mut records = self.records();
            let snapshot: Snapshot = records.get(region, id.as_str()).ok_or_else(|| Fault::snapshot_not_found(&id))?;
            if !matches!(snapshot.status, SnapshotStatus::Available | SnapshotStatus::Failed) {
                return Err(Fault::refused("InvalidDBSnapshotState", format!("Snapshot {id} is not in available state.")));
            }
            records.remove::<Snapshot>(region, id.as_str())?;
            snapshot
        };
        remove_folder(&self.0.place.snapshot(region, id.as_str())).await?;
        self.snapshot_event(&snapshot, "deletion", "Deleted manual snapshot");
        Ok(Body::default().nested("DBSnapshot", draw_snapshot(&snapshot)))
    }
}

/// A snapshot's region and name, from either form.
fn locate(region: &Region, named: &str) -> Result<(Region, SnapshotId), Fault> {
    match Arn::parse(named) {
        Some(arn) if arn.kind == "snapshot" => Ok((arn.region, SnapshotId::parse(&arn.name)?)),
        Some(_) => Err(Fault::snapshot_not_found(named)),
        None => Ok((region.clone(), SnapshotId::parse(named)?)),
    }
}

/// The record of a snapshot that is about to be taken.
pub fn taken_of(instance: &Instance, id: SnapshotId, tags: Tags) -> Snapshot {
    Snapshot {
        id,
        region: instance.region.clone(),
        status: SnapshotStatus::Creating,
        percent: 0,
        instance: instance.clone(),
        created: Timestamp::now(),
        taken: Timestamp::now(),
        encrypted: instance.encrypted,
        kms_key: instance.kms_key.clone(),
        source: None,
        bytes: 0,
        tags,
        shared_with: Vec::new(),
    }
}

/// The element `DBSnapshot`.
pub fn draw_snapshot(snapshot: &Snapshot) -> Body {
    let instance = &snapshot.instance;
    let status = match snapshot.status {
        SnapshotStatus::Creating => "creating",
        SnapshotStatus::Copying => "copying",
        SnapshotStatus::Available => "available",
        SnapshotStatus::Failed => "failed",
    };
    let source = snapshot.source.as_ref();
    Body::default()
        .text("DBSnapshotIdentifier", &snapshot.id)
        .text("DBSnapshotArn", snapshot.id.arn(&snapshot.region))
        .text("DBInstanceIdentifier", &instance.id)
        .text("DbiResourceId", &instance.resource)
        .text("SnapshotCreateTime", snapshot.created)
        .text("OriginalSnapshotCreateTime", snapshot.taken)
        .text("SnapshotDatabaseTime", snapshot.taken)
        .text("InstanceCreateTime", instance.created)
        .text("Engine", "postgres")
        .text("EngineVersion", &instance.engine_version)
        .text("LicenseModel", "postgresql-license")
        .text("AllocatedStorage", instance.allocated_storage)
        .text("StorageType", &instance.storage_type)
        .maybe("Iops", instance.iops)
        .text("Status", status)
        .text("PercentProgress", snapshot.percent)
        .text("Port", instance.port)
        .text("AvailabilityZone", format!("{}a", snapshot.region))
        .text("MasterUsername", &instance.master_username)
        .text("SnapshotType", "manual")
        .text("SnapshotTarget", "region")
        .text("OptionGroupName", super::catalog::OPTION_GROUP)
        .text("Encrypted", snapshot.encrypted)
        .maybe("KmsKeyId", snapshot.kms_key.as_ref())
        .text("IAMDatabaseAuthenticationEnabled", instance.iam_authentication)
        .text("FullSnapshotSizeInBytes", snapshot.bytes)
        .maybe("SourceRegion", source.map(|(region, _)| region))
        .maybe("SourceDBSnapshotIdentifier", source.map(|(region, id)| id.arn(region)))
        .list("TagList", "Tag", draw_tags(&snapshot.tags))
}
