package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"deployctl/tests/sandbox/provider/catalog"
	"deployctl/tests/sandbox/provider/value"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// Server is one provider process, as Terraform talks to it.
type Server struct {
	// The embedded interface is nil: it stands for calls of newer Terraforms (ephemeral resources, actions, lists) which are not
	// announced in the schema and so never arrive.
	tfprotov6.ProviderServer
	catalog *catalog.Catalog
	set     Set
	meta    *Meta
	stop    chan struct{}
	once    sync.Once
}

// NewServer joins the schemas with the tables of what each type does.
func NewServer(c *catalog.Catalog, set Set) (*Server, error) {
	for name, r := range set.Resources {
		s, err := c.Resources.Get(name)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return nil, fmt.Errorf("no schema for the resource type %s", name)
		}
		err = s.Correct(catalog.Corrections{Computed: r.Computed.List(), AttributeBlocks: r.AttributeBlocks.List(), Sensitive: r.Sensitive.List()})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.AddTagsAll()
		r.Block = s.Block
	}
	for name, d := range set.Data {
		s, err := c.Data.Get(name)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return nil, fmt.Errorf("no schema for the data source %s", name)
		}
		if err := s.Correct(catalog.Corrections{Computed: optional(s.Block), Sensitive: d.Sensitive.List()}); err != nil {
			return nil, fmt.Errorf("data %s: %w", name, err)
		}
		d.Block = s.Block
	}
	return &Server{catalog: c, set: set, stop: make(chan struct{})}, nil
}

// optional keeps every optional argument of a data source computed: reading may fill all of them.
func optional(b *catalog.Block) []string {
	var out []string
	for name, a := range b.Attributes {
		if a.Optional {
			out = append(out, name)
		}
	}
	return out
}

var capabilities = &tfprotov6.ServerCapabilities{GetProviderSchemaOptional: true}

// GetMetadata lists the types.
func (s *Server) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	r := &tfprotov6.GetMetadataResponse{ServerCapabilities: capabilities}
	for n := range s.catalog.Resources.Names() {
		r.Resources = append(r.Resources, tfprotov6.ResourceMetadata{TypeName: n})
	}
	for n := range s.catalog.Data.Names() {
		r.DataSources = append(r.DataSources, tfprotov6.DataSourceMetadata{TypeName: n})
	}
	return r, nil
}

// GetProviderSchema gives the schemas of the types that can be made, and of those that are mentioned where terraform works, which can be validated
// at least. Without a configuration it gives all.
func (s *Server) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	r := &tfprotov6.GetProviderSchemaResponse{
		ServerCapabilities: capabilities,
		ResourceSchemas:    map[string]*tfprotov6.Schema{}, DataSourceSchemas: map[string]*tfprotov6.Schema{},
		Provider: s.configSchema(),
	}
	names, found, err := mentioned(".")
	if err != nil {
		return nil, err
	}
	for _, all := range []struct {
		kinds *catalog.Kinds
		into  map[string]*tfprotov6.Schema
	}{{&s.catalog.Resources, r.ResourceSchemas}, {&s.catalog.Data, r.DataSourceSchemas}} {
		for n := range all.kinds.Names() {
			if found && !names[n] && s.set.Resources[n] == nil && s.set.Data[n] == nil {
				continue
			}
			k, err := all.kinds.Get(n)
			if err != nil {
				return nil, err
			}
			all.into[n] = k.Proto()
		}
	}
	if s.set.Account {
		r.ProviderMeta = metaSchema()
	}
	return r, nil
}

// GetResourceIdentitySchemas says that no type has an identity beside its id.
func (s *Server) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

// GetFunctions says that there are no functions.
func (s *Server) GetFunctions(context.Context, *tfprotov6.GetFunctionsRequest) (*tfprotov6.GetFunctionsResponse, error) {
	return &tfprotov6.GetFunctionsResponse{}, nil
}

// ValidateProviderConfig accepts what fits the schema.
func (s *Server) ValidateProviderConfig(_ context.Context, q *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: q.Config}, nil
}

// ValidateResourceConfig accepts what fits the schema.
func (s *Server) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

// ValidateDataResourceConfig accepts what fits the schema.
func (s *Server) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

// StopProvider ends every wait; a request in flight is finished, so that nothing is made and then forgotten.
func (s *Server) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	s.once.Do(func() { close(s.stop) })
	return &tfprotov6.StopProviderResponse{}, nil
}

// UpgradeResourceState passes states on: there is only one version of each here.
func (s *Server) UpgradeResourceState(_ context.Context, q *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	resp := &tfprotov6.UpgradeResourceStateResponse{}
	k, err := s.catalog.Resources.Get(q.TypeName)
	if err != nil {
		return nil, err
	}
	if k == nil {
		resp.Diagnostics = problem("Unknown resource type", fmt.Errorf("%s is not in the schema", q.TypeName))
		return resp, nil
	}
	state, err := upgrade(k.Block, q.RawState)
	if err == nil {
		resp.UpgradedState, err = value.Pack(state, k.Block.Type())
	}
	resp.Diagnostics = problem("Reading the saved state of "+q.TypeName, err)
	return resp, nil
}

func upgrade(b *catalog.Block, raw *tfprotov6.RawState) (map[string]any, error) {
	v, err := raw.UnmarshalWithOpts(b.Type(), ignoreUnknown)
	if err != nil {
		return nil, err
	}
	plain, err := value.Decode(v)
	return value.Map(plain), err
}

// problem makes a diagnostic of an error.
func problem(summary string, err error) []*tfprotov6.Diagnostic {
	if err == nil {
		return nil
	}
	return []*tfprotov6.Diagnostic{{Severity: tfprotov6.DiagnosticSeverityError, Summary: summary, Detail: err.Error()}}
}

func (s *Server) resource(name string) (*Resource, error) {
	if r := s.set.Resources[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("the offline provider knows the schema of %s but cannot make one; see tests/sandbox/provider/resources for what it can make", name)
}

var errNotConfigured = errors.New("the provider is not configured: it works inside a deployctl sandbox only")
