// SPDX-License-Identifier: Apache-2.0

package table

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/health"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Cluster is the endpoints of one port of a service, or of a subset of them, and what is known of how they answer. The data
// path reads it; it outlives the tables that name it. The Attach of its members' States is an *outlier.Member.
type Cluster struct {
	set      atomic.Pointer[balance.Set]
	outliers *outlier.Cluster
	breaker  *outlier.Breaker
	settings atomic.Pointer[settings]
	checker  atomic.Pointer[health.Checker] // nil: none

	// Guarded by Store.mu.
	users  int                  // tables that name it; 0: it is gone
	held   []*upstream.Endpoint // what set holds
	filled bool                 // set was once made of a complete set of shards
	making bool                 // somebody makes a Set without the lock
	next   *members             // what the one after that is to be made of; or nil
	past   counts               // of checkers that were replaced
}

// members are what a Set is to be made of.
type members struct {
	options            balance.Options
	ready, terminating []balance.Member
	held               []*upstream.Endpoint
	complete           bool // of all shards
}

func newCluster(n *settings) *Cluster {
	c := &Cluster{outliers: outlier.NewCluster(n.outlier, rand.Uint64), breaker: outlier.NewBreaker(n.limits), past: make(counts)}
	c.set.Store(&balance.Set{})
	c.settings.Store(n)
	return c
}

// single is a backend of one endpoint.
func single(e *upstream.Endpoint, workload string, series *SeriesSet) *Backend {
	c := newCluster(defaults)
	m := &members{options: defaults.in(""), ready: []balance.Member{{Endpoint: e, Workload: workload}}}
	c.set.Store(c.after(m))
	return &Backend{Cluster: c, series: []*SeriesSet{series}}
}

// Endpoints returns the endpoints at this time.
func (c *Cluster) Endpoints() *balance.Set { return c.set.Load() }

// Outliers is to be told how every pick of Endpoints has ended.
func (c *Cluster) Outliers() *outlier.Cluster { return c.outliers }

// Breaker bounds what is under way.
func (c *Cluster) Breaker() *outlier.Breaker { return c.breaker }

// Keys are the parts of a request that Endpoints pick by; nil: none.
func (c *Cluster) Keys() *evaluate.Keys { return c.settings.Load().keys }

// ConnectTimeout is how long the making of a connection may take; 0: as long as the default says.
func (c *Cluster) ConnectTimeout() time.Duration { return c.settings.Load().connect }

// Timed says whether Outliers, Breaker or Endpoints go by the time that answers take.
func (c *Cluster) Timed() bool { return c.settings.Load().timed }

// Use says that something is sent: endpoints that nobody calls are not checked.
func (c *Cluster) Use() { c.checker.Load().Use() }

// after makes the Set that comes after the one in force.
func (c *Cluster) after(m *members) *balance.Set {
	m.options.Attach = func(s *balance.State) any { return c.outliers.Add(s) }
	return c.Endpoints().Next(m.options, m.ready, m.terminating, balance.Nanos(time.Now()))
}

// fill gives a cluster the members that it has now. The lock is held.
func (s *Store) fill(b *backend, name clusterName, c *Cluster) {
	m := s.gather(b, name)
	m.options = b.settings.in(s.binding.GetZone())
	if !c.making && (len(m.ready) == 0 || !b.settings.hashes()) {
		s.install(c, c.after(m), m)
		return
	}
	if c.next != nil {
		s.released = append(s.released, c.next.held...)
	}
	c.next = m
	if !c.making {
		c.making = true
		s.unmade = append(s.unmade, c)
	}
}

// fillAll fills every cluster, since what all depend on has changed. The lock is held.
func (s *Store) fillAll() {
	for _, b := range s.backends {
		for name, c := range b.clusters {
			s.fill(b, name, c)
		}
	}
}

// finish makes the Sets of a cluster until the newest is in force. The lock is not held, since that may take long.
func (s *Store) finish(c *Cluster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c.next != nil {
		m := c.next
		c.next = nil
		s.mu.Unlock()
		set := c.after(m)
		s.mu.Lock()
		s.install(c, set, m)
	}
	c.making = false
}

// install puts a Set in force, and lets go of the old one's endpoints. The lock is held.
func (s *Store) install(c *Cluster, set *balance.Set, m *members) {
	if c.users == 0 {
		s.released = append(s.released, m.held...)
		return
	}
	s.released = append(s.released, c.held...)
	c.held = m.held
	c.filled = c.filled || m.complete
	c.set.Store(set)
	if checker := c.checker.Load(); checker != nil {
		checker.Update(targets(set))
	}
}

// configure gives a service's clusters the newest settings. The lock is held.
func (s *Store) configure(b *backend, n *settings) {
	if proto.Equal(b.settings.section, n.section) {
		return
	}
	b.settings = n
	for name, c := range b.clusters {
		old := c.settings.Swap(n)
		c.outliers.Configure(n.outlier)
		c.breaker.Configure(n.limits)
		c.Endpoints().Cap(n.outlier.Cap())
		if !proto.Equal(old.section.GetHealthCheck(), n.section.GetHealthCheck()) || old.connect != n.connect {
			s.check(name, c)
		}
		s.fill(b, name, c)
	}
}

// check begins to check the endpoints of a cluster as its settings say, or ends it. The lock is held.
func (s *Store) check(name clusterName, c *Cluster) {
	var checker *health.Checker
	if how := c.settings.Load().check.At(name.port); how != nil && s.running != nil && c.users > 0 {
		checker = health.NewChecker(s.running, how, s.pace, rand.Uint64)
		checker.Update(targets(c.Endpoints()))
	}
	if old := c.checker.Swap(checker); old != nil {
		c.past.ofChecker(old)
		s.closing = append(s.closing, old)
	}
}

// checkAll begins all checks, or ends them if Run does. The lock is held.
func (s *Store) checkAll() {
	for _, b := range s.backends {
		for name, c := range b.clusters {
			s.check(name, c)
		}
	}
}

// targets are the endpoints that are worth checking: those that are ready.
func targets(set *balance.Set) []health.Target {
	ready := set.Members()[:set.Ready()]
	list := make([]health.Target, 0, len(ready))
	for _, m := range ready {
		t := health.Target{Endpoint: m.Endpoint, State: m.State}
		if record, ok := m.State.Attach.(*outlier.Member); ok {
			t.Suspect = record.Suspect
		}
		list = append(list, t)
	}
	return list
}
