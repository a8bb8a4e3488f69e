// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"math"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestABucket(t *testing.T) {
	// step asks so often after a time, and says how often it is admitted.
	type step struct {
		after    time.Duration
		ask, get int
		retry    time.Duration // of the last, if that is refused
	}
	cases := map[string]struct {
		limit *meshconfig.RateLimit
		steps []step
	}{
		"gives its burst at once and then what comes back": {perSecond("a", 10, 5), []step{
			{0, 6, 5, 100 * time.Millisecond},
			{99 * time.Millisecond, 1, 0, time.Millisecond},
			{time.Millisecond, 2, 1, 100 * time.Millisecond},
			{250 * time.Millisecond, 3, 2, 50 * time.Millisecond},
		}},
		"holds no more than its burst": {perSecond("a", 10, 5), []step{{time.Hour, 10, 5, 100 * time.Millisecond}, {time.Hour, 10, 5, 100 * time.Millisecond}}},
		"of one gives one at a time":   {perSecond("a", 4, 1), []step{{0, 9, 1, 250 * time.Millisecond}, {250 * time.Millisecond, 9, 1, 250 * time.Millisecond}}},
		"is never too generous when its rate is odd": {perSecond("a", 3, 1), []step{
			{0, 2, 1, 333333334}, {333333333, 1, 0, 1}, {1, 1, 1, 0},
		}},
		"of a rate beyond the clock gives one each nanosecond": {perSecond("a", math.MaxUint64, 2), []step{{0, 9, 2, 1}, {1, 9, 1, 1}}},
		"of a burst beyond all time has no end": {
			&meshconfig.RateLimit{Name: "a", Requests: 1, Interval: 60_000, Burst: math.MaxUint64},
			[]step{{0, 5000, 5000, 0}},
		},
		"of an interval of ages gives its burst": {
			&meshconfig.RateLimit{Name: "a", Requests: 1, Interval: int64(math.MaxInt64 / time.Millisecond), Burst: 9},
			[]step{{0, 5, 1, longest}},
		},
		"per caller gives each its burst": {perCaller(perSecond("a", 10, 5)), []step{{0, 6, 5, 100 * time.Millisecond}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l, all := newLimits(t, c.limit)
			now := start
			for i, s := range c.steps {
				now = now.Add(s.after)
				if got := admitted(l, all, nobody, now, s.ask); got != s.get {
					t.Errorf("step %d: %d of %d are admitted, want %d", i, got, s.ask, s.get)
				}
				if s.get < s.ask {
					if _, which, retry := l.Allow(all, nobody, now); which != "a" || retry != s.retry {
						t.Errorf("step %d: %q refuses for %v, want a for %v", i, which, retry, s.retry)
					}
				}
			}
		})
	}
}

func TestEveryLimitThatCountsARequestMustHaveAToken(t *testing.T) {
	l, all := newLimits(t, perSecond("wide", 1, 10), perSecond("slow", 1, 2), perCaller(perSecond("each", 2, 3)))
	if got := admitted(l, all, caller(1), start, 9); got != 2 {
		t.Errorf("%d are admitted, want the 2 of the narrowest", got)
	}
	if ok, which, retry := l.Allow(all, caller(1), start); ok || which != "slow" || retry != time.Second {
		t.Errorf("%v by %q for %v, want slow for 1s", ok, which, retry)
	}
	// The refused took nothing of the others.
	if got := admitted(l, 1, nobody, start, 20); got != 8 {
		t.Errorf("wide has %d left, want 8", got)
	}
	if got := admitted(l, 1<<2, caller(1), start, 20); got != 1 {
		t.Errorf("each has %d left for the caller, want 1", got)
	}
	if got := admitted(l, 1<<2, caller(2), start, 20); got != 3 {
		t.Errorf("each has %d left for another caller, want 3", got)
	}
	if ok, which, _ := l.Allow(all, caller(1), start); ok || which != "wide" && which != "slow" {
		t.Errorf("%v by %q, want one of those that refuse for longest", ok, which)
	}
}

func TestNothingIsRefusedWithoutALimit(t *testing.T) {
	l, all := newLimits(t)
	if got := admitted(l, all, nobody, start, 9); got != 9 || all != 0 {
		t.Errorf("%d of 9 are admitted, by %b", got, all)
	}
	// The limits may have been replaced since Matching.
	if got := admitted(l, math.MaxUint64, nobody, start, 9); got != 9 {
		t.Errorf("%d of 9 are admitted", got)
	}
	many := make([]*meshconfig.RateLimit, evaluate.MaxRateLimits)
	for i := range many {
		many[i] = perSecond(caller(i).ServiceAccount, 1, uint64(100+i))
	}
	if l, all = newLimits(t, many...); all != math.MaxUint64 {
		t.Errorf("matching %b", all)
	}
	if got := admitted(l, all, nobody, start, 200); got != 100 {
		t.Errorf("%d are admitted, want 100", got)
	}
}

func TestBucketsOutliveTheirSection(t *testing.T) {
	cases := map[string]struct {
		limit *meshconfig.RateLimit
		want  int
	}{
		"the same limit":                     {perSecond("a", 1, 5), 1},
		"the same limit of other callers":    {&meshconfig.RateLimit{Name: "a", Requests: 1, Interval: 1000, Burst: 5, From: []*meshconfig.Caller{{Namespaces: []string{"*"}}}}, 1},
		"the same limit in another place":    {perSecond("b", 1, 5), 1},
		"a limit of another rate":            {perSecond("a", 2, 5), 5},
		"a limit of another burst":           {perSecond("a", 1, 6), 6},
		"a limit of another name":            {perSecond("c", 1, 5), 5},
		"a limit that is one per caller now": {perCaller(perSecond("a", 1, 5)), 5},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			old := Buckets{}
			admitted(old.Limits(compile(t, perSecond("a", 1, 5), perSecond("b", 1, 5)), nil), 3, nobody, start, 4)
			next := Buckets{}
			l := next.Limits(compile(t, c.limit), old)
			other := next.Limits(compile(t, c.limit), old) // of another port
			if got := admitted(l, 1, nobody, start, 2) + admitted(other, 1, nobody, start, 20); got != c.want {
				t.Errorf("%d are admitted, want %d", got, c.want)
			}
			if len(next) != 1 {
				t.Errorf("%d buckets are kept, want 1", len(next))
			}
		})
	}
}
