package engine

import (
	"slices"
	"strings"

	"deployctl/tests/sandbox/provider/catalog"
	"deployctl/tests/sandbox/provider/value"
)

// Plan is a plan in the making.
type Plan struct {
	Resource *Resource
	Meta     *Meta
	// Prior is nil when the object is to be created.
	Prior, Config, Planned map[string]any
	// Replace are the top-level names whose change makes a new object.
	Replace []string
}

// Creating tells whether there is no object yet.
func (p *Plan) Creating() bool { return p.Prior == nil }

// At is a planned value.
func (p *Plan) At(path string) any { return lookup(p.Planned, path) }

// Was is a prior value.
func (p *Plan) Was(path string) any { return lookup(p.Prior, path) }

// Changed tells whether the plan changes any of the paths.
func (p *Plan) Changed(paths ...string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return differs(p.Was(path), p.At(path)) })
}

// NeedsNew marks a name whose change makes a new object.
func (p *Plan) NeedsNew(name string) { p.Replace = append(p.Replace, name) }

// run fills in what the configuration leaves open and finds the differences.
func (p *Plan) run() error {
	r := p.Resource
	p.computedBlocks()
	dropWriteOnly(r.Block, p.Planned)
	for path, v := range r.Defaults {
		setDefault(p.Planned, strings.Split(path, "."), v)
	}
	if p.Creating() {
		open(r.Block, p.Config, p.Planned)
		p.openBlocks()
	} else {
		merged, ok := reconcile(r, r.Block, "", p.Prior, p.Planned).(map[string]any)
		if ok {
			p.Planned = merged
		}
		openNew(r.Block, p.Prior, p.Planned)
	}
	p.region()
	p.tags()
	if r.Adjust != nil {
		if err := r.Adjust(p); err != nil {
			return err
		}
	}
	if p.Creating() {
		return nil
	}
	if differs(p.Prior, p.Planned) {
		for _, name := range r.Refreshed.List() {
			if p.Config[name] == nil {
				p.Planned[name] = value.Unknown
			}
		}
	}
	for _, path := range r.Replace.List() {
		head, _, _ := strings.Cut(path, ".")
		if differs(every(p.Prior, path), every(p.Planned, path)) && !slices.Contains(p.Replace, head) {
			p.NeedsNew(head)
		}
	}
	if _, has := r.Block.Attributes["region"]; has && differs(p.Prior["region"], p.Planned["region"]) {
		p.NeedsNew("region")
	}
	return nil
}

// every collects the values at a path in all elements of the blocks on its way.
func every(v any, path string) any {
	head, rest, nested := strings.Cut(path, ".")
	if l, ok := v.([]any); ok {
		var out []any
		for _, item := range l {
			out = append(out, every(item, path))
		}
		return out
	}
	next := value.Map(v)[head]
	if !nested {
		return next
	}
	return every(next, rest)
}

func differs(a, b any) bool { return value.Canonical(a) != value.Canonical(b) }

// region is the provider's own where the configuration names none.
func (p *Plan) region() {
	if _, has := p.Resource.Block.Attributes["region"]; has && p.Meta != nil && p.Config["region"] == nil {
		p.Planned["region"] = p.Meta.Region
	}
}

func (p *Plan) tags() {
	if _, has := p.Resource.Block.Attributes["tags_all"]; !has {
		return
	}
	written := p.Config["tags"]
	if value.HasUnknown(written) {
		p.Planned["tags_all"] = value.Unknown
		return
	}
	all := map[string]any{}
	if p.Meta != nil {
		for k, v := range p.Meta.DefaultTags {
			all[k] = v
		}
	}
	for k, v := range value.Map(written) {
		all[k] = v
	}
	p.Planned["tags_all"] = all
}

// computedBlocks restores what the object has in a computed block that the configuration leaves out: Terraform itself proposes an
// empty block there.
func (p *Plan) computedBlocks() {
	for _, name := range p.Resource.Computed.List() {
		if n := p.Resource.Block.Blocks[name]; n != nil && !p.Creating() && value.Empty(p.Config[name]) {
			p.Planned[name] = value.Copy(p.Prior[name])
		}
	}
}

func (p *Plan) openBlocks() {
	for _, name := range p.Resource.Computed.List() {
		if n := p.Resource.Block.Blocks[name]; n != nil && n.NestingMode != "single" && value.Empty(p.Config[name]) {
			p.Planned[name] = value.Unknown
		}
	}
}

// setDefault sets a value that is null, in every element of the blocks on the way.
func setDefault(v any, path []string, fallback any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			setDefault(item, path, fallback)
		}
	case map[string]any:
		if len(path) > 1 {
			setDefault(v[path[0]], path[1:], fallback)
		} else if v[path[0]] == nil {
			v[path[0]] = fallback
		}
	}
}

func dropWriteOnly(b *catalog.Block, v map[string]any) {
	for name, a := range b.Attributes {
		if a.WriteOnly {
			v[name] = nil
		}
	}
}

// open marks everything that is computed and not configured as known after apply.
func open(b *catalog.Block, config, planned map[string]any) {
	for name, a := range b.Attributes {
		if a.Computed && config[name] == nil && planned[name] == nil {
			planned[name] = value.Unknown
		}
	}
	for name, n := range b.Blocks {
		for _, item := range elements(planned[name]) {
			// A config of its own is not needed: what is configured is not null in the plan.
			open(n.Block, nil, item)
		}
	}
}

// openNew does the same for elements of blocks that an update adds.
func openNew(b *catalog.Block, prior, planned map[string]any) {
	for name, n := range b.Blocks {
		old := elements(prior[name])
		for i, item := range elements(planned[name]) {
			switch {
			case n.NestingMode == "set":
				known := slices.ContainsFunc(old, func(o map[string]any) bool { return !differs(o, item) })
				if !known {
					open(n.Block, nil, item)
				}
			case i >= len(old):
				open(n.Block, nil, item)
			default:
				openNew(n.Block, old[i], item)
			}
		}
	}
}

func elements(v any) []map[string]any {
	switch v := v.(type) {
	case map[string]any:
		return []map[string]any{v}
	case []any:
		var out []map[string]any
		for _, item := range v {
			if m, ok := item.(map[string]any); ok {
				out = append(out, m)
			}
		}
		return out
	}
	return nil
}
