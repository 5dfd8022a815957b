package resources

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func iamRoles() table {
	return table{
		"aws_iam_role": {
			Computed: "name name_prefix managed_policy_arns inline_policy", Replace: "name name_prefix path", Documents: "assume_role_policy inline_policy.policy",
			Defaults: map[string]any{"force_detach_policies": false, "max_session_duration": 3600.0, "path": "/"},
			Create:   createRole, Read: readRole, Update: updateRole, Delete: deleteRole,
			Tag:    iamTag("Role", "RoleName"),
			Import: idIsAttribute("name"),
		},
		"aws_iam_openid_connect_provider": {
			Computed: "thumbprint_list", Replace: "url",
			Same: map[string]func(old, new any) bool{"url": func(old, new any) bool {
				return strings.TrimPrefix(value.Text(old), "https://") == strings.TrimPrefix(value.Text(new), "https://")
			}},
			Create: func(c *engine.Call) error {
				n, err := c.Query("iam", "CreateOpenIDConnectProvider", cloud.P{"Url": c.S("url"), "ClientIDList.member": c.Texts("client_id_list"),
					"ThumbprintList.member": c.Texts("thumbprint_list"), "Tags.member": pairs(c.Tags(), "Key", "Value")})
				if err == nil {
					c.Set("id", n.S("OpenIDConnectProviderArn"))
				}
				return err
			},
			Read: func(c *engine.Call) error {
				n, err := c.Query("iam", "GetOpenIDConnectProvider", cloud.P{"OpenIDConnectProviderArn": c.ID()})
				if err != nil {
					return engine.Absent(err, "NoSuchEntity")
				}
				c.SetAll(map[string]any{"arn": c.ID(), "url": strings.TrimPrefix(n.S("Url"), "https://"), "client_id_list": n.Texts("ClientIDList/member"),
					"thumbprint_list": n.Texts("ThumbprintList/member")})
				c.SetTags(n.Pairs("Tags/member", "Key", "Value"))
				return nil
			},
			Update: func(c *engine.Call) error {
				add, remove := difference(c.Was("client_id_list"), c.At("client_id_list"))
				for _, id := range add {
					if _, err := c.Query("iam", "AddClientIDToOpenIDConnectProvider", cloud.P{"OpenIDConnectProviderArn": c.ID(), "ClientID": id}); err != nil {
						return err
					}
				}
				for _, id := range remove {
					if _, err := c.Query("iam", "RemoveClientIDFromOpenIDConnectProvider", cloud.P{"OpenIDConnectProviderArn": c.ID(), "ClientID": id}); err != nil {
						return err
					}
				}
				if !c.Changed("thumbprint_list") {
					return nil
				}
				_, err := c.Query("iam", "UpdateOpenIDConnectProviderThumbprint", cloud.P{"OpenIDConnectProviderArn": c.ID(), "ThumbprintList.member": c.Texts("thumbprint_list")})
				return err
			},
			Delete: func(c *engine.Call) error {
				_, err := c.Query("iam", "DeleteOpenIDConnectProvider", cloud.P{"OpenIDConnectProviderArn": c.ID()})
				return engine.Absent(err, "NoSuchEntity")
			},
			Tag: iamTag("OpenIDConnectProvider", "OpenIDConnectProviderArn"),
		},
	}
}

// iamTag makes the tagging function of a kind of IAM object, which IAM has one pair of actions for each.
func iamTag(kind, param string) func(*engine.Call, map[string]string, []string) error {
	return func(c *engine.Call, set map[string]string, remove []string) error {
		if len(remove) > 0 {
			if _, err := c.Query("iam", "Untag"+kind, cloud.P{param: c.ID(), "TagKeys.member": remove}); err != nil {
				return err
			}
		}
		if len(set) == 0 {
			return nil
		}
		_, err := c.Query("iam", "Tag"+kind, cloud.P{param: c.ID(), "Tags.member": pairs(set, "Key", "Value")})
		return err
	}
}

func createRole(c *engine.Call) error {
	name := named(c)
	_, err := c.Query("iam", "CreateRole", cloud.P{"RoleName": name, "AssumeRolePolicyDocument": c.S("assume_role_policy"), "Path": c.S("path"),
		"Description": c.Given("description"), "MaxSessionDuration": c.Known("max_session_duration"), "PermissionsBoundary": c.Given("permissions_boundary"),
		"Tags.member": pairs(c.Tags(), "Key", "Value")})
	if err != nil {
		return err
	}
	c.Set("id", name)
	return rolePolicies(c)
}

// rolePolicies puts the inline and managed policies that are written in the role itself.
func rolePolicies(c *engine.Call) error {
	role := c.ID()
	if !value.IsUnknown(c.At("inline_policy")) && c.Changed("inline_policy") {
		keep := map[string]bool{}
		for _, p := range c.Objects("inline_policy") {
			keep[text(p, "name")] = true
			if _, err := c.Query("iam", "PutRolePolicy", cloud.P{"RoleName": role, "PolicyName": text(p, "name"), "PolicyDocument": text(p, "policy")}); err != nil {
				return err
			}
		}
		for _, item := range value.List(c.Was("inline_policy")) {
			if name := text(value.Map(item), "name"); name != "" && !keep[name] {
				if _, err := c.Query("iam", "DeleteRolePolicy", cloud.P{"RoleName": role, "PolicyName": name}); err != nil {
					return err
				}
			}
		}
	}
	if value.IsUnknown(c.At("managed_policy_arns")) {
		return nil
	}
	add, remove := difference(c.Was("managed_policy_arns"), c.At("managed_policy_arns"))
	for action, list := range map[string][]string{"AttachRolePolicy": add, "DetachRolePolicy": remove} {
		for _, arn := range list {
			if _, err := c.Query("iam", action, cloud.P{"RoleName": role, "PolicyArn": arn}); err != nil {
				return err
			}
		}
	}
	return nil
}

func readRole(c *engine.Call) error {
	n, err := c.Query("iam", "GetRole", cloud.P{"RoleName": c.ID()})
	if err != nil {
		return engine.Absent(err, "NoSuchEntity")
	}
	policy, err := url.QueryUnescape(n.S("Role/AssumeRolePolicyDocument"))
	if err != nil {
		return err
	}
	seconds := n.S("Role/MaxSessionDuration")
	if seconds == "" {
		seconds = "3600"
	}
	c.SetAll(map[string]any{"arn": n.S("Role/Arn"), "name": c.ID(), "name_prefix": prefixOf(c, c.ID()), "assume_role_policy": policy, "path": n.S("Role/Path"),
		"create_date": n.S("Role/CreateDate"), "unique_id": n.S("Role/RoleId"), "description": n.S("Role/Description"), "max_session_duration": seconds,
		"permissions_boundary": n.S("Role/PermissionsBoundary/PermissionsBoundaryArn")})
	c.SetTags(n.Pairs("Role/Tags/member", "Key", "Value"))
	attached, err := iamPages(c, "ListAttachedRolePolicies", "AttachedPolicies/member", cloud.P{"RoleName": c.ID()})
	if err != nil {
		return err
	}
	arns := []any{}
	for _, a := range attached {
		arns = append(arns, a.S("PolicyArn"))
	}
	c.Set("managed_policy_arns", arns)
	return readInlinePolicies(c)
}

func readInlinePolicies(c *engine.Call) error {
	names, err := iamPages(c, "ListRolePolicies", "PolicyNames/member", cloud.P{"RoleName": c.ID()})
	if err != nil {
		return err
	}
	inline := []any{}
	for _, name := range names {
		p, err := c.Query("iam", "GetRolePolicy", cloud.P{"RoleName": c.ID(), "PolicyName": strings.TrimSpace(name.Body)})
		if err != nil {
			return err
		}
		document, err := url.QueryUnescape(p.S("PolicyDocument"))
		if err != nil {
			return err
		}
		inline = append(inline, map[string]any{"name": strings.TrimSpace(name.Body), "policy": document})
	}
	c.Set("inline_policy", inline)
	return nil
}

// iamPages lists all pages.
func iamPages(c *engine.Call, action, path string, p cloud.P) ([]*cloud.Node, error) {
	var out []*cloud.Node
	for {
		n, err := c.Query("iam", action, p)
		if err != nil {
			return nil, err
		}
		out = append(out, n.All(path)...)
		if !n.True("IsTruncated") || n.S("Marker") == "" {
			return out, nil
		}
		p["Marker"] = n.S("Marker")
	}
}

func updateRole(c *engine.Call) error {
	if c.Changed("assume_role_policy") {
		if _, err := c.Query("iam", "UpdateAssumeRolePolicy", cloud.P{"RoleName": c.ID(), "PolicyDocument": c.S("assume_role_policy")}); err != nil {
			return err
		}
	}
	if c.Changed("description") {
		if _, err := c.Query("iam", "UpdateRoleDescription", cloud.P{"RoleName": c.ID(), "Description": c.S("description")}); err != nil {
			return err
		}
	}
	if c.Changed("max_session_duration") {
		if _, err := c.Query("iam", "UpdateRole", cloud.P{"RoleName": c.ID(), "MaxSessionDuration": c.Known("max_session_duration")}); err != nil {
			return err
		}
	}
	if c.Changed("permissions_boundary") {
		action := "PutRolePermissionsBoundary"
		if !c.Has("permissions_boundary") {
			action = "DeleteRolePermissionsBoundary"
		}
		if _, err := c.Query("iam", action, cloud.P{"RoleName": c.ID(), "PermissionsBoundary": c.Given("permissions_boundary")}); err != nil {
			return err
		}
	}
	return rolePolicies(c)
}

func deleteRole(c *engine.Call) error {
	if err := readInlinePolicies(c); err != nil {
		return engine.Absent(err, "NoSuchEntity")
	}
	var errs []error
	written := value.List(c.Was("inline_policy"))
	for _, p := range c.Objects("inline_policy") {
		mine := slices.ContainsFunc(written, func(o any) bool { return text(value.Map(o), "name") == text(p, "name") })
		if !mine && !c.B("force_detach_policies") {
			continue
		}
		_, err := c.Query("iam", "DeleteRolePolicy", cloud.P{"RoleName": c.ID(), "PolicyName": text(p, "name")})
		errs = append(errs, engine.Absent(err, "NoSuchEntity"))
	}
	for _, arn := range value.Texts(c.Was("managed_policy_arns")) {
		_, err := c.Query("iam", "DetachRolePolicy", cloud.P{"RoleName": c.ID(), "PolicyArn": arn})
		errs = append(errs, engine.Absent(err, "NoSuchEntity"))
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, engine.ErrGone) })
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// The real provider takes the role out of instance profiles first; stacks here make none.
	if _, err := iamPages(c, "ListInstanceProfilesForRole", "InstanceProfiles/member", cloud.P{"RoleName": c.ID()}); err != nil {
		return engine.Absent(err, "NoSuchEntity")
	}
	_, err := c.Query("iam", "DeleteRole", cloud.P{"RoleName": c.ID()})
	return engine.Absent(err, "NoSuchEntity")
}
