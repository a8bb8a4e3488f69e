// SPDX-License-Identifier: Apache-2.0

//go:build !race

package simulation

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// What all worlds have in common.
const (
	endpoints = 100
	proxies   = 6
	rate      = 2000 // requests a second, of all proxies: 40 % of what the endpoints can do
	workers   = 2    // of an endpoint
	service   = 40 * time.Millisecond
	patience  = time.Second      // of a timeout or a caller; what fails counts as this long
	trouble   = 5 * time.Second  // when it begins
	end       = 25 * time.Second // what begins between is counted
)

// answer is how an endpoint behaves.
type answer struct {
	slowness float64 // how many times the service takes
	fails    bool    // 503 after a millisecond
	silent   bool    // nothing ever comes
}

// scenario is what goes wrong.
type scenario struct {
	name, title string
	// bad says which endpoints are the cause, and behave how, at a time since the start.
	bad     func(i int) bool
	behave  func(at time.Duration) answer
	zones   bool // endpoints and proxies are in three zones
	small   int  // how many endpoints zone a has; 0: as many as the others
	late    bool // the bad ones come when the trouble begins
	leave   bool // there is no timeout: callers give up by themselves
	cap     int  // percent of endpoints that may be ejected; 0: the default
	asserts map[string]limits
}

// setup is what is compared.
type setup struct {
	name     string
	policy   meshconfig.BalancingPolicy
	defended bool // with ejection, panic, slow start and zones
}

// figures are what came of it. Latencies are those of all requests, failed ones as long as the callers' patience.
type figures struct {
	failed         float64 // share
	p50, p99, p999 time.Duration
	bad            float64 // share of the requests that went to the bad ones, of what an even share would be
	near           float64 // share of the requests that went to the caller's zone
}

// event is something that happens at a time.
type event struct {
	at time.Duration
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// world is a scenario that is played with a setup.
type world struct {
	scenario scenario
	setup    setup
	random   *rand.Rand
	start    time.Time
	now      time.Duration
	events   events
	servers  [endpoints]server
	proxies  [proxies]proxy

	latencies           []time.Duration
	failed, onBad, near int
	bad                 int // how many are
}

// server is an endpoint: when each of its workers is free.
type server struct{ free [workers]time.Duration }

// proxy is a caller.
type proxy struct {
	zone     string
	options  balance.Options
	registry *upstream.Registry
	set      *balance.Set
	cluster  *outlier.Cluster
}

// play plays a scenario.
func play(t *testing.T, s scenario, setup setup) figures {
	t.Helper()
	var f figures
	synctest.Test(t, func(*testing.T) {
		w := &world{scenario: s, setup: setup, random: rand.New(rand.NewPCG(1, 2)), start: time.Now()}
		w.prepare()
		for len(w.events) > 0 {
			next := heap.Pop(&w.events).(event)
			if d := time.Until(w.start.Add(next.at)); d > 0 {
				time.Sleep(d) // in virtual time
			}
			w.now = next.at
			next.do()
		}
		f = w.figures()
	})
	return f
}

func (w *world) at(at time.Duration, do func()) { heap.Push(&w.events, event{at, do}) }

func (w *world) unix(at time.Duration) int64 { return w.start.Add(at).UnixNano() }

func (w *world) prepare() {
	for i := range endpoints {
		if w.scenario.bad(i) {
			w.bad++
		}
	}
	for i := range w.proxies {
		p := &w.proxies[i]
		p.registry = upstream.NewRegistry(upstream.Options{})
		p.zone, p.options = zone(i), balance.Options{Policy: w.setup.policy}
		if w.setup.defended {
			config := outlier.Defaults()
			if w.scenario.cap > 0 {
				config.MaxEjectedPercent = w.scenario.cap
			}
			p.cluster = outlier.NewCluster(config, w.random.Uint64)
			p.options.PanicPercent, p.options.SlowStart = int(meshconfig.DefaultOutlier().GetPanicPercent()), 10*time.Second
			p.options.Attach = func(s *balance.State) any { return p.cluster.Add(s) }
			if w.scenario.zones {
				p.options.Zone = p.zone
			}
		}
		p.set = new(balance.Set).Next(p.options, w.members(p, !w.scenario.late), nil, w.unix(0))
		w.at(w.gap(), func() { w.call(p) })
	}
	if w.scenario.late {
		w.at(trouble, func() {
			for i := range w.proxies {
				p := &w.proxies[i]
				p.set = p.set.Next(p.options, w.members(p, true), nil, w.unix(w.now))
			}
		})
	}
}

func zone(i int) string { return string(rune('a' + i%3)) }

// zone is that of an endpoint.
func (s *scenario) zone(i int) string {
	if s.small == 0 {
		return zone(i)
	}
	if i < s.small {
		return "a"
	}
	return string(rune('b' + i%2))
}

// members are a proxy's, with or without the bad ones.
func (w *world) members(p *proxy, all bool) []balance.Member {
	var list []balance.Member
	for i := range endpoints {
		if all || !w.scenario.bad(i) {
			address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
			list = append(list, balance.Member{Endpoint: p.registry.Acquire(upstream.Key{Address: address}), Zone: w.scenario.zone(i)})
		}
	}
	return list
}

// gap is the time between two requests of a proxy: as they come, whatever became of those before.
func (w *world) gap() time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(time.Second) * proxies / rate)
}

// call sends a request, and sees to the next.
func (w *world) call(p *proxy) {
	if w.now >= end {
		return
	}
	w.at(w.now+w.gap(), func() { w.call(p) })
	key := balance.Hash(string(rune(w.random.IntN(10000))))
	began := w.now
	pick, ok := p.set.Pick(balance.Ask{Now: w.unix(w.now), Random: w.random.Uint64(), Hash: key, Hashed: true})
	if !ok {
		w.count(began, patience, true, -1, p)
		return
	}
	i := int(pick.Endpoint.Address.Addr().As4()[3])
	outcome, latency := w.serve(i)
	w.at(w.now+latency, func() {
		if member, ok := pick.State.Attach.(*outlier.Member); ok {
			p.cluster.Report(member, outlier.Result{Now: w.unix(w.now), Outcome: outcome, Latency: latency, Trial: pick.Trial})
		}
		pick.Done(says(outcome), latency, w.unix(w.now))
		w.count(began, latency, outcome != outlier.Success, i, p)
	})
}

// says is what an outcome means to who balances by latency.
func says(o outlier.Outcome) balance.Outcome {
	switch o {
	case outlier.Success:
		return balance.Success
	case outlier.Abandoned:
		return balance.Abandoned
	default:
		return balance.Failure
	}
}

// serve is what an endpoint does with a request that comes now.
func (w *world) serve(i int) (outlier.Outcome, time.Duration) {
	a := answer{slowness: 1}
	if w.now >= trouble && w.scenario.bad(i) {
		a = w.scenario.behave(w.now)
	}
	late := outlier.Failure
	if w.scenario.leave {
		late = outlier.Abandoned
	}
	switch {
	case a.silent:
		return late, patience
	case a.fails:
		return outlier.Failure, time.Millisecond
	}
	s := &w.servers[i]
	worker := 0
	if s.free[1] < s.free[0] {
		worker = 1
	}
	begins := max(w.now, s.free[worker])
	if begins > w.now+patience {
		return late, patience // it was given up when its turn comes
	}
	ends := begins + time.Duration(w.random.ExpFloat64()*float64(service)*a.slowness)
	s.free[worker] = ends
	if ends > w.now+patience {
		return late, patience
	}
	return outlier.Success, ends - w.now
}

// count takes a request of a proxy into the figures, which went to an endpoint; less than 0: to none.
func (w *world) count(began, latency time.Duration, failed bool, i int, p *proxy) {
	if began < trouble {
		return
	}
	if failed {
		w.failed++
		latency = patience
	}
	if i >= 0 && w.scenario.bad(i) {
		w.onBad++
	}
	if i >= 0 && w.scenario.zone(i) == p.zone {
		w.near++
	}
	w.latencies = append(w.latencies, latency)
}

func (w *world) figures() figures {
	n := len(w.latencies)
	slices.Sort(w.latencies)
	at := func(share float64) time.Duration { return w.latencies[int(share*float64(n))] }
	return figures{
		failed: float64(w.failed) / float64(n), p50: at(.5), p99: at(.99), p999: at(.999),
		bad: float64(w.onBad) / float64(n) / (float64(w.bad) / endpoints), near: float64(w.near) / float64(n),
	}
}
