// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// drawsOf counts what is drawn of n points, one of each n-th of all random numbers.
func drawsOf(n uint64, draw func(uint64) bool) (drawn int) {
	for i := range n {
		if random, _ := bits.Div64(i, 0, n); draw(random + 1) {
			drawn++
		}
	}
	return drawn
}

func faulty(tb testing.TB, faults ...*meshconfig.Fault) *Router {
	tb.Helper()
	router, err := NewRouter(&meshconfig.ServicePort{Backends: weights(1), Faults: faults})
	if err != nil {
		tb.Fatal(err)
	}
	return router
}

func abort(name string, percent uint32, matches ...*meshconfig.Match) *meshconfig.Fault {
	return &meshconfig.Fault{Name: name, Percent: percent, HttpStatus: 503, Matches: matches, ExpiresAt: epoch.UnixMilli()}
}

func TestFault(t *testing.T) {
	below := path(prefix, "/cart")
	early := epoch.Add(-time.Millisecond)
	cases := map[string]struct {
		faults []*meshconfig.Fault
		path   string
		now    time.Time
		random uint64
		want   string
		draws  int
	}{
		"no faults":                           {nil, "/", early, 0, "", 0},
		"a fault of all":                      {[]*meshconfig.Fault{abort("a", 100)}, "/", early, math.MaxUint64, "a", 1},
		"a fault of none":                     {[]*meshconfig.Fault{abort("a", 0)}, "/", early, 0, "", 1},
		"a fault that ends now":               {[]*meshconfig.Fault{abort("a", 100)}, "/", epoch, 0, "", 0},
		"a fault that is over":                {[]*meshconfig.Fault{abort("a", 100)}, "/", epoch.Add(time.Hour), 0, "", 0},
		"a fault that matches":                {[]*meshconfig.Fault{abort("a", 100, path(exact, "/"), below)}, "/cart/1", early, 0, "a", 1},
		"a fault that does not match":         {[]*meshconfig.Fault{abort("a", 100, below)}, "/", early, 0, "", 0},
		"a fault whose share is drawn":        {[]*meshconfig.Fault{abort("a", 10)}, "/", early, math.MaxUint64 / 10, "a", 1},
		"a fault whose share is not drawn":    {[]*meshconfig.Fault{abort("a", 10)}, "/", early, math.MaxUint64/10 + 2, "", 1},
		"the first of two":                    {[]*meshconfig.Fault{abort("a", 100), abort("b", 100)}, "/", early, 0, "a", 1},
		"the second, if the first is not it":  {[]*meshconfig.Fault{abort("a", 100, below), abort("b", 100)}, "/", early, 0, "b", 1},
		"the second, if the first is not due": {[]*meshconfig.Fault{abort("a", 50), abort("b", 100)}, "/", early, math.MaxUint64, "b", 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			draws, got := 0, ""
			if f := faulty(t, c.faults...).Fault(&Request{Path: c.path}, c.now, func() uint64 { draws++; return c.random }); f != nil {
				got = f.Name
			}
			if got != c.want || draws != c.draws {
				t.Errorf("got %q by %d draws, want %q by %d", got, draws, c.want, c.draws)
			}
		})
	}
}

func TestFaultsComeAsOftenAsTheirPercentSays(t *testing.T) {
	for percent := range uint32(101) {
		if got := drawsOf(100, func(random uint64) bool { return drawn(percent, random) }); got != int(percent) {
			t.Errorf("%d %%: %d of 100", percent, got)
		}
	}
	router := faulty(t, abort("a", 10), abort("b", 50), abort("c", 1))
	random := rand.New(rand.NewPCG(15, 16))
	counts := make([]float64, 4)
	for range 200_000 {
		at := 3
		if f := router.Fault(&Request{Path: "/"}, epoch.Add(-time.Hour), random.Uint64); f != nil {
			at = int(f.Name[0] - 'a')
		}
		counts[at]++
	}
	checkShares(t, counts, []float64{0.1, 0.9 * 0.5, 0.45 * 0.01, 0.45 * 0.99})
}

func TestAFaultCarriesWhatTheSectionSays(t *testing.T) {
	all := []*meshconfig.Fault{
		{Name: "a", Percent: 100, Delay: 250, ExpiresAt: 1},
		{Name: "b", Percent: 100, Delay: 250, GrpcStatus: 14, ExpiresAt: 1},
		{Name: "c", Percent: 100, Cut: true, ExpiresAt: 1},
		{Name: "d", Percent: 100, HttpStatus: 503, ExpiresAt: 1},
	}
	want := []Fault{{Name: "a", Delay: 250 * time.Millisecond}, {Name: "b", Delay: 250 * time.Millisecond, GRPCStatus: 14}, {Name: "c", Reset: true}, {Name: "d", HTTPStatus: 503}}
	for i := range all {
		got := faulty(t, all[i]).Fault(&Request{}, time.Time{}, func() uint64 { return 0 })
		if got == nil || got.Name != want[i].Name || got.Delay != want[i].Delay || got.HTTPStatus != want[i].HTTPStatus || got.GRPCStatus != want[i].GRPCStatus || got.Reset != want[i].Reset {
			t.Errorf("got %+v, want %+v", got, want[i])
		}
	}
}

func TestNewFaultRefuses(t *testing.T) {
	cases := map[string]struct {
		change func(*meshconfig.Fault)
		want   string
	}{
		"no end":                      {func(f *meshconfig.Fault) { f.ExpiresAt = 0 }, "expires_at is missing"},
		"a negative end":              {func(f *meshconfig.Fault) { f.ExpiresAt = -1 }, "expires_at is missing"},
		"more than all":               {func(f *meshconfig.Fault) { f.Percent = 101 }, "percent: 101"},
		"nothing to inject":           {func(f *meshconfig.Fault) { f.HttpStatus = 0 }, "neither delay"},
		"two errors":                  {func(f *meshconfig.Fault) { f.Cut = true }, "at most one"},
		"a status that is none":       {func(f *meshconfig.Fault) { f.HttpStatus = 100 }, "http_status: 100"},
		"a status beyond HTTP":        {func(f *meshconfig.Fault) { f.HttpStatus = 600 }, "http_status: 600"},
		"a status beyond gRPC":        {func(f *meshconfig.Fault) { f.HttpStatus, f.GrpcStatus = 0, 17 }, "grpc_status: 17"},
		"a negative delay":            {func(f *meshconfig.Fault) { f.Delay = -1 }, "delay: -1"},
		"a match that is broken":      {func(f *meshconfig.Fault) { f.Matches = []*meshconfig.Match{hosts("*")} }, "matches[0].hosts[0]"},
		"a broken regular expression": {func(f *meshconfig.Fault) { f.Matches = []*meshconfig.Match{path(regex, "(")} }, "matches[0].path"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := abort("a/b/c", 1)
			c.change(f)
			if _, err := NewRouter(&meshconfig.ServicePort{Backends: weights(1), Faults: []*meshconfig.Fault{f}}); err == nil || !strings.Contains(err.Error(), `fault "a/b/c": `) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that holds %q", err, c.want)
			}
		})
	}
}

func BenchmarkFault(b *testing.B) {
	request := &Request{Method: "GET", Path: "/cart/items/42"}
	for name, router := range map[string]*Router{
		"none": faulty(b), "one of 10 %": faulty(b, abort("a", 10, path(prefix, "/cart"))),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				router.Fault(request, epoch.Add(-time.Hour), rand.Uint64)
			}
		})
	}
}
