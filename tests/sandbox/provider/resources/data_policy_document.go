package resources

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

// document is an IAM policy; the order of its fields is the real provider's, because plans show the text.
type document struct {
	Version   string      `json:",omitempty"`
	ID        string      `json:"Id,omitempty"`
	Statement []statement `json:",omitempty"`
}

type statement struct {
	Sid          string         `json:",omitempty"`
	Effect       string         `json:",omitempty"`
	Action       any            `json:",omitempty"`
	NotAction    any            `json:",omitempty"`
	Resource     any            `json:",omitempty"`
	NotResource  any            `json:",omitempty"`
	Principal    any            `json:",omitempty"`
	NotPrincipal any            `json:",omitempty"`
	Condition    map[string]any `json:",omitempty"`
}

// readPolicyDocument needs no service: it only writes JSON.
func readPolicyDocument(c *engine.Call) error {
	merged := document{}
	sources := c.Texts("source_policy_documents")
	if s := c.S("source_json"); s != "" {
		sources = append([]string{s}, sources...)
	}
	for _, s := range sources {
		d, err := parseDocument(s)
		if err != nil {
			return fmt.Errorf("source_policy_documents: %w", err)
		}
		if err := merged.mergeUnique(d); err != nil {
			return fmt.Errorf("source_policy_documents: %w", err)
		}
	}
	own := document{Version: c.S("version"), ID: c.S("policy_id")}
	if own.Version == "" {
		own.Version = "2012-10-17"
	}
	for _, s := range c.Objects("statement") {
		st, err := newStatement(s)
		if err != nil {
			return err
		}
		if st.Sid != "" && slices.ContainsFunc(own.Statement, func(o statement) bool { return o.Sid == st.Sid }) {
			return fmt.Errorf("duplicate Sid (%s)", st.Sid)
		}
		own.Statement = append(own.Statement, st)
	}
	merged.override(own)
	overrides := c.Texts("override_policy_documents")
	if s := c.S("override_json"); s != "" {
		overrides = append([]string{s}, overrides...)
	}
	for _, s := range overrides {
		d, err := parseDocument(s)
		if err != nil {
			return fmt.Errorf("override_policy_documents: %w", err)
		}
		merged.override(d)
	}
	pretty, err := encode(merged, "  ")
	if err != nil {
		return err
	}
	flat, err := encode(merged, "")
	if err != nil {
		return err
	}
	c.SetAll(map[string]any{"json": pretty, "minified_json": flat, "version": own.Version, "id": strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(pretty))), 10)})
	for _, s := range c.Objects("statement") {
		if s["effect"] == nil {
			s["effect"] = "Allow"
		}
	}
	return nil
}

func encode(d document, indent string) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(d)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func parseDocument(text string) (document, error) {
	var d document
	if text == "" {
		return d, nil
	}
	var raw struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return d, err
	}
	d.Version, d.ID = raw.Version, raw.ID
	if len(raw.Statement) == 0 {
		return d, nil
	}
	if raw.Statement[0] != '[' {
		raw.Statement = append(append([]byte{'['}, raw.Statement...), ']')
	}
	return d, json.Unmarshal(raw.Statement, &d.Statement)
}

// mergeUnique adds the statements of another source; two of one Sid are an error.
func (d *document) mergeUnique(other document) error {
	for _, s := range other.Statement {
		if s.Sid != "" && slices.ContainsFunc(d.Statement, func(o statement) bool { return o.Sid == s.Sid }) {
			return errors.New("duplicate Sid (" + s.Sid + ")")
		}
		d.Statement = append(d.Statement, s)
	}
	d.take(other)
	return nil
}

// override replaces statements of the same Sid and adds the others.
func (d *document) override(other document) {
	for _, s := range other.Statement {
		i := slices.IndexFunc(d.Statement, func(o statement) bool { return s.Sid != "" && o.Sid == s.Sid })
		if i >= 0 {
			d.Statement[i] = s
		} else {
			d.Statement = append(d.Statement, s)
		}
	}
	d.take(other)
}

func (d *document) take(other document) {
	if other.ID != "" {
		d.ID = other.ID
	}
	if other.Version != "" {
		d.Version = other.Version
	}
}

func newStatement(m map[string]any) (statement, error) {
	s := statement{Sid: text(m, "sid"), Effect: text(m, "effect"), Action: strings1(m["actions"], true), NotAction: strings1(m["not_actions"], true)}
	if s.Effect == "" {
		s.Effect = "Allow"
	}
	s.Resource, s.NotResource = strings1(m["resources"], true), strings1(m["not_resources"], true)
	var err error
	if s.Principal, err = principals(m["principals"]); err != nil {
		return s, err
	}
	if s.NotPrincipal, err = principals(m["not_principals"]); err != nil {
		return s, err
	}
	for _, item := range value.List(m["condition"]) {
		cond := value.Map(item)
		test, variable := text(cond, "test"), text(cond, "variable")
		if s.Condition == nil {
			s.Condition = map[string]any{}
		}
		inner := value.Map(s.Condition[test])
		if inner == nil {
			inner = map[string]any{}
			s.Condition[test] = inner
		}
		values := append(value.Texts(strings0(inner[variable])), value.Texts(cond["values"])...)
		inner[variable] = strings1(values, false)
	}
	return s, nil
}

func strings0(v any) any {
	if s, ok := v.(string); ok {
		return []any{s}
	}
	return v
}

// strings1 is one text for a list of one, as IAM itself writes policies; variables are written &{…} in Terraform.
func strings1(v any, ordered bool) any {
	list := value.Texts(v)
	if ordered {
		slices.Sort(list)
		slices.Reverse(list)
	}
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "&{", "${")
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return list
}

func principals(v any) (any, error) {
	out := map[string]any{}
	for _, item := range value.List(v) {
		p := value.Map(item)
		kind, ids := text(p, "type"), value.Texts(p["identifiers"])
		if kind == "*" {
			if len(ids) == 1 && ids[0] == "*" {
				return "*", nil
			}
			return nil, errors.New("a principal of type * has the identifier * only")
		}
		out[kind] = strings1(append(value.Texts(strings0(out[kind])), ids...), true)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}
