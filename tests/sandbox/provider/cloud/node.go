package cloud

import (
	"encoding/xml"
	"io"
	"strings"

	"deployctl/tests/sandbox/provider/value"
)

// Node is an element of an XML answer. All its methods take a nil node, so that a path needs no checks on its way.
type Node struct {
	Name string
	Body string
	Kids []*Node
}

func parseXML(r io.Reader) (*Node, error) {
	d := xml.NewDecoder(r)
	root := &Node{}
	stack := []*Node{root}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			n := &Node{Name: t.Name.Local}
			top.Kids = append(top.Kids, n)
			stack = append(stack, n)
		case xml.CharData:
			top.Body += string(t)
		case xml.EndElement:
			if len(top.Kids) > 0 {
				top.Body = ""
			}
			stack = stack[:len(stack)-1]
		}
	}
	if len(root.Kids) == 0 {
		return root, nil
	}
	return root.Kids[0], nil
}

// At is the first element at a path of names.
func (n *Node) At(path string) *Node {
	for name := range strings.SplitSeq(path, "/") {
		n = n.child(name)
	}
	return n
}

func (n *Node) child(name string) *Node {
	if n == nil {
		return nil
	}
	for _, k := range n.Kids {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// All are the elements at a path whose last name repeats.
func (n *Node) All(path string) []*Node {
	parent, last := n, path
	if i := strings.LastIndex(path, "/"); i >= 0 {
		parent, last = n.At(path[:i]), path[i+1:]
	}
	if parent == nil {
		return nil
	}
	var out []*Node
	for _, k := range parent.Kids {
		if k.Name == last {
			out = append(out, k)
		}
	}
	return out
}

// S is the text at a path, empty when there is none.
func (n *Node) S(path string) string {
	if n = n.At(path); n == nil {
		return ""
	}
	return strings.TrimSpace(n.Body)
}

// Or is the text at a path as a value: null when the element is missing or empty.
func (n *Node) Or(path string) any {
	if s := n.S(path); s != "" {
		return s
	}
	return nil
}

// True tells whether the text at a path is true or enabled.
func (n *Node) True(path string) bool {
	s := strings.ToLower(n.S(path))
	return s == "true" || s == "enabled"
}

// Texts are the texts of all elements at a path.
func (n *Node) Texts(path string) []any {
	out := []any{}
	for _, k := range n.All(path) {
		out = append(out, strings.TrimSpace(k.Body))
	}
	return out
}

// Pairs reads a list of key and value elements, as tags are.
func (n *Node) Pairs(path, key, val string) map[string]string {
	out := map[string]string{}
	for _, k := range n.All(path) {
		out[k.S(key)] = k.S(val)
	}
	return out
}

// Object is a JSON answer.
type Object map[string]any

// At is what stands at a path of keys separated by dots.
func (o Object) At(path string) any {
	var v any = map[string]any(o)
	for key := range strings.SplitSeq(path, ".") {
		v = value.Map(v)[key]
	}
	return v
}

// S is the text at a path.
func (o Object) S(path string) string { return value.Text(o.At(path)) }

// O is the object at a path.
func (o Object) O(path string) Object { return value.Map(o.At(path)) }

// List are the objects of the list at a path.
func (o Object) List(path string) []Object {
	var out []Object
	for _, item := range value.List(o.At(path)) {
		out = append(out, value.Map(item))
	}
	return out
}

// Strings is a map of texts at a path, as tags are in REST services.
func (o Object) Strings(path string) map[string]string {
	out := map[string]string{}
	for k, v := range value.Map(o.At(path)) {
		out[k] = value.Text(v)
	}
	return out
}
