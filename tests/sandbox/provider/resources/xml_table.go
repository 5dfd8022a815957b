package resources

import (
	"strings"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/value"
)

// field maps one argument to an element of one of S3's XML documents.
type field struct {
	name, tag string
	kind      fieldKind
	fields    []field
}

type fieldKind int

const (
	leaf   fieldKind = iota // text in an element
	nested                  // a block: one element for each
	many                    // a list of texts: one element for each
	tagMap                  // a map: Tag elements with Key and Value
)

// write makes the XML of a block's fields, in the table's order.
func write(fields []field, m map[string]any) string {
	var b strings.Builder
	for _, f := range fields {
		v := m[f.name]
		if v == nil || value.IsUnknown(v) {
			continue
		}
		switch f.kind {
		case leaf:
			b.WriteString(cloud.Leaf(f.tag, value.Text(v)))
		case many:
			for _, s := range value.Texts(v) {
				b.WriteString(cloud.Leaf(f.tag, s))
			}
		case tagMap:
			for k, s := range value.Map(v) {
				b.WriteString(cloud.El("Tag", cloud.Leaf("Key", k), "<Value>"+cloud.Text(value.Text(s))+"</Value>"))
			}
		case nested:
			for _, item := range value.List(v) {
				inner := write(f.fields, value.Map(item))
				// A filter for everything is the empty prefix.
				if f.tag == "Filter" && inner == "" {
					inner = "<Prefix></Prefix>"
				}
				b.WriteString(cloud.El(f.tag, inner))
			}
		}
	}
	return b.String()
}

// readFields is the reverse of write.
func readFields(fields []field, n *cloud.Node) map[string]any {
	m := map[string]any{}
	for _, f := range fields {
		switch f.kind {
		case leaf:
			m[f.name] = n.Or(f.tag)
		case many:
			m[f.name] = n.Texts(f.tag)
		case tagMap:
			if tags := n.Pairs("Tag", "Key", "Value"); len(tags) > 0 {
				m[f.name] = value.Map(tags)
			}
		case nested:
			list := []any{}
			for _, k := range n.All(f.tag) {
				list = append(list, readFields(f.fields, k))
			}
			m[f.name] = list
		}
	}
	return m
}
