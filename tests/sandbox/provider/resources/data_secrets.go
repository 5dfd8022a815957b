package resources

import (
	"errors"
	"fmt"

	"deployctl/tests/sandbox/provider/engine"
)

func missing(err error, what string) error {
	if errors.Is(err, engine.ErrGone) {
		return fmt.Errorf("there is no %s", what)
	}
	return err
}

func readParameterData(c *engine.Call) error {
	decrypt := true
	if c.At("with_decryption") != nil {
		decrypt = c.B("with_decryption")
	}
	o, err := c.JSON("ssm", "GetParameter", map[string]any{"Name": c.S("name"), "WithDecryption": decrypt})
	if err != nil {
		return err
	}
	p := o.O("Parameter")
	c.SetAll(map[string]any{"id": p.S("Name"), "arn": p.S("ARN"), "type": p.S("Type"), "value": p.S("Value"), "version": p.At("Version"), "insecure_value": nil})
	if p.S("Type") != "SecureString" {
		c.Set("insecure_value", p.S("Value"))
	}
	return nil
}

func readAliasData(c *engine.Call) error {
	a, err := findAlias(c, c.S("name"))
	if err != nil {
		return missing(err, "KMS alias "+c.S("name"))
	}
	c.SetAll(map[string]any{"id": a.S("AliasArn"), "arn": a.S("AliasArn"), "target_key_id": a.S("TargetKeyId"), "target_key_arn": c.ARN("kms", "key/"+a.S("TargetKeyId"))})
	return nil
}

func readSecretData(c *engine.Call) error {
	name := c.S("arn")
	if name == "" {
		name = c.S("name")
	}
	o, err := c.JSON("secretsmanager", "DescribeSecret", map[string]any{"SecretId": name})
	if err != nil {
		return err
	}
	policy, err := c.JSON("secretsmanager", "GetResourcePolicy", map[string]any{"SecretId": name})
	if err != nil {
		return err
	}
	tags := map[string]any{}
	for k, v := range fromPairs(o.List("Tags"), "Key", "Value") {
		tags[k] = v
	}
	c.SetAll(map[string]any{"id": o.S("ARN"), "arn": o.S("ARN"), "name": o.S("Name"), "description": o.S("Description"), "kms_key_id": o.S("KmsKeyId"),
		"policy": policy.S("ResourcePolicy"), "tags": tags, "type": o.S("Type"), "created_date": o.S("CreatedDate"), "last_changed_date": o.S("LastChangedDate")})
	return nil
}
