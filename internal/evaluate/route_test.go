// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func weights(w ...uint32) []*meshconfig.WeightedBackend {
	var out []*meshconfig.WeightedBackend
	for i, weight := range w {
		out = append(out, &meshconfig.WeightedBackend{Name: string(rune('a' + i)), Weight: weight})
	}
	return out
}

func TestPickTakesEachBackendByItsShare(t *testing.T) {
	cases := map[string][]uint32{
		"one backend":              {7},
		"a canary":                 {90, 10},
		"a weight of 0":            {0, 5, 0, 5, 0},
		"one in a million":         {999_999, 1},
		"as many as there can be":  {1_000_000, 1_000_000, 1, 3, 1_000_000, 12},
		"weights that do not fit":  {1, 1, 1},
		"a zero at the end":        {3, 0},
		"many backends of a third": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
	}
	for name, w := range cases {
		t.Run(name, func(t *testing.T) {
			s, err := newSplit(weights(w...))
			if err != nil {
				t.Fatal(err)
			}
			// The inverse of the map: the first random number that takes a backend is ceil(2^64 * sum before it / total).
			var before, total uint64
			for _, x := range w {
				total += uint64(x)
			}
			for i, x := range w {
				if x > 0 {
					first := uint64(math.Ceil(math.Ldexp(float64(before)/float64(total), 52))) << 12
					if got := s.Pick(first + 1<<20); got != i {
						t.Errorf("backend %d begins at %x, there is %d", i, first, got)
					}
				}
				before += uint64(x)
				if got := s.Pick(math.MaxUint64); x > 0 && before == total && got != i {
					t.Errorf("the last backend is %d, want %d", got, i)
				}
			}
			if got := s.Pick(0); w[got] == 0 {
				t.Errorf("0 takes backend %d of weight 0", got)
			}
		})
	}
}

func TestPickIsUnbiased(t *testing.T) {
	s, err := newSplit(weights(900_000, 99_000, 1_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	const n = 1_000_000
	counts := make([]float64, 4)
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		counts[s.Pick(r.Uint64())]++
	}
	for i, p := range []float64{0.9, 0.099, 0.001, 0} {
		if sigma := math.Sqrt(n * p * (1 - p)); math.Abs(counts[i]-n*p) > 5*sigma {
			t.Errorf("backend %d got %.0f of %d, want %.0f +- %.0f", i, counts[i], n, n*p, 5*sigma)
		}
	}
}

func TestPickOfNothing(t *testing.T) {
	s, err := newSplit(weights(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Pick(1); got != -1 {
		t.Errorf("got %d, want -1", got)
	}
}

func testPort() *meshconfig.ServicePort {
	return &meshconfig.ServicePort{
		Port: 80,
		Routes: []*meshconfig.Route{
			{Name: "items", Matches: []*meshconfig.Match{path(exact, "/x"), path(prefix, "/cart/items")}, RequestTimeout: 1500},
			{Name: "cart", Matches: []*meshconfig.Match{path(prefix, "/cart")}},
		},
		Rules: []*meshconfig.SplitRule{{
			Name: "testers", Backends: weights(0, 1),
			Matches: []*meshconfig.Match{header(meshconfig.HeaderMatch_TYPE_REGEX, "x-user", "test-.*")},
		}},
		Backends: weights(90, 10),
	}
}

func TestRoute(t *testing.T) {
	router, err := NewRouter(testPort())
	if err != nil {
		t.Fatal(err)
	}
	tester := &HeaderList{{"x-user", "ann"}, {"x-user", "test-1"}}
	cases := map[string]struct {
		request Request
		want    Choice
	}{
		"the first route that matches wins":       {Request{Path: "/cart/items/1"}, Choice{Route: router.routes[0], Prefix: "/cart/items", Split: router.split}},
		"a route further down matches the rest":   {Request{Path: "/cart"}, Choice{Route: router.routes[1], Prefix: "/cart", Split: router.split}},
		"what matches no route has no name":       {Request{Path: "/"}, Choice{Route: Unrouted(), Split: router.split}},
		"any match of a route is enough":          {Request{Path: "/x"}, Choice{Route: router.routes[0], Split: router.split}},
		"a rule has its own split, beside routes": {Request{Path: "/cart", Headers: tester}, Choice{Route: router.routes[1], Prefix: "/cart", RuleName: "testers", Split: router.rules[0].split}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := router.Route(&c.request); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if n := testing.AllocsPerRun(50, func() { router.Route(&c.request).Split.Pick(42) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
	if got := router.Connection(); got != (Choice{Route: Unrouted(), Split: router.split}) {
		t.Errorf("a connection gets %+v", got)
	}
}

func TestNewRouterRefuses(t *testing.T) {
	cases := map[string]struct {
		change func(*meshconfig.ServicePort)
		want   string
	}{
		"no backends":               {func(p *meshconfig.ServicePort) { p.Backends = nil }, "0 backends"},
		"a weight over a million":   {func(p *meshconfig.ServicePort) { p.Backends[0].Weight = 1_000_001 }, "weight 1000001"},
		"a rule without backends":   {func(p *meshconfig.ServicePort) { p.Rules[0].Backends = nil }, `rule "testers": 0 backends`},
		"a broken match of a rule":  {func(p *meshconfig.ServicePort) { p.Rules[0].Matches[0].Headers[0].Value = "(" }, `rule "testers": matches[0].headers[0]: not an RE2`},
		"a broken match of a route": {func(p *meshconfig.ServicePort) { p.Routes[0].Matches[1].Path.Value = "" }, `route "items": matches[1].path "": not a path`},
		"a timeout below 0":         {func(p *meshconfig.ServicePort) { p.Routes[1].RequestTimeout = -1 }, "below 0"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			port := testPort()
			c.change(port)
			if _, err := NewRouter(port); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}

func BenchmarkRoute(b *testing.B) {
	router, err := NewRouter(testPort())
	if err != nil {
		b.Fatal(err)
	}
	request := &Request{Method: "GET", Path: "/cart/items/1", Headers: &HeaderList{{"x-user", "ann"}}}
	b.ReportAllocs()
	for b.Loop() {
		router.Route(request).Split.Pick(42)
	}
}
