// SPDX-License-Identifier: Apache-2.0

// Package table turns sections of signed config into immutable tables, which the data path reads without locks.
//
// Agents apply sections to a Store, each of which is verified and valid by itself. The Store builds tables from them and
// swaps each in with one atomic pointer, per service and for the proxy's own policy; a reader loads the pointer once per
// request. What lives longer than a table: endpoints with their connections and counts, in package upstream; Clusters, with
// what is known of how their endpoints answer; and the budget of a service and the buckets of rate limits.
//
// The Store asks for what its workload dials, through a Subscriber, and forgets what was not used for long.
package table

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/health"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/ratelimit"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Subscriber subscribes to sections at the operator. Want is for names that may be subscribed to already, Unwant for
// names that may not be. Both are called from Store.Run alone.
type Subscriber interface {
	Want(names ...meshconfig.Name)
	Unwant(names ...meshconfig.Name)
}

// Options are what a Store needs. Upstreams and Observer are required; zero values of the others mean the defaults.
type Options struct {
	Upstreams *upstream.Registry
	Observer  observe.Observer
	Log       logr.Logger

	// Hold is how long a connection waits for what is not known yet of its destination; 1 s.
	Hold time.Duration
	// MakeBeforeBreak is how long a new table waits for endpoints that it names and that are not here yet; 1 s.
	MakeBeforeBreak time.Duration
	// IdleExpiry is how long what nobody uses is kept; 15 minutes.
	IdleExpiry time.Duration
	// MaxServices and MaxAddresses bound what is kept, the least recently used leaving first; 1,000 and 4,000. What is in
	// use may exceed them, at most twice.
	MaxServices, MaxAddresses int
}

func (o Options) withDefaults() Options {
	set(&o.Hold, time.Second)
	set(&o.MakeBeforeBreak, time.Second)
	set(&o.IdleExpiry, 15*time.Minute)
	set(&o.MaxServices, 1000)
	set(&o.MaxAddresses, 4000)
	return o
}

func set[T int | time.Duration](value *T, to T) {
	if *value == 0 {
		*value = to
	}
}

// Store holds the newest table of everything that the proxy uses. It is safe for concurrent use.
type Store struct {
	options Options
	foreign *SeriesSet // of connections to what is none of ours
	pace    *health.Pace
	abroad  *outlier.RetryBudget // likewise

	mesh    atomic.Pointer[Mesh]
	inbound atomic.Pointer[Inbound]

	mu        sync.Mutex
	binding   *meshconfig.Binding
	policies  map[meshconfig.Name]*meshconfig.Inbound
	buckets   ratelimit.Buckets // of the policy in force
	addresses map[netip.Addr]*address
	services  map[string]*service
	backends  map[string]*backend
	wanted    map[meshconfig.Name]bool // the newest word on every name that Run has not passed on yet
	wake      chan struct{}
	running   context.Context //nolint:containedctx // of Run, while it runs: checks are no part of what begins them
	// To be released, closed and filled when the lock is not held.
	released []*upstream.Endpoint
	closing  []*health.Checker
	unmade   []*Cluster
}

// New makes an empty Store.
func New(options Options) *Store {
	s := &Store{
		options:   options.withDefaults(),
		foreign:   newSeriesSet(options.Observer, observe.Labels{Direction: observe.Outbound}),
		abroad:    newBudget(),
		pace:      health.NewPace(health.PerSecond),
		policies:  make(map[meshconfig.Name]*meshconfig.Inbound),
		addresses: make(map[netip.Addr]*address),
		services:  make(map[string]*service),
		backends:  make(map[string]*backend),
		wanted:    make(map[meshconfig.Name]bool),
		wake:      make(chan struct{}, 1),
	}
	s.inbound.Store(&Inbound{superseded: make(chan struct{})})
	return s
}

// Unrouted takes what goes nowhere, or to what is none of ours.
func (s *Store) Unrouted() *SeriesSet { return s.foreign }

// Apply takes a section that meshconfig.Validate accepts. An error means that it cannot be enforced; whatever was in
// force stays so. The message must not be changed afterwards.
func (s *Store) Apply(name meshconfig.Name, m proto.Message) error {
	switch m := m.(type) {
	case *meshconfig.Mesh:
		return s.applyMesh(m)
	case *meshconfig.Binding:
		return s.applyBinding(m)
	case *meshconfig.Inbound:
		return s.applyInbound(name, m)
	case *meshconfig.Routes:
		return s.applyRoutes(name, m)
	case *meshconfig.Endpoints:
		return s.applyEndpoints(m)
	case *meshconfig.Address:
		return s.applyAddress(m)
	case *meshconfig.Heartbeat:
		return nil // the agent's business
	}
	return fmt.Errorf("section %s: payload of type %T is unknown", name, m)
}

// Remove takes the tombstone of a section. What applies to the workload itself, mesh, binding and inbound, stays in force.
func (s *Store) Remove(name meshconfig.Name) {
	switch name.Kind() {
	case meshconfig.KindRoutes:
		s.removeRoutes(name.Subject())
	case meshconfig.KindEndpoints:
		s.removeEndpoints(name)
	case meshconfig.KindAddress:
		s.removeAddress(name.Subject())
	case meshconfig.KindMesh, meshconfig.KindHeartbeat, meshconfig.KindBinding, meshconfig.KindInbound:
	}
}

// locked runs f under the lock, then does what f leaves to be done and takes a while.
func (s *Store) locked(f func()) {
	s.mu.Lock()
	f()
	for {
		released, closing, unmade := s.released, s.closing, s.unmade
		s.released, s.closing, s.unmade = nil, nil, nil
		s.mu.Unlock()
		for _, e := range released {
			e.Release()
		}
		for _, c := range closing {
			c.Close()
		}
		if len(unmade) == 0 {
			return
		}
		for _, c := range unmade {
			s.finish(c)
		}
		s.mu.Lock()
		s.endpointsCame()
	}
}

// lease says how a thing is used.
type lease struct {
	pins int // how many are using it
	used time.Time
}

func (l *lease) pin() {
	l.pins++
	l.used = time.Now()
}

func (l *lease) unpin() {
	l.pins--
	l.used = time.Now()
}

func (l *lease) idle(now time.Time, expiry time.Duration) bool {
	return l.pins == 0 && now.Sub(l.used) >= expiry
}
