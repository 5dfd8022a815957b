package catalog

import (
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// Corrections say what the extracted schema cannot tell of one resource type.
type Corrections struct {
	// Computed lists the optional attributes and blocks that the real provider computes when they are left out.
	Computed []string
	// AttributeBlocks lists the blocks that are really attributes of objects (so that `ingress = []` is allowed).
	AttributeBlocks []string
	// Sensitive lists the attributes that plans must not show.
	Sensitive []string
}

// Correct replaces the blanket "optional means computed" of the data by what is true for this resource type.
func (s *Schema) Correct(c Corrections) error {
	computed := map[string]bool{"id": true, "region": true, "tags_all": true}
	for _, path := range c.Computed {
		computed[path] = true
	}
	s.Block.onlyComputed("", computed)
	for _, path := range c.Sensitive {
		a := s.Block.attribute(path)
		if a == nil {
			return fmt.Errorf("sensitive attribute %s is not in the schema", path)
		}
		a.Sensitive = true
	}
	for _, name := range c.AttributeBlocks {
		n := s.Block.Blocks[name]
		if n == nil {
			return fmt.Errorf("block %s is not in the schema", name)
		}
		delete(s.Block.Blocks, name)
		s.Block.Attributes[name] = &Attribute{Type: n.Type(), Optional: true, Computed: computed[name]}
	}
	for _, path := range c.Computed {
		if s.Block.attribute(path) == nil && !s.Block.hasBlock(path) {
			return fmt.Errorf("computed attribute %s is not in the schema", path)
		}
	}
	return nil
}

func (b *Block) onlyComputed(prefix string, computed map[string]bool) {
	for name, a := range b.Attributes {
		if a.Optional && !computed[prefix+name] {
			a.Computed = false
		}
	}
	for name, n := range b.Blocks {
		n.Block.onlyComputed(prefix+name+".", computed)
	}
}

func (b *Block) attribute(path string) *Attribute {
	head, rest, nested := strings.Cut(path, ".")
	if !nested {
		return b.Attributes[head]
	}
	if n := b.Blocks[head]; n != nil {
		return n.Block.attribute(rest)
	}
	return nil
}

func (b *Block) hasBlock(path string) bool {
	head, rest, nested := strings.Cut(path, ".")
	n := b.Blocks[head]
	if n == nil || !nested {
		return n != nil
	}
	return n.Block.hasBlock(rest)
}

// Find is the attribute at a path, nil when there is none.
func (b *Block) Find(path string) *Attribute { return b.attribute(path) }

// IsSet tells whether the attribute's order has no meaning.
func (a *Attribute) IsSet() bool { return a.Type.Is(tftypes.Set{}) }

// AddTagsAll adds the computed tags_all that every tagged resource has and that the extraction lost for some types.
func (s *Schema) AddTagsAll() {
	a := s.Block.Attributes
	if a["tags"] == nil {
		return
	}
	if a["tags_all"] == nil {
		a["tags_all"] = &Attribute{Type: a["tags"].Type, Computed: true}
	}
}
