// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestNothingRaces picks, ejects, restores and replaces Sets at once. At the end the counts must be right.
func TestNothingRaces(t *testing.T) {
	for policy, p := range policies {
		t.Run(policy, func(t *testing.T) {
			o := Options{Policy: p, Zone: "a", SlowStart: time.Second, PanicPercent: 20}
			all := zoned(map[string]int{"a": 10, "b": 20})
			var current atomic.Pointer[Set]
			current.Store(set(o, slices.Clone(all[:20])...))
			var now atomic.Int64
			now.Store(start)
			var pickers, others sync.WaitGroup
			var over atomic.Bool
			for range 4 {
				pickers.Go(func() {
					for range 1000 {
						at := now.Add(int64(time.Millisecond))
						pick, ok := current.Load().Pick(ask(at))
						if !ok {
							continue
						}
						pick.Done(Outcome(rand.IntN(int(Abandoned)+1)), time.Duration(rand.IntN(int(time.Second))), at)
						switch {
						case pick.Trial && rand.IntN(2) == 0:
							pick.State.Restore()
						case rand.IntN(10) == 0:
							pick.State.Eject(at+int64(100*time.Millisecond), 50)
						}
					}
				})
			}
			others.Go(func() {
				for !over.Load() {
					cut := 10 + rand.IntN(15)
					current.Store(current.Load().Next(o, slices.Clone(all[rand.IntN(5):cut]), slices.Clone(all[cut:]), now.Load()))
				}
			})
			others.Go(func() {
				for !over.Load() {
					if m := current.Load().Members(); len(m) > 0 {
						m[rand.IntN(len(m))].State.SetDown(rand.IntN(3) == 0)
					}
				}
			})
			pickers.Wait()
			over.Store(true)
			others.Wait()
			s := current.Load()
			healthy, out := 0, 0
			for _, m := range s.ready {
				if !m.State.Ejected() && !m.State.Down() {
					healthy++
				}
				if m.State.Ejected() {
					out++
				}
			}
			if got := int(s.shared.out.Load()); got != len(s.ready)-healthy {
				t.Errorf("%d are counted as out, there are %d", got, len(s.ready)-healthy)
			}
			if s.Healthy() != healthy || len(s.shared.ejected) != out || out > len(s.ready)/2 {
				t.Errorf("%d healthy and %d ejected are counted, there are %d and %d", s.Healthy(), len(s.shared.ejected), healthy, out)
			}
			for _, m := range all {
				if m.Endpoint.InFlight() != 0 {
					t.Errorf("%v has %d in flight", m.Endpoint.Address, m.Endpoint.InFlight())
				}
			}
		})
	}
}
