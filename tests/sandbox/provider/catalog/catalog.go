// Package catalog holds the schemas of the providers that this binary stands in for, as embedded data.
package catalog

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"deployctl/tests/sandbox/provider/schema"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// Attribute is one argument or result of a resource.
type Attribute struct {
	RawType   json.RawMessage `json:"type"`
	Required  bool
	Optional  bool
	Computed  bool
	Sensitive bool
	WriteOnly bool `json:"write_only"`

	Type tftypes.Type `json:"-"`
}

// Nested is a block inside a block.
type Nested struct {
	NestingMode string `json:"nesting_mode"`
	Block       *Block
	MinItems    int64 `json:"min_items"`
	MaxItems    int64 `json:"max_items"`
}

// Block is a schema's body.
type Block struct {
	Attributes map[string]*Attribute
	Blocks     map[string]*Nested `json:"block_types"`
}

// Schema is the schema of one resource or data source.
type Schema struct {
	Version int64
	Block   *Block
}

// Catalog is everything that one provider serves.
type Catalog struct {
	Resources map[string]*Schema `json:"resource_schemas"`
	Data      map[string]*Schema `json:"data_source_schemas"`
}

// Load reads the embedded schema of the provider called name (aws, tls, time, null, cloudinit).
func Load(name string) (*Catalog, error) {
	raw, err := read(name)
	if err != nil {
		return nil, err
	}
	c := &Catalog{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("reading the embedded schema of %s: %w", name, err)
	}
	for _, set := range []map[string]*Schema{c.Resources, c.Data} {
		for t, s := range set {
			if err := s.Block.parse(); err != nil {
				return nil, fmt.Errorf("schema of %s: %w", t, err)
			}
		}
	}
	return c, nil
}

func read(name string) ([]byte, error) {
	entries, err := schema.Files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), name+"-") {
			continue
		}
		raw, err := schema.Files.ReadFile(e.Name())
		if err != nil || !strings.HasSuffix(e.Name(), ".gz") {
			return raw, err
		}
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	}
	return nil, fmt.Errorf("no schema of a provider called %q is built in: the binary must be called terraform-provider-NAME_vVERSION", name)
}

func (b *Block) parse() error {
	for name, a := range b.Attributes {
		t, err := tftypes.ParseJSONType(a.RawType) //nolint:staticcheck // the only parser of this notation
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		a.Type = t
	}
	for name, n := range b.Blocks {
		if err := n.Block.parse(); err != nil {
			return fmt.Errorf("%s.%w", name, err)
		}
	}
	return nil
}

// Type is the type of a value of this block.
func (b *Block) Type() tftypes.Object {
	types := make(map[string]tftypes.Type, len(b.Attributes)+len(b.Blocks))
	for name, a := range b.Attributes {
		types[name] = a.Type
	}
	for name, n := range b.Blocks {
		types[name] = n.Type()
	}
	return tftypes.Object{AttributeTypes: types}
}

// Type is the type of the value of a nested block, with its nesting.
func (n *Nested) Type() tftypes.Type {
	inner := n.Block.Type()
	switch n.NestingMode {
	case "list":
		return tftypes.List{ElementType: inner}
	case "set":
		return tftypes.Set{ElementType: inner}
	case "map":
		return tftypes.Map{ElementType: inner}
	default:
		return inner
	}
}
