package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/value"
)

// pollEvery is the time between two looks at something that is being waited for.
const pollEvery = 300 * time.Millisecond

// Call is one operation on one object.
type Call struct {
	cloud.API
	Meta *Meta
	// State is what the object is to be (create, update) or was (read, delete); the operation turns it into what it is.
	State map[string]any
	// Prior is the state before; nil when creating.
	Prior map[string]any
	// Config is what is written, with the write-only attributes; nil outside create and update.
	Config map[string]any
	// Importing is true for the read after an import, when nothing but the id is known.
	Importing bool
	stop      <-chan struct{}
}

// Meta is what configuring the provider found out.
type Meta struct {
	Account, Partition, Region, CallerARN, CallerID string
	DefaultTags                                     map[string]string
	Client                                          *cloud.Client
}

// ARN is the name of an object in the call's region and account.
func (c *Call) ARN(service, rest string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", c.Meta.Partition, service, c.Region, c.Meta.Account, rest)
}

func lookup(m map[string]any, path string) any {
	var v any = m
	for name := range strings.SplitSeq(path, ".") {
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

// At is the value at a path in the state; a block stands for its first element.
func (c *Call) At(path string) any { return lookup(c.State, path) }

// Was is the value at a path in the prior state.
func (c *Call) Was(path string) any { return lookup(c.Prior, path) }

// S is the text at a path, empty for null and unknown.
func (c *Call) S(path string) string { return value.Text(c.At(path)) }

// ID is the object's id.
func (c *Call) ID() string { return c.S("id") }

// B is the truth of a path.
func (c *Call) B(path string) bool { return c.S(path) == "true" }

// N is the whole number at a path, 0 when there is none.
func (c *Call) N(path string) int {
	f, _ := value.Number(c.At(path))
	return int(f)
}

// Has tells whether the path has a known, non-empty value.
func (c *Call) Has(path string) bool {
	v := c.At(path)
	return !value.IsUnknown(v) && !value.Empty(v)
}

// Given is the value at a path when it is known and not empty, else null: for requests that leave out what is not asked for.
func (c *Call) Given(path string) any {
	if c.Has(path) {
		return c.At(path)
	}
	return nil
}

// Known is the value at a path when it is known, else null: false and 0 are sent.
func (c *Call) Known(path string) any {
	if v := c.At(path); !value.IsUnknown(v) {
		return v
	}
	return nil
}

// Texts are the texts of a list or set.
func (c *Call) Texts(path string) []string { return value.Texts(c.At(path)) }

// Objects are the elements of a block.
func (c *Call) Objects(path string) []map[string]any {
	var out []map[string]any
	for _, item := range value.List(c.At(path)) {
		out = append(out, value.Map(item))
	}
	return out
}

// Set sets an attribute.
func (c *Call) Set(name string, v any) { c.State[name] = v }

// SetAll sets attributes.
func (c *Call) SetAll(values map[string]any) {
	for name, v := range values {
		c.State[name] = v
	}
}

// Changed tells whether an update changes any of the paths.
func (c *Call) Changed(paths ...string) bool {
	for _, p := range paths {
		if value.Canonical(c.At(p)) != value.Canonical(c.Was(p)) {
			return true
		}
	}
	return false
}

// Tags are the tags that the object is to have, the provider's default tags included.
func (c *Call) Tags() map[string]string {
	out := map[string]string{}
	for k, v := range value.Map(c.At("tags_all")) {
		if v != nil && !value.IsUnknown(v) {
			out[k] = value.Text(v)
		}
	}
	return out
}

// SetTags records the tags that the object has.
func (c *Call) SetTags(tags map[string]string) {
	all, own, asked := map[string]any{}, map[string]any{}, value.Map(c.At("tags"))
	for k, v := range tags {
		if strings.HasPrefix(k, "aws:") {
			continue
		}
		all[k] = v
		_, written := asked[k]
		if fallback, isDefault := c.Meta.DefaultTags[k]; written || !isDefault || fallback != v {
			own[k] = v
		}
	}
	c.Set("tags_all", all)
	c.Set("tags", own)
}

// Stopped tells whether Terraform asked the provider to stop.
func (c *Call) Stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// Wait asks until done answers true, says what it waited for when the deadline passes, and gives up when Terraform is interrupted
// (what was made so far is then saved).
func (c *Call) Wait(what string, deadline time.Duration, done func() (bool, error)) error {
	until := time.Now().Add(deadline)
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("waited %s for %s, which did not come", deadline, what)
		}
		select {
		case <-c.stop:
			return fmt.Errorf("interrupted while waiting for %s", what)
		case <-c.Ctx.Done():
			return errors.Join(fmt.Errorf("gave up waiting for %s", what), context.Cause(c.Ctx))
		case <-time.After(pollEvery):
		}
	}
}

// Gone waits until a look at the object says that it does not exist.
func (c *Call) Gone(what string, deadline time.Duration, look func() error) error {
	return c.Wait(what+" to be gone", deadline, func() (bool, error) {
		err := look()
		if errors.Is(err, ErrGone) {
			return true, nil
		}
		return false, err
	})
}

// Timeout is the time that the timeouts block gives an operation.
func (c *Call) Timeout(operation string, fallback time.Duration) time.Duration {
	from := c.State
	if from == nil {
		from = c.Prior
	}
	if d, err := time.ParseDuration(value.Text(lookup(from, "timeouts."+operation))); err == nil {
		return d
	}
	return fallback
}

// Absent turns the service's ways to say "not there" into ErrGone.
func Absent(err error, codes ...string) error {
	if cloud.Is(err, codes...) {
		return ErrGone
	}
	return err
}
