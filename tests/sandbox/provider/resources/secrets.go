package resources

import (
	"fmt"
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

func secrets() table {
	return table{
		"aws_secretsmanager_secret": {
			Computed: "name name_prefix policy replica type", Replace: "name name_prefix", Documents: "policy",
			Defaults: map[string]any{"force_overwrite_replica_secret": false, "recovery_window_in_days": 30.0},
			Create:   createSecret, Read: readSecret, Update: updateSecret,
			Delete: func(c *engine.Call) error {
				p := map[string]any{"SecretId": c.ID(), "RecoveryWindowInDays": c.Known("recovery_window_in_days")}
				if c.N("recovery_window_in_days") == 0 {
					p = map[string]any{"SecretId": c.ID(), "ForceDeleteWithoutRecovery": true}
				}
				// A secret with replicas cannot be deleted.
				if regions := replicaRegions(c.At("replica")); len(regions) > 0 {
					gone := map[string]any{"SecretId": c.ID(), "RemoveReplicaRegions": regions}
					// The emulator has no such action and deletes replicas with their secret.
					if _, err := c.JSON("secretsmanager", "RemoveRegionsFromReplication", gone); err != nil && !contains(err, "Unknown action") {
						return engine.Absent(err, "ResourceNotFoundException")
					}
				}
				_, err := c.JSON("secretsmanager", "DeleteSecret", p)
				return engine.Absent(err, "ResourceNotFoundException")
			},
			Tag: func(c *engine.Call, set map[string]string, remove []string) error {
				if len(remove) > 0 {
					if _, err := c.JSON("secretsmanager", "UntagResource", map[string]any{"SecretId": c.ID(), "TagKeys": remove}); err != nil {
						return err
					}
				}
				if len(set) == 0 {
					return nil
				}
				_, err := c.JSON("secretsmanager", "TagResource", map[string]any{"SecretId": c.ID(), "Tags": plainPairs(set, "Key", "Value")})
				return err
			},
		},
		"aws_secretsmanager_secret_version": {
			Computed: "version_stages", Replace: "secret_id secret_string secret_binary secret_string_wo_version", Sensitive: "secret_string secret_binary",
			Create: func(c *engine.Call) error {
				// A write-only value is read from the configuration: it is in no plan and no state.
				secret := c.Given("secret_string")
				if wo := c.Config["secret_string_wo"]; wo != nil {
					secret = wo
				}
				o, err := c.JSON("secretsmanager", "PutSecretValue", map[string]any{"SecretId": c.S("secret_id"), "SecretString": secret,
					"SecretBinary": c.Given("secret_binary"), "VersionStages": orNilList(c.Texts("version_stages"))})
				if err != nil {
					return err
				}
				c.Set("id", c.S("secret_id")+"|"+o.S("VersionId"))
				c.Set("has_secret_string_wo", c.Config["secret_string_wo"] != nil)
				return nil
			},
			Read:   readSecretVersion,
			Update: func(*engine.Call) error { return nil },
			Delete: func(c *engine.Call) error {
				_, version, _ := strings.Cut(c.ID(), "|")
				// The current version goes with its secret only; other stages are taken off.
				for _, stage := range c.Texts("version_stages") {
					if stage == "AWSCURRENT" {
						continue
					}
					_, err := c.JSON("secretsmanager", "UpdateSecretVersionStage", map[string]any{"SecretId": c.S("secret_id"), "VersionStage": stage, "RemoveFromVersionId": version})
					if err != nil && !cloud.Is(err, "ResourceNotFoundException", "InvalidRequestException", "InvalidParameterException") {
						return err
					}
				}
				return nil
			},
			Import: func(c *engine.Call, id string) error {
				secret, _, ok := strings.Cut(id, "|")
				if !ok {
					return fmt.Errorf("%q is not SECRETID|VERSIONID", id)
				}
				c.Set("secret_id", secret)
				return nil
			},
		},
		"aws_secretsmanager_secret_policy": {
			Replace: "secret_arn", Documents: "policy",
			Create: putSecretPolicy, Update: putSecretPolicy,
			Read: func(c *engine.Call) error {
				o, err := c.JSON("secretsmanager", "GetResourcePolicy", map[string]any{"SecretId": c.ID()})
				if err != nil {
					return engine.Absent(err, "ResourceNotFoundException")
				}
				if o.S("ResourcePolicy") == "" {
					return engine.ErrGone
				}
				c.SetAll(map[string]any{"secret_arn": c.ID(), "policy": o.S("ResourcePolicy")})
				return nil
			},
			Delete: func(c *engine.Call) error {
				_, err := c.JSON("secretsmanager", "DeleteResourcePolicy", map[string]any{"SecretId": c.ID()})
				return engine.Absent(err, "ResourceNotFoundException")
			},
		},
	}
}

func orNilList(l []string) any {
	if len(l) == 0 {
		return nil
	}
	return l
}

func putSecretPolicy(c *engine.Call) error {
	_, err := c.JSON("secretsmanager", "PutResourcePolicy", map[string]any{"SecretId": c.S("secret_arn"), "ResourcePolicy": c.S("policy"), "BlockPublicPolicy": c.Known("block_public_policy")})
	if err == nil {
		c.Set("id", c.S("secret_arn"))
	}
	return err
}

func replicas(set any) []any {
	var out []any
	for _, item := range value.List(set) {
		r := value.Map(item)
		one := map[string]any{"Region": text(r, "region")}
		if key := text(r, "kms_key_id"); key != "" {
			one["KmsKeyId"] = key
		}
		out = append(out, one)
	}
	return out
}

func replicaRegions(set any) []any {
	out := []any{}
	for _, r := range replicas(set) {
		out = append(out, text(value.Map(r), "Region"))
	}
	return out
}

func createSecret(c *engine.Call) error {
	p := map[string]any{"Name": named(c), "Description": c.Given("description"), "KmsKeyId": c.Given("kms_key_id"), "Type": c.Given("type"),
		"Tags": plainPairs(c.Tags(), "Key", "Value"), "ForceOverwriteReplicaSecret": c.B("force_overwrite_replica_secret")}
	if r := replicas(c.At("replica")); len(r) > 0 {
		p["AddReplicaRegions"] = r
	}
	replicated := false
	// A secret of this name may just be deleted.
	err := c.Wait("a deleted secret of the same name to be gone", briefly, func() (bool, error) {
		o, err := c.JSON("secretsmanager", "CreateSecret", p)
		if cloud.Is(err, "InvalidRequestException") && strings.Contains(err.Error(), "scheduled for deletion") {
			return false, err
		}
		if err == nil {
			c.Set("id", o.S("ARN"))
		}
		replicated = len(o.List("ReplicationStatus")) > 0
		return err == nil, err
	})
	if err != nil {
		return err
	}
	// The emulator forgets the replicas of a creation; AWS answers with them.
	if asked := replicas(c.At("replica")); len(asked) > 0 && !replicated {
		if err := replicate(c, asked); err != nil {
			return err
		}
	}
	if !c.Has("policy") {
		return nil
	}
	_, err = c.JSON("secretsmanager", "PutResourcePolicy", map[string]any{"SecretId": c.ID(), "ResourcePolicy": c.S("policy")})
	return err
}

func readSecret(c *engine.Call) error {
	o, err := c.JSON("secretsmanager", "DescribeSecret", map[string]any{"SecretId": c.ID()})
	if err != nil {
		return engine.Absent(err, "ResourceNotFoundException")
	}
	if o.At("DeletedDate") != nil {
		return engine.ErrGone
	}
	list := []any{}
	for _, r := range o.List("ReplicationStatus") {
		list = append(list, map[string]any{"region": r.S("Region"), "kms_key_id": orNil(r.S("KmsKeyId")), "status": r.S("Status"), "status_message": r.S("StatusMessage"), "last_accessed_date": r.S("LastAccessedDate")})
	}
	c.SetAll(map[string]any{"arn": o.S("ARN"), "name": o.S("Name"), "name_prefix": prefixOf(c, o.S("Name")), "description": o.S("Description"), "kms_key_id": o.S("KmsKeyId"),
		"replica": list, "type": o.S("Type")})
	policy, err := c.JSON("secretsmanager", "GetResourcePolicy", map[string]any{"SecretId": c.ID()})
	if err != nil {
		return err
	}
	c.Set("policy", policy.S("ResourcePolicy"))
	c.SetTags(fromPairs(o.List("Tags"), "Key", "Value"))
	return nil
}

func updateSecret(c *engine.Call) error {
	if c.Changed("description", "kms_key_id") {
		if _, err := c.JSON("secretsmanager", "UpdateSecret", map[string]any{"SecretId": c.ID(), "Description": c.S("description"), "KmsKeyId": c.Given("kms_key_id")}); err != nil {
			return err
		}
	}
	if c.Changed("policy") && c.Has("policy") {
		if _, err := c.JSON("secretsmanager", "PutResourcePolicy", map[string]any{"SecretId": c.ID(), "ResourcePolicy": c.S("policy")}); err != nil {
			return err
		}
	}
	if !c.Changed("replica") || value.IsUnknown(c.At("replica")) {
		return nil
	}
	has := func(list any, region string) bool {
		for _, item := range value.List(list) {
			if text(value.Map(item), "region") == region {
				return true
			}
		}
		return false
	}
	gone, added := []any{}, []any{}
	for _, r := range replicas(c.Was("replica")) {
		if region := text(value.Map(r), "Region"); !has(c.At("replica"), region) {
			gone = append(gone, region)
		}
	}
	for _, r := range replicas(c.At("replica")) {
		if !has(c.Was("replica"), text(value.Map(r), "Region")) {
			added = append(added, r)
		}
	}
	if len(gone) > 0 {
		if _, err := c.JSON("secretsmanager", "RemoveRegionsFromReplication", map[string]any{"SecretId": c.ID(), "RemoveReplicaRegions": gone}); err != nil {
			return err
		}
	}
	if len(added) == 0 {
		return nil
	}
	return replicate(c, added)
}

func replicate(c *engine.Call, regions []any) error {
	_, err := c.JSON("secretsmanager", "ReplicateSecretToRegions", map[string]any{"SecretId": c.ID(), "AddReplicaRegions": regions,
		"ForceOverwriteReplicaSecret": c.B("force_overwrite_replica_secret")})
	return err
}

// readSecretVersion looks at a version's stages, and at its value only when that value came from the configuration anyway.
func readSecretVersion(c *engine.Call) error {
	secret, version, _ := strings.Cut(c.ID(), "|")
	o, err := c.JSON("secretsmanager", "DescribeSecret", map[string]any{"SecretId": secret})
	if err != nil {
		return engine.Absent(err, "ResourceNotFoundException")
	}
	stages := value.List(value.Map(o.At("VersionIdsToStages"))[version])
	if o.At("DeletedDate") != nil || len(stages) == 0 {
		return engine.ErrGone
	}
	c.SetAll(map[string]any{"secret_id": secret, "secret_arn": o.S("ARN"), "version_id": version, "version_stages": stages})
	if c.At("has_secret_string_wo") == nil || value.IsUnknown(c.At("has_secret_string_wo")) {
		c.Set("has_secret_string_wo", false)
	}
	if c.B("has_secret_string_wo") || !c.Has("secret_string") && !c.Has("secret_binary") && !c.Importing {
		return nil
	}
	v, err := c.JSON("secretsmanager", "GetSecretValue", map[string]any{"SecretId": secret, "VersionId": version})
	if err != nil {
		return engine.Absent(err, "ResourceNotFoundException")
	}
	c.SetAll(map[string]any{"secret_string": v.S("SecretString"), "secret_binary": v.S("SecretBinary")})
	return nil
}
