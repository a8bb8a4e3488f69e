// SPDX-License-Identifier: Apache-2.0

//go:build !race

package balance

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

func TestFewKeysMoveAmongThousands(t *testing.T) {
	for n, spread := range map[int]float64{640: .25, 650: .25, 1000: .25, 3249: .3, 3250: .3, 30000: .7} {
		t.Run(strconv.Itoa(n)+" endpoints", func(t *testing.T) { fewKeysMove(t, n, spread) })
	}
}

func TestPicksDoNotAllocate(t *testing.T) {
	cases := map[string]struct {
		options Options
		out     int // how many are ejected
		tried   int // how many are avoided
		busy    int // how many requests those of the near tier have under way
	}{
		"when all are well":          {},
		"in zones":                   {options: Options{Zone: "a"}},
		"when a zone is busy":        {options: Options{Zone: "a"}, busy: crowd},
		"when some are ejected":      {out: 30},
		"when nearly all are":        {out: 98},
		"in panic":                   {out: 60, options: Options{PanicPercent: 50}},
		"when some were tried":       {tried: 3, out: 10},
		"when most are warming up":   {options: Options{SlowStart: time.Hour}},
		"when a trial is to be made": {out: 1, options: Options{SlowStart: time.Nanosecond}},
	}
	for name, c := range cases {
		for policy, p := range policies {
			t.Run(name+" by "+policy, func(t *testing.T) {
				o := c.options
				o.Policy = p
				m := zoned(map[string]int{"a": 50, "b": 50})
				s := set(o, slices.Clone(m[:10])...).Next(o, slices.Clone(m), nil, start)
				for i := range c.out {
					s.ready[i].State.Eject(start, 100)
				}
				for range c.out { // which takes their trials away
					s.Pick(ask(start))
				}
				var tried []*upstream.Endpoint
				for _, m := range m[:c.tried] {
					tried = append(tried, m.Endpoint)
				}
				for _, m := range s.near.members {
					for range c.busy {
						m.Endpoint.Begin()
					}
				}
				now := start
				if allocs := testing.AllocsPerRun(200, func() {
					now += int64(time.Millisecond)
					pick, _ := s.Pick(ask(now, tried...))
					pick.Done(Outcome(now/int64(time.Millisecond)%int64(Abandoned+1)), time.Second, now)
					if pick.Trial {
						pick.State.Eject(now, 100)
					}
				}); allocs != 0 {
					t.Errorf("%v allocations a pick, want 0", allocs)
				}
			})
		}
	}
}
