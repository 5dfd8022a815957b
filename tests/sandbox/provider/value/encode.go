package value

import (
	"fmt"
	"math/big"
	"strconv"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

func encodeKnown(t tftypes.Type, v any) (tftypes.Value, error) {
	switch {
	case t.Is(tftypes.String):
		return tftypes.NewValue(t, Text(v)), nil
	case t.Is(tftypes.Bool):
		b, err := strconv.ParseBool(Text(v))
		if err != nil {
			return tftypes.Value{}, fmt.Errorf("%v is not a boolean", v)
		}
		return tftypes.NewValue(t, b), nil
	case t.Is(tftypes.Number):
		f, ok := Number(v)
		if !ok {
			return tftypes.Value{}, fmt.Errorf("%v is not a number", v)
		}
		return tftypes.NewValue(t, big.NewFloat(f)), nil
	}
	switch t := t.(type) {
	case tftypes.List:
		return encodeItems(t, t.ElementType, v, keepAll)
	case tftypes.Set:
		return encodeItems(t, t.ElementType, v, dropRepeated)
	case tftypes.Map:
		fields := map[string]tftypes.Value{}
		for name, item := range Map(v) {
			e, err := Encode(t.ElementType, item)
			if err != nil {
				return tftypes.Value{}, fmt.Errorf("%s: %w", name, err)
			}
			fields[name] = e
		}
		return tftypes.NewValue(t, fields), nil
	case tftypes.Object:
		fields := map[string]tftypes.Value{}
		given := Map(v)
		for name, ft := range t.AttributeTypes {
			e, err := Encode(ft, given[name])
			if err != nil {
				return tftypes.Value{}, fmt.Errorf("%s: %w", name, err)
			}
			fields[name] = e
		}
		return tftypes.NewValue(t, fields), nil
	}
	return tftypes.Value{}, fmt.Errorf("no encoding of %T as %s", v, t)
}

func keepAll(items []any) []any { return items }

func dropRepeated(items []any) []any {
	seen := map[string]bool{}
	var out []any
	for _, item := range items {
		key := Canonical(item)
		// Two unknowns may turn out different, so they are kept.
		if seen[key] && !HasUnknown(item) {
			continue
		}
		seen[key] = true
		out = append(out, item)
	}
	return out
}

func encodeItems(t, element tftypes.Type, v any, filter func([]any) []any) (tftypes.Value, error) {
	items := []tftypes.Value{}
	for i, item := range filter(List(v)) {
		e, err := Encode(element, item)
		if err != nil {
			return tftypes.Value{}, fmt.Errorf("item %d: %w", i, err)
		}
		items = append(items, e)
	}
	return tftypes.NewValue(t, items), nil
}

// Text is a plain value as AWS' query protocols write it; null and unknown are empty.
func Text(v any) string {
	switch v := v.(type) {
	case nil, unknown:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// List is a plain list; what is no list has no items.
func List(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case []string:
		out := make([]any, len(v))
		for i, s := range v {
			out[i] = s
		}
		return out
	case []map[string]any:
		out := make([]any, len(v))
		for i, m := range v {
			out[i] = m
		}
		return out
	}
	return nil
}

// Texts is a list of strings; nulls and unknowns are left out.
func Texts(v any) []string {
	var out []string
	for _, item := range List(v) {
		if item != nil && !IsUnknown(item) {
			out = append(out, Text(item))
		}
	}
	return out
}

// Map is a plain map; what is no map has no entries.
func Map(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return v
	case map[string]string:
		out := make(map[string]any, len(v))
		for k, s := range v {
			out[k] = s
		}
		return out
	}
	return nil
}
