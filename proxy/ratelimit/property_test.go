// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// TestNeverMoreThanBurstAndRate takes and gives back tokens in any order, by clocks that are off, and keeps a bucket for
// every identity that knows of nothing but what was admitted: it must have had a token each time.
func TestNeverMoreThanBurstAndRate(t *testing.T) {
	type debt struct {
		who   identity.ID
		token token
	}
	for name, c := range map[string]struct {
		perCaller bool
		callers   int
	}{
		"of the pod":          {false, 3},
		"of few callers":      {true, 5},
		"of a lot of callers": {true, 3 * shards * perShard},
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 0))
			limit := perSecond("a", 1+r.Uint64N(50), 1+r.Uint64N(5))
			limit.PerCaller = c.perCaller
			l, _ := newLimits(t, limit)
			b := l.buckets[0]
			full := make(map[identity.ID]int64)
			now, admissions := int64(start.Sub(epoch)), 0
			var debts []debt
			for range 100_000 {
				now += r.Int64N(b.rate.each / int64(min(c.callers, 50)))
				who, model := caller(r.IntN(c.callers)), nobody
				if c.perCaller {
					model = who
				}
				at := now - r.Int64N(b.rate.each)
				got, wait := b.take(&who, at)
				switch {
				case wait > 0:
				case r.IntN(4) == 0:
					debts = append(debts, debt{who, got})
				default:
					before, ok := full[model]
					if !ok {
						before = math.MinInt64
					}
					after, wait := b.rate.next(before, at)
					if wait > 0 {
						t.Fatalf("admitted %v before there is a token (seed %d)", time.Duration(wait), seed)
					}
					full[model] = after
					admissions++
				}
				if len(debts) > 0 && r.IntN(3) == 0 {
					i := r.IntN(len(debts))
					b.undo(&debts[i].who, debts[i].token)
					debts = slices.Delete(debts, i, i+1)
				}
			}
			if admissions < 1000 {
				t.Errorf("only %d are admitted (seed %d)", admissions, seed)
			}
		})
	}
}

// TestRacesAreNeverGivenMore asks from several goroutines, by one clock, and looks at every stretch of time.
func TestRacesAreNeverGivenMore(t *testing.T) {
	const askers, asks, burst = 4, 4000, 7
	l, all := newLimits(t, perSecond("pod", 1000, burst), perCaller(perSecond("each", 600, burst)))
	var clock atomic.Int64
	var mu sync.Mutex
	times := map[identity.ID][]int64{}
	var wg sync.WaitGroup
	for i := range askers {
		wg.Go(func() {
			who, mine := caller(i%2), []int64{}
			for range asks {
				now := clock.Add(int64(20 * time.Microsecond))
				if ok, _, _ := l.Allow(all, who, start.Add(time.Duration(now))); ok {
					mine = append(mine, now)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			times[who] = append(times[who], mine...)
		})
	}
	wg.Wait()
	everybody := []int64{}
	for _, list := range times {
		everybody = append(everybody, list...)
		check(t, list, l.buckets[1].rate.each, burst)
	}
	check(t, everybody, l.buckets[0].rate.each, burst)
	// In 320 ms, in which one caller may have been alone at times.
	if n := len(everybody); n < 600*320/1000*9/10 {
		t.Errorf("only %d are admitted", n)
	}
}

// check wants no more in any stretch of time than the burst and what comes back in it.
func check(t *testing.T, times []int64, each, burst int64) {
	t.Helper()
	slices.Sort(times)
	for i := range times {
		for j := i; j < len(times); j++ {
			if n, most := int64(j-i+1), burst+(times[j]-times[i])/each; n > most {
				t.Fatalf("%d are admitted in %v, want at most %d", n, time.Duration(times[j]-times[i]), most)
			}
		}
	}
}

// TestTheLastTokensAreGivenOnce asks from several goroutines at one time.
func TestTheLastTokensAreGivenOnce(t *testing.T) {
	for name, per := range map[string]bool{"of the pod": false, "of a caller": true} {
		t.Run(name, func(t *testing.T) {
			limit := perSecond("a", 1, 100)
			limit.PerCaller = per
			l, all := newLimits(t, limit)
			var got atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { got.Add(int64(admitted(l, all, caller(1), start, 500))) })
			}
			wg.Wait()
			if got.Load() != 100 {
				t.Errorf("%d are admitted, want 100", got.Load())
			}
		})
	}
}
