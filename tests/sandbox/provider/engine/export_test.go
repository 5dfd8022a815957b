package engine

import "deployctl/tests/sandbox/provider/catalog"

// Pretend configures the server without an endpoint, for tests of planning, which needs none.
func (s *Server) Pretend(m *Meta) { s.meta = m }

// Block is the corrected schema of a resource type.
func (s *Server) Block(kind string) *catalog.Block {
	found, err := s.catalog.Resources.Get(kind)
	if err != nil {
		panic(err)
	}
	return found.Block
}

// Resource is the table entry of a resource type.
func (s *Server) Resource(kind string) *Resource { return s.set.Resources[kind] }
