package resources

import (
	"slices"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func data() map[string]*engine.Data {
	return map[string]*engine.Data{
		"aws_caller_identity": {Read: func(c *engine.Call) error {
			c.SetAll(map[string]any{"id": c.Meta.Account, "account_id": c.Meta.Account, "arn": c.Meta.CallerARN, "user_id": c.Meta.CallerID})
			return nil
		}},
		"aws_partition": {Read: func(c *engine.Call) error {
			suffix := "amazonaws.com"
			if c.Meta.Partition == "aws-cn" {
				suffix = "amazonaws.com.cn"
			}
			labels := strings.Split(suffix, ".")
			slices.Reverse(labels)
			c.SetAll(map[string]any{"id": c.Meta.Partition, "partition": c.Meta.Partition, "dns_suffix": suffix, "reverse_dns_prefix": strings.Join(labels, ".")})
			return nil
		}},
		"aws_region": {Read: func(c *engine.Call) error {
			for _, name := range []string{"name", "region"} {
				if c.Has(name) {
					c.Region = c.S(name)
				}
			}
			c.SetAll(map[string]any{"id": c.Region, "name": c.Region, "region": c.Region, "endpoint": "ec2." + c.Region + ".amazonaws.com",
				"description": c.Region})
			return nil
		}},
		"aws_availability_zones":    {Read: readZones},
		"aws_iam_session_context":   {Read: readSession},
		"aws_iam_policy_document":   {Read: readPolicyDocument},
		"aws_ssm_parameter":         {Read: readParameterData, Sensitive: "value"},
		"aws_kms_alias":             {Read: readAliasData},
		"aws_eks_cluster":           {Read: readClusterData},
		"aws_eks_addon_version":     {Read: readAddonVersion},
		"aws_db_instance":           {Read: readInstanceData},
		"aws_secretsmanager_secret": {Read: readSecretData},
	}
}

func readZones(c *engine.Call) error {
	p := cloud.P{"AllAvailabilityZones": c.Given("all_availability_zones")}
	filters := []cloud.P{}
	for _, f := range c.Objects("filter") {
		filters = append(filters, cloud.P{"Name": text(f, "name"), "Value": value.Texts(f["values"])})
	}
	if c.Has("state") {
		filters = append(filters, filter("state", c.S("state"))...)
	}
	if len(filters) > 0 {
		p["Filter"] = filters
	}
	n, err := c.Query("ec2", "DescribeAvailabilityZones", p)
	if err != nil {
		return err
	}
	names, ids, groups := []any{}, []any{}, []any{}
	zones := n.All("availabilityZoneInfo/item")
	slices.SortFunc(zones, func(a, b *cloud.Node) int { return strings.Compare(a.S("zoneName"), b.S("zoneName")) })
	for _, z := range zones {
		if slices.Contains(c.Texts("exclude_names"), z.S("zoneName")) || slices.Contains(c.Texts("exclude_zone_ids"), z.S("zoneId")) {
			continue
		}
		names, ids = append(names, z.S("zoneName")), append(ids, z.S("zoneId"))
		if g := z.S("groupName"); g != "" && !slices.Contains(groups, any(g)) {
			groups = append(groups, g)
		}
	}
	c.SetAll(map[string]any{"id": c.Region, "names": names, "zone_ids": ids, "group_names": groups})
	return nil
}

// readSession finds the role behind a session's ARN, as the eks module does for the cluster's creator.
func readSession(c *engine.Call) error {
	arn := c.S("arn")
	c.SetAll(map[string]any{"id": arn, "issuer_arn": arn, "issuer_id": "", "issuer_name": "", "session_name": ""})
	parts := strings.Split(arn, ":")
	resource := strings.Split(parts[len(parts)-1], "/")
	if len(parts) < 6 || parts[2] != "sts" || resource[0] != "assumed-role" || len(resource) < 3 {
		return nil
	}
	n, err := c.Query("iam", "GetRole", cloud.P{"RoleName": resource[1]})
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"issuer_arn": n.S("Role/Arn"), "issuer_id": n.S("Role/RoleId"), "issuer_name": resource[1], "session_name": resource[len(resource)-1]})
	return nil
}
