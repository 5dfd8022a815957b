//! An instance as its answers show it, and the settings that take effect as soon as they are asked for.
use super::{
    backups::draw_replications,
    fault::Fault,
    groups::draw_subnet_group,
    model::{Instance, ParameterGroup, Pending, Status, SubnetGroup},
    parameters::DEFAULT_GROUP,
    query::Params,
    service::Rds,
    tags::draw_tags,
    xml::Body,
};

impl Rds {
    /// Takes over every setting that RDS applies at once, whether at creation, restore or modification.
    pub(super) fn adjust(&self, instance: &mut Instance, params: &Params) -> Result<(), Fault> {
        let region = instance.region.clone();
        if let Some(days) = params.value::<u32>("BackupRetentionPeriod")? {
            if days > 35 {
                return Err(Fault::invalid_value(format!(
                    "Invalid backup retention period: {days}. Retention period must be between 0 and 35"
                )));
            }
            instance.backup_retention = days;
        }
        if let Some(name) = params.get("DBSubnetGroupName") {
            let group = self.records().get::<SubnetGroup>(&region, &name.to_ascii_lowercase());
            let group =
                group.ok_or_else(|| Fault::not_found("DBSubnetGroupNotFoundFault", format!("DB subnet group '{name}' does not exist.")))?;
            if let Some(subnet) = group.subnets.first() {
                instance.availability_zone = subnet.zone.clone();
            }
            instance.subnet_group = Some(group.name);
        }
        if let Some(name) = params.get("DBParameterGroupName") {
            let known = name == DEFAULT_GROUP || self.records().get::<ParameterGroup>(&region, name).is_some();
            if !known {
                return Err(Fault::not_found("DBParameterGroupNotFound", format!("DBParameterGroup not found: {name}")));
            }
            if instance.parameter_group != name && instance.status != Status::Creating {
                instance.parameters_pending_reboot = true;
            }
            instance.parameter_group = name.to_owned();
        }
        take(&mut instance.security_groups, params.list("VpcSecurityGroupIds"));
        take(&mut instance.availability_zone, params.value("AvailabilityZone")?);
        take(&mut instance.backup_window, params.value("PreferredBackupWindow")?);
        take(&mut instance.maintenance_window, params.value("PreferredMaintenanceWindow")?);
        take(&mut instance.auto_minor_version_upgrade, params.value("AutoMinorVersionUpgrade")?);
        take(&mut instance.publicly_accessible, params.value("PubliclyAccessible")?);
        take(&mut instance.copy_tags_to_snapshot, params.value("CopyTagsToSnapshot")?);
        take(&mut instance.deletion_protection, params.value("DeletionProtection")?);
        take(&mut instance.iam_authentication, params.value("EnableIAMDatabaseAuthentication")?);
        take(&mut instance.performance_insights, params.value("EnablePerformanceInsights")?);
        take(&mut instance.monitoring_interval, params.value("MonitoringInterval")?);
        take(&mut instance.ca_certificate, params.value("CACertificateIdentifier")?);
        take(&mut instance.network_type, params.value("NetworkType")?);
        take_some(&mut instance.max_allocated_storage, params.value("MaxAllocatedStorage")?);
        take_some(&mut instance.performance_insights_kms_key, params.value("PerformanceInsightsKMSKeyId")?);
        take_some(&mut instance.performance_insights_retention, params.value("PerformanceInsightsRetentionPeriod")?);
        take_some(&mut instance.database_insights_mode, params.value("DatabaseInsightsMode")?);
        take_some(&mut instance.monitoring_role, params.value("MonitoringRoleArn")?);
        take(&mut instance.log_exports, params.list("EnableCloudwatchLogsExports"));
        let (on, off) = ("CloudwatchLogsExportConfiguration.EnableLogTypes", "CloudwatchLogsExportConfiguration.DisableLogTypes");
        let gone = params.list(off).unwrap_or_default();
        instance.log_exports.retain(|kind| !gone.contains(kind));
        for kind in params.list(on).unwrap_or_default() {
            if !instance.log_exports.contains(&kind) {
                instance.log_exports.push(kind);
            }
        }
        if matches!(instance.status, Status::Creating) {
            take(&mut instance.multi_az, params.value("MultiAZ")?);
            take(&mut instance.storage_type, params.value("StorageType")?);
            take_some(&mut instance.iops, params.value("Iops")?);
            take_some(&mut instance.storage_throughput, params.value("StorageThroughput")?);
        }
        Ok(())
    }
}

fn take<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn take_some<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

/// The element `DBInstance`.
pub fn draw_instance(rds: &Rds, instance: &Instance) -> Body {
    let backup = rds.records().get::<super::model::AutomatedBackup>(&instance.region, instance.resource.as_str());
    let latest = backup.and_then(|backup| backup.latest).filter(|_| instance.backup_retention > 0);
    let subnet_group = instance.subnet_group.as_ref().and_then(|name| rds.records().get::<SubnetGroup>(&instance.region, name));
    let reachable = !matches!(instance.status, Status::Creating);
    let endpoint = Body::default().text("Address", instance.host()).text("Port", instance.port).text("HostedZoneId", "Z2R2ITUGPM61AM");
    let parameters = match (instance.parameters_pending_reboot, instance.status) {
        (true, _) => "pending-reboot",
        (false, _) => "in-sync",
    };
    let second_zone = instance.multi_az.then(|| if instance.availability_zone.ends_with('a') { "b" } else { "a" });
    let mut body = Body::default()
        .text("DBInstanceIdentifier", &instance.id)
        .text("DBInstanceArn", instance.arn())
        .text("DbiResourceId", &instance.resource)
        .text("DBInstanceClass", &instance.class)
        .text("DBInstanceStatus", instance.status.name())
        .text("Engine", "postgres")
        .text("EngineVersion", &instance.engine_version)
        .text("LicenseModel", "postgresql-license")
        .text("MasterUsername", &instance.master_username)
        .maybe("DBName", instance.db_name.as_ref())
        .text("AllocatedStorage", instance.allocated_storage)
        .maybe("MaxAllocatedStorage", instance.max_allocated_storage)
        .text("StorageType", &instance.storage_type)
        .maybe("Iops", instance.iops)
        .maybe("StorageThroughput", instance.storage_throughput)
        .text("StorageEncrypted", instance.encrypted)
        .maybe("KmsKeyId", instance.kms_key.as_ref())
        .text("PreferredBackupWindow", &instance.backup_window)
        .text("BackupRetentionPeriod", instance.backup_retention)
        .text("PreferredMaintenanceWindow", &instance.maintenance_window)
        .text("AvailabilityZone", &instance.availability_zone)
        .maybe("SecondaryAvailabilityZone", second_zone.map(|zone| format!("{}{zone}", instance.region)))
        .text("MultiAZ", instance.multi_az)
        .text("AutoMinorVersionUpgrade", instance.auto_minor_version_upgrade)
        .text("PubliclyAccessible", instance.publicly_accessible)
        .text("CopyTagsToSnapshot", instance.copy_tags_to_snapshot)
        .text("DeletionProtection", instance.deletion_protection)
        .text("IAMDatabaseAuthenticationEnabled", instance.iam_authentication)
        .text("PerformanceInsightsEnabled", instance.performance_insights)
        .maybe("PerformanceInsightsKMSKeyId", instance.performance_insights_kms_key.as_ref())
        .maybe("PerformanceInsightsRetentionPeriod", instance.performance_insights_retention)
        .maybe("DatabaseInsightsMode", instance.database_insights_mode.as_ref())
        .text("MonitoringInterval", instance.monitoring_interval)
        .maybe("MonitoringRoleArn", instance.monitoring_role.as_ref())
        .text("DbInstancePort", 0)
        .text("CACertificateIdentifier", &instance.ca_certificate)
        .text("NetworkType", &instance.network_type)
        .text("BackupTarget", "region")
        .text("EngineLifecycleSupport", "open-source-rds-extended-support")
        .text("DedicatedLogVolume", false)
        .text("CustomerOwnedIpEnabled", false)
        .text("ActivityStreamStatus", "stopped")
        .maybe("LatestRestorableTime", latest)
        .values("EnabledCloudwatchLogsExports", "member", &instance.log_exports)
        .list("DBSecurityGroups", "DBSecurityGroup", [])
        .list("ReadReplicaDBInstanceIdentifiers", "ReadReplicaDBInstanceIdentifier", [])
        .list("DomainMemberships", "DomainMembership", [])
        .list("AssociatedRoles", "DBInstanceRole", [])
        .list(
            "VpcSecurityGroups",
            "VpcSecurityGroupMembership",
            instance.security_groups.iter().map(|id| Body::default().text("VpcSecurityGroupId", id).text("Status", "active")),
        )
        .list(
            "DBParameterGroups",
            "DBParameterGroup",
            [Body::default().text("DBParameterGroupName", &instance.parameter_group).text("ParameterApplyStatus", parameters)],
        )
        .list(
            "OptionGroupMemberships",
            "OptionGroupMembership",
            [Body::default().text("OptionGroupName", super::catalog::OPTION_GROUP).text("Status", "in-sync")],
        )
        .nested("PendingModifiedValues", draw_pending(&instance.pending))
        .nested(
            "CertificateDetails",
            Body::default().text("CAIdentifier", &instance.ca_certificate).text("ValidTill", super::catalog::CERTIFICATE_END),
        )
        .list("TagList", "Tag", draw_tags(&instance.tags));
    if reachable {
        body = body.text("InstanceCreateTime", instance.created).nested("Endpoint", endpoint);
    }
    if let Some(group) = subnet_group {
        body = body.nested("DBSubnetGroup", draw_subnet_group(&instance.region, &group));
    }
    if let Some(secret) = &instance.secret {
        let status = if instance.status == Status::Creating { "creating" } else { "active" };
        let inside = Body::default().text("SecretArn", &secret.arn).text("SecretStatus", status).text("KmsKeyId", &secret.kms_key);
        body = body.nested("MasterUserSecret", inside);
    }
    draw_replications(rds, body, &instance.resource, &instance.region)
}

fn draw_pending(pending: &Pending) -> Body {
    Body::default()
        .maybe("DBInstanceClass", pending.class.as_ref())
        .maybe("AllocatedStorage", pending.allocated_storage)
        .maybe("MultiAZ", pending.multi_az)
        .maybe("StorageType", pending.storage_type.as_ref())
        .maybe("Iops", pending.iops)
        .maybe("StorageThroughput", pending.storage_throughput)
        .maybe("EngineVersion", pending.engine_version.as_ref())
        .maybe("Port", pending.port)
        .maybe("DBInstanceIdentifier", pending.identifier.as_ref())
}
