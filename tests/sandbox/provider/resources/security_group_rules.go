package resources

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func securityGroupRules() table {
	return table{
		"aws_vpc_security_group_ingress_rule": singleRule("ingress"),
		"aws_vpc_security_group_egress_rule":  singleRule("egress"),
		"aws_security_group_rule": {
			Computed: "source_security_group_id",
			Replace:  "type from_port to_port protocol cidr_blocks ipv6_cidr_blocks prefix_list_ids security_group_id source_security_group_id self",
			Defaults: map[string]any{"self": false},
			Same: map[string]func(old, new any) bool{"protocol": func(old, new any) bool {
				return protocol(value.Text(old)) == protocol(value.Text(new))
			}},
			Adjust: func(p *Plan) error {
				// Computed in the real provider for the form GROUP of another account; never known late here.
				if p.Config["source_security_group_id"] == nil && p.Creating() {
					p.Planned["source_security_group_id"] = nil
				}
				return nil
			},
			Create: func(c *engine.Call) error {
				if err := changeRules(c, c.S("security_group_id"), "Authorize", c.S("type"), []map[string]any{classic(c.State)}); err != nil {
					return err
				}
				c.Set("id", classicID(c.State))
				return nil
			},
			Read: readClassic,
			// Only the description can change in place.
			Update: func(c *engine.Call) error {
				group, way := c.S("security_group_id"), c.S("type")
				return errors.Join(changeRules(c, group, "Revoke", way, []map[string]any{classic(c.Prior)}),
					changeRules(c, group, "Authorize", way, []map[string]any{classic(c.State)}))
			},
			Delete: func(c *engine.Call) error {
				err := changeRules(c, c.S("security_group_id"), "Revoke", c.S("type"), []map[string]any{classic(c.State)})
				return engine.Absent(err, "InvalidGroup.NotFound")
			},
			Import: importClassic,
		},
	}
}

// Plan is the engine's; the alias keeps the tables short.
type Plan = engine.Plan

// ruleTargets: argument, name in requests, name in answers.
var ruleTargets = [][3]string{{"cidr_ipv4", "CidrIpv4", "cidrIpv4"}, {"cidr_ipv6", "CidrIpv6", "cidrIpv6"},
	{"prefix_list_id", "PrefixListId", "prefixListId"}, {"referenced_security_group_id", "ReferencedGroupId", "referencedGroupInfo/groupId"}}

func singleRule(way string) *engine.Resource {
	return &engine.Resource{
		Replace: "security_group_id",
		Same: map[string]func(old, new any) bool{"ip_protocol": func(old, new any) bool {
			return protocol(value.Text(old)) == protocol(value.Text(new))
		}},
		Create: func(c *engine.Call) error {
			n, err := ec2Create(c, "AuthorizeSecurityGroup"+ways[way][0], "security-group-rule",
				cloud.P{"GroupId": c.S("security_group_id"), "IpPermissions": []cloud.P{permission(single(c), "")}})
			if err != nil {
				return err
			}
			c.Set("id", n.S("securityGroupRuleSet/item/securityGroupRuleId"))
			return nil
		},
		Read: readSingleRule,
		Update: func(c *engine.Call) error {
			rule := cloud.P{"IpProtocol": protocol(c.S("ip_protocol")), "Description": c.S("description")}
			if rule["IpProtocol"] != "-1" {
				rule["FromPort"], rule["ToPort"] = c.Known("from_port"), c.Known("to_port")
			} else {
				rule["FromPort"], rule["ToPort"] = -1, -1
			}
			for _, t := range ruleTargets {
				name := t[1]
				rule[name] = c.Given(t[0])
			}
			_, err := c.Query("ec2", "ModifySecurityGroupRules", cloud.P{"GroupId": c.S("security_group_id"),
				"SecurityGroupRule": []cloud.P{{"SecurityGroupRuleId": c.ID(), "SecurityGroupRule": rule}}})
			return err
		},
		Delete: func(c *engine.Call) error {
			_, err := c.Query("ec2", "RevokeSecurityGroup"+ways[way][0], cloud.P{"GroupId": c.S("security_group_id"), "SecurityGroupRuleId": []string{c.ID()}})
			return engine.Absent(err, "InvalidSecurityGroupRuleId.NotFound", "InvalidGroup.NotFound", "InvalidPermission.NotFound")
		},
		Tag: ec2Tag,
	}
}

func single(c *engine.Call) map[string]any {
	r := map[string]any{"protocol": c.S("ip_protocol"), "from_port": c.Known("from_port"), "to_port": c.Known("to_port"), "description": c.S("description")}
	for arg, list := range map[string]string{"cidr_ipv4": "cidr_blocks", "cidr_ipv6": "ipv6_cidr_blocks", "prefix_list_id": "prefix_list_ids",
		"referenced_security_group_id": "security_groups"} {
		if c.Has(arg) {
			r[list] = []any{c.At(arg)}
		}
	}
	return r
}

func readSingleRule(c *engine.Call) error {
	n, err := ec2One(c, "DescribeSecurityGroupRules", "SecurityGroupRuleId", "securityGroupRuleSet", c.ID())
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"arn": c.ARN("ec2", "security-group-rule/"+c.ID()), "security_group_rule_id": c.ID(), "security_group_id": n.S("groupId"),
		"ip_protocol": n.S("ipProtocol"), "description": n.S("description"), "from_port": nil, "to_port": nil})
	// Every port of every protocol has no numbers.
	if n.S("ipProtocol") != "-1" {
		c.Set("from_port", n.Or("fromPort"))
		c.Set("to_port", n.Or("toPort"))
	}
	for _, t := range ruleTargets {
		c.Set(t[0], n.Or(t[2]))
	}
	c.SetTags(ec2Tags(n))
	return nil
}

// classic is an aws_security_group_rule in the form of an inline rule.
func classic(m map[string]any) map[string]any {
	r := map[string]any{}
	for _, name := range []string{"protocol", "from_port", "to_port", "description", "cidr_blocks", "ipv6_cidr_blocks", "prefix_list_ids", "self"} {
		if v := m[name]; !value.IsUnknown(v) {
			r[name] = v
		}
	}
	if id := text(m, "source_security_group_id"); id != "" {
		r["security_groups"] = []any{id}
	}
	return r
}

func classicID(m map[string]any) string {
	key := text(m, "security_group_id") + text(m, "type") + text(m, "source_security_group_id") + value.Canonical(classic(m))
	return fmt.Sprintf("sgrule-%d", crc32.ChecksumIEEE([]byte(key)))
}

func readClassic(c *engine.Call) error {
	group := c.S("security_group_id")
	n, err := ec2One(c, "DescribeSecurityGroups", "GroupId", "securityGroupInfo", group)
	if err != nil {
		return err
	}
	want := classic(c.State)
	for _, f := range rulesOf(n.All(ways[c.S("type")][1]+"/item"), group) {
		if c.Importing {
			want["description"] = f["description"]
		}
		if slices.Equal(ruleKey(want), ruleKey(f)) && takeFrom(want, f) {
			c.Set("description", f["description"])
			c.Set("security_group_rule_id", nil)
			return nil
		}
	}
	return engine.ErrGone
}

// importClassic reads GROUP_WAY_PROTOCOL_FROM_TO_SOURCE[_SOURCE…].
func importClassic(c *engine.Call, id string) error {
	parts := strings.Split(id, "_")
	if len(parts) < 6 || ways[parts[1]] == [2]string{} {
		return fmt.Errorf("%q is not GROUPID_TYPE_PROTOCOL_FROMPORT_TOPORT_SOURCE", id)
	}
	c.SetAll(map[string]any{"security_group_id": parts[0], "type": parts[1], "protocol": protocol(parts[2]), "from_port": zeroForAll(parts[3]),
		"to_port": zeroForAll(parts[4]), "self": false})
	for _, s := range parts[5:] {
		switch {
		case s == "self":
			c.Set("self", true)
		case strings.HasPrefix(s, "sg-"):
			c.Set("source_security_group_id", s)
		case strings.HasPrefix(s, "pl-"):
			c.Set("prefix_list_ids", append(value.List(c.At("prefix_list_ids")), s))
		case strings.Contains(s, ":"):
			c.Set("ipv6_cidr_blocks", append(value.List(c.At("ipv6_cidr_blocks")), s))
		default:
			c.Set("cidr_blocks", append(value.List(c.At("cidr_blocks")), s))
		}
	}
	c.Set("id", classicID(c.State))
	return nil
}

func zeroForAll(port string) string {
	if port == "all" {
		return "0"
	}
	return port
}
