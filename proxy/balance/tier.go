// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// tier is members that are picked from alike.
type tier struct {
	members []Member
	healthy atomic.Int64 // how many of them are eligible

	_      [64]byte // what changes with every pick has a cache line of its own
	cursor atomic.Uint64
	_      [56]byte
}

// fill gives a tier its members. RoundRobin starts anywhere, so that proxies that start together do not call in step.
func (t *tier) fill(members []Member) {
	t.members = members
	t.cursor.Store(rand.Uint64() >> 1)
}

// Next makes the Set that comes after this one, at a time as Nanos has it. It takes what is known of endpoints that
// both have from this one, which nobody should ask from then on. The lists become the Set's; of an endpoint that is in them
// twice the first counts. An endpoint is new, for slow start, when it was not ready in this Set, unless nobody was.
func (s *Set) Next(o Options, ready, terminating []Member, now int64) *Set {
	n := &Set{options: o, shared: s.shared, oldest: math.MaxInt64}
	if n.shared == nil {
		n.shared = newCluster()
	}
	c := n.shared
	if len(s.ready) == 0 {
		now = 0
	}
	ready, terminating = c.enter(&o, ready, terminating)
	near := o.arrange(ready)
	if o.Policy == meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH && len(ready) > 0 {
		n.table = s.table.after(ready) // without the lock, for which failed requests wait
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(len(ready) + len(terminating))
	n.ready = ready
	n.near.fill(ready[:near])
	n.far.fill(ready[near:])
	n.all.fill(ready)
	n.going.fill(terminating)
	n.take(&n.near, now)
	n.take(&n.far, now)
	for i := range terminating {
		state := c.states[terminating[i].Endpoint]
		terminating[i].State = state
		state.tier, state.member = nil, nil
	}
	c.ready = len(ready)
	c.out.Store(int64(len(ready) - n.Healthy()))
	c.keep()
	return n
}

// take gives the members of a tier their States, and counts who is eligible. The lock of the cluster is held.
func (s *Set) take(t *tier, now int64) {
	healthy := int64(0)
	for i := range t.members {
		m := &t.members[i]
		state := s.shared.states[m.Endpoint]
		if state.member == nil {
			state.since.Store(now)
		}
		m.State, state.tier, state.member = state, t, m
		if state.blocked.Load() == 0 {
			healthy++
		}
		since := state.since.Load()
		s.oldest = min(s.oldest, since)
		if since != 0 && s.options.SlowStart > 0 {
			s.warm = max(s.warm, since+int64(s.options.SlowStart))
		}
	}
	t.healthy.Store(healthy)
}

// enter makes sure that the members of a new Set have States, and returns them each once.
func (c *cluster) enter(o *Options, ready, terminating []Member) (_, _ []Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets++
	again := func(m Member) bool { return !c.first(o, m) }
	return slices.DeleteFunc(ready, again), slices.DeleteFunc(terminating, again)
}

// first makes sure that a member has a State. It says whether this is the first time for the newest Set. The lock is held.
func (c *cluster) first(o *Options, m Member) bool {
	state := c.states[m.Endpoint]
	if state == nil {
		state = &State{cluster: c}
		if o.Attach != nil {
			state.Attach = o.Attach(state)
		}
		c.states[m.Endpoint] = state
	}
	if state.set == c.sets {
		return false
	}
	state.set = c.sets
	return true
}

// leave forgets endpoints that are not in the newest Set, of which there are n. The lock is held.
func (c *cluster) leave(n int) {
	if len(c.states) == n {
		return
	}
	for endpoint, state := range c.states {
		if state.set != c.sets {
			state.tier, state.member = nil, nil
			delete(c.states, endpoint)
		}
	}
}

// arrange puts those that should be called first before the others and returns how many they are.
//
// Kubernetes' topology aware routing tells by hints who serves a zone: they count when every endpoint has one, and one is for
// this zone, as kube-proxy has it (topologyModeFromHints in k8s.io/kubernetes/pkg/proxy/topology.go). Else those of the same zone
// come first. Where that leaves nobody, or all, there is one tier.
func (o *Options) arrange(ready []Member) int {
	// A key belongs to one endpoint, whoever has it: zones would make it one in each.
	if o.Zone == "" || o.Policy == meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH {
		return len(ready)
	}
	byHint := !slices.ContainsFunc(ready, func(m Member) bool { return len(m.Hints) == 0 }) &&
		slices.ContainsFunc(ready, func(m Member) bool { return slices.Contains(m.Hints, o.Zone) })
	near := make([]Member, 0, len(ready))
	var far []Member
	for _, m := range ready {
		if byHint && slices.Contains(m.Hints, o.Zone) || !byHint && m.Zone == o.Zone {
			near = append(near, m)
		} else {
			far = append(far, m)
		}
	}
	if len(near) == 0 {
		return len(ready)
	}
	copy(ready, near)
	copy(ready[len(near):], far)
	return len(near)
}
