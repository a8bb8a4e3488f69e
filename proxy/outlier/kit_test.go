// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gates is a cluster's ejections without a picker.
type gates struct {
	mu  sync.Mutex
	all []*gate
	out int
}

type gate struct {
	of    *gates
	out   bool
	gone  bool
	until int64
	times int
}

func (g *gate) Eject(until int64, maxPercent int) bool {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	if g.gone || !g.out && g.of.out >= max(1, len(g.of.all)*maxPercent/100) {
		return false
	}
	if !g.out {
		g.of.out++
	}
	g.out, g.until = true, until
	g.times++
	return true
}

func (g *gate) Restore() {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	if g.out {
		g.out = false
		g.of.out--
	}
}

func (g *gate) Ejected() bool {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	return g.out
}

// world is a cluster with a clock of its own.
type world struct {
	*Cluster
	now     int64
	members []*Member
	gates   []*gate
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// newWorld makes a cluster of n endpoints in which chance never shortens an ejection.
func newWorld(n int, config *Config) *world {
	w := &world{Cluster: NewCluster(config, func() uint64 { return 0 }), now: epoch}
	of := &gates{}
	for range n {
		g := &gate{of: of}
		of.all = append(of.all, g)
		w.gates, w.members = append(w.gates, g), append(w.members, w.Add(g))
	}
	return w
}

func (w *world) pass(d time.Duration) { w.now += int64(d) }

// end ends tries of an endpoint, all the same way.
func (w *world) end(i int, o Outcome, times int) {
	for range times {
		w.Report(w.members[i], Result{Now: w.now, Outcome: o, Latency: time.Millisecond})
	}
}

// try lets the ejection pass and ends the trial.
func (w *world) try(i int, o Outcome) {
	w.now = max(w.now, w.gates[i].until)
	w.Report(w.members[i], Result{Now: w.now, Outcome: o, Latency: time.Millisecond, Trial: true})
}

// left is for how long an endpoint is ejected yet; 0: it is not.
func (w *world) left(i int) time.Duration {
	if !w.gates[i].Ejected() {
		return 0
	}
	return time.Duration(w.gates[i].until - w.now)
}

// seeded is a source of random numbers that is the same in every run.
func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
