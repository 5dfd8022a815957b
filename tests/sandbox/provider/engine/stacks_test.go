package engine_test

import (
	_ "embed"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"deployctl/tests/sandbox/provider/catalog"
	"deployctl/tests/sandbox/provider/engine"
	"deployctl/tests/sandbox/provider/resources"
	"deployctl/tests/sandbox/provider/value"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// checkout is the folder that has terraform/ and tests/.
const checkout = "../../../.."

// set is what a stack or a module of the sandbox writes of a resource type: an attribute or a block, by path.
type set struct{ kind, path string }

// written collects everything of resource blocks in the stacks and in the sandbox's modules.
func written(t *testing.T) []set {
	t.Helper()
	var files []string
	for _, pattern := range []string{"terraform/*/*.tf", "tests/sandbox/modules/*/*.tf"} {
		found, err := filepath.Glob(filepath.Join(checkout, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no files, %v", pattern, err)
		}
		files = append(files, found...)
	}
	all := map[set]bool{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parsed, problems := hclsyntax.ParseConfig(raw, file, hcl.InitialPos)
		if problems.HasErrors() {
			t.Fatal(problems)
		}
		for _, block := range parsed.Body.(*hclsyntax.Body).Blocks {
			if block.Type == "resource" && strings.HasPrefix(block.Labels[0], "aws_") {
				collect(all, block.Labels[0], "", block.Body)
			}
		}
	}
	var out []set
	for s := range all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b set) int { return strings.Compare(a.kind+" "+a.path, b.kind+" "+b.path) })
	return out
}

// meta are terraform's own words, which every resource understands.
var meta = []string{"count", "for_each", "depends_on", "provider", "lifecycle", "provisioner", "connection"}

func collect(all map[set]bool, kind, prefix string, body *hclsyntax.Body) {
	for name := range body.Attributes {
		if prefix != "" || !slices.Contains(meta, name) {
			all[set{kind, prefix + name}] = true
		}
	}
	for _, block := range body.Blocks {
		name, inner := block.Type, block.Body
		if name == "dynamic" {
			name = block.Labels[0]
			for _, content := range block.Body.Blocks {
				inner = content.Body
			}
		} else if prefix == "" && slices.Contains(meta, name) {
			continue
		}
		all[set{kind, prefix + name}] = true
		collect(all, kind, prefix+name+".", inner)
	}
}

// computed are the optional attributes that the real provider computes when they are left out, which the embedded schema does not tell:
// from `terraform providers schema -json` of hashicorp/aws 6.47.0, as lonegunmanb/terraform-aws-schema keeps it (MIT), for our types.
//
//go:embed testdata/computed.json
var computed []byte

// computedBlocks are blocks like that. That output does not tell of blocks; the real provider's sources do.
var computedBlocks = map[string]engine.Words{
	"aws_eks_cluster":           "access_config kubernetes_network_config",
	"aws_eks_node_group":        "update_config",
	"aws_launch_template":       "metadata_options",
	"aws_secretsmanager_secret": "replica",
}

// later are attributes that 6.47.0 does not have.
var later = []set{
	{"aws_eks_cluster", "vpc_config.control_plane_egress_mode"}, {"aws_eks_node_group", "update_config.update_strategy"},
	{"aws_secretsmanager_secret", "type"},
}

// kept is what stays as it is when it is taken away.
func kept(t *testing.T) map[set]bool {
	t.Helper()
	var attributes map[string]engine.Words
	if err := json.Unmarshal(computed, &attributes); err != nil {
		t.Fatal(err)
	}
	out := map[set]bool{}
	for _, from := range []map[string]engine.Words{attributes, computedBlocks} {
		for kind, paths := range from {
			for _, path := range paths.List() {
				out[set{kind, path}] = true
			}
		}
	}
	return out
}

func TestNothingIsComputedThatIsNotInTheRealProvider(t *testing.T) {
	s, real := awsServer(t), kept(t)
	for _, w := range later {
		real[w] = true
	}
	for kind := range resources.Set().Resources {
		for _, name := range []string{"id", "region", "tags_all"} {
			real[set{kind, name}] = true
		}
		onlyComputed(t, s.Block(kind), real, kind, "")
	}
}

func onlyComputed(t *testing.T, b *catalog.Block, real map[set]bool, kind, prefix string) {
	t.Helper()
	for name, a := range b.Attributes {
		if a.Optional && a.Computed && !real[set{kind, prefix + name}] {
			t.Errorf("%s.%s%s is computed here and not in the real provider", kind, prefix, name)
		}
	}
	for name, n := range b.Blocks {
		onlyComputed(t, n.Block, real, kind, prefix+name+".")
	}
}

func TestWhatTheStacksSetIsMissedWhenTakenAway(t *testing.T) {
	s := awsServer(t)
	tried, real := 0, kept(t)
	for _, w := range written(t) {
		path := strings.Split(w.path, ".")
		samples := samplesOf(s.Block(w.kind), path)
		if len(samples) == 0 {
			continue
		}
		tried++
		same := 0
		for _, sample := range samples {
			prior, config := wrapped(s.Block(w.kind), path, sample)
			prior["id"], prior["region"] = "x", "us-east-1"
			before := value.Canonical(at(full(s.Block(w.kind), prior), path))
			if value.Canonical(at(plan(t, s, w.kind, prior, config).state, path)) == before {
				same++
			}
		}
		switch {
		case real[w] && same < len(samples):
			t.Errorf("%s.%s is kept by the real provider, and here its absence shows a difference", w.kind, w.path)
		case !real[w] && same == len(samples):
			t.Errorf("%s.%s taken away shows no difference", w.kind, w.path)
		}
	}
	t.Logf("%d arguments of the stacks taken away", tried)
}

// samplesOf are values for an argument, of which one at least is not its default; none for what a configuration cannot leave out.
func samplesOf(b *catalog.Block, path []string) []any {
	for _, name := range path[:len(path)-1] {
		b = b.Blocks[name].Block
	}
	name := path[len(path)-1]
	if n := b.Blocks[name]; n != nil {
		if n.MinItems > 0 {
			return nil
		}
		return []any{element(n)}
	}
	a := b.Attributes[name]
	if a.Required || a.WriteOnly {
		return nil
	}
	return samples(a.Type)
}

func samples(of tftypes.Type) []any {
	switch of := of.(type) {
	case tftypes.List:
		return []any{[]any{samples(of.ElementType)[0]}}
	case tftypes.Set:
		return []any{[]any{samples(of.ElementType)[0]}}
	case tftypes.Map:
		return []any{map[string]any{"a": samples(of.ElementType)[0]}}
	}
	switch {
	case of.Is(tftypes.Bool):
		return []any{true, false}
	case of.Is(tftypes.Number):
		return []any{7.0, 14.0}
	}
	return []any{"x"}
}

// element is a block with all its arguments.
func element(n *catalog.Nested) any {
	one := map[string]any{}
	for name, a := range n.Block.Attributes {
		if a.Required || a.Optional {
			one[name] = samples(a.Type)[0]
		}
	}
	if n.NestingMode == "single" {
		return one
	}
	return []any{one}
}

// wrapped is a state with a value at a path, and a configuration with everything on the way to it but not the value.
func wrapped(b *catalog.Block, path []string, v any) (prior, config map[string]any) {
	if len(path) == 1 {
		return map[string]any{path[0]: v}, map[string]any{}
	}
	n := b.Blocks[path[0]]
	prior, config = wrapped(n.Block, path[1:], v)
	if n.NestingMode == "single" {
		return map[string]any{path[0]: prior}, map[string]any{path[0]: config}
	}
	return map[string]any{path[0]: []any{prior}}, map[string]any{path[0]: []any{config}}
}

func at(v any, path []string) any {
	for _, name := range path {
		if l, ok := v.([]any); ok {
			if len(l) == 0 {
				return nil
			}
			v = l[0]
		}
		v = value.Map(v)[name]
	}
	return v
}
