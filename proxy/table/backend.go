// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// backend is the endpoints of one service, of all its ports. Its pins are the tables that name it. Guarded by Store.mu.
type backend struct {
	lease
	name   string
	shards map[uint32]*meshconfig.Endpoints // the newest of each
	// current is the last complete set of shards, in order; known says whether there was one.
	current  []*meshconfig.Endpoints
	known    bool
	clusters map[clusterName]*Cluster
	settings *settings // of the newest section that names the service
	past     counts    // of clusters that are gone
}

// backendOf returns the backend of a service, which it makes and subscribes to if there is none. The lock is held.
func (s *Store) backendOf(service string) *backend {
	b := s.backends[service]
	if b == nil {
		b = &backend{
			name: service, shards: make(map[uint32]*meshconfig.Endpoints), clusters: make(map[clusterName]*Cluster), settings: defaults,
			past: make(counts),
		}
		b.used = time.Now()
		s.backends[service] = b
		s.want(true, meshconfig.AllEndpoints(service))
	}
	return b
}

// holdCluster returns a cluster for a table to name. The lock is held.
func (s *Store) holdCluster(name clusterName) *Cluster {
	b := s.backendOf(name.service)
	b.pin()
	c := b.clusters[name]
	if c == nil {
		c = newCluster(b.settings)
		b.clusters[name] = c
	}
	c.users++
	if c.users == 1 {
		s.fill(b, name, c)
		s.check(name, c)
	}
	return c
}

// dropCluster undoes holdCluster. The lock is held.
func (s *Store) dropCluster(name clusterName) {
	b := s.backends[name.service]
	b.unpin()
	c := b.clusters[name]
	if c.users--; c.users == 0 {
		delete(b.clusters, name)
		s.released = append(s.released, c.held...)
		if c.next != nil {
			s.released = append(s.released, c.next.held...)
		}
		c.held, c.next = nil, nil
		s.check(name, c)
		b.past.ofCluster(c)
	}
}

// dropBackend forgets a backend that nobody names. The lock is held.
func (s *Store) dropBackend(b *backend) {
	delete(s.backends, b.name)
	s.want(false, meshconfig.AllEndpoints(b.name))
}

func (s *Store) applyEndpoints(m *meshconfig.Endpoints) error {
	for i, e := range m.GetEndpoints() {
		if _, _, err := parseEndpoint(e); err != nil {
			return fmt.Errorf("endpoints[%d]: %w", i, err)
		}
	}
	s.locked(func() {
		b := s.backendOf(m.GetService())
		b.shards[m.GetShard()] = m
		s.assemble(b)
	})
	return nil
}

func (s *Store) removeEndpoints(name meshconfig.Name) {
	shard, err := strconv.ParseUint(string(name[strings.LastIndexByte(string(name), '/')+1:]), 10, 32)
	if err != nil {
		return
	}
	s.locked(func() {
		if b := s.backends[name.Subject()]; b != nil {
			delete(b.shards, uint32(shard))
			s.assemble(b)
		}
	})
}

// assemble puts the newest complete set of shards in force: all of those that the first shard says there are, of one
// mind about it. While the number of shards changes there is none, and the last one stays. The lock is held.
func (s *Store) assemble(b *backend) {
	var set []*meshconfig.Endpoints
	if first := b.shards[0]; first != nil {
		for i := range first.GetShards() {
			shard := b.shards[i]
			if shard == nil || shard.GetShards() != first.GetShards() {
				return
			}
			set = append(set, shard)
		}
	} else if len(b.shards) > 0 {
		return
	}
	b.current, b.known = set, true
	for name, c := range b.clusters {
		s.fill(b, name, c)
	}
	s.endpointsCame()
}

// gather lists the endpoints of a cluster, acquiring them. The lock is held.
func (s *Store) gather(b *backend, name clusterName) *members {
	m := &members{complete: b.known}
	for _, shard := range b.current {
		for _, e := range shard.GetEndpoints() {
			key, ok := endpointKey(e, uint32(name.port))
			if !ok || name.subset != "" && !slices.Contains(e.GetSubsets(), name.subset) {
				continue
			}
			member := balance.Member{
				Endpoint: s.options.Upstreams.Acquire(key), Workload: e.GetWorkload(), Zone: e.GetZone(), Hints: e.GetZoneHints(),
			}
			m.held = append(m.held, member.Endpoint)
			if e.GetTerminating() {
				m.terminating = append(m.terminating, member)
			} else {
				m.ready = append(m.ready, member)
			}
		}
	}
	return m
}

// endpointKey says how a service port is reached at an endpoint; ok is false if it is not.
func endpointKey(e *meshconfig.Endpoint, servicePort uint32) (key upstream.Key, ok bool) {
	address, id, err := parseEndpoint(e)
	if err != nil {
		return key, false
	}
	for _, p := range e.GetPorts() {
		if p.GetServicePort() == servicePort {
			return upstream.Key{
				Address: netip.AddrPortFrom(address, uint16(p.GetPort())), Identity: id, Pod: e.GetPod(),
				Plaintext: p.GetPlaintext(), PlaintextUntil: p.GetPlaintextUntil(),
			}, true
		}
	}
	return key, false
}

func parseEndpoint(e *meshconfig.Endpoint) (netip.Addr, identity.ID, error) {
	address, err := netip.ParseAddr(e.GetAddress())
	if err != nil || e.GetIdentity() == "" {
		return address, identity.ID{}, err
	}
	id, err := identity.Parse(e.GetIdentity())
	return address, id, err
}
