// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestZones(t *testing.T) {
	down := func(zone string, n int) map[string]int { return map[string]int{zone: n} }
	cases := map[string]struct {
		zones  map[string]int // how many are in each
		down   map[string]int // how many of those are
		caller string
		hints  map[string][]string // of the endpoints of a zone
		want   map[string]float64  // each zone's share of the requests
	}{
		"the caller's zone alone":                   {zones: map[string]int{"a": 5, "b": 10, "c": 20}, caller: "a", want: map[string]float64{"a": 1}},
		"one of many is enough when it is healthy":  {zones: map[string]int{"a": 1, "b": 30}, caller: "a", want: map[string]float64{"a": 1}},
		"everybody when the caller has no zone":     {zones: map[string]int{"a": 5, "b": 15}, want: map[string]float64{"a": .25, "b": .75}},
		"everybody when nobody is near":             {zones: map[string]int{"b": 5, "c": 15}, caller: "a", want: map[string]float64{"b": .25, "c": .75}},
		"the caller's zone while most are eligible": {zones: map[string]int{"a": 10, "b": 10}, down: down("a", 2), caller: "a", want: map[string]float64{"a": 1}},
		"others get what too few near ones cannot take": {
			zones: map[string]int{"a": 10, "b": 10, "c": 30}, down: down("a", 5), caller: "a",
			want: map[string]float64{"a": .7, "b": .075, "c": .225},
		},
		"others by how many are eligible": {
			zones: map[string]int{"a": 10, "b": 10, "c": 10}, down: map[string]int{"a": 10, "b": 5}, caller: "a",
			want: map[string]float64{"b": 1. / 3, "c": 2. / 3},
		},
		"all near ones are called when nobody else is eligible": {
			zones: map[string]int{"a": 10, "b": 10}, down: map[string]int{"a": 8, "b": 10}, caller: "a", want: map[string]float64{"a": 1},
		},
		"hints instead of zones": {
			zones: map[string]int{"a": 5, "b": 5, "c": 10}, caller: "a",
			hints: map[string][]string{"a": {"b"}, "b": {"a"}, "c": {"b", "a"}}, want: map[string]float64{"b": 1. / 3, "c": 2. / 3},
		},
		"no hints when one endpoint lacks them": {
			zones: map[string]int{"a": 5, "b": 5}, caller: "a", hints: map[string][]string{"a": {"b"}}, want: map[string]float64{"a": 1},
		},
		"no hints when none is for the caller's zone": {
			zones: map[string]int{"a": 5, "b": 5}, caller: "a",
			hints: map[string][]string{"a": {"b"}, "b": {"c"}}, want: map[string]float64{"a": 1},
		},
		"everybody when no hint is for the caller's zone, and nobody is in it": {
			zones: map[string]int{"b": 5, "c": 15}, caller: "a",
			hints: map[string][]string{"b": {"c"}, "c": {"b"}}, want: map[string]float64{"b": .25, "c": .75},
		},
	}
	for name, c := range cases {
		for policy, p := range policies {
			if p == meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH {
				continue
			}
			t.Run(name+" by "+policy, func(t *testing.T) {
				const n = 10000
				ready := zoned(map[string]int{"a": c.zones["a"], "b": c.zones["b"], "c": c.zones["c"]})
				for i := range ready {
					ready[i].Hints = c.hints[ready[i].Zone]
				}
				s := set(Options{Policy: p, Zone: c.caller}, ready...)
				left := map[string]int{"a": c.down["a"], "b": c.down["b"], "c": c.down["c"]}
				for _, m := range s.ready {
					if left[m.Zone] > 0 {
						left[m.Zone]--
						m.State.SetDown(true)
					}
				}
				got := map[string]float64{}
				counts := count(t, s, n, func() Ask { return ask(start) })
				for _, m := range s.ready {
					got[m.Zone] += float64(counts[m.Endpoint]) / n
				}
				for _, zone := range []string{"a", "b", "c"} {
					if math.Abs(got[zone]-c.want[zone]) > .025 {
						t.Errorf("zone %s gets %.3f, want %.3f", zone, got[zone], c.want[zone])
					}
				}
			})
		}
	}
}

// What near endpoints do not answer as fast as it comes spills over, by as much.
func TestABusyZoneSpillsOver(t *testing.T) {
	cases := map[string]struct {
		near, far int // how many requests each has under way
		spills    bool
	}{
		"an idle one does not":                          {0, 0, false},
		"one that has few under way does not":           {crowd - 1, 0, false},
		"one that has many does, where others are idle": {crowd, 0, true},
		"one that has not so many more does not":        {3*crowd - 1, 2, false},
		"one that has so many more does":                {3 * crowd, 2, true},
	}
	for name, c := range cases {
		for policy, p := range policies {
			if p == meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH {
				continue
			}
			t.Run(name+" by "+policy, func(t *testing.T) {
				s := set(Options{Policy: p, Zone: "a"}, zoned(map[string]int{"a": 2, "b": 5})...)
				for _, m := range s.ready {
					under := c.far
					if m.Zone == "a" {
						under = c.near
					}
					for range under {
						m.Endpoint.Begin()
					}
				}
				for range 100 {
					pick, _ := s.Pick(ask(start))
					if (zone(pick) == "b") != c.spills {
						t.Fatalf("zone %s was picked", zone(pick))
					}
					pick.Done(Neutral, 0, start)
				}
			})
		}
	}
	lost := set(Options{Zone: "a"}, zoned(map[string]int{"a": 1, "b": 1})...)
	lost.ready[1].State.SetDown(true)
	for range 2 * crowd {
		if pick, _ := lost.Pick(ask(start)); zone(pick) != "a" {
			t.Fatal("an endpoint that is down was picked")
		}
	}
}

func TestALostZoneIsTriedAgain(t *testing.T) {
	s := set(Options{Zone: "a", PanicPercent: 30}, zoned(map[string]int{"a": 5, "b": 5})...)
	for _, m := range s.near.members {
		m.State.Eject(start+second, 60)
	}
	trials := 0
	for range 100 {
		pick, _ := s.Pick(ask(start + second))
		if pick.Trial {
			pick.State.Restore()
			trials++
		}
	}
	if trials != 5 || s.Healthy() != 10 {
		t.Errorf("%d trials and %d healthy, want 5 and 10", trials, s.Healthy())
	}
}

func TestSlowStart(t *testing.T) {
	const olds, n = 9, 20000
	o := Options{SlowStart: 100 * time.Second}
	cases := map[string]struct {
		age  time.Duration
		want float64 // of an old one's share
	}{
		"at first":      {0, .1},
		"at a third":    {time.Second * 100 / 3, .4},
		"at the middle": {50 * time.Second, .55},
		"at the end":    {100 * time.Second, 1},
	}
	for name, c := range cases {
		for policy, p := range policies {
			t.Run(name+" by "+policy, func(t *testing.T) {
				o := o
				o.Policy = p
				ready := members(olds + 1)
				s := set(o, slices.Clone(ready[1:])...).Next(o, ready, nil, start)
				s = s.Next(o, s.Members(), nil, start+second/2) // which changes nothing
				counts := count(t, s, n, func() Ask {
					a := ask(start + int64(c.age))
					a.Hashed = false
					return a
				})
				fresh := float64(counts[ready[0].Endpoint])
				if got := fresh / ((n - fresh) / olds); math.Abs(got-c.want) > .08 {
					t.Errorf("it gets %.3f of what an old one gets, want %.2f", got, c.want)
				}
			})
		}
	}
}

func TestNobodyIsHeldBackWhenAllAreNew(t *testing.T) {
	o := Options{SlowStart: 100 * time.Second, Policy: policies["RoundRobin"]}
	first := set(o, members(4)...)
	replaced := first.Next(o, members(4), nil, start+second)
	returned := first.Next(o, nil, nil, start+second).Next(o, members(4), nil, start+2*second)
	for name, s := range map[string]*Set{"the first ones": first, "all replaced": replaced, "back from none": returned} {
		before := s.near.cursor.Load()
		for range 100 {
			s.Pick(ask(start + 2*second))
		}
		if turns := s.near.cursor.Load() - before; turns != 100 {
			t.Errorf("%s: 100 picks took %d turns", name, turns)
		}
	}
}

func TestOptions(t *testing.T) {
	hash := func(by meshconfig.HashKey_By, name string) *meshconfig.Balancing {
		return &meshconfig.Balancing{Hash: []*meshconfig.HashKey{{By: meshconfig.HashKey_BY_SOURCE_IP}, {By: by, Name: name}}}
	}
	cases := map[string]struct {
		balancing *meshconfig.Balancing
		outlier   *meshconfig.Outlier
		want      Options
		err       string
	}{
		"nothing": {want: Options{Zone: "a", PanicPercent: int(meshconfig.DefaultOutlier().GetPanicPercent())}},
		"all of it": {
			balancing: &meshconfig.Balancing{
				Policy: policies["ConsistentHash"], SlowStart: 1500, Hash: hash(meshconfig.HashKey_BY_COOKIE, "id").GetHash(),
			},
			outlier: &meshconfig.Outlier{PanicPercent: 30},
			want:    Options{Policy: policies["ConsistentHash"], SlowStart: 1500 * time.Millisecond, Zone: "a", PanicPercent: 30},
		},
		"without zones":        {balancing: &meshconfig.Balancing{IgnoreLocality: true}, outlier: &meshconfig.Outlier{}},
		"an unknown policy":    {balancing: &meshconfig.Balancing{Policy: 99}, err: "balancing.policy: 99 is none that is known"},
		"negative slow start":  {balancing: &meshconfig.Balancing{SlowStart: -1}, err: "balancing.slow_start: -1 ms is no duration"},
		"too long slow start":  {balancing: &meshconfig.Balancing{SlowStart: math.MaxInt64}, err: "balancing.slow_start: 9223372036854775807 ms is no duration"},
		"a key without a name": {balancing: hash(meshconfig.HashKey_BY_HEADER, ""), err: "balancing.hash[1].name: is empty"},
		"a key by nothing":     {balancing: hash(meshconfig.HashKey_BY_UNSPECIFIED, "x"), err: "balancing.hash[1].by: 0 is none that is known"},
		"too much panic":       {outlier: &meshconfig.Outlier{PanicPercent: 101}, err: "outlier.panic_percent: 101 is more than 100"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := NewOptions(c.balancing, c.outlier, "a")
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Fatalf("error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || got.Policy != c.want.Policy || got.SlowStart != c.want.SlowStart || got.Zone != c.want.Zone ||
				got.PanicPercent != c.want.PanicPercent {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}
