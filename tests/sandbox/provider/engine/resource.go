// Package engine plans, applies, reads and imports resources from short tables, one a resource type.
package engine

import (
	"errors"
	"strings"

	"deployctl/tests/sandbox/provider/catalog"
)

// Words is a list of names in one string, separated by blanks; nested names are written block.attribute.
type Words string

// List splits the words.
func (w Words) List() []string { return strings.Fields(string(w)) }

// ErrGone says that the object is not there (any more).
var ErrGone = errors.New("the object does not exist")

// Resource is what the schema data cannot say of a resource type, and how to work on it.
type Resource struct {
	// Computed are the optional attributes and blocks that the real provider computes when left out.
	Computed Words
	// Replace are the attributes and blocks whose change makes a new object (ForceNew).
	Replace Words
	// Refreshed are the computed attributes that an update may change, so unknown in its plan.
	Refreshed Words
	// AttributeBlocks are blocks in the data that are really attributes of objects.
	AttributeBlocks Words
	// Sensitive are the attributes that plans must not show.
	Sensitive Words
	// Documents are attributes with JSON in them, compared by meaning.
	Documents Words
	// Defaults are the values of attributes that are left out, by path.
	Defaults map[string]any
	// Same tells for an attribute whether the new value means what the old one says.
	Same map[string]func(old, new any) bool
	// Adjust changes a plan before the differences are taken.
	Adjust func(*Plan) error

	Create func(*Call) error
	Read   func(*Call) error
	// Update changes what is not tags; nil when every attribute makes a new object.
	Update func(*Call) error
	Delete func(*Call) error
	// Tag changes the tags of an object; nil when the type has none.
	Tag func(c *Call, set map[string]string, remove []string) error
	// Import fills the attributes that Read starts from; nil means that `id` is enough.
	Import func(c *Call, id string) error

	Block *catalog.Block
}

// Data is a data source.
type Data struct {
	Read      func(*Call) error
	Sensitive Words
	Block     *catalog.Block
}

// Set is what one provider can do.
type Set struct {
	Resources map[string]*Resource
	Data      map[string]*Data
	// Account is true for a provider with credentials and regions.
	Account bool
}
