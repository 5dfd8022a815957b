package resources

import (
	"errors"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

func gateways() table {
	return table{
		"aws_internet_gateway": {
			Computed: "vpc_id",
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "CreateInternetGateway", "internet-gateway", cloud.P{})
				if err != nil {
					return err
				}
				c.Set("id", n.S("internetGateway/internetGatewayId"))
				return attachGateway(c)
			},
			Read: func(c *engine.Call) error {
				n, err := ec2One(c, "DescribeInternetGateways", "InternetGatewayId", "internetGatewaySet", c.ID())
				if err != nil {
					return err
				}
				c.SetAll(map[string]any{"arn": c.ARN("ec2", "internet-gateway/"+c.ID()), "owner_id": owner(c, n), "vpc_id": n.S("attachmentSet/item/vpcId")})
				c.SetTags(ec2Tags(n))
				return nil
			},
			Update: func(c *engine.Call) error { return errors.Join(detachGateway(c), attachGateway(c)) },
			Delete: func(c *engine.Call) error {
				if err := detachGateway(c); err != nil {
					return err
				}
				return ec2Delete(c, "DeleteInternetGateway", cloud.P{"InternetGatewayId": c.ID()})
			},
			Tag: ec2Tag,
		},
		"aws_eip": {
			Computed: "domain instance network_interface public_ipv4_pool network_border_group ipam_pool_id",
			Replace:  "domain address public_ipv4_pool network_border_group customer_owned_ipv4_pool ipam_pool_id",
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "AllocateAddress", "elastic-ip", cloud.P{"Domain": "vpc", "Address": c.Given("address"),
					"PublicIpv4Pool": c.Given("public_ipv4_pool"), "NetworkBorderGroup": c.Given("network_border_group")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("allocationId"))
				return associateAddress(c)
			},
			Read: readAddress,
			Update: func(c *engine.Call) error {
				if !c.Changed("instance", "network_interface", "associate_with_private_ip") {
					return nil
				}
				return errors.Join(disassociateAddress(c), associateAddress(c))
			},
			Delete: func(c *engine.Call) error {
				if err := disassociateAddress(c); err != nil {
					return err
				}
				return ec2Delete(c, "ReleaseAddress", cloud.P{"AllocationId": c.ID()})
			},
			Tag: ec2Tag,
		},
		"aws_nat_gateway": {
			Computed: "private_ip secondary_allocation_ids secondary_private_ip_address_count secondary_private_ip_addresses availability_mode vpc_id availability_zone_address",
			Replace:  "allocation_id connectivity_type private_ip subnet_id availability_mode vpc_id",
			Defaults: map[string]any{"connectivity_type": "public"},
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "CreateNatGateway", "natgateway", cloud.P{"AllocationId": c.Given("allocation_id"), "SubnetId": c.Given("subnet_id"),
					"ConnectivityType": c.S("connectivity_type"), "PrivateIpAddress": c.Given("private_ip")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("natGateway/natGatewayId"))
				return c.Wait("NAT gateway "+c.ID()+" to be available", c.Timeout("create", 10*time.Minute), func() (bool, error) {
					n, err := ec2One(c, "DescribeNatGateways", "NatGatewayId", "natGatewaySet", c.ID())
					if n.S("state") == "failed" {
						return false, errors.New("NAT gateway " + c.ID() + " failed: " + n.S("failureMessage"))
					}
					return n.S("state") == "available", err
				})
			},
			Read: readNAT,
			Delete: func(c *engine.Call) error {
				if err := ec2Delete(c, "DeleteNatGateway", cloud.P{"NatGatewayId": c.ID()}); err != nil {
					return err
				}
				return c.Gone("NAT gateway "+c.ID(), c.Timeout("delete", 30*time.Minute), func() error { return readNAT(c) })
			},
			Tag: ec2Tag,
		},
	}
}

func owner(c *engine.Call, n *cloud.Node) string {
	if id := n.S("ownerId"); id != "" {
		return id
	}
	return c.Meta.Account
}

func attachGateway(c *engine.Call) error {
	if !c.Has("vpc_id") {
		return nil
	}
	_, err := c.Query("ec2", "AttachInternetGateway", cloud.P{"InternetGatewayId": c.ID(), "VpcId": c.S("vpc_id")})
	return err
}

func detachGateway(c *engine.Call) error {
	from, ok := c.Was("vpc_id").(string)
	if !ok || from == "" {
		return nil
	}
	_, err := c.Query("ec2", "DetachInternetGateway", cloud.P{"InternetGatewayId": c.ID(), "VpcId": from})
	if cloud.Is(err, "Gateway.NotAttached", "Invalid*NotFound") {
		return nil
	}
	return err
}

func associateAddress(c *engine.Call) error {
	if !c.Has("instance") && !c.Has("network_interface") {
		return nil
	}
	_, err := c.Query("ec2", "AssociateAddress", cloud.P{"AllocationId": c.ID(), "InstanceId": c.Given("instance"),
		"NetworkInterfaceId": c.Given("network_interface"), "PrivateIpAddress": c.Given("associate_with_private_ip")})
	return err
}

func disassociateAddress(c *engine.Call) error {
	id, ok := c.Was("association_id").(string)
	// A NAT gateway's own association ends with the gateway.
	if !ok || id == "" || c.Was("instance") == nil && c.Was("network_interface") == nil {
		return nil
	}
	_, err := c.Query("ec2", "DisassociateAddress", cloud.P{"AssociationId": id})
	if cloud.Is(err, "InvalidAssociationID.NotFound", "AuthFailure") {
		return nil
	}
	return err
}

func readAddress(c *engine.Call) error {
	n, err := ec2One(c, "DescribeAddresses", "AllocationId", "addressesSet", c.ID())
	if err != nil {
		return err
	}
	// Its name in DNS is read on its own, and nobody here gives it one.
	if _, err := c.Query("ec2", "DescribeAddressesAttribute", cloud.P{"AllocationId": []string{c.ID()}, "Attribute": "domain-name"}); err != nil {
		return err
	}
	c.SetAll(map[string]any{
		"arn": c.ARN("ec2", "elastic-ip/"+c.ID()), "allocation_id": c.ID(), "association_id": n.S("associationId"), "domain": n.S("domain"),
		"public_ip": n.S("publicIp"), "private_ip": n.S("privateIpAddress"), "instance": n.S("instanceId"),
		"network_interface": n.S("networkInterfaceId"), "public_ipv4_pool": n.S("publicIpv4Pool"), "network_border_group": c.Region,
		"carrier_ip": "", "customer_owned_ip": "", "ptr_record": "", "ipam_pool_id": nil,
	})
	if n.S("publicIp") != "" {
		c.Set("public_dns", "ec2-"+dashed(n.S("publicIp"))+".compute-1.amazonaws.com")
	}
	if n.S("privateIpAddress") != "" {
		c.Set("private_dns", "ip-"+dashed(n.S("privateIpAddress"))+".ec2.internal")
	}
	c.SetTags(ec2Tags(n))
	return nil
}

func readNAT(c *engine.Call) error {
	n, err := ec2One(c, "DescribeNatGateways", "NatGatewayId", "natGatewaySet", c.ID())
	if err != nil {
		return err
	}
	if n.S("state") == "deleted" {
		return engine.ErrGone
	}
	kind := n.S("connectivityType")
	if kind == "" {
		kind = "public"
	}
	mode := n.S("availabilityMode")
	if mode == "" {
		mode = "zonal"
	}
	c.SetAll(map[string]any{"subnet_id": n.S("subnetId"), "vpc_id": n.S("vpcId"), "connectivity_type": kind, "availability_mode": mode,
		"secondary_allocation_ids": []any{}, "secondary_private_ip_addresses": []any{}, "secondary_private_ip_address_count": 0,
		"availability_zone_address": []any{}, "regional_nat_gateway_address": []any{}})
	for _, a := range n.All("natGatewayAddressSet/item") {
		c.SetAll(map[string]any{"allocation_id": a.Or("allocationId"), "association_id": a.S("associationId"), "public_ip": a.S("publicIp"),
			"private_ip": a.S("privateIp"), "network_interface_id": a.S("networkInterfaceId")})
		break // The first address is the primary one.
	}
	c.SetTags(ec2Tags(n))
	return nil
}
