// SPDX-License-Identifier: Apache-2.0

package outlier_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// mesh is a cluster whose endpoints are picked and judged, as the data path does it.
type mesh struct {
	outliers *outlier.Cluster
	options  balance.Options
	all      []*upstream.Endpoint
	set      *balance.Set
	trials   map[*upstream.Endpoint]*atomic.Int32 // under way
}

func newMesh(t *testing.T, n int, config *outlier.Config, random func() uint64) *mesh {
	t.Helper()
	r := upstream.NewRegistry(upstream.Options{Clock: time.Now})
	t.Cleanup(r.Close)
	m := &mesh{outliers: outlier.NewCluster(config, random), trials: make(map[*upstream.Endpoint]*atomic.Int32), set: &balance.Set{}}
	for i := range n {
		key := upstream.Key{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)}
		e := r.Acquire(key)
		t.Cleanup(e.Release)
		m.all, m.trials[e] = append(m.all, e), &atomic.Int32{}
	}
	m.options = balance.Options{PanicPercent: 50, Attach: func(s *balance.State) any { return m.outliers.Add(s) }}
	m.ready(n, epoch)
	return m
}

// ready makes the first n endpoints those that there are.
func (m *mesh) ready(n int, now int64) {
	members := make([]balance.Member, n)
	for i := range members {
		members[i].Endpoint = m.all[i]
	}
	m.set = m.set.Next(m.options, members, nil, now)
}

// try is a request that is under way.
type try struct {
	balance.Pick
	begun int64
}

func (m *mesh) begin(t *testing.T, now int64, random uint64) (try, bool) {
	t.Helper()
	pick, ok := m.set.Pick(balance.Ask{Now: now, Random: random})
	if ok && pick.Trial {
		if n := m.trials[pick.Endpoint].Add(1); n != 1 {
			t.Errorf("%d trials of %v at once", n, pick.Endpoint.Address)
		}
	}
	return try{pick, now}, ok
}

func (m *mesh) end(p *try, outcome outlier.Outcome, now int64) {
	if p.Trial {
		m.trials[p.Endpoint].Add(-1)
	}
	latency := time.Duration(now - p.begun)
	m.outliers.Report(p.State.Attach.(*outlier.Member), outlier.Result{Now: now, Outcome: outcome, Latency: latency, Trial: p.Trial})
	says := balance.Neutral
	switch outcome {
	case outlier.Success:
		says = balance.Success
	case outlier.Failure, outlier.ConnectFailure:
		says = balance.Failure
	default:
	}
	p.Done(says, latency, now)
}

func (m *mesh) ejected() (n int) {
	for _, member := range m.set.Members() {
		if member.State.Ejected() {
			n++
		}
	}
	return n
}

// most is how many of n may be ejected.
func most(n, percent int) int {
	if n < 2 {
		return 0
	}
	return max(1, n*percent/100)
}

// TestPicksWhateverHappens lets endpoints fail, mend, come and go at random. Nobody who is ejected is picked but in
// panic or as its one trial, and never are more ejected than may be.
func TestPicksWhateverHappens(t *testing.T) {
	for seed := range uint64(25) {
		random := rand.New(rand.NewPCG(seed, 6))
		config := outlier.Defaults()
		config.MaxEjectedPercent, config.LatencyFactor, config.MinRequests = 10+random.IntN(60), 300, 10
		m := newMesh(t, 12, config, random.Uint64)
		bad := make(map[*upstream.Endpoint]int) // percent of the requests that fail
		var under []try
		now, n, trials, ejections := epoch, len(m.all), 0, 0
		for range 8000 {
			now += int64(random.IntN(int(50 * time.Millisecond)))
			switch random.IntN(40) {
			case 0:
				bad[m.all[random.IntN(len(m.all))]] = random.IntN(3) * 50
			case 1:
				if random.IntN(10) == 0 {
					n = 1 + random.IntN(len(m.all))
					m.ready(n, now)
				}
			}
			before := m.ejected()
			out := make(map[*upstream.Endpoint]bool)
			for _, member := range m.set.Members() {
				out[member.Endpoint] = member.State.Ejected()
			}
			p, ok := m.begin(t, now, random.Uint64())
			if !ok {
				t.Fatal("nobody was picked")
			}
			if p.Trial {
				trials++
			}
			if out[p.Endpoint] && !p.Trial && !p.Panic {
				t.Fatalf("seed %d: %v is ejected and was picked", seed, p.Endpoint.Address)
			}
			if p.Panic != (before*2 > n) && !p.Trial {
				t.Fatalf("seed %d: panic %v with %d of %d ejected", seed, p.Panic, before, n)
			}
			under = append(under, p)
			for len(under) > 20 || len(under) > 0 && random.IntN(2) == 0 {
				i := random.IntN(len(under))
				p := under[i]
				under = slices.Delete(under, i, i+1)
				outcome := outlier.Outcome(random.IntN(int(outlier.Unrelated)+1)) * outlier.Outcome(random.IntN(2)*random.IntN(2)*random.IntN(2))
				if random.IntN(100) < bad[p.Endpoint] {
					outcome = outlier.Failure + outlier.Outcome(random.IntN(2))
				}
				m.end(&p, outcome, now)
				if after := m.ejected(); after > most(n, config.MaxEjectedPercent) {
					t.Fatalf("seed %d: %d of %d are ejected, at %d %%", seed, after, n, config.MaxEjectedPercent)
				} else if after > 0 {
					ejections++
				}
			}
		}
		if trials == 0 || ejections == 0 {
			t.Errorf("seed %d: %d trials, %d ejections: nothing was shown", seed, trials, ejections)
		}
	}
}

// TestPicksAtOnce does the same from many goroutines, for the race detector, while time passes for all of them.
func TestPicksAtOnce(t *testing.T) {
	var lock sync.Mutex
	source := rand.New(rand.NewPCG(1, 7))
	config := outlier.Defaults()
	config.MaxEjectedPercent, config.MinRequests, config.BaseEjection = 30, 10, 100*time.Millisecond
	m := newMesh(t, 10, config, func() uint64 {
		lock.Lock()
		defer lock.Unlock()
		return source.Uint64()
	})
	var clock, trials atomic.Int64
	clock.Store(epoch)
	var over sync.WaitGroup
	for worker := range uint64(8) {
		over.Go(func() {
			random := rand.New(rand.NewPCG(worker, 8))
			for range 3000 {
				// Little enough that no trial is given up, however long a goroutine is not run.
				p, ok := m.begin(t, clock.Add(int64(random.IntN(int(300*time.Microsecond)))), random.Uint64())
				if !ok {
					t.Error("nobody was picked")
					return
				}
				if p.Trial {
					trials.Add(1)
				}
				outcome := outlier.Success
				if p.Endpoint == m.all[0] || p.Endpoint == m.all[1] && random.IntN(2) == 0 {
					outcome = outlier.Failure
				}
				m.end(&p, outcome, clock.Load())
				if n := m.ejected(); n > 3 {
					t.Errorf("%d are ejected", n)
				}
			}
		})
	}
	over.Wait()
	if trials.Load() == 0 {
		t.Error("there was no trial")
	}
	if counts := m.outliers.Counts(); counts.Passed+counts.Failed > uint64(trials.Load()) || counts.Failed == 0 {
		t.Errorf("%+v of %d trials", counts, trials.Load())
	}
}
