// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

func TestPick(t *testing.T) {
	m := members(5)
	avoid := func(list ...Member) []*upstream.Endpoint {
		var endpoints []*upstream.Endpoint
		for _, m := range list {
			endpoints = append(endpoints, m.Endpoint)
		}
		return endpoints
	}
	cases := map[string]struct {
		ready, terminating []Member
		ejected, down      []int // of the ready ones
		panicAt            int
		avoid              []*upstream.Endpoint
		want               []Member // every one of which must be picked, and no other
		panics             bool
	}{
		"nobody":         {},
		"all ready ones": {ready: m, want: m},
		"one":            {ready: m[:1], want: m[:1]},
		"terminating ones not while one is ready":               {ready: m[:1], terminating: m[1:], want: m[:1]},
		"terminating ones when none is ready":                   {terminating: m[1:3], want: m[1:3]},
		"the failed one not when there are others":              {ready: m, avoid: avoid(m[2]), want: []Member{m[0], m[1], m[3], m[4]}},
		"none of several that were tried":                       {ready: m, avoid: avoid(m[2], m[0], m[4]), want: []Member{m[1], m[3]}},
		"all when all were tried":                               {ready: m[:2], avoid: avoid(m[1], m[0]), want: m[:2]},
		"the other of two":                                      {ready: m[:2], avoid: avoid(m[0]), want: m[1:2]},
		"the failed one when there is no other":                 {ready: m[:1], avoid: avoid(m[0]), want: m[:1]},
		"a terminating one rather than the failed":              {ready: m[:1], terminating: m[1:2], avoid: avoid(m[0]), want: m[1:2]},
		"all when the failed one is not among them":             {ready: m[:3], avoid: avoid(m[3]), want: m[:3]},
		"a failed one that is terminating among many":           {terminating: m[:3], avoid: avoid(m[0]), want: m[1:3]},
		"terminating ones when all were tried":                  {terminating: m[:2], avoid: avoid(m[:2]...), want: m[:2]},
		"no ejected one":                                        {ready: m, ejected: []int{1, 3}, want: []Member{m[0], m[2], m[4]}},
		"none that is down":                                     {ready: m, down: []int{0, 1, 2, 3}, want: m[4:]},
		"none that is both":                                     {ready: m, ejected: []int{0}, down: []int{0, 1}, want: m[2:]},
		"the tried one rather than an ejected one":              {ready: m[:2], ejected: []int{0}, avoid: avoid(m[1]), want: m[1:2]},
		"a terminating one rather than an ejected one":          {ready: m[:1], terminating: m[1:2], ejected: []int{0}, want: m[1:2]},
		"nobody when all are ejected and there is no panic":     {ready: m[:3], ejected: []int{0, 1, 2}},
		"all when too few are eligible":                         {ready: m, ejected: []int{0, 1, 2}, panicAt: 50, want: m, panics: true},
		"the eligible ones when just enough are":                {ready: m, ejected: []int{0, 1, 2}, panicAt: 40, want: m[3:]},
		"all but the tried when too few are eligible":           {ready: m, ejected: []int{0, 1, 2}, panicAt: 50, avoid: avoid(m[0], m[3]), want: []Member{m[1], m[2], m[4]}, panics: true},
		"all when none is eligible, with any panic threshold":   {ready: m, down: []int{0, 1, 2, 3, 4}, panicAt: 1, want: m, panics: true},
		"an endpoint that is listed twice counts as ready once": {ready: []Member{m[0], m[1], m[0]}, terminating: []Member{m[1]}, want: m[:2]},
	}
	for name, c := range cases {
		for policy, p := range policies {
			t.Run(name+" by "+policy, func(t *testing.T) {
				set := new(Set).Next(Options{Policy: p, PanicPercent: c.panicAt}, slices.Clone(c.ready), slices.Clone(c.terminating), start)
				for _, i := range c.ejected {
					if !set.ready[i].State.Eject(start+second, 100) {
						t.Fatal("not ejected")
					}
				}
				for _, i := range c.down {
					set.ready[i].State.SetDown(true)
				}
				seen := map[*upstream.Endpoint]bool{}
				for range 400 {
					pick, ok := set.Pick(ask(start, c.avoid...))
					if ok != (len(c.want) > 0) {
						t.Fatalf("ok = %v", ok)
					}
					if ok {
						if pick.Panic != c.panics || pick.Trial {
							t.Fatalf("panic %v, trial %v", pick.Panic, pick.Trial)
						}
						seen[pick.Endpoint] = true
						pick.Done(Success, time.Millisecond, start)
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
}

func TestPicksAreEvenAmongEquals(t *testing.T) {
	const n, each = 8, 4000
	for policy, p := range policies {
		t.Run(policy, func(t *testing.T) {
			s := set(Options{Policy: p}, members(n)...)
			s.ready[0].State.Eject(start+second, 100)
			for e, got := range count(t, s, (n-1)*each, func() Ask { return ask(start) }) {
				if got < each*9/10 || got > each*11/10 {
					t.Errorf("%v was picked %d times of %d, want about %d", e.Address, got, (n-1)*each, each)
				}
			}
		})
	}
}

func TestTheLessBusyOfTwoIsPicked(t *testing.T) {
	for _, policy := range []string{"LeastRequest", "PeakEWMA"} {
		s := set(Options{Policy: policies[policy]}, members(2)...)
		busy, idle := s.ready[0].Endpoint, s.ready[1].Endpoint
		for range 5 {
			busy.Begin()
		}
		for range 5 {
			pick, _ := s.Pick(ask(start))
			if pick.Endpoint != idle {
				t.Fatalf("%s picked the busy one", policy)
			}
			pick.Done(Success, time.Millisecond, start)
		}
		if a, b := busy.InFlight(), idle.InFlight(); a != 5 || b != 0 {
			t.Errorf("in flight %d and %d, want 5 and 0", a, b)
		}
	}
}

func TestRoundRobinTakesTurns(t *testing.T) {
	s := set(Options{Policy: policies["RoundRobin"]}, members(7)...)
	var turns []*upstream.Endpoint
	for range 21 {
		pick, _ := s.Pick(ask(start))
		turns = append(turns, pick.Endpoint)
	}
	for i := 7; i < len(turns); i++ {
		if turns[i] != turns[i-7] || slices.Contains(turns[i-6:i], turns[i]) {
			t.Fatalf("turn %d is out of order", i)
		}
	}
}

func TestOneTrialAfterAnEjection(t *testing.T) {
	s := set(Options{}, members(3)...)
	bad := s.ready[1].State
	bad.Eject(start+second, 100)
	picked := func(now int64, avoid ...*upstream.Endpoint) Pick {
		pick, ok := s.Pick(ask(now, avoid...))
		if !ok {
			t.Fatal("nobody was picked")
		}
		return pick
	}
	nobody := func(when string, now int64, avoid ...*upstream.Endpoint) {
		t.Helper()
		for range 100 {
			if pick := picked(now, avoid...); pick.Trial || pick.State == bad {
				t.Fatal(when + ": it was picked")
			}
		}
	}
	nobody("while it is ejected", start+second-1)
	nobody("as a second try", start+second, s.ready[0].Endpoint)
	trial := picked(start + second)
	if !trial.Trial || trial.State != bad {
		t.Fatal("no trial when the ejection is over")
	}
	nobody("during the trial", start+second)
	trial.Done(Neutral, 0, start+2*second)
	if again := picked(start + 2*second); !again.Trial {
		t.Fatal("no trial after one that showed nothing")
	}
	nobody("during the second trial", start+3*second)
	if lost := picked(start + 2*second + int64(trialTime)); !lost.Trial {
		t.Fatal("no trial after one that nobody judged")
	}
	bad.Eject(start+100*second, 0)
	nobody("after a trial that failed", start+99*second)
	bad.SetDown(true)
	nobody("while checks fail", start+100*second)
	bad.SetDown(false)
	if last := picked(start + 100*second); !last.Trial {
		t.Fatal("no trial after checks pass")
	}
	bad.Restore()
	if s.Healthy() != 3 || bad.Ejected() {
		t.Error("it is not restored")
	}
}

func TestTheEjectedShareIsCapped(t *testing.T) {
	cases := map[string]struct {
		n       int
		percent int
		want    int
	}{
		"half of ten":            {10, 50, 5},
		"rounded down":           {10, 39, 3},
		"one of a few":           {3, 10, 1},
		"none of nobody else":    {1, 50, 0},
		"the only one, if asked": {1, 100, 1},
		"none":                   {10, 0, 0},
		"all":                    {10, 100, 10},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := set(Options{}, members(c.n)...)
			got := 0
			for _, m := range s.ready {
				if m.State.Eject(start+second, c.percent) {
					got++
				}
			}
			if got != c.want || s.Healthy() != c.n-c.want {
				t.Errorf("%d were ejected and %d are healthy, want %d ejected", got, s.Healthy(), c.want)
			}
		})
	}
}

func TestStatesAreCarriedOver(t *testing.T) {
	m := members(6)
	made := 0
	o := Options{Attach: func(*State) any { made++; return made }}
	s := new(Set).Next(o, slices.Clone(m[:5]), slices.Clone(m[5:]), start)
	states := map[*upstream.Endpoint]*State{}
	for _, m := range s.Members() {
		states[m.Endpoint] = m.State
	}
	for i, m := range s.ready[:3] {
		m.State.Eject(start+int64(i+1)*second, 60)
	}
	gone := s.ready[4].State
	next := s.Next(o, slices.Clone(m[1:4]), slices.Clone(m[:1]), start+1)
	for _, m := range next.Members() {
		if m.State != states[m.Endpoint] || m.State.Attach == nil {
			t.Errorf("%v has another state", m.Endpoint.Address)
		}
	}
	if made != 6 {
		t.Errorf("%d states were made, want 6", made)
	}
	// Of three that were ejected one is terminating, and of the others three members bear but one.
	if next.Healthy() != 2 || next.ready[0].State.Ejected() || !next.ready[1].State.Ejected() {
		t.Errorf("%d are healthy, want 2, without the one that is ejected for the longest", next.Healthy())
	}
	if gone.Eject(start+second, 100) || next.going.members[0].State.Eject(start+second, 100) {
		t.Error("one that is not ready was ejected")
	}
	gone.SetDown(true)
	if next.Healthy() != 2 {
		t.Error("one that is gone counts")
	}
	next.ready[0].State.SetDown(true)
	if next.Healthy() != 1 {
		t.Error("one that is down does not count")
	}
	if again := next.Next(o, slices.Clone(m), nil, start+2); again.Ready() != 6 || again.Healthy() != 4 || made != 8 {
		t.Errorf("%d are ready and %d healthy, %d states were made; want 6, 4 and 8", again.Ready(), again.Healthy(), made)
	}
}
