package resources

import (
	"fmt"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

// templateField maps an argument to its name in requests and its path in answers; an empty list of kids is a plain value.
type templateField struct {
	name, send, got string
	list            bool
	kids            []templateField
}

func same(names ...string) []templateField {
	var out []templateField
	for _, n := range names {
		camel := ""
		for part := range strings.SplitSeq(n, "_") {
			camel += strings.ToUpper(part[:1]) + part[1:]
		}
		out = append(out, templateField{name: n, send: camel, got: strings.ToLower(camel[:1]) + camel[1:]})
	}
	return out
}

// templateFields is the part of a launch template that can be made here; anything else in a configuration is refused, not dropped.
var templateFields = append(same("image_id", "instance_type", "key_name", "user_data", "ebs_optimized", "disable_api_termination", "disable_api_stop",
	"instance_initiated_shutdown_behavior", "kernel_id"),
	templateField{name: "vpc_security_group_ids", send: "SecurityGroupId", got: "securityGroupIdSet/item"},
	templateField{name: "security_group_names", send: "SecurityGroup", got: "securityGroupSet/item"},
	templateField{name: "block_device_mappings", send: "BlockDeviceMapping", got: "blockDeviceMappingSet/item", list: true, kids: append(same("device_name", "no_device", "virtual_name"),
		templateField{name: "ebs", send: "Ebs", got: "ebs", kids: same("delete_on_termination", "encrypted", "iops", "kms_key_id", "snapshot_id", "throughput", "volume_size", "volume_type")})},
	templateField{name: "metadata_options", send: "MetadataOptions", got: "metadataOptions", kids: same("http_endpoint", "http_protocol_ipv6", "http_put_response_hop_limit",
		"http_tokens", "instance_metadata_tags")},
	templateField{name: "monitoring", send: "Monitoring", got: "monitoring", kids: same("enabled")},
	templateField{name: "iam_instance_profile", send: "IamInstanceProfile", got: "iamInstanceProfile", kids: same("arn", "name")},
	templateField{name: "network_interfaces", send: "NetworkInterface", got: "networkInterfaceSet/item", list: true, kids: append(same("associate_public_ip_address",
		"delete_on_termination", "description", "device_index", "network_card_index", "interface_type", "subnet_id", "private_ip_address"),
		templateField{name: "security_groups", send: "SecurityGroupId", got: "groupSet/item"})},
)

func launchTemplates() table {
	return table{
		"aws_launch_template": {
			Computed: `name name_prefix default_version metadata_options metadata_options.http_endpoint metadata_options.http_protocol_ipv6
				metadata_options.http_put_response_hop_limit metadata_options.http_tokens metadata_options.instance_metadata_tags
				block_device_mappings.ebs.iops block_device_mappings.ebs.throughput block_device_mappings.ebs.volume_size block_device_mappings.ebs.volume_type`,
			Replace: "name name_prefix", Adjust: adjustTemplate,
			Create: func(c *engine.Call) error {
				data, err := templateData(c)
				if err != nil {
					return err
				}
				n, err := ec2Create(c, "CreateLaunchTemplate", "launch-template", cloud.P{"LaunchTemplateName": named(c), "VersionDescription": c.Given("description"),
					"LaunchTemplateData": data, "ClientToken": requestToken()})
				if err == nil {
					c.Set("id", n.S("launchTemplate/launchTemplateId"))
				}
				return err
			},
			Read: readTemplate, Update: updateTemplate, Tag: ec2Tag,
			Delete: func(c *engine.Call) error {
				return ec2Delete(c, "DeleteLaunchTemplate", cloud.P{"LaunchTemplateId": c.ID()})
			},
		},
	}
}

// adjustTemplate: another content is another version, and maybe another default.
func adjustTemplate(p *Plan) error {
	if p.Creating() {
		return nil
	}
	changed := p.Changed("description", "tag_specifications")
	for _, f := range templateFields {
		changed = changed || p.Changed(f.name)
	}
	if changed {
		p.Planned["latest_version"] = value.Unknown
		if p.Config["update_default_version"] == true {
			p.Planned["default_version"] = value.Unknown
		}
	}
	return nil
}

func templateData(c *engine.Call) (cloud.P, error) {
	known := map[string]bool{"name": true, "name_prefix": true, "description": true, "tags": true, "tags_all": true, "update_default_version": true,
		"default_version": true, "region": true, "tag_specifications": true, "id": true, "arn": true, "latest_version": true}
	for _, f := range templateFields {
		known[f.name] = true
	}
	for name, v := range c.Config {
		if !known[name] && !value.Empty(v) {
			return nil, fmt.Errorf("the offline provider cannot make launch templates with %s", name)
		}
	}
	p := sendFields(templateFields, c.State)
	list := []cloud.P{}
	for _, s := range c.Objects("tag_specifications") {
		tags := map[string]string{}
		for k, v := range value.Map(s["tags"]) {
			tags[k] = value.Text(v)
		}
		list = append(list, cloud.P{"ResourceType": text(s, "resource_type"), "Tag": pairs(tags, "Key", "Value")})
	}
	if len(list) > 0 {
		p["TagSpecification"] = list
	}
	return p, nil
}

func sendFields(fields []templateField, m map[string]any) cloud.P {
	p := cloud.P{}
	for _, f := range fields {
		v := m[f.name]
		switch {
		case v == nil || value.IsUnknown(v) || value.Text(v) == "":
		case f.kids == nil:
			p[f.send] = v
		case f.list:
			items := []cloud.P{}
			for _, item := range value.List(v) {
				items = append(items, sendFields(f.kids, value.Map(item)))
			}
			p[f.send] = items
		default:
			if first := at(m, f.name); first != nil {
				p[f.send] = sendFields(f.kids, first)
			}
		}
	}
	return p
}

// gotFields reads an answer; what was asked for and is not in it is kept, because the emulator does not store everything.
func gotFields(fields []templateField, n *cloud.Node, asked map[string]any) map[string]any {
	m := map[string]any{}
	for _, f := range fields {
		switch {
		case f.kids != nil:
			var nodes []*cloud.Node
			if f.list {
				nodes = n.All(f.got)
			} else if one := n.At(f.got); one != nil {
				nodes = []*cloud.Node{one}
			}
			list, before := []any{}, value.List(asked[f.name])
			for i, k := range nodes {
				var was map[string]any
				if i < len(before) {
					was = value.Map(before[i])
				}
				list = append(list, gotFields(f.kids, k, was))
			}
			m[f.name] = list
		case strings.HasSuffix(f.got, "/item"):
			m[f.name] = n.Texts(f.got)
		default:
			m[f.name] = n.Or(f.got)
			if m[f.name] == nil && !value.IsUnknown(asked[f.name]) {
				m[f.name] = asked[f.name]
			}
		}
	}
	return m
}

func readTemplate(c *engine.Call) error {
	n, err := ec2One(c, "DescribeLaunchTemplates", "LaunchTemplateId", "launchTemplates", c.ID())
	if err != nil {
		return err
	}
	latest := n.S("latestVersionNumber")
	v, err := ec2Find(c, "DescribeLaunchTemplateVersions", cloud.P{"LaunchTemplateId": c.ID(), "LaunchTemplateVersion": []string{latest}}, "launchTemplateVersionSet")
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"arn": c.ARN("ec2", "launch-template/"+c.ID()), "name": n.S("launchTemplateName"), "name_prefix": prefixOf(c, n.S("launchTemplateName")),
		"latest_version": latest, "default_version": n.S("defaultVersionNumber"), "description": v.S("versionDescription")})
	data := v.At("launchTemplateData")
	c.SetAll(gotFields(templateFields, data, c.State))
	specs := []any{}
	for _, s := range data.All("tagSpecificationSet/item") {
		specs = append(specs, map[string]any{"resource_type": s.S("resourceType"), "tags": value.Map(s.Pairs("tagSet/item", "key", "value"))})
	}
	c.Set("tag_specifications", specs)
	c.SetTags(ec2Tags(n))
	return nil
}

func updateTemplate(c *engine.Call) error {
	latest := c.Was("latest_version")
	if value.IsUnknown(c.At("latest_version")) {
		data, err := templateData(c)
		if err != nil {
			return err
		}
		n, err := c.Query("ec2", "CreateLaunchTemplateVersion", cloud.P{"LaunchTemplateId": c.ID(), "VersionDescription": c.Given("description"),
			"LaunchTemplateData": data, "ClientToken": requestToken()})
		if err != nil {
			return err
		}
		latest = n.S("launchTemplateVersion/versionNumber")
	}
	next := c.Given("default_version")
	if c.B("update_default_version") {
		next = latest
	}
	if next == nil || value.Text(next) == value.Text(c.Was("default_version")) {
		return nil
	}
	_, err := c.Query("ec2", "ModifyLaunchTemplate", cloud.P{"LaunchTemplateId": c.ID(), "SetDefaultVersion": next})
	return err
}
