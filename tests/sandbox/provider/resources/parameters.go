package resources

import (
	"deployctl/tests/sandbox/provider/engine"
)

func parameters() table {
	return table{
		"aws_ssm_parameter": {
			Computed: "arn data_type insecure_value key_id tier value", Replace: "name", Refreshed: "version", Sensitive: "value",
			Adjust: adjustParameter,
			Create: func(c *engine.Call) error {
				if err := putParameter(c, c.B("overwrite"), c.Tags()); err != nil {
					return err
				}
				c.Set("id", c.S("name"))
				return nil
			},
			Read:   readParameter,
			Update: func(c *engine.Call) error { return putParameter(c, true, nil) },
			Delete: func(c *engine.Call) error {
				_, err := c.JSON("ssm", "DeleteParameter", map[string]any{"Name": c.ID()})
				return engine.Absent(err, "ParameterNotFound")
			},
			Tag: func(c *engine.Call, set map[string]string, remove []string) error {
				p := map[string]any{"ResourceType": "Parameter", "ResourceId": c.ID()}
				if len(remove) > 0 {
					p["TagKeys"] = remove
					if _, err := c.JSON("ssm", "RemoveTagsFromResource", p); err != nil {
						return err
					}
					delete(p, "TagKeys")
				}
				if len(set) == 0 {
					return nil
				}
				p["Tags"] = plainPairs(set, "Key", "Value")
				_, err := c.JSON("ssm", "AddTagsToResource", p)
				return err
			},
			Import: idIsAttribute("name"),
		},
	}
}

// adjustParameter: of the three ways to write a value only one is in use; the others stay empty rather than unknown.
func adjustParameter(p *Plan) error {
	if p.Config["value_wo"] != nil || p.Config["value_wo_version"] != nil {
		p.Planned["value"], p.Planned["insecure_value"] = nil, nil
	} else if p.Config["value"] != nil {
		p.Planned["insecure_value"] = nil
	}
	if p.Config["type"] != "SecureString" {
		p.Planned["key_id"] = p.Config["key_id"]
	}
	return nil
}

func putParameter(c *engine.Call, overwrite any, tags map[string]string) error {
	text := c.Given("value")
	if v := c.Given("insecure_value"); v != nil && c.Config["insecure_value"] != nil {
		text = v
	}
	if wo := c.Config["value_wo"]; wo != nil {
		text = wo
	}
	p := map[string]any{"Name": c.S("name"), "Type": c.S("type"), "Value": text, "Overwrite": overwrite, "Description": c.Given("description"),
		"AllowedPattern": c.Given("allowed_pattern"), "Tier": c.Given("tier"), "DataType": c.Given("data_type"), "KeyId": c.Given("key_id")}
	// AWS refuses tags together with overwriting.
	if overwrite != true && len(tags) > 0 {
		p["Tags"] = plainPairs(tags, "Key", "Value")
	}
	_, err := c.JSON("ssm", "PutParameter", p)
	return err
}

func readParameter(c *engine.Call) error {
	name := c.ID()
	o, err := c.JSON("ssm", "GetParameter", map[string]any{"Name": name, "WithDecryption": !writeOnly(c)})
	if err != nil {
		return engine.Absent(err, "ParameterNotFound")
	}
	d, err := c.JSON("ssm", "DescribeParameters", map[string]any{"ParameterFilters": []any{map[string]any{"Key": "Name", "Option": "Equals", "Values": []any{name}}}})
	if err != nil {
		return err
	}
	for _, meta := range d.List("Parameters") {
		if meta.S("Name") != name {
			continue
		}
		c.SetAll(map[string]any{"description": meta.S("Description"), "tier": meta.S("Tier"), "data_type": meta.S("DataType"),
			"allowed_pattern": meta.S("AllowedPattern"), "key_id": meta.S("KeyId")})
	}
	p := o.O("Parameter")
	c.SetAll(map[string]any{"name": name, "arn": p.S("ARN"), "type": p.S("Type"), "version": p.At("Version"), "has_value_wo": writeOnly(c)})
	for attribute, fallback := range map[string]string{"tier": "Standard", "data_type": "text"} {
		if !c.Has(attribute) {
			c.Set(attribute, fallback)
		}
	}
	switch {
	case writeOnly(c):
		c.SetAll(map[string]any{"value": nil, "insecure_value": nil})
	case c.Has("insecure_value"):
		c.SetAll(map[string]any{"value": p.S("Value"), "insecure_value": p.S("Value")})
	default:
		c.SetAll(map[string]any{"value": p.S("Value"), "insecure_value": nil})
	}
	tags, err := c.JSON("ssm", "ListTagsForResource", map[string]any{"ResourceType": "Parameter", "ResourceId": name})
	if err != nil {
		return err
	}
	c.SetTags(fromPairs(tags.List("TagList"), "Key", "Value"))
	return nil
}

// writeOnly tells whether the value must stay out of the state.
func writeOnly(c *engine.Call) bool {
	return c.At("value_wo_version") != nil || c.Config["value_wo"] != nil || c.B("has_value_wo")
}
