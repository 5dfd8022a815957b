package resources

import (
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
)

func lower(s string) string { return strings.ToLower(s) }

func logs() table {
	return table{
		"aws_cloudwatch_log_group": {
			Computed: "name name_prefix log_group_class deletion_protection_enabled", Replace: "name name_prefix log_group_class",
			Defaults: map[string]any{"retention_in_days": 0.0, "skip_destroy": false},
			Create: func(c *engine.Call) error {
				name := named(c)
				tags := map[string]any{}
				for k, v := range c.Tags() {
					tags[k] = v
				}
				_, err := c.JSON("logs", "CreateLogGroup", map[string]any{"logGroupName": name, "kmsKeyId": c.Given("kms_key_id"),
					"logGroupClass": c.Given("log_group_class"), "tags": tags})
				if err != nil {
					return err
				}
				c.Set("id", name)
				return logRetention(c)
			},
			Read: readLogGroup,
			Update: func(c *engine.Call) error {
				if c.Changed("kms_key_id") {
					action, p := "AssociateKmsKey", map[string]any{"logGroupName": c.ID(), "kmsKeyId": c.Given("kms_key_id")}
					if !c.Has("kms_key_id") {
						action = "DisassociateKmsKey"
					}
					if _, err := c.JSON("logs", action, p); err != nil {
						return err
					}
				}
				return logRetention(c)
			},
			Delete: func(c *engine.Call) error {
				if c.B("skip_destroy") {
					return nil
				}
				_, err := c.JSON("logs", "DeleteLogGroup", map[string]any{"logGroupName": c.ID()})
				return engine.Absent(err, "ResourceNotFoundException")
			},
			Tag: func(c *engine.Call, set map[string]string, remove []string) error {
				arn := strings.TrimSuffix(c.S("arn"), ":*")
				if len(remove) > 0 {
					if _, err := c.JSON("logs", "UntagResource", map[string]any{"resourceArn": arn, "tagKeys": remove}); err != nil {
						return err
					}
				}
				if len(set) == 0 {
					return nil
				}
				_, err := c.JSON("logs", "TagResource", map[string]any{"resourceArn": arn, "tags": set})
				return err
			},
			Import: idIsAttribute("name"),
		},
	}
}

func logRetention(c *engine.Call) error {
	// A new group keeps everything anyway.
	if !c.Changed("retention_in_days") || c.Prior == nil && c.N("retention_in_days") == 0 {
		return nil
	}
	if days := c.N("retention_in_days"); days > 0 {
		_, err := c.JSON("logs", "PutRetentionPolicy", map[string]any{"logGroupName": c.ID(), "retentionInDays": days})
		return err
	}
	_, err := c.JSON("logs", "DeleteRetentionPolicy", map[string]any{"logGroupName": c.ID()})
	return engine.Absent(err, "ResourceNotFoundException")
}

func readLogGroup(c *engine.Call) error {
	group, err := findLogGroup(c, c.ID())
	if err != nil {
		return err
	}
	arn := strings.TrimSuffix(group.S("arn"), ":*")
	class := group.S("logGroupClass")
	if class == "" {
		class = "STANDARD"
	}
	days := group.At("retentionInDays")
	if days == nil {
		days = 0.0
	}
	c.SetAll(map[string]any{"arn": arn, "name": c.ID(), "name_prefix": prefixOf(c, c.ID()), "log_group_class": class, "retention_in_days": days,
		"kms_key_id": group.S("kmsKeyId"), "deletion_protection_enabled": group.At("deletionProtectionEnabled") == true})
	tags, err := c.JSON("logs", "ListTagsForResource", map[string]any{"resourceArn": arn})
	if err != nil {
		return err
	}
	c.SetTags(tags.Strings("tags"))
	return nil
}

// findLogGroup looks through all pages, because the filter is a prefix.
func findLogGroup(c *engine.Call, name string) (cloud.Object, error) {
	var token any
	for {
		page, err := c.JSON("logs", "DescribeLogGroups", map[string]any{"logGroupNamePrefix": name, "nextToken": token})
		if err != nil {
			return nil, engine.Absent(err, "ResourceNotFoundException")
		}
		for _, g := range page.List("logGroups") {
			if g.S("logGroupName") == name {
				return g, nil
			}
		}
		if token = page.At("nextToken"); token == nil || token == "" {
			return nil, engine.ErrGone
		}
	}
}
