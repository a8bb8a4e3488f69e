// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"net/netip"
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
	clusters map[uint16]*Cluster
}

// backendOf returns the backend of a service, which it makes and subscribes to if there is none. The lock is held.
func (s *Store) backendOf(service string) *backend {
	b := s.backends[service]
	if b == nil {
		b = &backend{name: service, shards: make(map[uint32]*meshconfig.Endpoints), clusters: make(map[uint16]*Cluster)}
		b.used = time.Now()
		s.backends[service] = b
		s.want(true, meshconfig.AllEndpoints(service))
	}
	return b
}

// holdCluster returns the endpoints of a port for a table to name. The lock is held.
func (s *Store) holdCluster(service string, port uint16) *Cluster {
	b := s.backendOf(service)
	b.pin()
	c := b.clusters[port]
	if c == nil {
		c = newCluster()
		b.clusters[port] = c
		s.fill(b, port, c)
	}
	c.users++
	return c
}

// dropCluster undoes holdCluster. The lock is held.
func (s *Store) dropCluster(service string, port uint16) {
	b := s.backends[service]
	b.unpin()
	c := b.clusters[port]
	if c.users--; c.users == 0 {
		delete(b.clusters, port)
		s.released = append(s.released, c.held...)
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
	for port, c := range b.clusters {
		s.fill(b, port, c)
	}
	s.endpointsCame()
}

// fill computes the endpoints of a port, acquiring the new ones before the old are released. The lock is held.
func (s *Store) fill(b *backend, port uint16, c *Cluster) {
	var ready, terminating []balance.Member
	var held []*upstream.Endpoint
	for _, shard := range b.current {
		for _, e := range shard.GetEndpoints() {
			key, ok := endpointKey(e, uint32(port))
			if !ok {
				continue
			}
			member := balance.Member{
				Endpoint: s.options.Upstreams.Acquire(key), Workload: e.GetWorkload(), Zone: e.GetZone(), Hints: e.GetZoneHints(),
			}
			held = append(held, member.Endpoint)
			if e.GetTerminating() {
				terminating = append(terminating, member)
			} else {
				ready = append(ready, member)
			}
		}
	}
	s.released = append(s.released, c.held...)
	c.held = held
	c.set.Store(c.Endpoints().Next(balance.Options{Attach: c.attach}, ready, terminating, time.Now().UnixNano()))
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
