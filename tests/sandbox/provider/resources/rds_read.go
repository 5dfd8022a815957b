package resources

import (
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

// instanceTexts maps attributes to elements of the answer that are taken as they are.
var instanceTexts = map[string]string{
	"allocated_storage": "AllocatedStorage", "arn": "DBInstanceArn", "availability_zone": "AvailabilityZone", "backup_retention_period": "BackupRetentionPeriod",
	"backup_target": "BackupTarget", "backup_window": "PreferredBackupWindow", "ca_cert_identifier": "CACertificateIdentifier",
	"character_set_name": "CharacterSetName", "database_insights_mode": "DatabaseInsightsMode", "db_name": "DBName", "db_subnet_group_name": "DBSubnetGroup/DBSubnetGroupName",
	"engine": "Engine", "engine_lifecycle_support": "EngineLifecycleSupport", "engine_version_actual": "EngineVersion", "identifier": "DBInstanceIdentifier",
	"instance_class": "DBInstanceClass", "iops": "Iops", "kms_key_id": "KmsKeyId", "latest_restorable_time": "LatestRestorableTime", "license_model": "LicenseModel",
	"maintenance_window": "PreferredMaintenanceWindow", "max_allocated_storage": "MaxAllocatedStorage", "monitoring_interval": "MonitoringInterval",
	"monitoring_role_arn": "MonitoringRoleArn", "network_type": "NetworkType", "option_group_name": "OptionGroupMemberships/OptionGroupMembership/OptionGroupName",
	"parameter_group_name": "DBParameterGroups/DBParameterGroup/DBParameterGroupName", "performance_insights_kms_key_id": "PerformanceInsightsKMSKeyId",
	"performance_insights_retention_period": "PerformanceInsightsRetentionPeriod", "replica_mode": "ReplicaMode", "replicate_source_db": "ReadReplicaSourceDBInstanceIdentifier",
	"resource_id": "DbiResourceId", "status": "DBInstanceStatus", "storage_throughput": "StorageThroughput", "storage_type": "StorageType", "timezone": "Timezone",
	"username": "MasterUsername", "nchar_character_set_name": "NcharCharacterSetName",
}

var instanceFlags = map[string]string{
	"auto_minor_version_upgrade": "AutoMinorVersionUpgrade", "copy_tags_to_snapshot": "CopyTagsToSnapshot", "dedicated_log_volume": "DedicatedLogVolume",
	"deletion_protection": "DeletionProtection", "iam_database_authentication_enabled": "IAMDatabaseAuthenticationEnabled", "multi_az": "MultiAZ",
	"performance_insights_enabled": "PerformanceInsightsEnabled", "publicly_accessible": "PubliclyAccessible", "storage_encrypted": "StorageEncrypted",
	"customer_owned_ip_enabled": "CustomerOwnedIpEnabled",
}

// numbers that AWS answers as 0 when there are none.
var instanceNumbers = []string{"iops", "monitoring_interval", "performance_insights_retention_period", "storage_throughput", "max_allocated_storage", "backup_retention_period"}

func readInstance(c *engine.Call) error {
	// By its id, as the real provider does: a rename by somebody else does not lose it, and another of its name is not taken for it.
	id := c.ID()
	if id == "" {
		id = c.S("identifier")
	}
	n, err := instance(c, id)
	if err != nil {
		return err
	}
	written := c.S("engine_version")
	for name, path := range instanceTexts {
		if v := n.Or(path); v != nil {
			c.Set(name, v)
		} else if !c.Has(name) || name != "backup_target" {
			c.Set(name, nil)
		}
	}
	for _, name := range instanceNumbers {
		if c.At(name) == nil {
			c.Set(name, 0)
		}
	}
	for name, path := range instanceFlags {
		c.Set(name, n.True(path))
	}
	c.Set("id", n.S("DbiResourceId"))
	if c.ID() == "" {
		c.Set("id", n.S("DBInstanceIdentifier"))
	}
	if actual := n.S("EngineVersion"); !sameVersion(written, actual) || written == "" {
		c.Set("engine_version", actual)
	}
	if c.At("backup_target") == nil {
		c.Set("backup_target", "region")
	}
	host, port := n.S("Endpoint/Address"), n.S("Endpoint/Port")
	if port == "" {
		port = n.S("DbInstancePort")
	}
	c.SetAll(map[string]any{"address": host, "hosted_zone_id": n.S("Endpoint/HostedZoneId"), "port": orNil(port), "endpoint": nil, "listener_endpoint": []any{},
		"enabled_cloudwatch_logs_exports": n.Texts("EnabledCloudwatchLogsExports/member"), "replicas": n.Texts("ReadReplicaDBInstanceIdentifiers/ReadReplicaDBInstanceIdentifier"),
		"identifier_prefix": orEmpty(c.Given("identifier_prefix")), "master_user_secret": []any{}})
	if host != "" {
		c.Set("endpoint", host+":"+port)
	}
	groups := []any{}
	for _, g := range n.All("VpcSecurityGroups/VpcSecurityGroupMembership") {
		groups = append(groups, g.S("VpcSecurityGroupId"))
	}
	c.Set("vpc_security_group_ids", groups)
	// The secret's name, never what is in it.
	if secret := n.At("MasterUserSecret"); secret.S("SecretArn") != "" {
		c.Set("master_user_secret", block(map[string]any{"secret_arn": secret.S("SecretArn"), "secret_status": secret.S("SecretStatus"), "kms_key_id": secret.S("KmsKeyId")}))
		c.Set("master_user_secret_kms_key_id", secret.S("KmsKeyId"))
		c.Set("manage_master_user_password", true)
	}
	return rdsTags(c, n.S("DBInstanceArn"))
}

func readInstanceData(c *engine.Call) error {
	n, err := instance(c, c.S("db_instance_identifier"))
	if err != nil {
		return missing(err, "DB instance "+c.S("db_instance_identifier"))
	}
	for name, path := range instanceTexts {
		c.Set(name, n.Or(path))
	}
	for name, path := range instanceFlags {
		c.Set(name, n.True(path))
	}
	port := n.S("Endpoint/Port")
	c.SetAll(map[string]any{"id": n.S("DBInstanceIdentifier"), "db_instance_identifier": n.S("DBInstanceIdentifier"), "db_instance_arn": n.S("DBInstanceArn"),
		"db_instance_class": n.S("DBInstanceClass"), "address": n.S("Endpoint/Address"), "endpoint": n.S("Endpoint/Address") + ":" + port, "port": orNil(port),
		"hosted_zone_id": n.S("Endpoint/HostedZoneId"), "db_instance_port": orNil(n.S("DbInstancePort")), "engine_version": n.S("EngineVersion"),
		"db_subnet_group": n.S("DBSubnetGroup/DBSubnetGroupName"), "master_username": n.S("MasterUsername"), "preferred_backup_window": n.S("PreferredBackupWindow"),
		"preferred_maintenance_window": n.S("PreferredMaintenanceWindow"), "enabled_cloudwatch_logs_exports": n.Texts("EnabledCloudwatchLogsExports/member"),
		"db_parameter_groups": []any{n.S("DBParameterGroups/DBParameterGroup/DBParameterGroupName")}})
	groups := []any{}
	for _, g := range n.All("VpcSecurityGroups/VpcSecurityGroupMembership") {
		groups = append(groups, g.S("VpcSecurityGroupId"))
	}
	c.Set("vpc_security_groups", groups)
	if secret := n.At("MasterUserSecret"); secret.S("SecretArn") != "" {
		c.Set("master_user_secret", block(map[string]any{"secret_arn": secret.S("SecretArn"), "secret_status": secret.S("SecretStatus"), "kms_key_id": secret.S("KmsKeyId")}))
	}
	t, err := c.Query("rds", "ListTagsForResource", cloud.P{"ResourceName": n.S("DBInstanceArn")})
	if err != nil {
		return err
	}
	tags := map[string]any{}
	for k, v := range t.Pairs("TagList/Tag", "Key", "Value") {
		if !strings.HasPrefix(k, "aws:") {
			tags[k] = v
		}
	}
	c.Set("tags", tags)
	return nil
}
