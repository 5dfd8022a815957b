package resources

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func contains(err error, s string) bool { return err != nil && strings.Contains(err.Error(), s) }

func eksNodes() table {
	return table{
		"aws_eks_node_group": {
			Computed: `ami_type capacity_type disk_size instance_types release_version version node_group_name node_group_name_prefix update_config
				node_repair_config update_config.update_strategy launch_template.id launch_template.name`,
			Replace: `ami_type capacity_type cluster_name disk_size instance_types node_group_name node_group_name_prefix node_role_arn remote_access subnet_ids
				launch_template.id launch_template.name`,
			Create: createNodes, Read: readNodes, Update: updateNodes, Tag: eksTag("arn"),
			Adjust: func(p *Plan) error {
				// Another launch template version or Kubernetes version may bring another image.
				if !p.Creating() && p.Config["release_version"] == nil && p.Changed("version", "launch_template.version") {
					p.Planned["release_version"] = value.Unknown
				}
				return nil
			},
			Delete: func(c *engine.Call) error {
				_, err := c.REST("eks", "DeleteNodegroup", "DELETE", nodesPath(c), nil)
				if err != nil {
					return engine.Absent(err, "ResourceNotFoundException")
				}
				return c.Gone("node group "+c.ID(), c.Timeout("delete", 60*time.Minute), func() error { _, err := nodes(c); return err })
			},
			Import: clusterAnd("node_group_name"),
		},
	}
}

// clusterAnd makes an importer for ids of the form CLUSTER:NAME.
func clusterAnd(attribute string) func(*engine.Call, string) error {
	return func(c *engine.Call, id string) error {
		cluster, name, ok := strings.Cut(id, ":")
		if !ok {
			return fmt.Errorf("%q is not CLUSTER:%s", id, strings.ToUpper(attribute))
		}
		c.SetAll(map[string]any{"cluster_name": cluster, attribute: name})
		return nil
	}
}

func nodesPath(c *engine.Call) string {
	cluster, name, _ := strings.Cut(c.ID(), ":")
	return "/clusters/" + cluster + "/node-groups/" + name
}

func nodes(c *engine.Call) (cloud.Object, error) {
	o, err := c.REST("eks", "DescribeNodegroup", "GET", nodesPath(c), nil)
	return o.O("nodegroup"), engine.Absent(err, "ResourceNotFoundException")
}

var taintEffects = map[string]string{"NO_SCHEDULE": "NO_SCHEDULE", "NO_EXECUTE": "NO_EXECUTE", "PREFER_NO_SCHEDULE": "PREFER_NO_SCHEDULE"}

func taints(list any) []any {
	out := []any{}
	for _, item := range value.List(list) {
		t := value.Map(item)
		out = append(out, map[string]any{"key": text(t, "key"), "value": text(t, "value"), "effect": taintEffects[text(t, "effect")]})
	}
	return out
}

func scaling(c *engine.Call) map[string]any {
	return map[string]any{"minSize": c.N("scaling_config.min_size"), "maxSize": c.N("scaling_config.max_size"), "desiredSize": c.N("scaling_config.desired_size")}
}

func createNodes(c *engine.Call) error {
	name := c.S("node_group_name")
	if name == "" {
		name = unique(c.S("node_group_name_prefix"))
	}
	p := map[string]any{"nodegroupName": name, "clientRequestToken": requestToken(), "nodeRole": c.S("node_role_arn"), "subnets": c.Texts("subnet_ids"),
		"scalingConfig": scaling(c), "amiType": c.Given("ami_type"), "capacityType": c.Given("capacity_type"), "diskSize": c.Given("disk_size"),
		"instanceTypes": orNilList(c.Texts("instance_types")), "labels": c.Given("labels"), "version": c.Given("version"),
		"releaseVersion": c.Given("release_version"), "tags": c.Tags()}
	if t := taints(c.At("taint")); len(t) > 0 {
		p["taints"] = t
	}
	if len(c.Objects("launch_template")) > 0 {
		p["launchTemplate"] = templateOf(c)
	}
	if len(c.Objects("update_config")) > 0 {
		p["updateConfig"] = updateConfig(c)
	}
	if v := c.Known("node_repair_config.enabled"); v != nil {
		p["nodeRepairConfig"] = map[string]any{"enabled": v}
	}
	if _, err := c.REST("eks", "CreateNodegroup", "POST", "/clusters/"+c.S("cluster_name")+"/node-groups", p); err != nil {
		return err
	}
	c.Set("id", c.S("cluster_name")+":"+name)
	return c.Wait("node group "+c.ID()+" to be active", c.Timeout("create", 60*time.Minute), func() (bool, error) {
		o, err := nodes(c)
		if o.S("status") == "CREATE_FAILED" {
			return false, errors.New("node group " + c.ID() + " failed: " + issues(o))
		}
		return o.S("status") == "ACTIVE", err
	})
}

func templateOf(c *engine.Call) map[string]any {
	t := map[string]any{"id": c.Given("launch_template.id"), "version": c.S("launch_template.version")}
	if t["id"] == nil {
		t["name"] = c.Given("launch_template.name")
	}
	return t
}

func updateConfig(c *engine.Call) map[string]any {
	return map[string]any{"maxUnavailable": c.Given("update_config.max_unavailable"), "maxUnavailablePercentage": c.Given("update_config.max_unavailable_percentage"),
		"updateStrategy": c.Given("update_config.update_strategy")}
}

func readNodes(c *engine.Call) error {
	o, err := nodes(c)
	if err != nil {
		return err
	}
	name := o.S("nodegroupName")
	c.SetAll(map[string]any{"arn": o.S("nodegroupArn"), "cluster_name": o.S("clusterName"), "node_group_name": name, "status": o.S("status"),
		"node_group_name_prefix": orEmpty(c.Given("node_group_name_prefix")), "ami_type": orNil(o.S("amiType")), "capacity_type": o.S("capacityType"),
		"disk_size": o.At("diskSize"), "instance_types": o.At("instanceTypes"), "labels": o.At("labels"), "node_role_arn": o.S("nodeRole"),
		"release_version": orNil(o.S("releaseVersion")), "version": o.S("version"), "subnet_ids": o.At("subnets"),
		"scaling_config": block(map[string]any{"desired_size": o.At("scalingConfig.desiredSize"), "max_size": o.At("scalingConfig.maxSize"), "min_size": o.At("scalingConfig.minSize")})})
	list := []any{}
	for _, t := range o.List("taints") {
		list = append(list, map[string]any{"key": t.S("key"), "value": t.S("value"), "effect": t.S("effect")})
	}
	c.Set("taint", list)
	groups := []any{}
	for _, g := range o.List("resources.autoScalingGroups") {
		groups = append(groups, map[string]any{"name": g.S("name")})
	}
	c.Set("resources", block(map[string]any{"autoscaling_groups": groups, "remote_access_security_group_id": o.S("resources.remoteAccessSecurityGroup")}))
	c.Set("launch_template", []any{})
	if t := o.O("launchTemplate"); len(t) > 0 {
		version := t.S("version")
		// $Latest and $Default are kept as written: EKS answers with the number.
		if w := c.S("launch_template.version"); strings.HasPrefix(w, "$") {
			version = w
		}
		c.Set("launch_template", block(map[string]any{"id": t.S("id"), "name": t.S("name"), "version": version}))
	}
	c.Set("update_config", []any{})
	if u := o.O("updateConfig"); len(u) > 0 {
		c.Set("update_config", block(map[string]any{"max_unavailable": u.At("maxUnavailable"), "max_unavailable_percentage": u.At("maxUnavailablePercentage"), "update_strategy": orNil(u.S("updateStrategy"))}))
	}
	c.Set("node_repair_config", []any{})
	if r := o.O("nodeRepairConfig"); len(r) > 0 {
		c.Set("node_repair_config", block(map[string]any{"enabled": r.At("enabled")}))
	}
	c.SetTags(o.Strings("tags"))
	return nil
}

func orEmpty(v any) any {
	if v == nil {
		return ""
	}
	return v
}

func updateNodes(c *engine.Call) error {
	cluster, name, _ := strings.Cut(c.ID(), ":")
	status, query := "/clusters/"+cluster+"/updates/", "?nodegroupName="+name
	if c.Changed("version", "release_version", "launch_template.version") {
		p := map[string]any{"force": c.Known("force_update_version")}
		if c.Changed("version") {
			p["version"] = c.Given("version")
		}
		if c.Changed("release_version") {
			p["releaseVersion"] = c.Given("release_version")
		}
		if c.Changed("launch_template.version") {
			p["launchTemplate"] = templateOf(c)
		}
		if err := eksUpdate(c, "UpdateNodegroupVersion", nodesPath(c)+"/update-version", status, query, p); err != nil {
			return err
		}
	}
	if !c.Changed("labels", "taint", "scaling_config", "update_config", "node_repair_config") {
		return nil
	}
	p := map[string]any{"scalingConfig": scaling(c)}
	if c.Changed("labels") {
		_, gone := difference(keysOf(c.Was("labels")), keysOf(c.At("labels")))
		p["labels"] = map[string]any{"addOrUpdateLabels": c.Given("labels"), "removeLabels": orNilList(gone)}
	}
	if c.Changed("taint") {
		gone := []any{}
		for _, t := range taints(c.Was("taint")) {
			kept := false
			for _, n := range taints(c.At("taint")) {
				kept = kept || value.Canonical(n) == value.Canonical(t)
			}
			if !kept {
				gone = append(gone, t)
			}
		}
		p["taints"] = map[string]any{"addOrUpdateTaints": taints(c.At("taint")), "removeTaints": gone}
	}
	if c.Changed("update_config") && len(c.Objects("update_config")) > 0 {
		p["updateConfig"] = updateConfig(c)
	}
	return eksUpdate(c, "UpdateNodegroupConfig", nodesPath(c)+"/update-config", status, query, p)
}

func keysOf(m any) []any {
	out := []any{}
	for k := range value.Map(m) {
		out = append(out, k)
	}
	return out
}
