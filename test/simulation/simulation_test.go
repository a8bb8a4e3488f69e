// SPDX-License-Identifier: Apache-2.0

//go:build !race

package simulation

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

var update = flag.Bool("update", false, "write the figures and plots into docs")

// plain is what every setup is compared with.
var plain = setup{"RoundRobin", meshconfig.BalancingPolicy_BALANCING_POLICY_ROUND_ROBIN, false}

// setups are what is compared: every policy alone, and with the defences.
func setups() []setup {
	list := []setup{plain}
	for _, defended := range []bool{false, true} {
		list = append(
			list,
			setup{"Random", meshconfig.BalancingPolicy_BALANCING_POLICY_RANDOM, defended},
			setup{"LeastRequest", meshconfig.BalancingPolicy_BALANCING_POLICY_LEAST_REQUEST, defended},
			setup{"PeakEWMA", meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA, defended},
			setup{"ConsistentHash", meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH, defended},
		)
		if !defended {
			list = append(list, setup{plain.name, plain.policy, true})
		}
	}
	return list
}

func (s setup) String() string {
	if s.defended {
		return s.name + ", defended"
	}
	return s.name
}

// limits are how much of plain round robin's figures another setup's may be at most, and what share of the requests must
// stay in the caller's zone at least; 0: as it comes.
type limits struct{ failed, p99, bad, near float64 }

// nearlyNone is a share of failed requests that is as good as none.
const nearlyNone = .0005

// breaks says what of a setup's figures is over the limits.
func (l limits) breaks(got, base figures) []string {
	var list []string
	over := func(name string, got, base, limit float64) {
		if limit > 0 && got > limit*base {
			list = append(list, fmt.Sprintf("%s is %.3f of round robin's, want at most %.2f", name, got/base, limit))
		}
	}
	over("the share that failed", got.failed, max(base.failed, nearlyNone), l.failed)
	over("p99", float64(got.p99), float64(base.p99), l.p99)
	over("the bad endpoints' load", got.bad, base.bad, l.bad)
	if got.near < l.near {
		list = append(list, fmt.Sprintf("%.3f of the requests stay in the zone, want at least %.2f", got.near, l.near))
	}
	return list
}

func one(i int) bool { return i == 0 }

// defended is the name of limits for every setup that is.
const defended = "defended"

var scenarios = []scenario{
	{
		name: "slow", title: "One endpoint is ten times as slow", bad: one,
		behave: func(time.Duration) answer { return answer{slowness: 10} },
		asserts: map[string]limits{
			"LeastRequest": {failed: .5, p99: .85, bad: .5}, "PeakEWMA": {failed: .1, p99: .8, bad: .15},
			defended: {failed: .5, p99: .85, bad: .6},
		},
	},
	{
		name: "black-hole", title: "One endpoint never answers", bad: one,
		behave: func(time.Duration) answer { return answer{silent: true} },
		asserts: map[string]limits{
			"LeastRequest": {failed: .5, p99: .85, bad: .5}, "PeakEWMA": {failed: .1, p99: .8, bad: .1},
			defended: {failed: .25, p99: .85, bad: .25},
		},
	},
	{
		name: "left", title: "One endpoint never answers, no timeout is set, and callers leave", bad: one, leave: true,
		behave: func(time.Duration) answer { return answer{silent: true} },
		asserts: map[string]limits{
			"LeastRequest": {failed: .5, p99: .85, bad: .5}, "PeakEWMA": {failed: .1, p99: .8, bad: .1},
			"LeastRequest, defended": {failed: .5, p99: .85, bad: .5}, "PeakEWMA, defended": {failed: .1, p99: .8, bad: .1},
			defended: {failed: 1.25},
		},
	},
	{
		name: "fast-503", title: "One endpoint answers 503 at once", bad: one,
		behave: func(time.Duration) answer { return answer{fails: true} },
		asserts: map[string]limits{
			"LeastRequest": {bad: 1.5}, "PeakEWMA": {failed: .15, p99: .8, bad: .15},
			defended: {failed: .2, p99: .85, bad: .2},
		},
	},
	{
		name: "calm", title: "Nothing fails, and each of three zones has a third of the callers and of the endpoints", zones: true,
		bad:    func(i int) bool { return zone(i) == "a" },
		behave: func(time.Duration) answer { return answer{slowness: 1} },
		asserts: map[string]limits{
			"RoundRobin, defended": {near: .99}, "LeastRequest, defended": {near: .99}, "PeakEWMA, defended": {near: .99},
			"Random, defended": {near: .99}, defended: {failed: 1, p99: 1.25},
		},
	},
	{
		name: "small", title: "A zone has a third of the callers and 7 of 100 endpoints, half of what it would need", zones: true, small: 7,
		bad:    func(i int) bool { return i < 7 },
		behave: func(time.Duration) answer { return answer{slowness: 1} },
		asserts: map[string]limits{
			"RoundRobin, defended": {near: .75}, "LeastRequest, defended": {near: .75}, "PeakEWMA, defended": {near: .75},
			"Random, defended": {near: .75}, defended: {failed: 1, p99: 4},
		},
	},
	{
		name: "zone", title: "A third of the endpoints, a zone, never answers", zones: true, cap: 50,
		bad:    func(i int) bool { return zone(i) == "a" },
		behave: func(time.Duration) answer { return answer{silent: true} },
		asserts: map[string]limits{
			"LeastRequest": {failed: .7, bad: .7}, "PeakEWMA": {failed: .5, bad: .5}, "ConsistentHash, defended": {failed: .25},
			defended: {failed: .25, bad: .25},
		},
	},
	{
		name: "all", title: "Every endpoint answers 503 for five seconds", cap: 100, bad: func(int) bool { return true },
		behave:  func(at time.Duration) answer { return answer{slowness: 1, fails: at < trouble+5*time.Second} },
		asserts: map[string]limits{defended: {failed: 1.05}},
	},
	{
		name: "return", title: "A fifth of the endpoints comes back cold: ten times as slow at first, for ten seconds", late: true,
		bad: func(i int) bool { return i%5 == 0 },
		behave: func(at time.Duration) answer {
			return answer{slowness: max(1, 10-9*float64(at-trouble)/float64(10*time.Second))}
		},
		asserts: map[string]limits{
			"LeastRequest": {failed: .3}, "PeakEWMA": {failed: .15, p99: .8},
			"LeastRequest, defended": {failed: .1, p99: .8}, "PeakEWMA, defended": {failed: .05, p99: .5}, defended: {failed: .75},
		},
	},
}

func TestAgainstRoundRobin(t *testing.T) {
	results := make(map[string][]outcome)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			var base figures
			for _, setup := range setups() {
				got := play(t, s, setup)
				if setup == plain {
					base = got
				}
				results[s.name] = append(results[s.name], outcome{setup, got})
				t.Logf("%-24s failed %6.3f %%  p50 %4d  p99 %4d  p99.9 %4d ms  bad %5.1f %%  near %5.1f %%", setup, got.failed*100,
					got.p50.Milliseconds(), got.p99.Milliseconds(), got.p999.Milliseconds(), got.bad*100, got.near*100)
				broken := s.asserts[setup.String()].breaks(got, base)
				if setup.defended {
					broken = append(broken, s.asserts[defended].breaks(got, base)...)
				}
				for _, what := range broken {
					t.Errorf("%v: %s", setup, what)
				}
			}
		})
	}
	if *update {
		write(t, results)
	}
}
