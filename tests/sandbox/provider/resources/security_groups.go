package resources

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func securityGroups() table {
	return table{
		"aws_security_group": {
			Computed: "name name_prefix vpc_id ingress egress", AttributeBlocks: "ingress egress",
			Replace:  "name name_prefix description vpc_id",
			Defaults: map[string]any{"description": "Managed by Terraform", "revoke_rules_on_delete": false},
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "CreateSecurityGroup", "security-group", cloud.P{"GroupName": named(c), "GroupDescription": c.S("description"), "VpcId": c.Given("vpc_id")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("groupId"))
				// The rule that lets everything out is AWS', not Terraform's: only what is written is allowed.
				if err := revokeAll(c, "egress"); err != nil {
					return err
				}
				return inlineRules(c)
			},
			Read: readGroup, Update: inlineRules, Tag: ec2Tag,
			Delete: func(c *engine.Call) error {
				if err := lingering(c, "group-id"); err != nil {
					return err
				}
				if c.B("revoke_rules_on_delete") {
					for _, way := range []string{"ingress", "egress"} {
						if err := revokeAll(c, way); err != nil {
							return err
						}
					}
				}
				return ec2Delete(c, "DeleteSecurityGroup", cloud.P{"GroupId": c.ID()})
			},
		},
		"aws_default_security_group": {
			Computed: "vpc_id ingress egress", AttributeBlocks: "ingress egress", Replace: "vpc_id",
			Defaults: map[string]any{"revoke_rules_on_delete": false},
			// Nothing is made: the VPC's default group is taken over and emptied.
			Create: func(c *engine.Call) error {
				n, err := ec2Find(c, "DescribeSecurityGroups", cloud.P{"Filter": filter("vpc-id", c.S("vpc_id"), "group-name", "default")}, "securityGroupInfo")
				if err != nil {
					return err
				}
				c.Set("id", n.S("groupId"))
				for _, way := range []string{"ingress", "egress"} {
					if err := revokeAll(c, way); err != nil {
						return err
					}
				}
				if err := ec2Tag(c, c.Tags(), nil); err != nil {
					return err
				}
				return inlineRules(c)
			},
			Read: readGroup, Update: inlineRules, Tag: ec2Tag,
			// AWS keeps a default group as long as its VPC.
			Delete: func(*engine.Call) error { return nil },
		},
	}
}

var ways = map[string][2]string{"ingress": {"Ingress", "ipPermissions"}, "egress": {"Egress", "ipPermissionsEgress"}}

func readGroup(c *engine.Call) error {
	n, err := ec2One(c, "DescribeSecurityGroups", "GroupId", "securityGroupInfo", c.ID())
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"arn": c.ARN("ec2", "security-group/"+c.ID()), "name": n.S("groupName"), "description": n.S("groupDescription"),
		"owner_id": owner(c, n), "vpc_id": n.S("vpcId"), "name_prefix": prefixOf(c, n.S("groupName"))})
	for way, names := range ways {
		c.Set(way, matched(c.At(way), rulesOf(n.All(names[1]+"/item"), c.ID())))
	}
	c.SetTags(ec2Tags(n))
	return nil
}

// sources are the lists of a rule that say from or to where it goes: argument, list in the API, member of it.
var sources = [][3]string{{"cidr_blocks", "ipRanges", "cidrIp"}, {"ipv6_cidr_blocks", "ipv6Ranges", "cidrIpv6"},
	{"prefix_list_ids", "prefixListIds", "prefixListId"}, {"security_groups", "groups", "groupId"}}

// rulesOf reads permissions as inline rules, one for each protocol, ports and description.
func rulesOf(permissions []*cloud.Node, self string) []map[string]any {
	var out []map[string]any
	find := func(p *cloud.Node, description string) map[string]any {
		r := map[string]any{"protocol": p.S("ipProtocol"), "from_port": port(p, "fromPort"), "to_port": port(p, "toPort"), "description": description,
			"self": false}
		for _, other := range out {
			if slices.Equal(ruleKey(other), ruleKey(r)) {
				return other
			}
		}
		for _, s := range sources {
			r[s[0]] = []any{}
		}
		out = append(out, r)
		return r
	}
	for _, p := range permissions {
		for _, s := range sources {
			for _, item := range p.All(s[1] + "/item") {
				r := find(p, item.S("description"))
				if id := item.S(s[2]); id == self {
					r["self"] = true
				} else {
					r[s[0]] = append(value.List(r[s[0]]), id)
				}
			}
		}
	}
	return out
}

func port(p *cloud.Node, name string) any {
	if s := p.S(name); s != "" && s != "-1" || p.S("ipProtocol") == "icmp" {
		return p.S(name)
	}
	return "0"
}

func ruleKey(r map[string]any) []string {
	return []string{protocol(text(r, "protocol")), portText(r["from_port"]), portText(r["to_port"]), text(r, "description")}
}

func portText(v any) string {
	f, _ := value.Number(v)
	return strconv.Itoa(int(f))
}

func protocol(p string) string {
	switch p = strings.ToLower(p); p {
	case "all":
		return "-1"
	case "6":
		return "tcp"
	case "17":
		return "udp"
	}
	return p
}

// matched gives the rules found as they were written, where one that was written is wholly there; the rest follows as it is.
func matched(written any, found []map[string]any) []any {
	out := []any{}
	for _, item := range value.List(written) {
		w := value.Map(item)
		for _, f := range found {
			if slices.Equal(ruleKey(w), ruleKey(f)) && takeFrom(w, f) {
				out = append(out, w)
				break
			}
		}
	}
	for _, f := range found {
		empty := f["self"] != true
		for _, s := range sources {
			empty = empty && len(value.List(f[s[0]])) == 0
		}
		if !empty {
			out = append(out, f)
		}
	}
	return out
}

func takeFrom(w, f map[string]any) bool {
	for _, s := range sources {
		for _, id := range value.Texts(w[s[0]]) {
			if !slices.Contains(value.Texts(f[s[0]]), id) {
				return false
			}
		}
	}
	if w["self"] == true && f["self"] != true {
		return false
	}
	for _, s := range sources {
		f[s[0]] = slices.DeleteFunc(slices.Clone(value.List(f[s[0]])), func(id any) bool { return slices.Contains(value.Texts(w[s[0]]), value.Text(id)) })
	}
	if w["self"] == true {
		f["self"] = false
	}
	return true
}

// permission writes an inline rule for the API.
func permission(r map[string]any, self string) cloud.P {
	p := cloud.P{"IpProtocol": protocol(text(r, "protocol"))}
	if p["IpProtocol"] != "-1" {
		p["FromPort"], p["ToPort"] = portText(r["from_port"]), portText(r["to_port"])
	}
	add := func(list, member, id string) {
		item := cloud.P{member: id, "Description": orNil(text(r, "description"))}
		old, _ := p[list].([]cloud.P)
		p[list] = append(old, item)
	}
	for _, id := range value.Texts(r["cidr_blocks"]) {
		add("IpRanges", "CidrIp", id)
	}
	for _, id := range value.Texts(r["ipv6_cidr_blocks"]) {
		add("Ipv6Ranges", "CidrIpv6", id)
	}
	for _, id := range value.Texts(r["prefix_list_ids"]) {
		add("PrefixListIds", "PrefixListId", id)
	}
	for _, id := range value.Texts(r["security_groups"]) {
		add("Groups", "GroupId", id)
	}
	if r["self"] == true {
		add("Groups", "GroupId", self)
	}
	return p
}

func changeRules(c *engine.Call, group, verb, way string, rules []map[string]any) error {
	if len(rules) == 0 {
		return nil
	}
	list := []cloud.P{}
	for _, r := range rules {
		list = append(list, permission(r, group))
	}
	_, err := c.Query("ec2", verb+"SecurityGroup"+ways[way][0], cloud.P{"GroupId": group, "IpPermissions": list})
	if verb == "Revoke" && cloud.Is(err, "InvalidPermission.NotFound") || verb == "Authorize" && cloud.Is(err, "InvalidPermission.Duplicate") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s rules of %s: %w", way, group, err)
	}
	return nil
}

func revokeAll(c *engine.Call, way string) error {
	n, err := ec2One(c, "DescribeSecurityGroups", "GroupId", "securityGroupInfo", c.ID())
	if err != nil {
		return err
	}
	return changeRules(c, c.ID(), "Revoke", way, rulesOf(n.All(ways[way][1]+"/item"), c.ID()))
}

// inlineRules makes a group's rules those that are written in it; a group without any leaves them to the rule resources.
func inlineRules(c *engine.Call) error {
	for way := range ways {
		if value.IsUnknown(c.At(way)) || !c.Changed(way) {
			continue
		}
		missing := func(from, in any) []map[string]any {
			var out []map[string]any
			for _, item := range value.List(from) {
				key := value.Canonical(item)
				if !slices.ContainsFunc(value.List(in), func(o any) bool { return value.Canonical(o) == key }) {
					out = append(out, value.Map(item))
				}
			}
			return out
		}
		if err := changeRules(c, c.ID(), "Revoke", way, missing(c.Was(way), c.At(way))); err != nil {
			return err
		}
		if err := changeRules(c, c.ID(), "Authorize", way, missing(c.At(way), c.Was(way))); err != nil {
			return err
		}
	}
	return nil
}
