package value

import (
	"encoding/json"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Empty tells null, "", false, 0 and empty collections: the old plugin SDK, on which most of the real provider stands, does not
// tell these apart for optional attributes.
func Empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	n, ok := Number(v)
	return ok && n == 0
}

// Canonical is a text that is equal for values which differ only in null against empty, or in the order of nested lists of
// objects; it is used to match the elements of sets.
func Canonical(v any) string {
	var b strings.Builder
	canonical(&b, v)
	return b.String()
}

func canonical(b *strings.Builder, v any) {
	switch v := v.(type) {
	case unknown:
		b.WriteString("?")
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			if !Empty(v[k]) {
				keys = append(keys, k)
			}
		}
		sort.Strings(keys)
		b.WriteString("{")
		for _, k := range keys {
			b.WriteString(k + "=")
			canonical(b, v[k])
			b.WriteString(";")
		}
		b.WriteString("}")
	case []any:
		items := make([]string, 0, len(v))
		for _, item := range v {
			items = append(items, Canonical(item))
		}
		slices.Sort(items)
		b.WriteString("[" + strings.Join(items, ",") + "]")
	default:
		b.WriteString(Text(v))
	}
}

// SameJSON tells whether two texts are the same JSON document, in the loose sense of IAM policies: the order of keys and of
// lists does not matter, nor does a list of one against its only item.
func SameJSON(a, b any) bool {
	var x, y any
	if json.Unmarshal([]byte(Text(a)), &x) != nil || json.Unmarshal([]byte(Text(b)), &y) != nil {
		return Text(a) == Text(b)
	}
	return reflect.DeepEqual(loose(x), loose(y))
}

func loose(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, item := range v {
			out[k] = loose(item)
		}
		return out
	case []any:
		if len(v) == 1 {
			return loose(v[0])
		}
		items := make([]any, 0, len(v))
		for _, item := range v {
			items = append(items, loose(item))
		}
		sort.SliceStable(items, func(i, j int) bool { return encoded(items[i]) < encoded(items[j]) })
		return items
	}
	return v
}

func encoded(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(raw)
}

// Copy is a deep copy.
func Copy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = Copy(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = Copy(item)
		}
		return out
	}
	return v
}
