// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestBreaker(t *testing.T) {
	limits := NewLimits(&meshconfig.Breaker{
		MaxConnections: 1, MaxPending: 2, MaxRequests: 3, MaxRetries: 4, EndpointMaxConnections: 5, EndpointMaxRequests: 6,
	})
	var load Load
	acquire := func(what Bound) func(*Breaker) Bound { return func(b *Breaker) Bound { return b.Acquire(what) } }
	release := func(what Bound) func(*Breaker) { return func(b *Breaker) { b.Release(what) } }
	tests := map[Bound]struct {
		take  func(*Breaker) Bound
		give  func(*Breaker)
		most  int
		named string
	}{
		Connections: {acquire(Connections), release(Connections), 1, "maxConnections"},
		Pending:     {acquire(Pending), release(Pending), 2, "maxPending"},
		Requests:    {acquire(Requests), release(Requests), 3, "maxRequests"},
		Retries:     {acquire(Retries), release(Retries), 4, "maxRetries"},
		EndpointConnections: {
			func(b *Breaker) Bound { return b.Connect(&load) }, func(b *Breaker) { b.Disconnect(&load) }, 5, "endpoint.maxConnections",
		},
		EndpointRequests: {
			func(b *Breaker) Bound { return b.Begin(&load) }, func(b *Breaker) { b.End(&load, epoch, 0) }, 6, "endpoint.maxRequests",
		},
	}
	for bound, test := range tests {
		t.Run(bound.String(), func(t *testing.T) {
			b := NewBreaker(limits)
			for i := range test.most {
				if why := test.take(b); why != NoBound {
					t.Fatalf("number %d is refused: %v", i+1, why)
				}
			}
			if why := test.take(b); why != bound || why.String() != test.named || b.Refused(bound) != 1 {
				t.Errorf("one too many is refused by %v, counted %d", why, b.Refused(bound))
			}
			if bound <= Retries && b.Used(bound) != int64(test.most) {
				t.Errorf("%d are under way", b.Used(bound))
			}
			test.give(b)
			if why := test.take(b); why != NoBound {
				t.Errorf("refused though one has gone: %v", why)
			}
			b.Configure(Limits{})
			if why := test.take(b); why != NoBound {
				t.Errorf("refused without a bound: %v", why)
			}
			b.Configure(limits)
			test.give(b)
			if why := test.take(b); why != bound {
				t.Errorf("what came without a bound does not count: %v", why)
			}
		})
	}
}

func TestAnEndpointIsFullOfConnectionsAndARepetitionNeedsNoRoom(t *testing.T) {
	b := NewBreaker(Limits{EndpointConnections: 1, EndpointRequests: 1})
	var load Load
	if why := b.Full(&load); why != NoBound {
		t.Errorf("full of nothing: %v", why)
	}
	b.Connect(&load)
	if why := b.Full(&load); why != EndpointConnections || b.Refused(EndpointConnections) != 1 {
		t.Errorf("not full: %v, counted %d", why, b.Refused(EndpointConnections))
	}
	b.Disconnect(&load)
	if why := b.Full(&load); why != NoBound {
		t.Errorf("full though the one has gone: %v", why)
	}
	b.Begin(&load)
	b.Repeat(&load)
	b.End(&load, epoch, 0)
	if why := b.Begin(&load); why != EndpointRequests || load.Requests() != 1 {
		t.Errorf("a repetition does not count: %v, %d under way", why, load.Requests())
	}
}

func TestABoundOfAnEndpointIsNoneOfTheService(t *testing.T) {
	b := NewBreaker(Limits{Connections: 1, Requests: 1, EndpointRequests: 1})
	for _, what := range []Bound{NoBound, EndpointConnections, EndpointRequests, EndpointConcurrency} {
		for range 3 {
			if why := b.Acquire(what); why != NoBound {
				t.Errorf("%q of the service is refused", what)
			}
			b.Release(what)
		}
		if what != NoBound && b.Used(what) != 0 {
			t.Errorf("%d of %q are used", b.Used(what), what)
		}
	}
}

// TestABreakerIsNeverOverdrawn lets many take and give at once: never are more under way than may be, and a refusal is
// never wrong.
func TestABreakerIsNeverOverdrawn(t *testing.T) {
	const most, workers = 3, 8
	b := NewBreaker(Limits{Requests: most})
	var under, taken, refused atomic.Int64
	var over sync.WaitGroup
	for range workers {
		over.Go(func() {
			for range 5000 {
				if b.Acquire(Requests) != NoBound {
					refused.Add(1)
					runtime.Gosched()
					continue
				}
				if n := under.Add(1); n > most {
					t.Errorf("%d are under way", n)
				}
				taken.Add(1)
				runtime.Gosched()
				under.Add(-1)
				b.Release(Requests)
			}
		})
	}
	over.Wait()
	// Whether they met is chance: one that surely is refused counts, too.
	for range most {
		b.Acquire(Requests)
	}
	if b.Acquire(Requests) == NoBound {
		t.Error("one too many was let in")
	}
	refused.Add(1)
	for range most {
		b.Release(Requests)
	}
	if b.Used(Requests) != 0 || uint64(refused.Load()) != b.Refused(Requests) || taken.Load() == 0 {
		t.Errorf("%d left, %d taken, %d refused, %d counted", b.Used(Requests), taken.Load(), refused.Load(), b.Refused(Requests))
	}
}

func TestTheLowerOfBothBoundsOfAnEndpointHolds(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		want   int
		bound  Bound
	}{
		"the adaptive one alone":              {Limits{Adaptive: true}, firstLimit, EndpointConcurrency},
		"the adaptive one under a higher one": {Limits{Adaptive: true, EndpointRequests: 100}, firstLimit, EndpointConcurrency},
		"a lower one than the adaptive":       {Limits{Adaptive: true, EndpointRequests: 7}, 7, EndpointRequests},
	} {
		t.Run(name, func(t *testing.T) {
			b, load := NewBreaker(test.limits), &Load{}
			for b.Begin(load) == NoBound {
			}
			if load.Requests() != int64(test.want) || b.Refused(test.bound) != 1 {
				t.Errorf("%d under way, refusals %d", load.Requests(), b.Refused(test.bound))
			}
		})
	}
}

// queueing is a server that works on so many at a time, each for the same time; others queue.
type queueing struct {
	workers int
	work    time.Duration
}

// overload offers more than a server can do for a time: as many are under way as are let in, and each takes as long as
// it takes to work off the queue before it. It returns the latency of the last.
func (q queueing) overload(b *Breaker, load *Load, from int64, lasting time.Duration) (latency time.Duration) {
	for now := from; now < from+int64(lasting); {
		n := 0
		for n < 4000 && b.Begin(load) == NoBound {
			n++
		}
		rounds := int(math.Ceil(float64(n) / float64(q.workers)))
		latency = time.Duration(rounds) * q.work
		now += int64(latency)
		for i := range n {
			b.End(load, now, time.Duration(i/q.workers+1)*q.work)
		}
	}
	return latency
}

func TestAdaptive(t *testing.T) {
	fast := queueing{workers: 50, work: 10 * time.Millisecond}
	b, load := NewBreaker(Limits{Adaptive: true, EndpointRequests: 2000}), &Load{}
	now := epoch
	run := func(q queueing, lasting time.Duration) uint32 {
		q.overload(b, load, now, lasting)
		now += int64(lasting)
		return load.Concurrency()
	}
	first := run(fast, time.Minute)
	if first < 50 || first > 250 {
		t.Errorf("%d are let in to a server of 50", first)
	}
	slow := run(queueing{workers: 5, work: 40 * time.Millisecond}, 30*time.Second)
	if slow > first/3 || slow < leastLimit {
		t.Errorf("%d are let in where it was %d and all takes four times as long for a tenth as many", slow, first)
	}
	again := run(fast, 3*time.Minute)
	if again < 50 {
		t.Errorf("%d are let in to a server that has recovered", again)
	}
	dead := run(queueing{workers: 1, work: 200 * time.Millisecond}, 20*time.Minute)
	if dead < leastLimit || dead > again/5 {
		t.Errorf("%d are let in to a server that does next to nothing, %d before", dead, again)
	}
}

func TestAnAdaptiveLimitKeepsItsBounds(t *testing.T) {
	random := seeded(7)
	for most := uint32(1); most < 40; most += 3 {
		var a Adaptive
		now := epoch
		for range 20_000 {
			now += int64(random.IntN(int(100 * time.Millisecond)))
			a.Sample(now, time.Duration(random.Int64N(int64(time.Duration(1)<<random.IntN(40)))), int64(1+random.IntN(2000)), most)
			if now > epoch+int64(30*time.Second) && (a.Limit() < leastLimit || a.Limit() > most) {
				t.Fatalf("limit %d, at most %d", a.Limit(), most)
			}
		}
	}
}

func TestFewRequestsDoNotRaiseTheAdaptiveLimit(t *testing.T) {
	var a Adaptive
	for i := range int64(10_000) {
		a.Sample(epoch+i*int64(10*time.Millisecond), time.Millisecond, 3, 0)
	}
	if a.Limit() != firstLimit {
		t.Errorf("limit %d", a.Limit())
	}
}

func TestAdaptiveSamplesAtOnce(t *testing.T) {
	var a Adaptive
	var over sync.WaitGroup
	for range 8 {
		over.Go(func() {
			for i := range int64(10_000) {
				a.Sample(epoch+i*int64(time.Millisecond), time.Millisecond, int64(a.Limit()), 60)
			}
		})
	}
	over.Wait()
	if a.Limit() <= firstLimit || a.Limit() > 60 {
		t.Errorf("limit %d", a.Limit())
	}
}
