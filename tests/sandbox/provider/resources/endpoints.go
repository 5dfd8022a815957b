package resources

import (
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func endpoints() table {
	return table{
		"aws_vpc_endpoint": {
			Computed: "policy private_dns_enabled route_table_ids security_group_ids subnet_ids ip_address_type dns_options subnet_configuration service_region",
			Replace:  "vpc_id service_name vpc_endpoint_type service_region resource_configuration_arn service_network_arn",
			Defaults: map[string]any{"vpc_endpoint_type": "Gateway"}, Documents: "policy",
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "CreateVpcEndpoint", "vpc-endpoint", cloud.P{"VpcId": c.S("vpc_id"), "ServiceName": c.Given("service_name"),
					"VpcEndpointType": c.S("vpc_endpoint_type"), "RouteTableId": c.Texts("route_table_ids"), "SubnetId": c.Texts("subnet_ids"),
					"SecurityGroupId": c.Texts("security_group_ids"), "PolicyDocument": c.Given("policy"), "PrivateDnsEnabled": c.Known("private_dns_enabled")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("vpcEndpoint/vpcEndpointId"))
				return c.Wait("VPC endpoint "+c.ID()+" to be available", c.Timeout("create", 10*time.Minute), func() (bool, error) {
					n, err := ec2One(c, "DescribeVpcEndpoints", "VpcEndpointId", "vpcEndpointSet", c.ID())
					return lower(n.S("state")) == "available", err
				})
			},
			Read: readEndpoint, Tag: ec2Tag,
			Update: func(c *engine.Call) error {
				p := cloud.P{"VpcEndpointId": c.ID()}
				if c.Changed("policy") {
					p["PolicyDocument"], p["ResetPolicy"] = c.Given("policy"), orNilBool(!c.Has("policy"))
				}
				if c.Changed("private_dns_enabled") {
					p["PrivateDnsEnabled"] = c.Known("private_dns_enabled")
				}
				for name, api := range map[string]string{"route_table_ids": "RouteTableId", "subnet_ids": "SubnetId", "security_group_ids": "SecurityGroupId"} {
					add, remove := difference(c.Was(name), c.At(name))
					p["Add"+api], p["Remove"+api] = add, remove
				}
				_, err := c.Query("ec2", "ModifyVpcEndpoint", p)
				return err
			},
			Delete: func(c *engine.Call) error {
				if err := ec2Delete(c, "DeleteVpcEndpoints", cloud.P{"VpcEndpointId": []string{c.ID()}}); err != nil {
					return err
				}
				return c.Gone("VPC endpoint "+c.ID(), c.Timeout("delete", 10*time.Minute), func() error { return readEndpoint(c) })
			},
		},
		"aws_flow_log": {
			Computed: "log_destination log_format",
			Replace: `deliver_cross_account_role eni_id iam_role_arn log_destination log_destination_type log_format max_aggregation_interval subnet_id
				traffic_type transit_gateway_attachment_id transit_gateway_id vpc_id destination_options tag_field_specification regional_nat_gateway_id`,
			Defaults: map[string]any{"log_destination_type": "cloud-watch-logs", "max_aggregation_interval": 600.0,
				"destination_options.file_format": "plain-text", "destination_options.hive_compatible_partitions": false, "destination_options.per_hour_partition": false},
			Create: createFlowLog, Read: readFlowLog, Tag: ec2Tag,
			Delete: func(c *engine.Call) error {
				_, err := c.Query("ec2", "DeleteFlowLogs", cloud.P{"FlowLogId": []string{c.ID()}})
				return engine.Absent(err, "InvalidFlowLogId.NotFound")
			},
		},
	}
}

func orNilBool(b bool) any {
	if b {
		return true
	}
	return nil
}

// difference is what is to be added and what removed to get from one set to another.
func difference(old, next any) (add, remove []string) {
	before, after := map[string]bool{}, map[string]bool{}
	for _, s := range value.Texts(old) {
		before[s] = true
	}
	for _, s := range value.Texts(next) {
		after[s] = true
		if !before[s] {
			add = append(add, s)
		}
	}
	for _, s := range value.Texts(old) {
		if !after[s] {
			remove = append(remove, s)
		}
	}
	return add, remove
}

func readEndpoint(c *engine.Call) error {
	n, err := ec2One(c, "DescribeVpcEndpoints", "VpcEndpointId", "vpcEndpointSet", c.ID())
	if err != nil {
		return err
	}
	if lower(n.S("state")) == "deleted" {
		return engine.ErrGone
	}
	kind := n.S("vpcEndpointType")
	ip := n.S("ipAddressType")
	if ip == "" && kind == "Interface" {
		ip = "ipv4"
	}
	c.SetAll(map[string]any{"arn": c.ARN("ec2", "vpc-endpoint/"+c.ID()), "owner_id": owner(c, n), "vpc_id": n.S("vpcId"), "service_name": n.S("serviceName"),
		"vpc_endpoint_type": kind, "state": lower(n.S("state")), "private_dns_enabled": n.True("privateDnsEnabled"), "service_region": c.Region,
		"requester_managed": n.True("requesterManaged"), "route_table_ids": n.Texts("routeTableIdSet/item"), "subnet_ids": n.Texts("subnetIdSet/item"),
		"network_interface_ids": n.Texts("networkInterfaceIdSet/item"), "ip_address_type": ip, "dns_options": []any{}, "subnet_configuration": []any{}})
	groups := n.Texts("groupSet/item/groupId")
	groups = groups[:0]
	for _, g := range n.All("groupSet/item") {
		groups = append(groups, g.S("groupId"))
	}
	c.Set("security_group_ids", groups)
	entries := []any{}
	for _, e := range n.All("dnsEntrySet/item") {
		entries = append(entries, map[string]any{"dns_name": e.S("dnsName"), "hosted_zone_id": e.S("hostedZoneId")})
	}
	c.Set("dns_entry", entries)
	if p := n.Or("policyDocument"); p != nil || value.IsUnknown(c.At("policy")) || c.Importing {
		c.Set("policy", p)
	}
	c.SetTags(ec2Tags(n))
	if kind != "Gateway" {
		return nil
	}
	l, err := ec2Find(c, "DescribePrefixLists", cloud.P{"Filter": filter("prefix-list-name", n.S("serviceName"))}, "prefixListSet")
	if err == engine.ErrGone {
		return nil
	}
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"prefix_list_id": l.S("prefixListId"), "cidr_blocks": l.Texts("cidrSet/item")})
	return nil
}

func createFlowLog(c *engine.Call) error {
	p := cloud.P{"TrafficType": c.Given("traffic_type"), "LogDestinationType": c.S("log_destination_type"), "LogDestination": c.Given("log_destination"),
		"LogFormat": c.Given("log_format"), "MaxAggregationInterval": c.Known("max_aggregation_interval"), "DeliverLogsPermissionArn": c.Given("iam_role_arn"),
		"DeliverCrossAccountRole": c.Given("deliver_cross_account_role")}
	for name, kind := range flowLogOf {
		if c.Has(name) {
			p["ResourceId"], p["ResourceType"] = []string{c.S(name)}, kind
		}
	}
	n, err := ec2Create(c, "CreateFlowLogs", "vpc-flow-log", p)
	if err != nil {
		return err
	}
	c.Set("id", n.S("flowLogIdSet/item"))
	// Tagged again: the emulator ignores the tags of a creation for this type.
	return ec2Tag(c, c.Tags(), nil)
}

var flowLogOf = map[string]string{"vpc_id": "VPC", "subnet_id": "Subnet", "eni_id": "NetworkInterface", "transit_gateway_id": "TransitGateway",
	"transit_gateway_attachment_id": "TransitGatewayAttachment"}

const flowLogFormat = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status}"

func readFlowLog(c *engine.Call) error {
	n, err := ec2One(c, "DescribeFlowLogs", "FlowLogId", "flowLogSet", c.ID())
	if err != nil {
		return err
	}
	kind, format, to := n.S("logDestinationType"), n.S("logFormat"), n.S("logDestination")
	if format == "" {
		format = flowLogFormat
	}
	if name := n.S("logGroupName"); to == "" && name != "" {
		to = c.ARN("logs", "log-group:"+name)
	}
	c.SetAll(map[string]any{"arn": c.ARN("ec2", "vpc-flow-log/"+c.ID()), "log_destination_type": kind, "log_destination": to,
		"traffic_type": n.Or("trafficType")})
	if !c.Has("log_format") || n.S("logFormat") != "" {
		c.Set("log_format", format)
	}
	// The emulator answers without these two; AWS always gives them.
	for name, at := range map[string]string{"iam_role_arn": "deliverLogsPermissionArn", "max_aggregation_interval": "maxAggregationInterval"} {
		if n.S(at) != "" {
			c.Set(name, n.S(at))
		}
	}
	for name, kind := range flowLogOf {
		if id := n.S("resourceId"); id != "" && (c.Has(name) || c.Importing && kind == flowLogKind(id)) {
			c.Set(name, id)
		}
	}
	c.SetTags(ec2Tags(n))
	return nil
}

func flowLogKind(id string) string {
	for prefix, kind := range map[string]string{"vpc-": "VPC", "subnet-": "Subnet", "eni-": "NetworkInterface"} {
		if len(id) > len(prefix) && id[:len(prefix)] == prefix {
			return kind
		}
	}
	return ""
}
