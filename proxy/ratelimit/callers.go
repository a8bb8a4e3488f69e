// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"hash/maphash"
	"math"
	"sync"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Callers of one limit that have a bucket of their own: 4,096.
const (
	shards   = 16
	perShard = 256
)

// callers are the buckets of identities. They are divided so that few requests wait for the same lock.
type callers struct {
	rate   *rate
	seed   maphash.Seed
	shards [shards]shard
}

func newCallers(r *rate) *callers {
	c := &callers{rate: r, seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].shared, c.shards[i].due = math.MinInt64, math.MaxInt64
	}
	return c
}

func (c *callers) shard(caller *identity.ID) *shard {
	return &c.shards[maphash.Comparable(c.seed, *caller)%shards]
}

// shard is some of the buckets.
type shard struct {
	mu     sync.Mutex
	full   map[identity.ID]int64 // when the bucket of an identity is
	shared int64                 // when that is of those who have none
	due    int64                 // when one of all may be full, and so may go

	_ [32]byte // a cache line each
}

func (c *callers) wait(caller *identity.ID, now int64) int64 {
	s := c.shard(caller)
	s.mu.Lock()
	defer s.mu.Unlock()
	full, _ := s.find(caller, now)
	_, wait := c.rate.next(full, now)
	return wait
}

func (c *callers) take(caller *identity.ID, now int64) (t token, wait int64) {
	s := c.shard(caller)
	s.mu.Lock()
	defer s.mu.Unlock()
	before, own := s.find(caller, now)
	after, wait := c.rate.next(before, now)
	if wait > 0 {
		return token{}, wait
	}
	if own {
		if s.full == nil {
			s.full = make(map[identity.ID]int64)
		}
		s.full[*caller] = after
		s.due = min(s.due, after)
	} else {
		s.shared = after
	}
	return token{before, after, !own}, 0
}

func (c *callers) undo(caller *identity.ID, t token) {
	s := c.shard(caller)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.shared {
		if s.shared == t.after {
			s.shared = t.before
		}
	} else if full, ok := s.full[*caller]; ok && full == t.after {
		s.full[*caller] = t.before
	}
}

// find returns when the bucket of a caller is full, and whether the caller has, or may have, one of its own. That begins
// where the shared one is, of which the caller may have taken. The lock is held.
func (s *shard) find(caller *identity.ID, now int64) (full int64, own bool) {
	if full, ok := s.full[*caller]; ok {
		return full, true
	}
	if len(s.full) >= perShard && now >= s.due {
		s.drop(now)
	}
	return s.shared, len(s.full) < perShard
}

// drop forgets the buckets that are full. The shared one is not full sooner than they are, so that whoever comes with a time
// that is older finds no more than there was. The lock is held.
func (s *shard) drop(now int64) {
	s.due = math.MaxInt64
	for caller, full := range s.full {
		if full <= now {
			s.shared = max(s.shared, full)
			delete(s.full, caller)
		} else {
			s.due = min(s.due, full)
		}
	}
}
