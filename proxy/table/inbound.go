// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/ratelimit"
)

// maxPolicies bounds inbound sections that wait for a binding to name them.
const maxPolicies = 8

// Inbound is the policy of the proxy's own workload. It never changes: a new one supersedes it. The first, before any
// section has come, has no policy for any port.
type Inbound struct {
	Pod      string // namespace/name
	Identity string // SPIFFE ID
	Workload string

	ports      map[uint16]*PortPolicy
	fallback   *PortPolicy
	superseded chan struct{}
	ends       []time.Time // when modes that have an end become Strict
}

// PortPolicy is the policy of one port, or of all that are not listed.
type PortPolicy struct {
	Protocol meshconfig.Protocol
	Service  string
	// Authorizer decides on callers, and what the mTLS mode is at a time.
	Authorizer *evaluate.Authorizer
	// RateLimits are asked about what Authorizer allows; never nil.
	RateLimits *ratelimit.Limits
	Series     *observe.Bound
	// ServerFirst remembers, until the policy is replaced, that the application spoke first though nobody declared it.
	ServerFirst atomic.Bool
}

// Port returns the policy of a port; nil only before the first policy has come.
func (i *Inbound) Port(port uint16) *PortPolicy {
	if p, ok := i.ports[port]; ok {
		return p
	}
	return i.fallback
}

// Superseded is closed when a newer policy is in force.
func (i *Inbound) Superseded() <-chan struct{} { return i.superseded }

// NextChange returns the first time after now at which the policy changes by itself, or the zero time.
func (i *Inbound) NextChange(now time.Time) time.Time {
	var next time.Time
	for _, t := range i.ends {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// Policy returns the policy in force; never nil.
func (s *Store) Policy() *Inbound { return s.inbound.Load() }

// Inbound returns the policy of one of the workload's ports, or nil before the first policy has come.
func (s *Store) Inbound(port uint16) *PortPolicy { return s.inbound.Load().Port(port) }

func (s *Store) applyBinding(m *meshconfig.Binding) error {
	var err error
	s.locked(func() {
		moved := s.binding.GetZone() != m.GetZone()
		s.binding = m
		if moved {
			s.fillAll()
		}
		s.want(true, meshconfig.Name(m.GetInbound()))
		err = s.bind()
	})
	return err
}

func (s *Store) applyInbound(name meshconfig.Name, m *meshconfig.Inbound) error {
	for _, p := range append([]*meshconfig.PortPolicy{m.GetDefaultPolicy()}, m.GetPorts()...) {
		if _, err := evaluate.NewAuthorizer(p); err != nil {
			return err
		}
		if _, err := evaluate.NewRateLimits(p); err != nil {
			return err
		}
	}
	var err error
	s.locked(func() {
		if _, known := s.policies[name]; !known && len(s.policies) >= maxPolicies {
			for other := range s.policies {
				if s.binding == nil || other != meshconfig.Name(s.binding.GetInbound()) {
					delete(s.policies, other)
					break
				}
			}
		}
		s.policies[name] = m
		if s.binding != nil && meshconfig.Name(s.binding.GetInbound()) == name {
			err = s.bind()
		}
	})
	return err
}

// bind puts the policy in force that the binding names, as soon as it is here. Until then the last one stays. The lock
// is held.
func (s *Store) bind() error {
	name := meshconfig.Name(s.binding.GetInbound())
	m, ok := s.policies[name]
	if !ok {
		return nil
	}
	built, err := s.buildInbound(m, s.binding)
	if err != nil {
		return err
	}
	for other := range s.policies {
		if other != name {
			delete(s.policies, other)
			s.want(false, other)
		}
	}
	close(s.inbound.Swap(built).superseded)
	return nil
}

func (s *Store) buildInbound(m *meshconfig.Inbound, b *meshconfig.Binding) (*Inbound, error) {
	built := &Inbound{
		Pod: b.GetPod(), Identity: b.GetIdentity(), Workload: b.GetWorkload(),
		ports:      make(map[uint16]*PortPolicy, len(m.GetPorts())),
		superseded: make(chan struct{}),
	}
	buckets := ratelimit.Buckets{}
	var err error
	if built.fallback, err = s.buildPolicy(built, m.GetDefaultPolicy(), buckets); err != nil {
		return nil, fmt.Errorf("default_policy: %w", err)
	}
	for i, p := range m.GetPorts() {
		if built.ports[uint16(p.GetPort())], err = s.buildPolicy(built, p, buckets); err != nil {
			return nil, fmt.Errorf("ports[%d]: %w", i, err)
		}
	}
	s.buckets = buckets
	return built, nil
}

func (s *Store) buildPolicy(i *Inbound, p *meshconfig.PortPolicy, buckets ratelimit.Buckets) (*PortPolicy, error) {
	authorizer, err := evaluate.NewAuthorizer(p)
	if err != nil {
		return nil, err
	}
	limits, err := evaluate.NewRateLimits(p)
	if err != nil {
		return nil, err
	}
	if until := p.GetPermissiveUntil(); until != 0 {
		i.ends = append(i.ends, time.UnixMilli(until))
	}
	labels := observe.Labels{Direction: observe.Inbound, Service: p.GetService(), Workload: i.Workload}
	return &PortPolicy{
		Protocol: p.GetProtocol(), Service: p.GetService(), Authorizer: authorizer,
		RateLimits: buckets.Limits(limits, s.buckets),
		Series:     observe.Bind(s.options.Observer, labels),
	}, nil
}
