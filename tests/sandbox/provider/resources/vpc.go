package resources

import (
	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

func vpc() table {
	return table{
		"aws_vpc": {
			Computed: "cidr_block ipv6_cidr_block ipv6_cidr_block_network_border_group enable_dns_hostnames enable_network_address_usage_metrics",
			Replace:  "cidr_block instance_tenancy ipv4_ipam_pool_id ipv4_netmask_length",
			Defaults: map[string]any{"instance_tenancy": "default", "enable_dns_support": true},
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "CreateVpc", "vpc", cloud.P{"CidrBlock": c.Given("cidr_block"), "InstanceTenancy": c.S("instance_tenancy")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("vpc/vpcId"))
				return vpcAttributes(c)
			},
			Read: readVPC, Update: vpcAttributes, Tag: ec2Tag,
			Delete: func(c *engine.Call) error { return ec2Delete(c, "DeleteVpc", cloud.P{"VpcId": c.ID()}) },
		},
		"aws_subnet": {
			Computed: "availability_zone availability_zone_id cidr_block ipv6_cidr_block private_dns_hostname_type_on_launch",
			Replace:  "availability_zone availability_zone_id cidr_block vpc_id ipv6_native outpost_arn",
			Defaults: map[string]any{"assign_ipv6_address_on_creation": false, "enable_dns64": false, "ipv6_native": false,
				"enable_resource_name_dns_a_record_on_launch": false, "enable_resource_name_dns_aaaa_record_on_launch": false,
				"map_public_ip_on_launch": false},
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "CreateSubnet", "subnet", cloud.P{"VpcId": c.S("vpc_id"), "CidrBlock": c.Given("cidr_block"),
					"AvailabilityZone": c.Given("availability_zone"), "AvailabilityZoneId": c.Given("availability_zone_id")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("subnet/subnetId"))
				return subnetAttributes(c)
			},
			Read: readSubnet, Update: subnetAttributes, Tag: ec2Tag,
			Delete: func(c *engine.Call) error {
				if err := lingering(c, "subnet-id"); err != nil {
					return err
				}
				return ec2Delete(c, "DeleteSubnet", cloud.P{"SubnetId": c.ID()})
			},
		},
	}
}

func vpcAttributes(c *engine.Call) error {
	for attribute, name := range vpcFlags {
		if c.Known(attribute) == nil || !c.Changed(attribute) {
			continue
		}
		if _, err := c.Query("ec2", "ModifyVpcAttribute", cloud.P{"VpcId": c.ID(), name + ".Value": c.B(attribute)}); err != nil {
			return err
		}
	}
	return nil
}

var vpcFlags = map[string]string{
	"enable_dns_support": "EnableDnsSupport", "enable_dns_hostnames": "EnableDnsHostnames",
	"enable_network_address_usage_metrics": "EnableNetworkAddressUsageMetrics",
}

func readVPC(c *engine.Call) error {
	n, err := ec2One(c, "DescribeVpcs", "VpcId", "vpcSet", c.ID())
	if err != nil {
		return err
	}
	for attribute, name := range map[string]string{"enable_dns_support": "enableDnsSupport", "enable_dns_hostnames": "enableDnsHostnames",
		"enable_network_address_usage_metrics": "enableNetworkAddressUsageMetrics"} {
		a, err := c.Query("ec2", "DescribeVpcAttribute", cloud.P{"VpcId": c.ID(), "Attribute": name})
		if err != nil {
			return err
		}
		c.Set(attribute, a.True(name+"/value"))
	}
	c.SetAll(map[string]any{
		"arn": c.ARN("ec2", "vpc/"+c.ID()), "cidr_block": n.S("cidrBlock"), "instance_tenancy": n.S("instanceTenancy"),
		"dhcp_options_id": n.S("dhcpOptionsId"), "owner_id": n.S("ownerId"), "ipv6_association_id": "", "ipv6_cidr_block": "",
		"ipv6_cidr_block_network_border_group": "",
	})
	for _, v6 := range n.All("ipv6CidrBlockAssociationSet/item") {
		c.SetAll(map[string]any{"ipv6_association_id": v6.S("associationId"), "ipv6_cidr_block": v6.S("ipv6CidrBlock"),
			"ipv6_cidr_block_network_border_group": v6.S("networkBorderGroup"), "assign_generated_ipv6_cidr_block": true})
	}
	c.SetTags(ec2Tags(n))
	return readVPCDefaults(c)
}

// readVPCDefaults looks up what AWS makes together with a VPC.
func readVPCDefaults(c *engine.Call) error {
	for attribute, q := range map[string]struct{ action, list, id, flag, val string }{
		"default_network_acl_id":    {"DescribeNetworkAcls", "networkAclSet", "networkAclId", "default", "true"},
		"main_route_table_id":       {"DescribeRouteTables", "routeTableSet", "routeTableId", "association.main", "true"},
		"default_security_group_id": {"DescribeSecurityGroups", "securityGroupInfo", "groupId", "group-name", "default"},
	} {
		n, err := ec2Find(c, q.action, cloud.P{"Filter": filter("vpc-id", c.ID(), q.flag, q.val)}, q.list)
		if err != nil && err != engine.ErrGone {
			return err
		}
		c.Set(attribute, n.S(q.id))
	}
	// The main route table is another than the default one only after a main association, which we do not make.
	c.Set("default_route_table_id", c.S("main_route_table_id"))
	return nil
}

var subnetFlags = map[string]string{
	"map_public_ip_on_launch": "MapPublicIpOnLaunch", "assign_ipv6_address_on_creation": "AssignIpv6AddressOnCreation", "enable_dns64": "EnableDns64",
	"enable_resource_name_dns_a_record_on_launch":    "EnableResourceNameDnsARecordOnLaunch",
	"enable_resource_name_dns_aaaa_record_on_launch": "EnableResourceNameDnsAAAARecordOnLaunch",
}

func subnetAttributes(c *engine.Call) error {
	for attribute, name := range subnetFlags {
		// A new subnet has none of these flags.
		if c.Prior == nil && !c.B(attribute) || !c.Changed(attribute) {
			continue
		}
		if _, err := c.Query("ec2", "ModifySubnetAttribute", cloud.P{"SubnetId": c.ID(), name + ".Value": c.B(attribute)}); err != nil {
			return err
		}
	}
	if v := c.Given("private_dns_hostname_type_on_launch"); v != nil && c.Changed("private_dns_hostname_type_on_launch") {
		_, err := c.Query("ec2", "ModifySubnetAttribute", cloud.P{"SubnetId": c.ID(), "PrivateDnsHostnameTypeOnLaunch": v})
		return err
	}
	return nil
}

func readSubnet(c *engine.Call) error {
	n, err := ec2One(c, "DescribeSubnets", "SubnetId", "subnetSet", c.ID())
	if err != nil {
		return err
	}
	hostname := n.S("privateDnsNameOptionsOnLaunch/hostnameType")
	if hostname == "" {
		hostname = "ip-name"
	}
	c.SetAll(map[string]any{
		"arn": c.ARN("ec2", "subnet/"+c.ID()), "vpc_id": n.S("vpcId"), "cidr_block": n.S("cidrBlock"),
		"availability_zone": n.S("availabilityZone"), "availability_zone_id": n.S("availabilityZoneId"),
		"map_public_ip_on_launch": n.True("mapPublicIpOnLaunch"), "owner_id": n.S("ownerId"), "ipv6_native": n.True("ipv6Native"),
		"assign_ipv6_address_on_creation": n.True("assignIpv6AddressOnCreation"), "enable_dns64": n.True("enableDns64"),
		"enable_resource_name_dns_a_record_on_launch":    n.True("privateDnsNameOptionsOnLaunch/enableResourceNameDnsARecord"),
		"enable_resource_name_dns_aaaa_record_on_launch": n.True("privateDnsNameOptionsOnLaunch/enableResourceNameDnsAAAARecord"),
		"private_dns_hostname_type_on_launch":            hostname, "ipv6_cidr_block": "", "ipv6_cidr_block_association_id": "",
	})
	c.SetTags(ec2Tags(n))
	return nil
}
