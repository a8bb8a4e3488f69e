// SPDX-License-Identifier: Apache-2.0

// Package ratelimit keeps the token buckets of a workload's rate limits.
//
// A bucket is one number, the time at which it is full: the generic cell rate algorithm (ITU-T I.371, annex A, "virtual
// scheduling"). It never gives more than its burst and what has come back since, whoever asks at the same time. Where
// several limits count a request each must have a token, and none is taken when one has not.
//
// A limit per caller has a bucket for each identity, of a bounded number. One that is full is the same as none, so those go
// when there is no room; while all are in use, identities that have none share one.
package ratelimit

import (
	"math/bits"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
)

// Limits are the rate limits of one port, with their buckets. They are safe for concurrent use.
type Limits struct {
	*evaluate.RateLimits
	buckets []*bucket // by limit
	all     uint64
}

// Buckets are those of all ports of a workload: a limit that several ports have has one.
type Buckets map[evaluate.RateLimit]*bucket

// Limits puts limits and their buckets together. A bucket that is neither in b nor in old is a new one, and full.
func (b Buckets) Limits(limits *evaluate.RateLimits, old Buckets) *Limits {
	l := &Limits{RateLimits: limits, all: 1<<len(limits.Limits) - 1}
	for _, limit := range limits.Limits {
		if b[limit] == nil {
			b[limit] = old[limit]
		}
		if b[limit] == nil {
			b[limit] = newBucket(limit)
		}
		l.buckets = append(l.buckets, b[limit])
	}
	return l
}

// epoch is what times are counted from: the wall clock may be set, the time since then goes on.
var epoch = time.Now()

// Allow takes a token of each limit that counts the request, as Matching has found them, or of none. Name is the limit that
// refuses for longest, and retryAfter in how long it would not if nobody else came.
//
// When requests race for the last tokens, and one gets some of those that it needs alone, it gives those back; one that
// others have taken from meanwhile is lost.
func (l *Limits) Allow(matching uint64, caller identity.ID, at time.Time) (ok bool, name string, retryAfter time.Duration) {
	matching &= l.all
	if matching == 0 {
		return true, "", 0
	}
	now := int64(at.Sub(epoch))
	if matching&(matching-1) != 0 {
		return l.allowAll(matching, &caller, now)
	}
	i := bits.TrailingZeros64(matching)
	if _, wait := l.buckets[i].take(&caller, now); wait > 0 {
		return false, l.Limits[i].Name, time.Duration(wait)
	}
	return true, "", 0
}

// allowAll is Allow for several limits. It looks before it takes, so that tokens are given back in a race alone.
func (l *Limits) allowAll(matching uint64, caller *identity.ID, now int64) (ok bool, name string, retryAfter time.Duration) {
	worst := 0
	for left := matching; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		if wait := time.Duration(l.buckets[i].wait(caller, now)); wait > retryAfter {
			worst, retryAfter = i, wait
		}
	}
	if retryAfter > 0 {
		return false, l.Limits[worst].Name, retryAfter
	}
	var taken [64]token
	for left := matching; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		t, wait := l.buckets[i].take(caller, now)
		if wait > 0 {
			for back := matching ^ left; back != 0; back &= back - 1 {
				j := bits.TrailingZeros64(back)
				l.buckets[j].undo(caller, taken[j])
			}
			return false, l.Limits[i].Name, time.Duration(wait)
		}
		taken[i] = t
	}
	return true, "", 0
}
