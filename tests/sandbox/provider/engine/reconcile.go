package engine

import (
	"slices"

	"deployctl/tests/sandbox/provider/catalog"
	"deployctl/tests/sandbox/provider/value"
)

// reconcile is `next` with the parts of `old` kept that mean the same: null against empty, a document written differently, the
// order of a set. It keeps plans empty where nothing changed, and state steady where a service answers in its own spelling.
func reconcile(r *Resource, b *catalog.Block, prefix string, old, next any) any {
	was, is := value.Map(old), value.Map(next)
	if was == nil || is == nil {
		return next
	}
	out := make(map[string]any, len(is))
	for name := range b.Attributes {
		out[name] = reconcileAttribute(r, prefix+name, was[name], is[name])
	}
	for name, n := range b.Blocks {
		out[name] = reconcileNested(r, n, prefix+name, was[name], is[name])
	}
	return out
}

func reconcileAttribute(r *Resource, path string, old, next any) any {
	switch {
	case value.HasUnknown(old), value.HasUnknown(next):
		return next
	case value.Empty(old) && value.Empty(next):
		return old
	case slices.Contains(r.Documents.List(), path) && value.SameJSON(old, next):
		return old
	}
	if same := r.Same[path]; same != nil && same(old, next) {
		return old
	}
	if l, ok := next.([]any); ok && sameElements(value.List(old), l) && isSet(r, path) {
		return old
	}
	return next
}

func isSet(r *Resource, path string) bool {
	a := r.Block.Find(path)
	return a != nil && a.IsSet()
}

func sameElements(old, next []any) bool {
	return len(old) == len(next) && value.Canonical(old) == value.Canonical(next)
}

func reconcileNested(r *Resource, n *catalog.Nested, path string, old, next any) any {
	if value.IsUnknown(old) || value.IsUnknown(next) {
		return next
	}
	if value.Empty(old) && value.Empty(next) {
		return old
	}
	switch n.NestingMode {
	case "list":
		was, is := value.List(old), value.List(next)
		out := make([]any, len(is))
		for i := range is {
			out[i] = is[i]
			if i < len(was) {
				out[i] = reconcile(r, n.Block, path+".", was[i], is[i])
			}
		}
		return out
	case "set":
		was, is := value.List(old), value.List(next)
		out := make([]any, len(is))
		for i := range is {
			out[i] = is[i]
			if j := closest(was, is[i]); j >= 0 {
				out[i] = reconcile(r, n.Block, path+".", was[j], is[i])
			}
		}
		return out
	default:
		return reconcile(r, n.Block, path+".", old, next)
	}
}

// closest finds the element of a set that is the same but for nulls, or the only one there is.
func closest(set []any, item any) int {
	key := value.Canonical(item)
	for i, other := range set {
		if value.Canonical(other) == key {
			return i
		}
	}
	if len(set) == 1 {
		return 0
	}
	return -1
}

// settle turns what is still unknown after an operation into null: nothing may stay open in a state.
func settle(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			v[k] = settle(item)
		}
	case []any:
		for i, item := range v {
			v[i] = settle(item)
		}
	}
	if value.IsUnknown(v) {
		return nil
	}
	return v
}
