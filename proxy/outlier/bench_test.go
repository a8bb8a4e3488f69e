// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"testing"
	"time"
)

func BenchmarkReport(b *testing.B) {
	all, least := Defaults(), Defaults()
	all.LatencyFactor, least.SuccessRatePercent = 300, 0
	for _, config := range []struct {
		name string
		*Config
	}{{"without window", least}, {"default", Defaults()}, {"all", all}} {
		b.Run("success/"+config.name, func(b *testing.B) {
			w := newWorld(3, config.Config)
			r := Result{Now: w.now, Outcome: Success, Latency: time.Millisecond}
			for b.Loop() {
				w.Report(w.members[0], r)
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		w := newWorld(3, Defaults())
		b.RunParallel(func(pb *testing.PB) {
			r := Result{Now: w.now, Outcome: Success, Latency: time.Millisecond}
			for pb.Next() {
				w.Report(w.members[0], r)
			}
		})
	})
	b.Run("failure/capped", func(b *testing.B) {
		w := newWorld(3, Defaults())
		w.end(0, Failure, 5)
		r := Result{Now: w.now, Outcome: Failure}
		for b.Loop() {
			w.Report(w.members[1], r)
		}
	})
	b.Run("window/30000", func(b *testing.B) {
		w := newWorld(30_000, all)
		for b.Loop() {
			b.StopTimer()
			for i := range w.members {
				w.members[i].requests.Add(60)
				w.end(i, Success, 1)
			}
			w.pass(all.Window)
			b.StartTimer()
			w.end(0, Success, 1)
		}
	})
}

func BenchmarkBreaker(b *testing.B) {
	breaker, load := NewBreaker(Limits{Requests: 100, EndpointRequests: 100}), &Load{}
	b.Run("request", func(b *testing.B) {
		for b.Loop() {
			breaker.Acquire(Requests)
			breaker.Begin(load)
			breaker.End(load, epoch, time.Millisecond)
			breaker.Release(Requests)
		}
	})
	breaker.Configure(Limits{Requests: 100, Adaptive: true})
	b.Run("adaptive", func(b *testing.B) {
		for b.Loop() {
			breaker.Acquire(Requests)
			breaker.Begin(load)
			breaker.End(load, epoch, time.Millisecond)
			breaker.Release(Requests)
		}
	})
}

func BenchmarkRetryBudget(b *testing.B) {
	budget := NewRetryBudget(BudgetConfig{20, 10})
	b.Run("earn", func(b *testing.B) {
		for b.Loop() {
			budget.Earn(epoch)
		}
	})
	b.Run("take", func(b *testing.B) {
		for b.Loop() {
			budget.Take(epoch)
		}
	})
}
