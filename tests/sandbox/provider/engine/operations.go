package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"deployctl/tests/sandbox/provider/cloud"
	"deployctl/tests/sandbox/provider/value"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

var ignoreUnknown = tfprotov6.UnmarshalOpts{ValueFromJSONOpts: tftypes.ValueFromJSONOpts{IgnoreUndefinedAttributes: true}}

// PlanResourceChange answers what a configuration would do.
func (s *Server) PlanResourceChange(_ context.Context, q *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	// Most of the real provider stands on the old plugin SDK, which asks Terraform for the same tolerance.
	resp := &tfprotov6.PlanResourceChangeResponse{UnsafeToUseLegacyTypeSystem: true, PlannedPrivate: q.PriorPrivate}
	err := s.plan(q, resp)
	resp.Diagnostics = problem("Planning "+q.TypeName, err)
	return resp, nil
}

func (s *Server) plan(q *tfprotov6.PlanResourceChangeRequest, resp *tfprotov6.PlanResourceChangeResponse) error {
	r, err := s.resource(q.TypeName)
	if err != nil {
		return err
	}
	if s.meta == nil && s.set.Account {
		return errNotConfigured
	}
	t := r.Block.Type()
	p := &Plan{Resource: r, Meta: s.meta}
	if p.Prior, err = value.Unpack(q.PriorState, t); err != nil {
		return err
	}
	if p.Config, err = value.Unpack(q.Config, t); err != nil {
		return err
	}
	if p.Planned, err = value.Unpack(q.ProposedNewState, t); err != nil {
		return err
	}
	if p.Planned == nil { // A deletion needs no plan of ours.
		resp.PlannedState = q.ProposedNewState
		return nil
	}
	if err := p.run(); err != nil {
		return err
	}
	for _, name := range p.Replace {
		resp.RequiresReplace = append(resp.RequiresReplace, tftypes.NewAttributePath().WithAttributeName(name))
	}
	resp.PlannedState, err = value.Pack(p.Planned, t)
	return err
}

// call binds an operation to the region that its state names.
func (s *Server) call(ctx context.Context, state map[string]any) *Call {
	c := &Call{State: state, Meta: s.meta, stop: s.stop}
	// A request in flight is not cut off when Terraform stops; every request has its own deadline in the HTTP client.
	c.API = cloud.API{Ctx: context.WithoutCancel(ctx)}
	if s.meta != nil {
		c.API.Client, c.API.Region = s.meta.Client, s.meta.Region
		if region := value.Text(state["region"]); region != "" {
			c.API.Region = region
		}
	}
	return c
}

// ApplyResourceChange creates, updates or deletes.
func (s *Server) ApplyResourceChange(ctx context.Context, q *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	resp := &tfprotov6.ApplyResourceChangeResponse{UnsafeToUseLegacyTypeSystem: true, Private: q.PlannedPrivate}
	verb, err := s.apply(ctx, q, resp)
	resp.Diagnostics = problem(verb+" "+q.TypeName, err)
	return resp, nil
}

func (s *Server) apply(ctx context.Context, q *tfprotov6.ApplyResourceChangeRequest, resp *tfprotov6.ApplyResourceChangeResponse) (string, error) {
	r, err := s.resource(q.TypeName)
	if err != nil {
		return "Applying", err
	}
	t := r.Block.Type()
	prior, err := value.Unpack(q.PriorState, t)
	if err != nil {
		return "Applying", err
	}
	planned, err := value.Unpack(q.PlannedState, t)
	if err != nil {
		return "Applying", err
	}
	config, err := value.Unpack(q.Config, t)
	if err != nil {
		return "Applying", err
	}
	// Until the work is done the state is what it was, so that a failure loses nothing.
	resp.NewState = q.PriorState
	verb, result, workErr := s.work(ctx, r, prior, planned, config)
	packed, err := value.Pack(result, t)
	if err != nil {
		return verb, errors.Join(workErr, fmt.Errorf("the state could not be written: %w", err))
	}
	resp.NewState = packed
	return verb, workErr
}

// work does one operation and gives the state after it, whole or partial.
func (s *Server) work(ctx context.Context, r *Resource, prior, planned, config map[string]any) (string, map[string]any, error) {
	if planned == nil {
		c := s.call(ctx, prior)
		c.Prior = prior
		if err := r.Delete(c); err != nil && !errors.Is(err, ErrGone) {
			return "Deleting", prior, err
		}
		return "Deleting", nil, nil
	}
	c := s.call(ctx, planned)
	c.Prior, c.Config = prior, config
	asked := value.Map(value.Copy(planned))
	if prior == nil {
		err := r.Create(c)
		if err == nil {
			err = s.read(c, r)
		}
		if c.ID() == "" { // Nothing was made.
			return "Creating", nil, err
		}
		return "Creating", s.finish(c, r, asked), err
	}
	verb := "Updating " + value.Text(prior["id"])
	if err := s.update(c, r); err != nil {
		// What was changed before the failure is found by the next read.
		return verb, prior, err
	}
	err := s.read(c, r)
	return verb, s.finish(c, r, asked), err
}

func (s *Server) update(c *Call, r *Resource) error {
	if r.Tag != nil && c.Changed("tags_all") {
		before, after := value.Map(c.Was("tags_all")), c.Tags()
		set, remove := map[string]string{}, []string{}
		for k, v := range after {
			if value.Text(before[k]) != v {
				set[k] = v
			}
		}
		for k := range before {
			if _, kept := after[k]; !kept {
				remove = append(remove, k)
			}
		}
		if err := r.Tag(c, set, remove); err != nil {
			return err
		}
	}
	if r.Update == nil || !s.changedBeyondTags(c, r) {
		return nil
	}
	return r.Update(c)
}

func (s *Server) changedBeyondTags(c *Call, r *Resource) bool {
	a, b := maps.Clone(c.Prior), maps.Clone(c.State)
	for _, name := range []string{"tags", "tags_all", "timeouts"} {
		delete(a, name)
		delete(b, name)
	}
	return differs(a, b)
}

func (s *Server) read(c *Call, r *Resource) error {
	if err := r.Read(c); err != nil {
		return err
	}
	if _, has := r.Block.Attributes["region"]; has && c.Meta != nil {
		c.Set("region", c.Region)
	}
	return nil
}

func (s *Server) finish(c *Call, r *Resource, asked map[string]any) map[string]any {
	settled := value.Map(settle(value.Copy(c.State)))
	out := value.Map(reconcile(r, r.Block, "", asked, settled))
	dropWriteOnly(r.Block, out)
	return value.Map(settle(out))
}

// ReadResource looks at an object again.
func (s *Server) ReadResource(ctx context.Context, q *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	resp := &tfprotov6.ReadResourceResponse{Private: q.Private, NewState: q.CurrentState}
	err := s.refresh(ctx, q, resp)
	resp.Diagnostics = problem("Reading "+q.TypeName, err)
	return resp, nil
}

func (s *Server) refresh(ctx context.Context, q *tfprotov6.ReadResourceRequest, resp *tfprotov6.ReadResourceResponse) error {
	r, err := s.resource(q.TypeName)
	if err != nil {
		return err
	}
	t := r.Block.Type()
	state, err := value.Unpack(q.CurrentState, t)
	if err != nil || state == nil {
		return err
	}
	before := value.Map(value.Copy(state))
	c := s.call(ctx, state)
	c.Prior = before
	// The mark of a fresh import: only what identifies the object is known.
	c.Importing = string(q.Private) == importMark
	resp.Private = nil
	switch err := s.read(c, r); {
	case errors.Is(err, ErrGone):
		resp.NewState, err = value.Pack(nil, t)
		return err
	case err != nil:
		return err
	}
	resp.NewState, err = value.Pack(s.finish(c, r, before), t)
	return err
}

const importMark = "imported"

// ImportResourceState starts a state from an id; Terraform reads it next.
func (s *Server) ImportResourceState(ctx context.Context, q *tfprotov6.ImportResourceStateRequest) (*tfprotov6.ImportResourceStateResponse, error) {
	resp := &tfprotov6.ImportResourceStateResponse{}
	r, err := s.resource(q.TypeName)
	if err != nil {
		resp.Diagnostics = problem("Importing "+q.TypeName, err)
		return resp, nil
	}
	c := s.call(ctx, map[string]any{"id": q.ID})
	if r.Import != nil {
		err = r.Import(c, q.ID)
	}
	var state *tfprotov6.DynamicValue
	if err == nil {
		if c.Meta != nil && r.Block.Attributes["region"] != nil {
			c.Set("region", c.Region)
		}
		state, err = value.Pack(c.State, r.Block.Type())
	}
	if err != nil {
		resp.Diagnostics = problem("Importing "+q.TypeName+" "+q.ID, err)
		return resp, nil
	}
	resp.ImportedResources = []*tfprotov6.ImportedResource{{TypeName: q.TypeName, State: state, Private: []byte(importMark)}}
	return resp, nil
}

// ReadDataSource reads a data source.
func (s *Server) ReadDataSource(ctx context.Context, q *tfprotov6.ReadDataSourceRequest) (*tfprotov6.ReadDataSourceResponse, error) {
	resp := &tfprotov6.ReadDataSourceResponse{}
	d := s.set.Data[q.TypeName]
	if d == nil {
		resp.Diagnostics = problem("Reading data "+q.TypeName, fmt.Errorf("the offline provider knows the schema of the data source %s but cannot read it", q.TypeName))
		return resp, nil
	}
	t := d.Block.Type()
	config, err := value.Unpack(q.Config, t)
	if err == nil && s.meta == nil && s.set.Account {
		err = errNotConfigured
	}
	if err == nil {
		c := s.call(ctx, config)
		if err = d.Read(c); err == nil {
			if d.Block.Attributes["region"] != nil && c.State["region"] == nil && c.Meta != nil {
				c.Set("region", c.Region)
			}
			resp.State, err = value.Pack(value.Map(settle(c.State)), t)
		}
	}
	resp.Diagnostics = problem("Reading data "+q.TypeName, err)
	return resp, nil
}
