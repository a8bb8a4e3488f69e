// SPDX-License-Identifier: Apache-2.0

//go:build soak

package soak

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/admin"
	"github.com/heddle-mesh/heddle/test/pair"
)

var (
	heddle   = flag.String("heddle", "bin/heddle", "the CLI, below the repository")
	duration = flag.Duration("duration", time.Minute, "how long there is load")
)

// within is by how much what a proxy holds may grow.
const within = 0.05

// mark is when the first look is.
func mark(d time.Duration) time.Duration {
	if d < 10*time.Minute {
		return d / 3
	}
	return 2 * time.Minute
}

func TestSoak(t *testing.T) {
	m, l := start(t), newLoad()
	first := mark(*duration)
	l.forSo(m, first)
	before := m.held()
	l.forSo(m, *duration-first)
	after := m.held()

	fmt.Printf("== soak of %v, with a look after %v; %d changes of config\n", *duration, first, m.edits)
	for _, kind := range slices.Sorted(maps.Keys(l.done)) {
		fmt.Printf("%-12s %9d done\n", kind, l.done[kind].Load())
		if l.done[kind].Load() == 0 {
			t.Errorf("nothing of %s was done", kind)
		}
	}
	fmt.Printf("%-12s %9d\n", "failed", l.failed.Load())
	if l.failed.Load() > 0 {
		t.Errorf("%d requests failed; the first: %v", l.failed.Load(), l.first)
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		b, a := before[name], after[name]
		fmt.Printf("%-32s goroutines %3d, then %3d; descriptors %3d, then %3d; live KiB %5d, then %5d\n",
			name, b.Goroutines, a.Goroutines, b.Descriptors, a.Descriptors, b.HeapBytes>>10, a.HeapBytes>>10)
		for what, pair := range map[string][2]float64{
			"goroutines":  {float64(b.Goroutines), float64(a.Goroutines)},
			"descriptors": {float64(b.Descriptors), float64(a.Descriptors)},
			"live memory": {float64(b.HeapBytes), float64(a.HeapBytes)},
		} {
			if pair[1] > pair[0]*(1+within) {
				t.Errorf("%s: %s grew from %.0f to %.0f", name, what, pair[0], pair[1])
			}
		}
	}
}

// forSo loads the mesh, and changes it, for so long.
func (l *load) forSo(m *mesh, d time.Duration) {
	stop := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { l.run(m, stop) })
	both.Go(func() { m.churn(stop) })
	<-time.NewTimer(d).C
	close(stop)
	both.Wait()
}

// idleTimeout is how long a proxy keeps connections for later, and a little.
const idleTimeout = 65 * time.Second

// held says what each proxy holds when it has had nothing to do for so long that no connection is kept for later. Before,
// all endpoints leave and come back.
func (m *mesh) held() map[string]admin.Runtime {
	m.Helper()
	m.endpoints(0)
	<-time.NewTimer(time.Second).C
	m.endpoints(2)
	<-time.NewTimer(idleTimeout).C
	out := make(map[string]admin.Runtime)
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, p := range m.proxies() {
		all.Go(func() {
			r, err := idle(m.Context(), p)
			if err != nil {
				m.Errorf("%s: %v", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = r
		})
	}
	all.Wait()
	return out
}

// What carries 1 GiB each way makes no proxy hold more than what carries a little.
func TestAGibibyteEachWay(t *testing.T) {
	const most = 4 << 20
	m := start(t)
	for name, carry := range map[string]func(ctx context.Context, warm func()) error{
		"HTTP/1.1": func(ctx context.Context, warm func()) error { return upload(ctx, client(m.at("web"), false), warm) },
		"HTTP/2":   func(ctx context.Context, warm func()) error { return upload(ctx, client(m.at("api"), true), warm) },
		"TCP":      func(ctx context.Context, warm func()) error { return pipe(ctx, m.at("raw"), warm) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			var memory *pair.Memory
			begun := time.Now()
			err := carry(ctx, func() { memory = pair.WatchMemory(slices.Collect(maps.Values(m.proxies()))...) })
			if err != nil {
				t.Fatal(err)
			}
			grown, told, err := memory.Stop()
			check(t, err)
			fmt.Printf("1 GiB each way over %-8s in %4.1f s; the proxy that grew most did by %4.1f MiB\n",
				name, time.Since(begun).Seconds(), float64(slices.Max(grown))/(1<<20))
			if slices.Max(grown) > most {
				t.Errorf("a proxy grew by more than %d bytes:\n%s", most, told)
			}
		})
	}
}
