// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"testing"
	"time"
)

// kept is how many identities have a bucket of their own.
func (c *callers) kept() (n int) {
	for i := range c.shards {
		n += len(c.shards[i].full)
	}
	return n
}

func TestIdentitiesAreBounded(t *testing.T) {
	const many = 4 * shards * perShard
	l, all := newLimits(t, perCaller(perSecond("each", 1, 2)))
	callers := l.buckets[0].callers
	first := 0
	for i := range many {
		first += admitted(l, all, caller(i), start, 1)
	}
	if n := callers.kept(); n > shards*perShard || n < shards*perShard*9/10 {
		t.Errorf("%d identities are kept, want at most %d and nearly as many", n, shards*perShard)
	}
	if first < shards*perShard || first > shards*(perShard+2) {
		t.Errorf("%d identities are admitted, want those with a bucket and 2 in each shard, who share one", first)
	}
	// Whoever has none yet is not better off for it.
	for i := range many {
		if got := admitted(l, all, caller(i), start, 3); got > 1 {
			t.Fatalf("identity %d: %d more are admitted", i, got)
		}
	}
	// When their buckets are full they make room.
	later := start.Add(3 * time.Second)
	if got := admitted(l, all, caller(many), later, 3); got != 2 {
		t.Errorf("a new identity gets %d, want 2", got)
	}
	if n := callers.kept(); n > (shards-1)*perShard+1 {
		t.Errorf("%d identities are kept, want one in the shard of the newest", n)
	}
}

func TestAnIdentityThatIsForgottenGetsNoMore(t *testing.T) {
	l, all := newLimits(t, perCaller(perSecond("each", 1, 2)))
	c := l.buckets[0].callers
	admitted(l, all, caller(0), start, 2)
	who := caller(0)
	s := c.shard(&who)
	s.drop(int64(start.Add(2 * time.Second).Sub(epoch)))
	if len(s.full) != 0 {
		t.Fatal("it is kept though its bucket is full")
	}
	// A request whose clock was read before that.
	if got := admitted(l, all, who, start, 2); got != 0 {
		t.Errorf("%d more are admitted at the same time", got)
	}
	if got := admitted(l, all, who, start.Add(2*time.Second), 3); got != 2 {
		t.Errorf("%d are admitted when the bucket is full again, want 2", got)
	}
}

func TestATokenIsGivenBackUnlessOthersTookOneSince(t *testing.T) {
	now := int64(start.Sub(epoch))
	who := caller(-1)
	cases := map[string]struct {
		perCaller bool
		others    int // who take their buckets before
	}{
		"of the pod":  {false, 0},
		"of a caller": {true, 9},
		"of those who have no bucket to themselves": {true, 3 * shards * perShard},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			limit := perSecond("a", 1, 3)
			limit.PerCaller = c.perCaller
			l, _ := newLimits(t, limit)
			b := l.buckets[0]
			left := func() (n int) {
				var taken []token
				for b.wait(&who, now) == 0 {
					got, _ := b.take(&who, now)
					taken = append(taken, got)
				}
				for i := range taken {
					b.undo(&who, taken[len(taken)-1-i])
				}
				return len(taken)
			}
			b.take(&who, now-int64(time.Hour))
			if c.perCaller {
				delete(b.callers.shard(&who).full, who)
			}
			for i := range c.others {
				other := caller(i)
				b.take(&other, now-int64(time.Hour))
			}
			if c.perCaller {
				for i := range b.callers.shards {
					b.callers.shards[i].due = now + 1 // nobody makes room
				}
			}
			first, _ := b.take(&who, now)
			b.undo(&who, first)
			if n := left(); n != 3 {
				t.Errorf("%d are left, want 3", n)
			}
			first, _ = b.take(&who, now)
			second, _ := b.take(&who, now)
			b.undo(&who, first)
			if n := left(); n != 1 {
				t.Errorf("%d are left, want 1: it cannot be told whether the first has come back", n)
			}
			b.undo(&who, second)
			if n := left(); n != 2 {
				t.Errorf("%d are left, want 2", n)
			}
			if c.perCaller && first.shared != (c.others > shards*perShard) {
				t.Errorf("the bucket is shared: %v", first.shared)
			}
		})
	}
}

func TestATokenOfAnIdentityThatIsForgottenIsNotGivenBack(t *testing.T) {
	now := int64(start.Sub(epoch))
	who := caller(0)
	l, _ := newLimits(t, perCaller(perSecond("a", 1, 3)))
	b := l.buckets[0]
	taken, _ := b.take(&who, now)
	s := b.callers.shard(&who)
	s.drop(taken.after)
	b.undo(&who, taken)
	if len(s.full) != 0 || s.shared != taken.after {
		t.Errorf("%d buckets are kept, the shared one is full at %d, want %d", len(s.full), s.shared, taken.after)
	}
}
