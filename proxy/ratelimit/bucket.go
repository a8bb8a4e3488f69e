// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"math"
	"sync/atomic"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
)

// longest bounds the time in which a bucket fills, in nanoseconds, so that no sum of times overflows: some 70 years.
const longest = 1 << 61

// rate is a limit in times, in nanoseconds.
type rate struct {
	each  int64 // in which one token comes back; rounded up, so that there are never too many
	depth int64 // in which an empty bucket fills
}

func newRate(l evaluate.RateLimit) rate {
	each := min((max(1, uint64(l.Interval))-1)/max(1, l.Requests)+1, longest)
	return rate{each: int64(each), depth: int64(each * min(max(1, l.Burst), longest/each))}
}

// next takes a token of a bucket that is full at a time; after is when it is full then. If there is none then wait is how
// long there is none.
func (r *rate) next(full, now int64) (after, wait int64) {
	after = max(full, now) + r.each
	return after, max(0, after-now-r.depth)
}

// token is what was taken: the bucket was full before at one time, and then after that.
type token struct {
	before, after int64
	shared        bool // of the bucket of those who have none
}

// bucket is that of a limit, or all of them where callers have one each.
type bucket struct {
	rate    rate
	full    atomic.Int64 // when it is, in nanoseconds since the epoch
	callers *callers     // nil: everybody shares the one
}

func newBucket(l evaluate.RateLimit) *bucket {
	b := &bucket{rate: newRate(l)}
	b.full.Store(math.MinInt64)
	if l.PerCaller {
		b.callers = newCallers(&b.rate)
	}
	return b
}

// wait is how long there is no token; 0: there is one.
func (b *bucket) wait(caller *identity.ID, now int64) int64 {
	if b.callers != nil {
		return b.callers.wait(caller, now)
	}
	_, wait := b.rate.next(b.full.Load(), now)
	return wait
}

// take takes a token, unless there is none for a while.
func (b *bucket) take(caller *identity.ID, now int64) (t token, wait int64) {
	if b.callers != nil {
		return b.callers.take(caller, now)
	}
	for {
		before := b.full.Load()
		after, wait := b.rate.next(before, now)
		if wait > 0 || b.full.CompareAndSwap(before, after) {
			return token{before: before, after: after}, wait
		}
	}
}

// undo gives a token back if nobody has taken one since. Otherwise it might have come back already, and would be given
// twice.
func (b *bucket) undo(caller *identity.ID, t token) {
	if b.callers != nil {
		b.callers.undo(caller, t)
		return
	}
	b.full.CompareAndSwap(t.after, t.before)
}
