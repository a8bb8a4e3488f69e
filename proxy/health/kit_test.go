// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registry makes a registry that is closed with the test.
func registry(t *testing.T, options upstream.Options) *upstream.Registry {
	t.Helper()
	options.Clock = time.Now
	r := upstream.NewRegistry(options)
	t.Cleanup(r.Close)
	return r
}

// acquire holds an endpoint until the test ends.
func acquire(t *testing.T, r *upstream.Registry, key upstream.Key) *upstream.Endpoint {
	t.Helper()
	e := r.Acquire(key)
	t.Cleanup(e.Release)
	return e
}

// piped makes an endpoint whose connections are pipes that are served, each by a goroutine of its own.
func piped(t *testing.T, serve func(net.Conn)) *upstream.Endpoint {
	t.Helper()
	var over sync.WaitGroup
	t.Cleanup(over.Wait)
	r := registry(t, upstream.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		if serve == nil {
			return nil, errors.New("refused")
		}
		near, far := net.Pipe()
		over.Go(func() {
			defer far.Close()
			serve(far)
		})
		return near, nil
	}})
	return acquire(t, r, upstream.Key{Address: netip.MustParseAddrPort("192.0.2.1:80")})
}

// once checks an endpoint with the check's own timeout.
func once(t *testing.T, c *Check, e *upstream.Endpoint) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
	defer cancel()
	return c.Once(ctx, e)
}

// state is what a Checker says of an endpoint.
type state struct{ down, changes atomic.Int32 }

func (s *state) SetDown(isDown bool) {
	s.changes.Add(1)
	s.down.Store(0)
	if isDown {
		s.down.Store(1)
	}
}

// fleet is a cluster whose endpoints are checked without being called.
type fleet struct {
	*testing.T // of the bubble
	*Checker
	check   *Check
	targets []Target
	states  []*state
	suspect []atomic.Bool
	broken  []atomic.Bool

	mu     sync.Mutex
	checks []int // endpoints, in the order in which they were checked
}

// newFleet makes a fleet of n, without a Checker.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := &fleet{suspect: make([]atomic.Bool, n), broken: make([]atomic.Bool, n)}
	r := registry(t, upstream.Options{})
	index := make(map[*upstream.Endpoint]int)
	for i := range n {
		e := acquire(t, r, upstream.Key{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)})
		index[e] = i
		f.states = append(f.states, &state{})
		f.targets = append(f.targets, Target{e, f.states[i], f.suspect[i].Load})
	}
	f.check = &Check{Interval: 10 * time.Second, Timeout: time.Second, Healthy: 2, Unhealthy: 3}
	f.check.once = func(_ *Check, ctx context.Context, e *upstream.Endpoint) error {
		i := index[e]
		f.mu.Lock()
		f.checks = append(f.checks, i)
		f.mu.Unlock()
		if f.broken[i].Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	return f
}

// begin starts a Checker of all.
func (f *fleet) begin(t *testing.T, pace *Pace) {
	t.Helper()
	f.Checker = NewChecker(t.Context(), f.check, pace, seeded())
	f.Update(f.targets)
	t.Cleanup(f.Close)
}

// seeded is a source of random numbers for one goroutine that is the same in every run.
func seeded() func() uint64 { return rand.New(rand.NewPCG(1, 2)).Uint64 }

// bubble runs a test of a fleet in virtual time.
func bubble(t *testing.T, n int, do func(f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, n)
		f.begin(t, NewPace(PerSecond))
		f.T = t
		do(f)
	})
}

// pass lets intervals pass, in each of which so many requests are sent, and returns who was checked meanwhile.
func (f *fleet) pass(intervals, requests int) []int {
	f.mu.Lock()
	before := len(f.checks)
	f.mu.Unlock()
	for range intervals {
		for range requests {
			f.Use()
		}
		time.Sleep(f.check.Interval)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.checks[before:])
}

// out is who is down.
func (f *fleet) out() (out []int) {
	for i, s := range f.states {
		if s.down.Load() == 1 {
			out = append(out, i)
		}
	}
	return out
}

// distinct is how many different ones there are.
func distinct(all []int) int {
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return len(slices.Compact(sorted))
}
