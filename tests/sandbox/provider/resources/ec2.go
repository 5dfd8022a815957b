package resources

import (
	"maps"
	"slices"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// ec2Create calls a creating action of EC2 with the object's tags.
func ec2Create(c *engine.Call, action, kind string, p cloud.P) (*cloud.Node, error) {
	if tags := c.Tags(); len(tags) > 0 {
		p["TagSpecification"] = []cloud.P{{"ResourceType": kind, "Tag": pairs(tags, "Key", "Value")}}
	}
	return c.Query("ec2", action, p)
}

// ec2Tag changes the tags of any EC2 object.
func ec2Tag(c *engine.Call, set map[string]string, remove []string) error {
	return ec2TagID(c, c.ID(), set, remove)
}

func ec2TagID(c *engine.Call, id string, set map[string]string, remove []string) error {
	if len(remove) > 0 {
		gone := []cloud.P{}
		for _, k := range remove {
			gone = append(gone, cloud.P{"Key": k})
		}
		if _, err := c.Query("ec2", "DeleteTags", cloud.P{"ResourceId": []string{id}, "Tag": gone}); err != nil {
			return err
		}
	}
	if len(set) == 0 {
		return nil
	}
	_, err := c.Query("ec2", "CreateTags", cloud.P{"ResourceId": []string{id}, "Tag": pairs(set, "Key", "Value")})
	return err
}

func ec2Tags(n *cloud.Node) map[string]string { return n.Pairs("tagSet/item", "key", "value") }

// ec2One describes one object by id and answers ErrGone when there is none.
func ec2One(c *engine.Call, action, param, list, id string) (*cloud.Node, error) {
	return ec2Find(c, action, cloud.P{param: []string{id}}, list)
}

func ec2Find(c *engine.Call, action string, p cloud.P, list string) (*cloud.Node, error) {
	n, err := c.Query("ec2", action, p)
	if cloud.Is(err, "Invalid*", "NatGatewayNotFound") && !cloud.Is(err, "InvalidParameter*", "InvalidAction") {
		return nil, engine.ErrGone
	}
	if err != nil {
		return nil, err
	}
	items := n.All(list + "/item")
	if len(items) == 0 {
		return nil, engine.ErrGone
	}
	return items[0], nil
}

func filter(pairs ...string) []cloud.P {
	var out []cloud.P
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, cloud.P{"Name": pairs[i], "Value": []string{pairs[i+1]}})
	}
	return out
}

// lingering asks for interfaces that a subnet or group still has, as the real provider does before it deletes one; what a deleted function or
// load balancer left there it would take away, and nothing here leaves any.
func lingering(c *engine.Call, by string) error {
	_, err := c.Query("ec2", "DescribeNetworkInterfaces", cloud.P{"Filter": filter(by, c.ID())})
	return err
}

// ec2Delete deletes and lets "not there" pass.
func ec2Delete(c *engine.Call, action string, p cloud.P) error {
	// What still hangs on the object may be on its way out.
	return c.Wait("what depends on "+c.ID()+" to be gone", c.Timeout("delete", 10*briefly), func() (bool, error) {
		_, err := c.Query("ec2", action, p)
		if cloud.Is(err, "DependencyViolation") {
			return false, nil
		}
		if cloud.Is(err, "Invalid*NotFound*", "Invalid*") && !cloud.Is(err, "InvalidParameter*", "InvalidAction") {
			return true, nil
		}
		return err == nil, err
	})
}
