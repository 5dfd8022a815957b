package resources

import (
	"fmt"
	"net/url"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

func iamPolicies() table {
	return table{
		"aws_iam_policy": {
			Computed: "name name_prefix", Replace: "name name_prefix path description", Documents: "policy",
			Defaults: map[string]any{"path": "/"},
			Create: func(c *engine.Call) error {
				n, err := c.Query("iam", "CreatePolicy", cloud.P{"PolicyName": named(c), "PolicyDocument": c.S("policy"), "Path": c.S("path"),
					"Description": c.Given("description"), "Tags.member": pairs(c.Tags(), "Key", "Value")})
				if err == nil {
					c.Set("id", n.S("Policy/Arn"))
				}
				return err
			},
			Read: readPolicy, Update: updatePolicy,
			Delete: func(c *engine.Call) error {
				versions, err := iamPages(c, "ListPolicyVersions", "Versions/member", cloud.P{"PolicyArn": c.ID()})
				if err != nil {
					return engine.Absent(err, "NoSuchEntity")
				}
				for _, v := range versions {
					if v.True("IsDefaultVersion") {
						continue
					}
					if _, err := c.Query("iam", "DeletePolicyVersion", cloud.P{"PolicyArn": c.ID(), "VersionId": v.S("VersionId")}); err != nil {
						return err
					}
				}
				_, err = c.Query("iam", "DeletePolicy", cloud.P{"PolicyArn": c.ID()})
				return engine.Absent(err, "NoSuchEntity")
			},
			Tag: iamTag("Policy", "PolicyArn"),
		},
		"aws_iam_role_policy": {
			Computed: "name name_prefix", Replace: "name name_prefix role", Documents: "policy",
			Create: func(c *engine.Call) error {
				name := named(c)
				if err := putRolePolicy(c, name); err != nil {
					return err
				}
				c.Set("id", c.S("role")+":"+name)
				return nil
			},
			Read: func(c *engine.Call) error {
				role, name, _ := strings.Cut(c.ID(), ":")
				n, err := c.Query("iam", "GetRolePolicy", cloud.P{"RoleName": role, "PolicyName": name})
				if err != nil {
					return engine.Absent(err, "NoSuchEntity")
				}
				policy, err := url.QueryUnescape(n.S("PolicyDocument"))
				c.SetAll(map[string]any{"policy": policy, "role": role, "name": name, "name_prefix": prefixOf(c, name)})
				return err
			},
			Update: func(c *engine.Call) error { return putRolePolicy(c, c.S("name")) },
			Delete: func(c *engine.Call) error {
				_, err := c.Query("iam", "DeleteRolePolicy", cloud.P{"RoleName": c.S("role"), "PolicyName": c.S("name")})
				return engine.Absent(err, "NoSuchEntity")
			},
		},
		"aws_iam_role_policy_attachment": {
			Replace: "role policy_arn",
			Create: func(c *engine.Call) error {
				_, err := c.Query("iam", "AttachRolePolicy", cloud.P{"RoleName": c.S("role"), "PolicyArn": c.S("policy_arn")})
				if err == nil {
					c.Set("id", c.S("role")+"/"+c.S("policy_arn"))
				}
				return err
			},
			Read: func(c *engine.Call) error {
				attached, err := iamPages(c, "ListAttachedRolePolicies", "AttachedPolicies/member", cloud.P{"RoleName": c.S("role")})
				if err != nil {
					return engine.Absent(err, "NoSuchEntity")
				}
				for _, a := range attached {
					if a.S("PolicyArn") == c.S("policy_arn") {
						return nil
					}
				}
				return engine.ErrGone
			},
			Delete: func(c *engine.Call) error {
				_, err := c.Query("iam", "DetachRolePolicy", cloud.P{"RoleName": c.S("role"), "PolicyArn": c.S("policy_arn")})
				return engine.Absent(err, "NoSuchEntity")
			},
			Import: func(c *engine.Call, id string) error {
				role, arn, ok := strings.Cut(id, "/")
				if !ok {
					return fmt.Errorf("%q is not ROLE/POLICYARN", id)
				}
				c.SetAll(map[string]any{"role": role, "policy_arn": arn})
				return nil
			},
		},
	}
}

func putRolePolicy(c *engine.Call, name string) error {
	_, err := c.Query("iam", "PutRolePolicy", cloud.P{"RoleName": c.S("role"), "PolicyName": name, "PolicyDocument": c.S("policy")})
	return err
}

func readPolicy(c *engine.Call) error {
	n, err := c.Query("iam", "GetPolicy", cloud.P{"PolicyArn": c.ID()})
	if err != nil {
		return engine.Absent(err, "NoSuchEntity")
	}
	v, err := c.Query("iam", "GetPolicyVersion", cloud.P{"PolicyArn": c.ID(), "VersionId": n.S("Policy/DefaultVersionId")})
	if err != nil {
		return err
	}
	policy, err := url.QueryUnescape(v.S("PolicyVersion/Document"))
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"arn": c.ID(), "name": n.S("Policy/PolicyName"), "name_prefix": prefixOf(c, n.S("Policy/PolicyName")), "path": n.S("Policy/Path"), "policy": policy,
		"description": n.S("Policy/Description"), "policy_id": n.S("Policy/PolicyId"), "attachment_count": n.Or("Policy/AttachmentCount")})
	c.SetTags(n.Pairs("Policy/Tags/member", "Key", "Value"))
	return nil
}

// maxVersions is how many versions of a policy IAM keeps.
const maxVersions = 5

func updatePolicy(c *engine.Call) error {
	if !c.Changed("policy") {
		return nil
	}
	versions, err := iamPages(c, "ListPolicyVersions", "Versions/member", cloud.P{"PolicyArn": c.ID()})
	if err != nil {
		return err
	}
	if len(versions) >= maxVersions {
		oldest := versions[len(versions)-1]
		for _, v := range versions {
			if !v.True("IsDefaultVersion") && v.S("CreateDate") <= oldest.S("CreateDate") {
				oldest = v
			}
		}
		if _, err := c.Query("iam", "DeletePolicyVersion", cloud.P{"PolicyArn": c.ID(), "VersionId": oldest.S("VersionId")}); err != nil {
			return err
		}
	}
	_, err = c.Query("iam", "CreatePolicyVersion", cloud.P{"PolicyArn": c.ID(), "PolicyDocument": c.S("policy"), "SetAsDefault": true})
	return err
}
