// Package resources holds a table entry for every AWS resource type and data source that can be worked on, one family a file.
package resources

import (
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/value"
)

type table = map[string]*engine.Resource

// Set is everything that the offline AWS provider can do.
func Set() engine.Set {
	s := engine.Set{Resources: table{}, Data: data(), Account: true}
	for _, family := range []table{
		vpc(), gateways(), routes(), securityGroups(), securityGroupRules(), endpoints(), logs(),
		iamRoles(), iamPolicies(), keys(), queues(), queuePolicies(), secrets(), parameters(),
		buckets(), bucketSettings(), bucketLifecycle(), bucketReplication(),
		eksClusters(), eksNodes(), eksAccess(), eksPodIdentity(), launchTemplates(), dbInstances(), dbGroups(),
	} {
		maps.Copy(s.Resources, family)
	}
	return s
}

// briefly bounds waits for things that AWS does within seconds.
const briefly = 2 * time.Minute

// named is the name that an object gets: the one written, the written prefix with a suffix as the real provider makes them, or a
// wholly generated one.
func named(c *engine.Call) string {
	if name := c.S("name"); name != "" {
		return name
	}
	prefix := c.S("name_prefix")
	if prefix == "" {
		prefix = "terraform-"
	}
	return unique(prefix)
}

// unique appends what the real provider appends: a timestamp and a counter, 26 characters that sort by time.
func unique(prefix string) string {
	now := time.Now().UTC()
	stamp := now.Format("20060102150405") + strconv.Itoa(now.Nanosecond()/100000%10000 + 10000)[1:]
	return prefix + stamp + strings.Repeat("0", 4) + strconv.FormatInt(1<<16+int64(now.Nanosecond()%65536), 16)[1:]
}

// generated is a name that unique made, or the real provider.
var generated = regexp.MustCompile(`^(.+)[0-9a-f]{26}$`)

// prefixOf is the name_prefix that a name was made from, as far as its form tells.
func prefixOf(c *engine.Call, name string) any {
	if p := c.Given("name_prefix"); p != nil {
		return p
	}
	if m := generated.FindStringSubmatch(name); m != nil && c.Importing {
		return m[1]
	}
	return ""
}

// pairs writes tags as the list of key and value objects that most services take.
func pairs(tags map[string]string, key, val string) []cloud.P {
	out := []cloud.P{}
	for _, k := range sorted(tags) {
		out = append(out, cloud.P{key: k, val: tags[k]})
	}
	return out
}

// plainPairs is pairs for JSON bodies.
func plainPairs(tags map[string]string, key, val string) []any {
	out := []any{}
	for _, k := range sorted(tags) {
		out = append(out, map[string]any{key: k, val: tags[k]})
	}
	return out
}

func fromPairs(list []cloud.Object, key, val string) map[string]string {
	out := map[string]string{}
	for _, t := range list {
		out[t.S(key)] = t.S(val)
	}
	return out
}

// orNil is null for an empty text, so that a service's "" and a missing argument are the same.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// block is a one-element block.
func block(m map[string]any) []any { return []any{m} }

// at is the first element of a nested block in a plain value.
func at(m map[string]any, name string) map[string]any {
	if l := value.List(m[name]); len(l) > 0 {
		return value.Map(l[0])
	}
	return nil
}

func text(m map[string]any, name string) string { return value.Text(m[name]) }

// idIsAttribute makes an importer for types whose id is one attribute.
func idIsAttribute(name string) func(*engine.Call, string) error {
	return func(c *engine.Call, id string) error {
		c.Set(name, id)
		return nil
	}
}
