package resources

import (
	"slices"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func dbGroups() table {
	return table{
		"aws_db_subnet_group": {
			Computed: "name name_prefix", Replace: "name name_prefix", Defaults: map[string]any{"description": "Managed by Terraform"},
			Refreshed: "vpc_id supported_network_types",
			Create: func(c *engine.Call) error {
				name := strings.ToLower(named(c))
				_, err := c.Query("rds", "CreateDBSubnetGroup", cloud.P{"DBSubnetGroupName": name, "DBSubnetGroupDescription": c.S("description"),
					"SubnetIds.SubnetIdentifier": c.Texts("subnet_ids"), "Tags.Tag": pairs(c.Tags(), "Key", "Value")})
				if err == nil {
					c.Set("id", name)
				}
				return err
			},
			Read: func(c *engine.Call) error {
				n, err := c.Query("rds", "DescribeDBSubnetGroups", cloud.P{"DBSubnetGroupName": c.ID()})
				if err != nil {
					return engine.Absent(err, "DBSubnetGroupNotFoundFault", "DBSubnetGroupNotFound")
				}
				g := n.At("DBSubnetGroups/DBSubnetGroup")
				if g == nil {
					return engine.ErrGone
				}
				subnets := []any{}
				for _, s := range g.All("Subnets/Subnet") {
					subnets = append(subnets, s.S("SubnetIdentifier"))
				}
				c.SetAll(map[string]any{"arn": g.S("DBSubnetGroupArn"), "name": g.S("DBSubnetGroupName"), "name_prefix": prefixOf(c, c.ID()), "vpc_id": g.S("VpcId"),
					"description": g.S("DBSubnetGroupDescription"), "subnet_ids": subnets, "supported_network_types": g.Texts("SupportedNetworkTypes/member")})
				return rdsTags(c, g.S("DBSubnetGroupArn"))
			},
			Update: func(c *engine.Call) error {
				_, err := c.Query("rds", "ModifyDBSubnetGroup", cloud.P{"DBSubnetGroupName": c.ID(), "DBSubnetGroupDescription": c.S("description"), "SubnetIds.SubnetIdentifier": c.Texts("subnet_ids")})
				return err
			},
			Delete: func(c *engine.Call) error {
				return c.Wait("the instances of subnet group "+c.ID()+" to be gone", briefly, func() (bool, error) {
					_, err := c.Query("rds", "DeleteDBSubnetGroup", cloud.P{"DBSubnetGroupName": c.ID()})
					if cloud.Is(err, "InvalidDBSubnetGroupStateFault") {
						return false, nil
					}
					err = engine.Absent(err, "DBSubnetGroupNotFoundFault", "DBSubnetGroupNotFound")
					return err == nil, err
				})
			},
			Tag: rdsTag,
		},
		"aws_db_parameter_group": {
			Computed: "name name_prefix", Replace: "name name_prefix family description", Defaults: map[string]any{"description": "Managed by Terraform", "parameter.apply_method": "immediate", "skip_destroy": false},
			Create: func(c *engine.Call) error {
				name := strings.ToLower(named(c))
				_, err := c.Query("rds", "CreateDBParameterGroup", cloud.P{"DBParameterGroupName": name, "DBParameterGroupFamily": c.S("family"), "Description": c.S("description"), "Tags.Tag": pairs(c.Tags(), "Key", "Value")})
				if err != nil {
					return err
				}
				c.Set("id", name)
				return setParameters(c)
			},
			Read: readParameterGroup, Update: setParameters, Tag: rdsTag,
			Delete: func(c *engine.Call) error {
				if c.B("skip_destroy") {
					return nil
				}
				return c.Wait("the instances of parameter group "+c.ID()+" to be gone", briefly, func() (bool, error) {
					_, err := c.Query("rds", "DeleteDBParameterGroup", cloud.P{"DBParameterGroupName": c.ID()})
					if cloud.Is(err, "InvalidDBParameterGroupState") {
						return false, nil
					}
					err = engine.Absent(err, "DBParameterGroupNotFound", "DBParameterGroupNotFoundFault")
					return err == nil, err
				})
			},
		},
		"aws_db_instance_automated_backups_replication": {
			Computed: "kms_key_id", Replace: "kms_key_id pre_signed_url retention_period source_db_instance_arn", Defaults: map[string]any{"retention_period": 7.0},
			Create: func(c *engine.Call) error {
				n, err := c.Query("rds", "StartDBInstanceAutomatedBackupsReplication", cloud.P{"SourceDBInstanceArn": c.S("source_db_instance_arn"),
					"KmsKeyId": c.Given("kms_key_id"), "BackupRetentionPeriod": c.Known("retention_period"), "PreSignedUrl": c.Given("pre_signed_url")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("DBInstanceAutomatedBackup/DBInstanceAutomatedBackupsArn"))
				return c.Wait("the replication of the backups of "+c.S("source_db_instance_arn"), c.Timeout("create", 75*time.Minute), func() (bool, error) {
					b, err := replicatedBackup(c)
					return lower(b.S("Status")) == "replicating", err
				})
			},
			Read: func(c *engine.Call) error {
				b, err := replicatedBackup(c)
				if err != nil {
					return err
				}
				c.SetAll(map[string]any{"kms_key_id": b.S("KmsKeyId"), "source_db_instance_arn": b.S("DBInstanceArn"), "retention_period": b.S("BackupRetentionPeriod")})
				return nil
			},
			Delete: func(c *engine.Call) error {
				_, err := c.Query("rds", "StopDBInstanceAutomatedBackupsReplication", cloud.P{"SourceDBInstanceArn": c.S("source_db_instance_arn")})
				if err != nil {
					return engine.Absent(err, "DBInstanceNotFound", "DBInstanceAutomatedBackupNotFound", "DBInstanceAutomatedBackupNotFoundFault")
				}
				return c.Gone("the replication "+c.ID(), c.Timeout("delete", 75*time.Minute), func() error {
					b, err := replicatedBackup(c)
					// Stopped replication leaves the backups for as long as they are to be kept.
					if err == nil && lower(b.S("Status")) != "replicating" && lower(b.S("Status")) != "deleting" {
						return engine.ErrGone
					}
					return err
				})
			},
		},
	}
}

func replicatedBackup(c *engine.Call) (*cloud.Node, error) {
	n, err := c.Query("rds", "DescribeDBInstanceAutomatedBackups", cloud.P{"DBInstanceAutomatedBackupsArn": c.ID()})
	if err != nil {
		return nil, engine.Absent(err, "DBInstanceAutomatedBackupNotFound", "DBInstanceAutomatedBackupNotFoundFault")
	}
	for _, b := range n.All("DBInstanceAutomatedBackups/DBInstanceAutomatedBackup") {
		if b.S("DBInstanceAutomatedBackupsArn") == c.ID() {
			return b, nil
		}
	}
	return nil, engine.ErrGone
}

// perCall is how many parameters RDS changes at once.
const perCall = 20

func setParameters(c *engine.Call) error {
	gone := []cloud.P{}
	for _, item := range value.List(c.Was("parameter")) {
		old := value.Map(item)
		if !slices.ContainsFunc(c.Objects("parameter"), func(p map[string]any) bool { return p["name"] == old["name"] }) {
			gone = append(gone, cloud.P{"ParameterName": text(old, "name"), "ApplyMethod": text(old, "apply_method")})
		}
	}
	changed := []cloud.P{}
	for _, p := range c.Objects("parameter") {
		if !slices.ContainsFunc(value.List(c.Was("parameter")), func(o any) bool { return value.Canonical(o) == value.Canonical(p) }) {
			changed = append(changed, cloud.P{"ParameterName": text(p, "name"), "ParameterValue": text(p, "value"), "ApplyMethod": text(p, "apply_method")})
		}
	}
	for action, list := range map[string][]cloud.P{"ResetDBParameterGroup": gone, "ModifyDBParameterGroup": changed} {
		for part := range slices.Chunk(list, perCall) {
			if _, err := c.Query("rds", action, cloud.P{"DBParameterGroupName": c.ID(), "Parameters.Parameter": part}); err != nil {
				return err
			}
		}
	}
	return nil
}

func readParameterGroup(c *engine.Call) error {
	n, err := c.Query("rds", "DescribeDBParameterGroups", cloud.P{"DBParameterGroupName": c.ID()})
	if err != nil {
		return engine.Absent(err, "DBParameterGroupNotFound", "DBParameterGroupNotFoundFault")
	}
	g := n.At("DBParameterGroups/DBParameterGroup")
	if g == nil {
		return engine.ErrGone
	}
	list, marker := []any{}, any(nil)
	for {
		page, err := c.Query("rds", "DescribeDBParameters", cloud.P{"DBParameterGroupName": c.ID(), "Source": "user", "Marker": marker})
		if err != nil {
			return err
		}
		for _, p := range page.All("Parameters/Parameter") {
			if p.S("ParameterName") == "" || p.S("ParameterValue") == "" || p.S("Source") != "" && p.S("Source") != "user" {
				continue
			}
			method := p.S("ApplyMethod")
			if method == "" {
				method = "immediate"
			}
			list = append(list, map[string]any{"name": p.S("ParameterName"), "value": p.S("ParameterValue"), "apply_method": method})
		}
		if marker = page.Or("Marker"); marker == nil {
			break
		}
	}
	c.SetAll(map[string]any{"arn": g.S("DBParameterGroupArn"), "name": c.ID(), "name_prefix": prefixOf(c, c.ID()), "family": g.S("DBParameterGroupFamily"),
		"description": g.S("Description"), "parameter": list})
	return rdsTags(c, g.S("DBParameterGroupArn"))
}
