// SPDX-License-Identifier: Apache-2.0

package table

import (
	"crypto/x509"
	"fmt"
	"net/netip"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Mesh is what the mesh section says.
type Mesh struct {
	TrustDomain string
	Roots       *x509.CertPool
	networks    []netip.Prefix
}

// Contains says whether an address is the mesh's business.
func (m *Mesh) Contains(ip netip.Addr) bool {
	for _, n := range m.networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// Mesh returns what the mesh section says, or nil if none has come.
func (s *Store) Mesh() *Mesh { return s.mesh.Load() }

func (s *Store) applyMesh(m *meshconfig.Mesh) error {
	built := &Mesh{TrustDomain: m.GetTrustDomain(), Roots: x509.NewCertPool()}
	for i, der := range m.GetWorkloadRoots() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("workload_roots[%d]: %w", i, err)
		}
		built.Roots.AddCert(cert)
	}
	for i, text := range m.GetNetworks() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("networks[%d]: %w", i, err)
		}
		built.networks = append(built.networks, prefix)
	}
	s.mesh.Store(built)
	return nil
}
