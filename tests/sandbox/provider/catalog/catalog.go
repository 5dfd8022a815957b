// Package catalog holds the schemas of the providers that this binary stands in for, as embedded data.
package catalog

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"strings"
	"sync"

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
	Resources Kinds
	Data      Kinds
}

// Kinds are schemas by the name of their type. Terraform starts a provider several times for one plan, and mostly asks for few of two thousand:
// each is read when it is first asked for.
type Kinds struct {
	raw  map[string]json.RawMessage
	lock sync.Mutex
	read map[string]*Schema
}

// Get is the schema of one type, nil when there is none.
func (k *Kinds) Get(name string) (*Schema, error) {
	k.lock.Lock()
	defer k.lock.Unlock()
	if s := k.read[name]; s != nil {
		return s, nil
	}
	raw, known := k.raw[name]
	if !known {
		return nil, nil
	}
	s := &Schema{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("reading the embedded schema of %s: %w", name, err)
	}
	if err := s.Block.parse(); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", name, err)
	}
	k.read[name] = s
	return s, nil
}

// Names are those of all types.
func (k *Kinds) Names() iter.Seq[string] { return maps.Keys(k.raw) }

// Load reads the embedded schema of the provider called name (aws, tls, time, null, cloudinit).
func Load(name string) (*Catalog, error) {
	raw, err := read(name)
	if err != nil {
		return nil, err
	}
	var all struct {
		Resources map[string]json.RawMessage `json:"resource_schemas"`
		Data      map[string]json.RawMessage `json:"data_source_schemas"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("reading the embedded schema of %s: %w", name, err)
	}
	return &Catalog{
		Resources: Kinds{raw: all.Resources, read: map[string]*Schema{}},
		Data:      Kinds{raw: all.Data, read: map[string]*Schema{}},
	}, nil
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
