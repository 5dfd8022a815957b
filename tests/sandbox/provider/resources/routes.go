package resources

import (
	"fmt"
	"hash/crc32"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

// routeTargets maps arguments to the API's names and to those of its answers.
var routeTargets = map[string][2]string{
	"carrier_gateway_id": {"CarrierGatewayId", "carrierGatewayId"}, "core_network_arn": {"CoreNetworkArn", "coreNetworkArn"},
	"egress_only_gateway_id": {"EgressOnlyInternetGatewayId", "egressOnlyInternetGatewayId"}, "gateway_id": {"GatewayId", "gatewayId"},
	"local_gateway_id": {"LocalGatewayId", "localGatewayId"}, "nat_gateway_id": {"NatGatewayId", "natGatewayId"},
	"network_interface_id": {"NetworkInterfaceId", "networkInterfaceId"}, "transit_gateway_id": {"TransitGatewayId", "transitGatewayId"},
	"vpc_endpoint_id": {"VpcEndpointId", "vpcEndpointId"}, "vpc_peering_connection_id": {"VpcPeeringConnectionId", "vpcPeeringConnectionId"},
}

// routeDestinations does the same for the three kinds of destination, as aws_route names them.
var routeDestinations = map[string][2]string{
	"destination_cidr_block":      {"DestinationCidrBlock", "destinationCidrBlock"},
	"destination_ipv6_cidr_block": {"DestinationIpv6CidrBlock", "destinationIpv6CidrBlock"},
	"destination_prefix_list_id":  {"DestinationPrefixListId", "destinationPrefixListId"},
}

func routes() table {
	return table{
		"aws_route_table": {
			Computed: "route propagating_vgws", AttributeBlocks: "route", Replace: "vpc_id",
			Create: func(c *engine.Call) error {
				n, err := ec2Create(c, "CreateRouteTable", "route-table", cloud.P{"VpcId": c.S("vpc_id")})
				if err != nil {
					return err
				}
				c.Set("id", n.S("routeTable/routeTableId"))
				return inlineRoutes(c)
			},
			Read: readRouteTable, Update: inlineRoutes, Tag: ec2Tag,
			Delete: deleteRouteTable,
		},
		"aws_route": {
			Computed: "network_interface_id",
			Replace:  "route_table_id destination_cidr_block destination_ipv6_cidr_block destination_prefix_list_id",
			Create: func(c *engine.Call) error {
				if _, err := c.Query("ec2", "CreateRoute", routeParameters(c)); err != nil {
					return err
				}
				c.Set("id", routeID(c.S("route_table_id"), destination(c.State)))
				return nil
			},
			Read: readRoute,
			Update: func(c *engine.Call) error {
				_, err := c.Query("ec2", "ReplaceRoute", routeParameters(c))
				return err
			},
			Delete: func(c *engine.Call) error {
				p := cloud.P{"RouteTableId": c.S("route_table_id")}
				for name, api := range routeDestinations {
					p[api[0]] = c.Given(name)
				}
				_, err := c.Query("ec2", "DeleteRoute", p)
				return engine.Absent(err, "InvalidRoute.NotFound", "InvalidRouteTableID.NotFound")
			},
			Import: func(c *engine.Call, id string) error {
				rtb, to, ok := strings.Cut(id, "_")
				if !ok {
					return fmt.Errorf("%q is not ROUTETABLEID_DESTINATION", id)
				}
				c.SetAll(map[string]any{"route_table_id": rtb, "id": routeID(rtb, to)})
				switch {
				case strings.HasPrefix(to, "pl-"):
					c.Set("destination_prefix_list_id", to)
				case strings.Contains(to, ":"):
					c.Set("destination_ipv6_cidr_block", to)
				default:
					c.Set("destination_cidr_block", to)
				}
				return nil
			},
		},
		"aws_route_table_association": {
			Replace: "subnet_id gateway_id",
			Create:  associate,
			Read:    readAssociation,
			Update: func(c *engine.Call) error {
				n, err := c.Query("ec2", "ReplaceRouteTableAssociation", cloud.P{"AssociationId": c.ID(), "RouteTableId": c.S("route_table_id")})
				// It has gone with its table, which terraform deletes first; the AWS provider makes it anew too.
				if cloud.Is(err, "InvalidAssociationID.NotFound") {
					return associate(c)
				}
				if err == nil {
					c.Set("id", n.S("newAssociationId"))
				}
				return err
			},
			Delete: func(c *engine.Call) error {
				_, err := c.Query("ec2", "DisassociateRouteTable", cloud.P{"AssociationId": c.ID()})
				return engine.Absent(err, "InvalidAssociationID.NotFound")
			},
			Import: func(c *engine.Call, id string) error {
				target, rtb, ok := strings.Cut(id, "/")
				if !ok {
					return fmt.Errorf("%q is not SUBNETID/ROUTETABLEID", id)
				}
				n, err := ec2One(c, "DescribeRouteTables", "RouteTableId", "routeTableSet", rtb)
				if err != nil {
					return err
				}
				for _, a := range n.All("associationSet/item") {
					if a.S("subnetId") == target || a.S("gatewayId") == target {
						c.SetAll(map[string]any{"id": a.S("routeTableAssociationId"), "route_table_id": rtb})
						return nil
					}
				}
				return fmt.Errorf("route table %s is not associated with %s", rtb, target)
			},
		},
	}
}

// EC2 refuses a table that subnets still use, so the AWS provider takes it away from them first.
func deleteRouteTable(c *engine.Call) error {
	n, err := ec2One(c, "DescribeRouteTables", "RouteTableId", "routeTableSet", c.ID())
	if err != nil {
		return err
	}
	for _, a := range n.All("associationSet/item") {
		_, err := c.Query("ec2", "DisassociateRouteTable", cloud.P{"AssociationId": a.S("routeTableAssociationId")})
		if err != nil && !cloud.Is(err, "InvalidAssociationID.NotFound") {
			return err
		}
	}
	return ec2Delete(c, "DeleteRouteTable", cloud.P{"RouteTableId": c.ID()})
}

func associate(c *engine.Call) error {
	n, err := c.Query("ec2", "AssociateRouteTable", cloud.P{"RouteTableId": c.S("route_table_id"), "SubnetId": c.Given("subnet_id"), "GatewayId": c.Given("gateway_id")})
	c.Set("id", n.S("associationId"))
	return err
}

func routeID(table, to string) string {
	return fmt.Sprintf("r-%s%d", table, crc32.ChecksumIEEE([]byte(to)))
}

func destination(m map[string]any) string {
	return text(m, "destination_cidr_block") + text(m, "destination_ipv6_cidr_block") + text(m, "destination_prefix_list_id")
}

func routeParameters(c *engine.Call) cloud.P {
	p := cloud.P{"RouteTableId": c.S("route_table_id")}
	for _, names := range []map[string][2]string{routeDestinations, routeTargets} {
		for name, api := range names {
			// A computed target of an old route must not join a new one.
			if c.Config[name] != nil {
				p[api[0]] = c.Given(name)
			}
		}
	}
	return p
}

func readRoute(c *engine.Call) error {
	n, err := ec2One(c, "DescribeRouteTables", "RouteTableId", "routeTableSet", c.S("route_table_id"))
	if err != nil {
		return err
	}
	for _, r := range n.All("routeSet/item") {
		if r.S("destinationCidrBlock")+r.S("destinationIpv6CidrBlock")+r.S("destinationPrefixListId") != destination(c.State) {
			continue
		}
		for name, api := range routeTargets {
			c.Set(name, r.S(api[1]))
		}
		c.SetAll(map[string]any{"state": r.S("state"), "origin": r.S("origin"), "instance_id": r.S("instanceId"), "instance_owner_id": r.S("instanceOwnerId")})
		return nil
	}
	return engine.ErrGone
}

func readAssociation(c *engine.Call) error {
	n, err := ec2Find(c, "DescribeRouteTables", cloud.P{"Filter": filter("association.route-table-association-id", c.ID())}, "routeTableSet")
	if err != nil {
		return err
	}
	for _, a := range n.All("associationSet/item") {
		if a.S("routeTableAssociationId") == c.ID() {
			c.SetAll(map[string]any{"route_table_id": n.S("routeTableId"), "subnet_id": a.S("subnetId"), "gateway_id": a.S("gatewayId")})
			return nil
		}
	}
	return engine.ErrGone
}

// inlineName maps the inline form's names of destinations to those of aws_route.
var inlineName = map[string]string{"cidr_block": "destination_cidr_block", "ipv6_cidr_block": "destination_ipv6_cidr_block", "destination_prefix_list_id": "destination_prefix_list_id"}

func readRouteTable(c *engine.Call) error {
	n, err := ec2One(c, "DescribeRouteTables", "RouteTableId", "routeTableSet", c.ID())
	if err != nil {
		return err
	}
	list := []any{}
	for _, r := range n.All("routeSet/item") {
		// The local route is the table's own; routes of gateway endpoints and propagated ones belong to others.
		if r.S("gatewayId") == "local" || r.S("origin") == "EnableVgwRoutePropagation" || strings.HasPrefix(r.S("destinationPrefixListId"), "pl-") && strings.HasPrefix(r.S("gatewayId"), "vpce-") {
			continue
		}
		route := map[string]any{"odb_network_arn": ""}
		for name, api := range routeTargets {
			route[name] = r.S(api[1])
		}
		for name, long := range inlineName {
			route[name] = r.S(routeDestinations[long][1])
		}
		list = append(list, route)
	}
	c.SetAll(map[string]any{"arn": c.ARN("ec2", "route-table/"+c.ID()), "owner_id": owner(c, n), "vpc_id": n.S("vpcId"), "route": list,
		"propagating_vgws": n.Texts("propagatingVgwSet/item/gatewayId")})
	c.SetTags(ec2Tags(n))
	return nil
}

// inlineRoutes makes the table's routes those that are written in it; a table without any leaves routes to aws_route.
func inlineRoutes(c *engine.Call) error {
	if value.IsUnknown(c.At("route")) || !c.Changed("route") {
		return nil
	}
	key := func(m map[string]any) string {
		return text(m, "cidr_block") + text(m, "ipv6_cidr_block") + text(m, "destination_prefix_list_id")
	}
	old := map[string]string{}
	for _, item := range value.List(c.Was("route")) {
		old[key(value.Map(item))] = value.Canonical(item)
	}
	for _, route := range c.Objects("route") {
		before, had := old[key(route)]
		delete(old, key(route))
		if before == value.Canonical(route) {
			continue
		}
		p := cloud.P{"RouteTableId": c.ID()}
		for name, long := range inlineName {
			p[routeDestinations[long][0]] = orNil(text(route, name))
		}
		for name, api := range routeTargets {
			p[api[0]] = orNil(text(route, name))
		}
		action := "CreateRoute"
		if had {
			action = "ReplaceRoute"
		}
		if _, err := c.Query("ec2", action, p); err != nil {
			return err
		}
	}
	for to := range old {
		p := cloud.P{"RouteTableId": c.ID(), "DestinationCidrBlock": to}
		if strings.Contains(to, ":") {
			p = cloud.P{"RouteTableId": c.ID(), "DestinationIpv6CidrBlock": to}
		}
		if _, err := c.Query("ec2", "DeleteRoute", p); err != nil && !cloud.Is(err, "InvalidRoute.NotFound") {
			return err
		}
	}
	return nil
}

func dashed(ip string) string { return strings.ReplaceAll(ip, ".", "-") }
