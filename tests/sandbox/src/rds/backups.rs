//! Automated backups: the base backup, what is told about them, their replication to another region.
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use super::{
    delete::remove_folder,
    fault::Fault,
    ids::{Arn, InstanceId, Region, ResourceId},
    model::{AutomatedBackup, BackupStatus, BaseBackup, Instance},
    postgres::{copy, session},
    query::Params,
    records::Records,
    service::Rds,
    tags::draw_tags,
    xml::Body,
};

const ARCHIVE_DEADLINE: Duration = Duration::from_secs(120);

/// When a base backup is taken at a server's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBackup {
    /// Even if there is one: the data is new.
    Always,
    /// Only if the one at creation was interrupted.
    IfMissing,
}

impl Rds {
    /// Makes the base backup that point-in-time recovery starts from.
    pub(super) async fn first_backup(&self, instance: &Instance, when: FirstBackup) -> Result<()> {
        let (region, key) = (&instance.region, instance.resource.as_str());
        let known = self.records().get::<AutomatedBackup>(region, key);
        if when == FirstBackup::IfMissing && known.as_ref().is_some_and(|backup| !backup.bases.is_empty()) {
            return Ok(());
        }
        let place = &self.0.place;
        let client = session::connect(instance, "postgres").await?;
        let name = format!("base-{}", Timestamp::now().as_millisecond());
        let to = place.backup(region, &instance.resource).join(&name);
        let data = place.data(region, &instance.resource);
        let (_, last) = copy::copy_running(place, &client, data, to, |_| Ok(())).await?;
        copy::wait_until_archived(&place.wal(region, &instance.resource), &last, ARCHIVE_DEADLINE).await?;
        let finished = Timestamp::now();
        let mut backup = known.unwrap_or_else(|| AutomatedBackup {
            resource: instance.resource.clone(),
            region: region.clone(),
            status: BackupStatus::Active,
            instance: instance.clone(),
            bases: Vec::new(),
            latest: None,
            retention: instance.backup_retention,
            encrypted: instance.encrypted,
            kms_key: instance.kms_key.clone(),
            tags: instance.tags.clone(),
        });
        backup.bases.push(BaseBackup { name, finished });
        backup.latest = Some(finished);
        self.records().put(region, backup)
    }

    /// DescribeDBInstanceAutomatedBackups.
    pub(super) fn describe_backups(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let mut backups: Vec<AutomatedBackup> = self.records().list(region);
        // An instance that keeps no backups shows none.
        backups.retain(|one| one.status != BackupStatus::Active || one.instance.backup_retention > 0);
        let all = backups.len();
        if let Some(resource) = params.get("DbiResourceId") {
            backups.retain(|one| one.resource.as_str() == resource);
        }
        if let Some(arn) = params.get("DBInstanceAutomatedBackupsArn") {
            backups.retain(|one| one.resource.backup_arn(region) == arn);
        }
        if let Some(name) = params.get("DBInstanceIdentifier") {
            backups.retain(|one| one.instance.id.as_str().eq_ignore_ascii_case(name));
        }
        let named = params.get("DBInstanceAutomatedBackupsArn").or(params.get("DbiResourceId"));
        if let Some(named) = named.filter(|_| backups.is_empty()) {
            return Err(Fault::backup_not_found(format!("{named} (of {all})")));
        }
        for (name, values) in params.filters() {
            let keep: fn(&AutomatedBackup, &str) -> bool = match name.as_str() {
                "status" => |one, value| status_name(one.status) == value,
                "dbi-resource-id" => |one, value| one.resource.as_str() == value,
                "db-instance-id" => |one, value| one.instance.id.as_str() == value || one.instance.arn() == value,
                other => return Err(Fault::invalid_value(format!("Unrecognized filter name: {other}"))),
            };
            backups.retain(|one| values.iter().any(|value| keep(one, value)));
        }
        params.paged("DBInstanceAutomatedBackups", "DBInstanceAutomatedBackup", backups, |one| draw_backup(self, one))
    }

    /// DeleteDBInstanceAutomatedBackup: only of what no living instance feeds.
    pub(super) async fn delete_backup(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let backup = {
            let records = self.records();
            match (params.get("DbiResourceId"), params.get("DBInstanceAutomatedBackupsArn")) {
                (Some(resource), None) => records.get(region, ResourceId::parse(resource)?.as_str()),
                (None, Some(arn)) => find_backup(&records, region, arn),
                _ => return Err(Fault::combination("Specify DbiResourceId or DBInstanceAutomatedBackupsArn.")),
            }
        };
        let backup = backup.ok_or_else(|| Fault::backup_not_found("the requested"))?;
        if backup.status != BackupStatus::Retained {
            let message = format!("The automated backup of {} is in use.", backup.instance.id);
            return Err(Fault::refused("InvalidDBInstanceAutomatedBackupState", message));
        }
        self.records().remove::<AutomatedBackup>(region, backup.resource.as_str())?;
        remove_folder(&self.0.place.backup(region, &backup.resource)).await?;
        Ok(Body::default().nested("DBInstanceAutomatedBackup", draw_backup(self, &backup)))
    }

    /// StartDBInstanceAutomatedBackupsReplication, called in the region that the replica is to be in.
    pub(super) async fn start_replication(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let named = params.need("SourceDBInstanceArn")?;
        let source = Arn::parse(named).filter(|arn| arn.kind == "db").ok_or_else(|| Fault::instance_not_found(named))?;
        if &source.region == region {
            return Err(Fault::combination("The source DB instance must be in another AWS Region."));
        }
        if self.is_down(&source.region) {
            return Err(Fault::region_down(&source.region));
        }
        let instance = self.instance(&source.region, &InstanceId::parse(&source.name)?)?;
        if instance.backup_retention == 0 {
            return Err(Fault::refused("InvalidDBInstanceState", "Automated backups must be enabled on the source DB instance."));
        }
        if instance.encrypted && params.get("KmsKeyId").is_none() {
            return Err(Fault::combination("You must specify a KMS key for the replication of encrypted automated backups."));
        }
        let kms_key = match params.get("KmsKeyId") {
            Some(key) => Some(self.key(region, Some(key)).await?),
            None => None,
        };
        let retention = params.value("BackupRetentionPeriod")?.unwrap_or(7);
        let backup = {
            let mut records = self.records();
            let known = records.get::<AutomatedBackup>(region, instance.resource.as_str());
            if known.as_ref().is_some_and(|known| known.status == BackupStatus::Replicating) {
                let message = format!("Automated backups of {} are replicated to {region} already.", instance.id);
                return Err(Fault::refused("DBInstanceAutomatedBackupAlreadyExists", message));
            }
            let backup = AutomatedBackup {
                resource: instance.resource.clone(),
                region: region.clone(),
                status: BackupStatus::Replicating,
                bases: known.map(|known| known.bases).unwrap_or_default(),
                latest: None,
                retention,
                encrypted: kms_key.is_some(),
                kms_key,
                tags: params.tags(),
                instance,
            };
            records.put(region, backup.clone())?;
            backup
        };
        self.instance_event(&backup.instance, "backup", format!("Started cross-Region automated backup replication to {region}"));
        Ok(Body::default().nested("DBInstanceAutomatedBackup", draw_backup(self, &backup)))
    }

    /// StopDBInstanceAutomatedBackupsReplication; what was shipped is kept as a retained backup.
    pub(super) fn stop_replication(&self, region: &Region, params: &Params) -> Result<Body, Fault> {
        let named = params.need("SourceDBInstanceArn")?;
        let source = Arn::parse(named).filter(|arn| arn.kind == "db").ok_or_else(|| Fault::instance_not_found(named))?;
        let mut backups: Vec<AutomatedBackup> = self.records().list(region);
        backups.retain(|one| one.status == BackupStatus::Replicating && one.instance.region == source.region);
        let found = backups.into_iter().find(|one| one.instance.id.as_str() == source.name);
        let found = found.ok_or_else(|| Fault::backup_not_found(named))?;
        let stopped = self.update::<AutomatedBackup>(region, found.resource.as_str(), |backup| backup.status = BackupStatus::Retained)?;
        Ok(Body::default().nested("DBInstanceAutomatedBackup", draw_backup(self, &stopped.unwrap_or(found))))
    }
}

/// A backup by its ARN.
pub fn find_backup(records: &Records, region: &Region, arn: &str) -> Option<AutomatedBackup> {
    records.list::<AutomatedBackup>(region).into_iter().find(|one| one.resource.backup_arn(region) == arn)
}

fn status_name(status: BackupStatus) -> &'static str {
    match status {
        BackupStatus::Active => "active",
        BackupStatus::Replicating => "replicating",
        BackupStatus::Retained => "retained",
    }
}

/// Adds the list of an instance's replicas in other regions, which a lost region cannot tell.
pub fn draw_replications(rds: &Rds, body: Body, resource: &ResourceId, home: &Region) -> Body {
    let records = rds.records();
    let mut replicas = Vec::new();
    for region in records.regions().iter().filter(|region| *region != home) {
        let replica = records.get::<AutomatedBackup>(region, resource.as_str());
        if replica.is_some_and(|replica| replica.status == BackupStatus::Replicating) {
            replicas.push(Body::default().text("DBInstanceAutomatedBackupsArn", resource.backup_arn(region)));
        }
    }
    body.list("DBInstanceAutomatedBackupsReplications", "DBInstanceAutomatedBackupsReplication", replicas)
}

/// The element `DBInstanceAutomatedBackup`. Its region is the source's, as AWS tells it.
fn draw_backup(rds: &Rds, backup: &AutomatedBackup) -> Body {
    let instance = &backup.instance;
    let window = Body::default().maybe("EarliestTime", backup.earliest()).maybe("LatestTime", backup.latest);
    let status = match (backup.status, backup.latest) {
        (BackupStatus::Active, None) => "creating",
        (status, _) => status_name(status),
    };
    let body = Body::default()
        .text("DBInstanceArn", instance.arn())
        .text("DbiResourceId", &backup.resource)
        .text("DBInstanceAutomatedBackupsArn", backup.resource.backup_arn(&backup.region))
        .text("Region", &instance.region)
        .text("DBInstanceIdentifier", &instance.id)
        .nested("RestoreWindow", window)
        .text("AllocatedStorage", instance.allocated_storage)
        .text("Status", status)
        .text("Port", instance.port)
        .text("AvailabilityZone", &instance.availability_zone)
        .text("InstanceCreateTime", instance.created)
        .text("MasterUsername", &instance.master_username)
        .text("Engine", "postgres")
        .text("EngineVersion", &instance.engine_version)
        .text("LicenseModel", "postgresql-license")
        .text("OptionGroupName", super::catalog::OPTION_GROUP)
        .text("Encrypted", backup.encrypted)
        .text("StorageType", &instance.storage_type)
        .maybe("KmsKeyId", backup.kms_key.as_ref())
        .text("IAMDatabaseAuthenticationEnabled", instance.iam_authentication)
        .text("BackupRetentionPeriod", backup.retention)
        .text("BackupTarget", "region")
        .list("TagList", "Tag", draw_tags(&backup.tags));
    draw_replications(rds, body, &backup.resource, &instance.region)
}
