package catalog

import (
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

var nesting = map[string]tfprotov6.SchemaNestedBlockNestingMode{
	"list":   tfprotov6.SchemaNestedBlockNestingModeList,
	"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
	"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
	"map":    tfprotov6.SchemaNestedBlockNestingModeMap,
}

// Proto is the schema in the words of Terraform's plugin protocol.
func (s *Schema) Proto() *tfprotov6.Schema {
	return &tfprotov6.Schema{Version: s.Version, Block: s.Block.Proto()}
}

// Proto is the block in the words of Terraform's plugin protocol.
func (b *Block) Proto() *tfprotov6.SchemaBlock {
	out := &tfprotov6.SchemaBlock{}
	for name, a := range b.Attributes {
		out.Attributes = append(out.Attributes, &tfprotov6.SchemaAttribute{
			Name: name, Type: a.Type, Required: a.Required, Optional: a.Optional,
			Computed: a.Computed, Sensitive: a.Sensitive, WriteOnly: a.WriteOnly,
		})
	}
	for name, n := range b.Blocks {
		nb := &tfprotov6.SchemaNestedBlock{TypeName: name, Block: n.Block.Proto(), Nesting: nesting[n.NestingMode]}
		// The protocol knows limits for lists and sets only.
		if n.NestingMode == "list" || n.NestingMode == "set" {
			nb.MinItems, nb.MaxItems = n.MinItems, n.MaxItems
		}
		out.BlockTypes = append(out.BlockTypes, nb)
	}
	return out
}
