// SPDX-License-Identifier: Apache-2.0

//go:build !race

package outlier

import (
	"testing"
	"time"
)

// everything is a config with all detectors on.
func everything() *Config {
	c := Defaults()
	c.LatencyFactor = 300
	return c
}

func TestWhatEveryRequestDoesAllocatesNothing(t *testing.T) {
	w := newWorld(3, everything())
	b, load := NewBreaker(Limits{Requests: 10, EndpointRequests: 10, Adaptive: true}), &Load{}
	budget := NewRetryBudget(BudgetConfig{20, 10})
	now := epoch
	w.end(0, Success, 1)
	for name, do := range map[string]func(){
		"a success": func() { w.Report(w.members[0], Result{Now: w.now, Outcome: Success, Latency: time.Millisecond}) },
		"a failure": func() { w.Report(w.members[1], Result{Now: w.now, Outcome: Failure}) },
		"a cancel":  func() { w.Report(w.members[2], Result{Now: w.now, Outcome: Abandoned}) },
		"a breaker": func() {
			b.Acquire(Requests)
			b.Begin(load)
			now += int64(time.Second)
			b.End(load, now, time.Millisecond)
			b.Release(Requests)
		},
		"a refusal": func() {
			for range 11 {
				b.Acquire(Requests)
			}
			for range 10 {
				b.Release(Requests)
			}
		},
		"a budget": func() {
			now += int64(time.Millisecond)
			budget.Earn(now)
			budget.Take(now)
		},
	} {
		if n := testing.AllocsPerRun(1000, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
