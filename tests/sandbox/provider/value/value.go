// Package value turns Terraform's typed values into plain Go values and back, so that resource code stays short.
//
// Null is nil; an unknown is Unknown; numbers are float64; lists and sets are []any; maps and objects are map[string]any.
package value

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type unknown struct{}

// Unknown stands for a value that is known after apply.
var Unknown = unknown{}

// IsUnknown tells whether v itself (not something in it) is unknown.
func IsUnknown(v any) bool { return v == any(Unknown) }

// HasUnknown tells whether anything in v is unknown.
func HasUnknown(v any) bool {
	switch v := v.(type) {
	case unknown:
		return true
	case []any:
		return slices.ContainsFunc(v, HasUnknown)
	case map[string]any:
		for _, e := range v {
			if HasUnknown(e) {
				return true
			}
		}
	}
	return false
}

// Unpack decodes a value from the wire; a null object becomes nil.
func Unpack(d *tfprotov6.DynamicValue, t tftypes.Type) (map[string]any, error) {
	if d == nil {
		return nil, nil
	}
	v, err := d.Unmarshal(t)
	if err != nil {
		return nil, err
	}
	plain, err := Decode(v)
	if err != nil || plain == nil {
		return nil, err
	}
	m, ok := plain.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("expected an object, found %T", plain)
	}
	return m, nil
}

// Pack encodes an object for the wire.
func Pack(m map[string]any, t tftypes.Type) (*tfprotov6.DynamicValue, error) {
	var plain any
	if m != nil {
		plain = m
	}
	v, err := Encode(t, plain)
	if err != nil {
		return nil, err
	}
	d, err := tfprotov6.NewDynamicValue(t, v)
	return &d, err
}

// Decode makes a plain Go value.
func Decode(v tftypes.Value) (any, error) {
	if !v.IsKnown() {
		return Unknown, nil
	}
	if v.IsNull() {
		return nil, nil
	}
	switch t := v.Type(); {
	case t.Is(tftypes.String):
		var s string
		err := v.As(&s)
		return s, err
	case t.Is(tftypes.Bool):
		var b bool
		err := v.As(&b)
		return b, err
	case t.Is(tftypes.Number):
		var n big.Float
		err := v.As(&n)
		f, _ := n.Float64()
		return f, err
	case t.Is(tftypes.List{}), t.Is(tftypes.Set{}), t.Is(tftypes.Tuple{}):
		var items []tftypes.Value
		if err := v.As(&items); err != nil {
			return nil, err
		}
		out := make([]any, 0, len(items))
		for _, item := range items {
			plain, err := Decode(item)
			if err != nil {
				return nil, err
			}
			out = append(out, plain)
		}
		return out, nil
	default:
		var fields map[string]tftypes.Value
		if err := v.As(&fields); err != nil {
			return nil, err
		}
		out := make(map[string]any, len(fields))
		for name, field := range fields {
			plain, err := Decode(field)
			if err != nil {
				return nil, err
			}
			out[name] = plain
		}
		return out, nil
	}
}

// Encode makes a Terraform value of type t. Strings are read as numbers and booleans where the type asks for them, because
// AWS' query protocols only know strings.
func Encode(t tftypes.Type, v any) (tftypes.Value, error) {
	if v == nil {
		return tftypes.NewValue(t, nil), nil
	}
	if IsUnknown(v) {
		return tftypes.NewValue(t, tftypes.UnknownValue), nil
	}
	return encodeKnown(t, v)
}

// Number is the numeric reading of a plain value, and whether it has one.
func Number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	case *big.Float:
		f, _ := v.Float64()
		return f, true
	}
	return 0, false
}
