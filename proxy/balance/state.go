// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Why an endpoint is not eligible.
const (
	ejected = 1 << iota
	down
)

// trialTime is after how long a trial that nobody has judged is given up and another one made.
const trialTime = 10 * time.Second

// State is what is known of an endpoint in one cluster. It is carried over from Set to Set. Its methods are safe for
// concurrent use; those that change it are for rare events, and take a lock.
type State struct {
	// Attach is what Options.Attach made.
	Attach any

	blocked atomic.Uint32
	latency ewma
	since   atomic.Int64 // when it came as ready, in Unix nanoseconds; 0: no matter
	cluster *cluster

	// Guarded by cluster.mu.
	until  int64   // when the ejection ends
	trials uint64  // the number of the newest trial, if nothing has decided it
	tier   *tier   // of the newest Set; nil: it is terminating, or gone
	member *Member // likewise
	set    uint64  // the newest Set's number
}

// Ejected says whether the endpoint is ejected; one on trial still is.
func (s *State) Ejected() bool { return s.blocked.Load()&ejected != 0 }

// Down says whether checks have found the endpoint down.
func (s *State) Down() bool { return s.blocked.Load()&down != 0 }

// Eject keeps the endpoint from being picked until a time in Unix nanoseconds, and from then on but for one request at a
// time, its trial. Who judges the trial calls Restore or Eject again. It says whether the endpoint is ejected: not when
// more than maxPercent of the ready ones would be, but for one of several; and not when it is no longer ready. Of one that
// is ejected already it changes the time.
func (s *State) Eject(until int64, maxPercent int) bool {
	c := s.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.tier == nil {
		return false
	}
	c.maxPercent = maxPercent
	if s.blocked.Load()&ejected == 0 {
		if len(c.ejected) >= c.room() {
			return false
		}
		s.block(ejected)
		c.ejected = append(c.ejected, s)
	}
	s.until = until
	s.trials++
	c.schedule()
	return true
}

// Restore ends an ejection.
func (s *State) Restore() {
	c := s.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.blocked.Load()&ejected != 0 {
		s.unblock(ejected)
		s.trials++
		c.ejected = slices.DeleteFunc(c.ejected, func(other *State) bool { return other == s })
		c.schedule()
	}
}

// SetDown says what checks have found. It does not change an ejection.
func (s *State) SetDown(isDown bool) {
	c := s.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if isDown {
		s.block(down)
	} else {
		s.unblock(down)
	}
	c.schedule()
}

// block sets a bit and counts. The lock is held.
func (s *State) block(bit uint32) {
	if s.blocked.Or(bit) == 0 && s.tier != nil {
		s.cluster.out.Add(1)
		s.tier.healthy.Add(-1)
	}
}

// unblock clears a bit and counts. The lock is held.
func (s *State) unblock(bit uint32) {
	if s.blocked.And(^bit) == bit && s.tier != nil {
		s.cluster.out.Add(-1)
		s.tier.healthy.Add(1)
	}
}

// cluster is what all Sets of a cluster share.
type cluster struct {
	trial atomic.Int64 // when the next trial is due, in Unix nanoseconds
	out   atomic.Int64 // how many ready members of the newest Set are not eligible

	mu      sync.Mutex
	states  map[*upstream.Endpoint]*State // of the newest Set
	ejected []*State                      // of its ready members
	ready   int                           // how many there are
	sets    uint64                        // how many Sets there were

	maxPercent int // of the last ejection, or Cap
}

func newCluster() *cluster {
	c := &cluster{states: make(map[*upstream.Endpoint]*State)}
	c.trial.Store(math.MaxInt64)
	return c
}

// room is how many may be ejected at a time. The lock is held.
func (c *cluster) room() int {
	if c.ready > 1 && c.maxPercent > 0 {
		return max(1, c.ready*c.maxPercent/100)
	}
	return c.ready * c.maxPercent / 100
}

// keep forgets the ejections of endpoints that are no longer ready, and ends those that are too many now, the first to end
// first. The lock is held.
func (c *cluster) keep() {
	c.ejected = slices.DeleteFunc(c.ejected, func(s *State) bool {
		if s.tier == nil {
			s.unblock(ejected)
		}
		return s.tier == nil
	})
	slices.SortStableFunc(c.ejected, func(a, b *State) int { return cmp.Compare(b.until, a.until) })
	for _, s := range c.ejected[min(len(c.ejected), c.room()):] {
		s.unblock(ejected)
	}
	c.ejected = slices.DeleteFunc(c.ejected, func(s *State) bool { return !s.Ejected() })
	c.schedule()
}

// schedule finds out when the next trial is due. The lock is held.
func (c *cluster) schedule() {
	next := int64(math.MaxInt64)
	for _, s := range c.ejected {
		if s.blocked.Load()&down == 0 {
			next = min(next, s.until)
		}
	}
	c.trial.Store(next)
}

// try returns the ejected endpoint whose trial is due, if there is one and nobody else is at it, and the trial's number.
func (c *cluster) try(now int64) (m *Member, trial uint64) {
	if now < c.trial.Load() || !c.mu.TryLock() {
		return nil, 0
	}
	defer c.mu.Unlock()
	for _, s := range c.ejected {
		if s.until <= now && s.blocked.Load()&down == 0 {
			s.until = now + int64(trialTime)
			s.trials++
			c.schedule()
			return s.member, s.trials
		}
	}
	return nil, 0
}

// tryAgain lets another request be the trial of an endpoint, since one has shown nothing; not when it was given up, or when
// the endpoint was restored or ejected since.
func (c *cluster) tryAgain(s *State, trial uint64, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.blocked.Load()&ejected != 0 && s.trials == trial {
		s.until = now
		c.schedule()
	}
}
