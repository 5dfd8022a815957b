package resources

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

func eksAccess() table {
	return table{
		"aws_eks_addon": {
			Computed: "addon_version configuration_values namespace_config namespace_config.namespace", Replace: "addon_name cluster_name namespace_config",
			Documents: "configuration_values", Refreshed: "modified_at",
			Create: createAddon, Read: readAddon, Update: updateAddon, Tag: eksTag("arn"),
			Delete: func(c *engine.Call) error {
				query := ""
				if c.B("preserve") {
					query = "?preserve=true"
				}
				_, err := c.REST("eks", "DeleteAddon", "DELETE", addonPath(c)+query, nil)
				if err != nil {
					return engine.Absent(err, "ResourceNotFoundException")
				}
				return c.Gone("add-on "+c.ID(), c.Timeout("delete", 40*time.Minute), func() error { _, err := addon(c); return err })
			},
			Import: clusterAnd("addon_name"),
		},
		"aws_eks_access_entry": {
			Computed: "kubernetes_groups user_name", Replace: "cluster_name principal_arn type", Defaults: map[string]any{"type": "STANDARD"}, Refreshed: "modified_at",
			Create: func(c *engine.Call) error {
				_, err := c.REST("eks", "CreateAccessEntry", "POST", "/clusters/"+c.S("cluster_name")+"/access-entries", map[string]any{
					"principalArn": c.S("principal_arn"), "kubernetesGroups": orNilList(c.Texts("kubernetes_groups")), "type": c.S("type"), "username": c.Given("user_name"),
					"tags": c.Tags(), "clientRequestToken": requestToken()})
				if err == nil {
					c.Set("id", c.S("cluster_name")+":"+c.S("principal_arn"))
				}
				return err
			},
			Read: func(c *engine.Call) error {
				o, err := c.REST("eks", "DescribeAccessEntry", "GET", entryPath(c), nil)
				if err != nil {
					return engine.Absent(err, "ResourceNotFoundException")
				}
				e := o.O("accessEntry")
				c.SetAll(map[string]any{"access_entry_arn": e.S("accessEntryArn"), "cluster_name": e.S("clusterName"), "principal_arn": e.S("principalArn"),
					"kubernetes_groups": e.At("kubernetesGroups"), "type": e.S("type"), "user_name": e.S("username"), "created_at": rfc3339(e.At("createdAt")),
					"modified_at": rfc3339(e.At("modifiedAt"))})
				c.SetTags(e.Strings("tags"))
				return nil
			},
			Update: func(c *engine.Call) error {
				groups := c.Texts("kubernetes_groups")
				if groups == nil {
					groups = []string{}
				}
				_, err := c.REST("eks", "UpdateAccessEntry", "POST", entryPath(c), map[string]any{"kubernetesGroups": groups, "username": c.Given("user_name"), "clientRequestToken": requestToken()})
				return err
			},
			Delete: func(c *engine.Call) error {
				_, err := c.REST("eks", "DeleteAccessEntry", "DELETE", entryPath(c), nil)
				return engine.Absent(err, "ResourceNotFoundException")
			},
			Tag:    eksTag("access_entry_arn"),
			Import: clusterAnd("principal_arn"),
		},
		"aws_eks_access_policy_association": {
			Replace: "cluster_name principal_arn policy_arn access_scope access_scope.type access_scope.namespaces",
			Create: func(c *engine.Call) error {
				_, err := c.REST("eks", "AssociateAccessPolicy", "POST", entryPath(c)+"/access-policies", map[string]any{"policyArn": c.S("policy_arn"),
					"accessScope": map[string]any{"type": c.S("access_scope.type"), "namespaces": orNilList(c.Texts("access_scope.namespaces"))}})
				if err == nil {
					c.Set("id", c.S("cluster_name")+"#"+c.S("principal_arn")+"#"+c.S("policy_arn"))
				}
				return err
			},
			Read: readPolicyAssociation,
			Delete: func(c *engine.Call) error {
				_, err := c.REST("eks", "DisassociateAccessPolicy", "DELETE", entryPath(c)+"/access-policies/"+url.PathEscape(c.S("policy_arn")), nil)
				return engine.Absent(err, "ResourceNotFoundException")
			},
			Import: func(c *engine.Call, id string) error {
				parts := strings.Split(id, "#")
				if len(parts) != 3 {
					return fmt.Errorf("%q is not CLUSTER#PRINCIPALARN#POLICYARN", id)
				}
				c.SetAll(map[string]any{"cluster_name": parts[0], "principal_arn": parts[1], "policy_arn": parts[2]})
				return nil
			},
		},
	}
}

func entryPath(c *engine.Call) string {
	return "/clusters/" + c.S("cluster_name") + "/access-entries/" + url.PathEscape(c.S("principal_arn"))
}

func readPolicyAssociation(c *engine.Call) error {
	token := ""
	for {
		o, err := c.REST("eks", "ListAssociatedAccessPolicies", "GET", entryPath(c)+"/access-policies"+token, nil)
		if err != nil {
			return engine.Absent(err, "ResourceNotFoundException")
		}
		for _, p := range o.List("associatedAccessPolicies") {
			if p.S("policyArn") != c.S("policy_arn") {
				continue
			}
			c.SetAll(map[string]any{"associated_at": rfc3339(p.At("associatedAt")), "modified_at": rfc3339(p.At("modifiedAt")),
				"access_scope": block(map[string]any{"type": p.S("accessScope.type"), "namespaces": p.At("accessScope.namespaces")})})
			return nil
		}
		if o.S("nextToken") == "" {
			return engine.ErrGone
		}
		token = "?nextToken=" + url.QueryEscape(o.S("nextToken"))
	}
}

func addonPath(c *engine.Call) string {
	cluster, name, _ := strings.Cut(c.ID(), ":")
	return "/clusters/" + cluster + "/addons/" + name
}

func addon(c *engine.Call) (cloud.Object, error) {
	o, err := c.REST("eks", "DescribeAddon", "GET", addonPath(c), nil)
	return o.O("addon"), engine.Absent(err, "ResourceNotFoundException")
}

func addonParameters(c *engine.Call, conflicts string) map[string]any {
	p := map[string]any{"addonVersion": c.Given("addon_version"), "configurationValues": c.Given("configuration_values"), "clientRequestToken": requestToken(),
		"resolveConflicts": c.Given(conflicts), "serviceAccountRoleArn": c.Given("service_account_role_arn")}
	associations := []any{}
	for _, a := range c.Objects("pod_identity_association") {
		associations = append(associations, map[string]any{"roleArn": text(a, "role_arn"), "serviceAccount": text(a, "service_account")})
	}
	if len(associations) > 0 {
		p["podIdentityAssociations"] = associations
	}
	return p
}

func createAddon(c *engine.Call) error {
	p := addonParameters(c, "resolve_conflicts_on_create")
	p["addonName"], p["tags"] = c.S("addon_name"), c.Tags()
	if _, err := c.REST("eks", "CreateAddon", "POST", "/clusters/"+c.S("cluster_name")+"/addons", p); err != nil {
		return err
	}
	c.Set("id", c.S("cluster_name")+":"+c.S("addon_name"))
	return c.Wait("add-on "+c.ID()+" to be active", c.Timeout("create", 20*time.Minute), func() (bool, error) {
		o, err := addon(c)
		if o.S("status") == "CREATE_FAILED" {
			return false, errors.New("add-on " + c.ID() + " failed: " + issues(o))
		}
		return o.S("status") == "ACTIVE" || skippedInSandbox(o), err
	})
}

// skippedInSandbox: nothing runs for some add-ons in a sandbox, which its EKS says in a health issue. The real provider would wait
// for ACTIVE until its deadline; here it will never come, so the add-on counts as installed.
func skippedInSandbox(o cloud.Object) bool {
	return o.S("status") == "DEGRADED" && strings.Contains(issues(o), "Skipped in the sandbox")
}

func readAddon(c *engine.Call) error {
	o, err := addon(c)
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"arn": o.S("addonArn"), "addon_name": o.S("addonName"), "cluster_name": o.S("clusterName"), "addon_version": o.S("addonVersion"),
		"configuration_values": o.S("configurationValues"), "service_account_role_arn": o.S("serviceAccountRoleArn"), "created_at": rfc3339(o.At("createdAt")),
		"modified_at": rfc3339(o.At("modifiedAt")), "namespace_config": []any{}})
	if ns := o.S("namespaceConfig.namespace"); ns != "" {
		c.Set("namespace_config", block(map[string]any{"namespace": ns}))
	}
	c.SetTags(o.Strings("tags"))
	return nil
}

func updateAddon(c *engine.Call) error {
	if !c.Changed("addon_version", "configuration_values", "service_account_role_arn", "pod_identity_association") {
		return nil
	}
	cluster, name, _ := strings.Cut(c.ID(), ":")
	p := addonParameters(c, "resolve_conflicts_on_update")
	return eksUpdate(c, "UpdateAddon", addonPath(c)+"/update", "/clusters/"+cluster+"/updates/", "?addonName="+name, p)
}

func readClusterData(c *engine.Call) error {
	c.Set("id", c.S("name"))
	err := readCluster(c)
	if err != nil {
		return missing(err, "EKS cluster "+c.S("name"))
	}
	tags := map[string]any{}
	for k, v := range c.Tags() {
		tags[k] = v
	}
	c.Set("tags", tags)
	delete(c.State, "tags_all")
	return nil
}

// readAddonVersion takes the newest version, or the one that AWS recommends for this version of Kubernetes.
func readAddonVersion(c *engine.Call) error {
	q := url.Values{"addonName": {c.S("addon_name")}, "kubernetesVersion": {c.S("kubernetes_version")}}
	o, err := c.REST("eks", "DescribeAddonVersions", "GET", "/addons/supported-versions?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	for _, a := range o.List("addons") {
		for _, v := range a.List("addonVersions") {
			for _, k := range v.List("compatibilities") {
				if c.B("most_recent") || k.At("defaultVersion") == true {
					c.SetAll(map[string]any{"id": c.S("addon_name"), "version": v.S("addonVersion")})
					return nil
				}
			}
		}
	}
	return fmt.Errorf("EKS knows no version of the add-on %s for Kubernetes %s", c.S("addon_name"), c.S("kubernetes_version"))
}
