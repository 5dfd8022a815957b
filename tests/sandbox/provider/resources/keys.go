package resources

import (
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func keys() table {
	return table{
		"aws_kms_key": {
			Computed: "description multi_region policy rotation_period_in_days", Documents: "policy",
			Replace: "customer_master_key_spec custom_key_store_id key_usage multi_region xks_key_id",
			Defaults: map[string]any{"customer_master_key_spec": "SYMMETRIC_DEFAULT", "key_usage": "ENCRYPT_DECRYPT", "is_enabled": true,
				"enable_key_rotation": false, "bypass_policy_lockout_safety_check": false},
			Create: func(c *engine.Call) error {
				o, err := c.JSON("kms", "CreateKey", map[string]any{"Description": c.Given("description"), "KeyUsage": c.S("key_usage"),
					"KeySpec": c.S("customer_master_key_spec"), "MultiRegion": c.Known("multi_region"), "Policy": c.Given("policy"),
					"BypassPolicyLockoutSafetyCheck": c.B("bypass_policy_lockout_safety_check"), "Tags": plainPairs(c.Tags(), "TagKey", "TagValue")})
				if err != nil {
					return err
				}
				c.Set("id", o.S("KeyMetadata.KeyId"))
				return keyState(c)
			},
			Read: readKey,
			Update: func(c *engine.Call) error {
				for name, call := range map[string]struct{ action, param string }{"description": {"UpdateKeyDescription", "Description"}, "policy": {"PutKeyPolicy", "Policy"}} {
					if !c.Changed(name) {
						continue
					}
					p := map[string]any{"KeyId": c.ID(), call.param: c.S(name)}
					if name == "policy" {
						p["PolicyName"] = "default"
					}
					if _, err := c.JSON("kms", call.action, p); err != nil {
						return err
					}
				}
				return keyState(c)
			},
			Delete: func(c *engine.Call) error {
				days := c.N("deletion_window_in_days")
				if days == 0 {
					days = 30
				}
				_, err := c.JSON("kms", "ScheduleKeyDeletion", map[string]any{"KeyId": c.ID(), "PendingWindowInDays": days})
				return engine.Absent(err, "NotFoundException", "KMSInvalidStateException")
			},
			Tag: func(c *engine.Call, set map[string]string, remove []string) error {
				if len(remove) > 0 {
					if _, err := c.JSON("kms", "UntagResource", map[string]any{"KeyId": c.ID(), "TagKeys": remove}); err != nil {
						return err
					}
				}
				if len(set) == 0 {
					return nil
				}
				_, err := c.JSON("kms", "TagResource", map[string]any{"KeyId": c.ID(), "Tags": plainPairs(set, "TagKey", "TagValue")})
				return err
			},
		},
		"aws_kms_alias": {
			Computed: "name name_prefix", Replace: "name name_prefix",
			Same: map[string]func(old, new any) bool{"target_key_id": func(old, new any) bool {
				return lastPart(value.Text(old)) == lastPart(value.Text(new))
			}},
			Create: func(c *engine.Call) error {
				name := c.S("name")
				if name == "" {
					prefix := c.S("name_prefix")
					if prefix == "" {
						prefix = "alias/"
					}
					name = unique(prefix)
				}
				_, err := c.JSON("kms", "CreateAlias", map[string]any{"AliasName": name, "TargetKeyId": c.S("target_key_id")})
				if err == nil {
					c.Set("id", name)
				}
				return err
			},
			Read: func(c *engine.Call) error {
				a, err := findAlias(c, c.ID())
				if err != nil {
					return err
				}
				arn := a.S("AliasArn")
				target := a.S("TargetKeyId")
				c.SetAll(map[string]any{"arn": arn, "name": c.ID(), "name_prefix": prefixOf(c, c.ID()), "target_key_id": target, "target_key_arn": c.ARN("kms", "key/"+target)})
				return nil
			},
			Update: func(c *engine.Call) error {
				_, err := c.JSON("kms", "UpdateAlias", map[string]any{"AliasName": c.ID(), "TargetKeyId": c.S("target_key_id")})
				return err
			},
			Delete: func(c *engine.Call) error {
				_, err := c.JSON("kms", "DeleteAlias", map[string]any{"AliasName": c.ID()})
				return engine.Absent(err, "NotFoundException")
			},
		},
	}
}

func lastPart(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

// keyState turns rotation and the key itself on or off.
func keyState(c *engine.Call) error {
	if c.Changed("is_enabled") && (c.Prior != nil || !c.B("is_enabled")) {
		action := "DisableKey"
		if c.B("is_enabled") {
			action = "EnableKey"
		}
		if _, err := c.JSON("kms", action, map[string]any{"KeyId": c.ID()}); err != nil {
			return err
		}
	}
	if c.Changed("enable_key_rotation", "rotation_period_in_days") && (c.Prior != nil || c.B("enable_key_rotation")) {
		action, p := "DisableKeyRotation", map[string]any{"KeyId": c.ID()}
		if c.B("enable_key_rotation") {
			action, p["RotationPeriodInDays"] = "EnableKeyRotation", c.Given("rotation_period_in_days")
		}
		if _, err := c.JSON("kms", action, p); err != nil {
			return err
		}
	}
	return nil
}

func readKey(c *engine.Call) error {
	o, err := c.JSON("kms", "DescribeKey", map[string]any{"KeyId": c.ID()})
	if err != nil {
		return engine.Absent(err, "NotFoundException")
	}
	k := o.O("KeyMetadata")
	if k.S("KeyState") == "PendingDeletion" {
		return engine.ErrGone
	}
	spec := k.S("KeySpec")
	if spec == "" {
		spec = k.S("CustomerMasterKeySpec")
	}
	c.SetAll(map[string]any{"arn": k.S("Arn"), "key_id": k.S("KeyId"), "description": k.S("Description"), "key_usage": k.S("KeyUsage"),
		"customer_master_key_spec": spec, "is_enabled": k.S("KeyState") != "Disabled", "multi_region": k.At("MultiRegion") == true})
	rotation, err := c.JSON("kms", "GetKeyRotationStatus", map[string]any{"KeyId": c.ID()})
	if err != nil {
		return err
	}
	c.Set("enable_key_rotation", rotation.At("KeyRotationEnabled") == true)
	period := rotation.At("RotationPeriodInDays")
	if rotation.At("KeyRotationEnabled") == true && period == nil {
		period = 365.0
	}
	c.Set("rotation_period_in_days", period)
	policy, err := c.JSON("kms", "GetKeyPolicy", map[string]any{"KeyId": c.ID(), "PolicyName": "default"})
	if err != nil {
		return err
	}
	c.Set("policy", policy.S("Policy"))
	tags, err := c.JSON("kms", "ListResourceTags", map[string]any{"KeyId": c.ID()})
	if err != nil {
		return err
	}
	c.SetTags(fromPairs(tags.List("Tags"), "TagKey", "TagValue"))
	return nil
}

func findAlias(c *engine.Call, name string) (cloud.Object, error) {
	var marker any
	for {
		page, err := c.JSON("kms", "ListAliases", map[string]any{"Marker": marker})
		if err != nil {
			return nil, err
		}
		for _, a := range page.List("Aliases") {
			if a.S("AliasName") == name {
				return a, nil
			}
		}
		if marker = page.At("NextMarker"); marker == nil || marker == "" {
			return nil, engine.ErrGone
		}
	}
}
