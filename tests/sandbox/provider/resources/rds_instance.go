package resources

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

// instanceParameters maps arguments to RDS' parameters, for creating and modifying alike.
var instanceParameters = map[string]string{
	"allocated_storage": "AllocatedStorage", "auto_minor_version_upgrade": "AutoMinorVersionUpgrade", "backup_retention_period": "BackupRetentionPeriod",
	"backup_window": "PreferredBackupWindow", "ca_cert_identifier": "CACertificateIdentifier", "copy_tags_to_snapshot": "CopyTagsToSnapshot",
	"database_insights_mode": "DatabaseInsightsMode", "dedicated_log_volume": "DedicatedLogVolume", "deletion_protection": "DeletionProtection",
	"engine_version": "EngineVersion", "iam_database_authentication_enabled": "EnableIAMDatabaseAuthentication", "instance_class": "DBInstanceClass", "iops": "Iops",
	"license_model": "LicenseModel", "maintenance_window": "PreferredMaintenanceWindow", "manage_master_user_password": "ManageMasterUserPassword",
	"master_user_secret_kms_key_id": "MasterUserSecretKmsKeyId", "max_allocated_storage": "MaxAllocatedStorage", "monitoring_interval": "MonitoringInterval",
	"monitoring_role_arn": "MonitoringRoleArn", "multi_az": "MultiAZ", "network_type": "NetworkType", "option_group_name": "OptionGroupName",
	"parameter_group_name": "DBParameterGroupName", "performance_insights_enabled": "EnablePerformanceInsights",
	"performance_insights_kms_key_id": "PerformanceInsightsKMSKeyId", "performance_insights_retention_period": "PerformanceInsightsRetentionPeriod",
	"publicly_accessible": "PubliclyAccessible", "storage_throughput": "StorageThroughput", "storage_type": "StorageType",
	"vpc_security_group_ids": "VpcSecurityGroupIds.VpcSecurityGroupId",
}

// creationParameters can be given at creation only, or have another name for changes.
var creationParameters = map[string]string{
	"engine": "Engine", "username": "MasterUsername", "db_name": "DBName", "port": "Port", "db_subnet_group_name": "DBSubnetGroupName", "kms_key_id": "KmsKeyId",
	"storage_encrypted": "StorageEncrypted", "availability_zone": "AvailabilityZone", "character_set_name": "CharacterSetName", "timezone": "Timezone",
	"enabled_cloudwatch_logs_exports": "EnableCloudwatchLogsExports.member", "engine_lifecycle_support": "EngineLifecycleSupport",
}

// notForRestores are parameters that a restore takes from its snapshot; they are set by a change afterwards where RDS allows it.
var notForRestores = "allocated_storage backup_retention_period backup_window engine_version maintenance_window manage_master_user_password master_user_secret_kms_key_id " +
	"max_allocated_storage monitoring_interval monitoring_role_arn performance_insights_enabled performance_insights_kms_key_id performance_insights_retention_period username kms_key_id storage_encrypted timezone character_set_name"

func dbInstances() table {
	return table{
		"aws_db_instance": {
			Computed: `allocated_storage availability_zone backup_retention_period backup_target backup_window ca_cert_identifier character_set_name
				database_insights_mode db_name db_subnet_group_name engine engine_lifecycle_support engine_version identifier identifier_prefix iops kms_key_id license_model
				maintenance_window master_user_secret_kms_key_id monitoring_role_arn multi_az nchar_character_set_name network_type option_group_name
				parameter_group_name performance_insights_kms_key_id performance_insights_retention_period port replica_mode storage_throughput storage_type
				timezone username vpc_security_group_ids`,
			Replace: `availability_zone backup_target character_set_name custom_iam_instance_profile db_name engine identifier_prefix kms_key_id nchar_character_set_name
				s3_import snapshot_identifier storage_encrypted timezone username restore_to_point_in_time`,
			Sensitive: "password",
			Defaults: map[string]any{"apply_immediately": false, "auto_minor_version_upgrade": true, "copy_tags_to_snapshot": false,
				"dedicated_log_volume": false, "delete_automated_backups": true, "monitoring_interval": 0.0, "performance_insights_enabled": false, "publicly_accessible": false, "skip_final_snapshot": false},
			Same: map[string]func(old, new any) bool{"engine_version": func(old, new any) bool { return sameVersion(value.Text(new), value.Text(old)) },
				"backup_window": sameFolded, "maintenance_window": sameFolded, "identifier": sameFolded},
			Adjust: adjustInstance,
			Create: createInstance, Read: readInstance, Update: updateInstance, Delete: deleteInstance, Tag: rdsTag,
			Import: func(c *engine.Call, id string) error {
				c.SetAll(map[string]any{"identifier": id, "skip_final_snapshot": true, "delete_automated_backups": true})
				return nil
			},
		},
	}
}

func sameFolded(old, new any) bool { return strings.EqualFold(value.Text(old), value.Text(new)) }

// sameVersion tells whether a written version (17) covers another (17.4).
func sameVersion(written, actual string) bool {
	return written == actual || strings.HasPrefix(actual, written+".")
}

func adjustInstance(p *Plan) error {
	if p.Creating() {
		// Only an RDS-managed password has a secret.
		if p.Config["manage_master_user_password"] == nil {
			p.Planned["master_user_secret"] = []any{}
			if p.Config["master_user_secret_kms_key_id"] == nil {
				p.Planned["master_user_secret_kms_key_id"] = nil
			}
		}
		return nil
	}
	// Storage that has grown by itself, within its limit, is left alone.
	was, _ := value.Number(p.Was("allocated_storage"))
	now, _ := value.Number(p.At("allocated_storage"))
	limit, _ := value.Number(p.At("max_allocated_storage"))
	if limit > 0 && now < was && was <= limit {
		p.Planned["allocated_storage"] = p.Prior["allocated_storage"]
	}
	if p.Changed("engine_version") {
		p.Planned["engine_version_actual"] = value.Unknown
	}
	if p.Changed("port", "identifier") {
		p.Planned["endpoint"], p.Planned["address"] = value.Unknown, value.Unknown
	}
	if p.Changed("manage_master_user_password") {
		p.Planned["master_user_secret"] = value.Unknown
	}
	return nil
}

// rdsTag changes the tags of an RDS object.
func rdsTag(c *engine.Call, set map[string]string, remove []string) error {
	if len(remove) > 0 {
		if _, err := c.Query("rds", "RemoveTagsFromResource", cloud.P{"ResourceName": c.S("arn"), "TagKeys.member": remove}); err != nil {
			return err
		}
	}
	if len(set) == 0 {
		return nil
	}
	_, err := c.Query("rds", "AddTagsToResource", cloud.P{"ResourceName": c.S("arn"), "Tags.Tag": pairs(set, "Key", "Value")})
	return err
}

func rdsTags(c *engine.Call, arn string) error {
	n, err := c.Query("rds", "ListTagsForResource", cloud.P{"ResourceName": arn})
	if err != nil {
		return err
	}
	c.SetTags(n.Pairs("TagList/Tag", "Key", "Value"))
	return nil
}

// parameter is a value for RDS: lists as they are, everything else when it is known.
func parameter(c *engine.Call, name string) any {
	if l, ok := c.At(name).([]any); ok {
		if len(l) == 0 {
			return nil
		}
		return l
	}
	if v := c.Known(name); value.Text(v) != "" {
		return v
	}
	return nil
}

func createInstance(c *engine.Call) error {
	id := c.S("identifier")
	if id == "" {
		prefix := c.S("identifier_prefix")
		if prefix == "" {
			prefix = "terraform-"
		}
		id = unique(prefix)
	}
	action, p := "CreateDBInstance", cloud.P{"DBInstanceIdentifier": id, "Tags.Tag": pairs(c.Tags(), "Key", "Value")}
	for _, names := range []map[string]string{instanceParameters, creationParameters} {
		for name, api := range names {
			p[api] = parameter(c, name)
		}
	}
	restored := true
	switch {
	case c.Has("snapshot_identifier"):
		action, p["DBSnapshotIdentifier"] = "RestoreDBInstanceFromDBSnapshot", c.S("snapshot_identifier")
	case len(c.Objects("restore_to_point_in_time")) > 0:
		action = "RestoreDBInstanceToPointInTime"
		delete(p, "DBInstanceIdentifier")
		p["TargetDBInstanceIdentifier"] = id
		for arg, api := range map[string]string{"restore_time": "RestoreTime", "source_db_instance_identifier": "SourceDBInstanceIdentifier",
			"source_dbi_resource_id": "SourceDbiResourceId", "source_db_instance_automated_backups_arn": "SourceDBInstanceAutomatedBackupsArn",
			"use_latest_restorable_time": "UseLatestRestorableTime"} {
			p[api] = c.Given("restore_to_point_in_time." + arg)
		}
	default:
		restored = false
		// The password, where one is given, comes from the configuration and goes nowhere else.
		p["MasterUserPassword"] = c.Given("password")
		if wo := c.Config["password_wo"]; wo != nil {
			p["MasterUserPassword"] = wo
		}
	}
	if restored {
		for name := range strings.FieldsSeq(notForRestores) {
			delete(p, instanceParameters[name])
			delete(p, creationParameters[name])
		}
	}
	if _, err := c.Query("rds", action, p); err != nil {
		return err
	}
	c.SetAll(map[string]any{"identifier": id, "id": id})
	if err := instanceAvailable(c, "create"); err != nil || !restored {
		return err
	}
	later := cloud.P{}
	for name := range strings.FieldsSeq(notForRestores) {
		if api := instanceParameters[name]; api != "" && c.Config[name] != nil {
			later[api] = parameter(c, name)
		}
	}
	return modifyInstance(c, later, "create")
}

func modifyInstance(c *engine.Call, p cloud.P, operation string) error {
	if len(p) == 0 {
		return nil
	}
	p["DBInstanceIdentifier"], p["ApplyImmediately"] = c.S("identifier"), operation == "create" || c.B("apply_immediately")
	if _, err := c.Query("rds", "ModifyDBInstance", p); err != nil {
		return err
	}
	return instanceAvailable(c, operation)
}

func instanceAvailable(c *engine.Call, operation string) error {
	deadline := map[string]time.Duration{"create": 40 * time.Minute, "update": 80 * time.Minute}[operation]
	return c.Wait("DB instance "+c.S("identifier")+" to be available", c.Timeout(operation, deadline), func() (bool, error) {
		n, err := instance(c, c.S("identifier"))
		state := n.S("DBInstanceStatus")
		if strings.HasPrefix(state, "failed") || strings.HasPrefix(state, "incompatible-") {
			return false, fmt.Errorf("DB instance %s is %s", c.S("identifier"), state)
		}
		return state == "available" || state == "storage-optimization", err
	})
}

func instance(c *engine.Call, id string) (*cloud.Node, error) {
	p := cloud.P{"DBInstanceIdentifier": id}
	if strings.HasPrefix(id, "db-") && strings.ToUpper(id[3:]) == id[3:] {
		p = cloud.P{"Filters.Filter": []cloud.P{{"Name": "dbi-resource-id", "Values.Value": []string{id}}}}
	}
	n, err := c.Query("rds", "DescribeDBInstances", p)
	if err != nil {
		return nil, engine.Absent(err, "DBInstanceNotFound", "DBInstanceNotFoundFault")
	}
	if all := n.All("DBInstances/DBInstance"); len(all) > 0 {
		return all[0], nil
	}
	return nil, engine.ErrGone
}

func updateInstance(c *engine.Call) error {
	p := cloud.P{}
	for name, api := range instanceParameters {
		if c.Changed(name) && !value.IsUnknown(c.At(name)) {
			p[api] = parameter(c, name)
		}
	}
	if c.Changed("port") {
		p["DBPortNumber"] = c.Known("port")
	}
	if c.Changed("db_subnet_group_name") {
		p["DBSubnetGroupName"] = c.Given("db_subnet_group_name")
	}
	if c.Changed("identifier") {
		p["NewDBInstanceIdentifier"] = c.S("identifier")
	}
	if c.Changed("max_allocated_storage") && !c.Has("max_allocated_storage") {
		p["MaxAllocatedStorage"] = c.Known("allocated_storage") // Growing by itself is switched off that way.
	}
	if c.Changed("deletion_protection") {
		p["DeletionProtection"] = c.B("deletion_protection")
	}
	if c.Changed("engine_version") {
		p["AllowMajorVersionUpgrade"] = c.B("allow_major_version_upgrade")
	}
	if c.Changed("enabled_cloudwatch_logs_exports") {
		on, off := difference(c.Was("enabled_cloudwatch_logs_exports"), c.At("enabled_cloudwatch_logs_exports"))
		p["CloudwatchLogsExportConfiguration.EnableLogTypes.member"], p["CloudwatchLogsExportConfiguration.DisableLogTypes.member"] = on, off
	}
	if c.Changed("password") {
		p["MasterUserPassword"] = c.Given("password")
	}
	if c.Changed("password_wo_version") {
		p["MasterUserPassword"] = c.Config["password_wo"]
	}
	if c.Changed("manage_master_user_password") && !c.B("manage_master_user_password") {
		p["ManageMasterUserPassword"] = false
	}
	next := c.S("identifier")
	if old, ok := c.Was("identifier").(string); ok && old != next {
		c.Set("identifier", old)
		defer c.Set("identifier", next)
	}
	return modifyInstance(c, p, "update")
}

func deleteInstance(c *engine.Call) error {
	p := cloud.P{"DBInstanceIdentifier": c.S("identifier"), "DeleteAutomatedBackups": c.B("delete_automated_backups"), "SkipFinalSnapshot": c.B("skip_final_snapshot")}
	if !c.B("skip_final_snapshot") {
		if !c.Has("final_snapshot_identifier") {
			return errors.New("final_snapshot_identifier is required when skip_final_snapshot is false")
		}
		p["FinalDBSnapshotIdentifier"] = c.S("final_snapshot_identifier")
	}
	_, err := c.Query("rds", "DeleteDBInstance", p)
	if err != nil && !(cloud.Is(err, "InvalidDBInstanceState*") && contains(err, "already being deleted")) {
		return engine.Absent(err, "DBInstanceNotFound", "DBInstanceNotFoundFault")
	}
	return c.Gone("DB instance "+c.S("identifier"), c.Timeout("delete", 60*time.Minute), func() error { _, err := instance(c, c.S("identifier")); return err })
}
