// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

func members(n int) []Member {
	registry := upstream.NewRegistry(upstream.Options{})
	list := make([]Member, n)
	for i := range list {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
		list[i] = Member{Endpoint: registry.Acquire(upstream.Key{Address: address})}
	}
	return list
}

func TestPick(t *testing.T) {
	m := members(4)
	cases := map[string]struct {
		ready, terminating []Member
		failed             *upstream.Endpoint
		want               []Member // every one of which must be picked, and no other
	}{
		"nobody":         {nil, nil, nil, nil},
		"all ready ones": {m, nil, nil, m},
		"one":            {m[:1], nil, nil, m[:1]},
		"terminating ones not while one is ready":     {m[:1], m[1:], nil, m[:1]},
		"terminating ones when none is ready":         {nil, m[1:3], nil, m[1:3]},
		"the failed one not when there are others":    {m, nil, m[2].Endpoint, []Member{m[0], m[1], m[3]}},
		"the other of two":                            {m[:2], nil, m[0].Endpoint, m[1:2]},
		"the failed one when there is no other":       {m[:1], nil, m[0].Endpoint, m[:1]},
		"a terminating one rather than the failed":    {m[:1], m[1:2], m[0].Endpoint, m[1:2]},
		"all when the failed one is not among them":   {m[:3], nil, m[3].Endpoint, m[:3]},
		"a failed one that is terminating among many": {nil, m[:3], m[0].Endpoint, m[1:3]},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			set := NewSet(c.ready, c.terminating)
			seen := map[*upstream.Endpoint]bool{}
			for range 400 {
				pick, ok := set.Pick(rand.Uint64, c.failed)
				if ok != (len(c.want) > 0) {
					t.Fatalf("ok = %v", ok)
				}
				if ok {
					seen[pick.Endpoint] = true
					pick.Done()
				}
			}
			if len(seen) != len(c.want) {
				t.Errorf("picked %d different ones, want %d", len(seen), len(c.want))
			}
			for _, w := range c.want {
				if !seen[w.Endpoint] {
					t.Errorf("never picked %v", w.Endpoint.Address)
				}
			}
		})
	}
}

func TestTheLessBusyOfTwoIsPicked(t *testing.T) {
	m := members(2)
	set := NewSet(m, nil)
	for range 5 {
		m[0].Endpoint.Begin()
	}
	for range 5 {
		if pick, _ := set.Pick(rand.Uint64, nil); pick.Endpoint != m[1].Endpoint {
			t.Fatal("picked the busy one")
		}
	}
	if a, b := m[0].Endpoint.InFlight(), m[1].Endpoint.InFlight(); a != 5 || b != 5 {
		t.Errorf("in flight %d and %d, want 5 and 5", a, b)
	}
}

func TestPicksAreEvenAmongEqualsAndDoNotAllocate(t *testing.T) {
	const n, each = 8, 4000
	set := NewSet(members(n), nil)
	source := rand.New(rand.NewPCG(1, 2))
	counts := map[*upstream.Endpoint]int{}
	for range n * each {
		pick, _ := set.Pick(source.Uint64, nil)
		counts[pick.Endpoint]++
		pick.Done()
	}
	for e, count := range counts {
		if count < each*9/10 || count > each*11/10 {
			t.Errorf("%v was picked %d times of %d, want about %d", e.Address, count, n*each, each)
		}
	}
	random := source.Uint64
	if allocs := testing.AllocsPerRun(100, func() {
		pick, _ := set.Pick(random, nil)
		pick.Done()
	}); allocs != 0 {
		t.Errorf("%v allocations a pick, want 0", allocs)
	}
}
