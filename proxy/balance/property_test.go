// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// TestWhoIsPicked does things in any order and checks every pick: one that is ejected or down is picked as its trial or in
// panic alone, one that was tried only when nobody else may be picked, one that is terminating only when no other is left.
func TestWhoIsPicked(t *testing.T) {
	for policy, p := range policies {
		t.Run(policy, func(t *testing.T) {
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 0))
			o := Options{Policy: p, Zone: "a", SlowStart: time.Second, PanicPercent: 30}
			all := zoned(map[string]int{"a": 3, "b": 5})
			s := set(o, slices.Clone(all)...)
			now := start
			trials, panics := 0, 0
			for range 20000 {
				now += r.Int64N(second / 10)
				if m := s.Members(); len(m) > 0 {
					state := m[r.IntN(len(m))].State
					switch r.IntN(12) {
					case 0, 1:
						state.Eject(now+r.Int64N(second), 100)
					case 2:
						state.Restore()
					case 3, 4:
						state.SetDown(r.IntN(4) == 0)
					}
				}
				if r.IntN(30) == 0 {
					r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
					cut := 1 + r.IntN(6)
					if p == policies["ConsistentHash"] && r.IntN(10) > 0 {
						continue // tables take their time
					}
					s = s.Next(o, slices.Clone(all[:cut]), slices.Clone(all[cut:cut+r.IntN(2)]), now)
				}
				var tried []*upstream.Endpoint
				for _, m := range all[:r.IntN(3)] {
					tried = append(tried, m.Endpoint)
				}
				pick, ok := s.Pick(Ask{Now: now, Random: r.Uint64(), Avoid: tried, Hash: r.Uint64(), Hashed: true})
				check(t, s, pick, ok, tried)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
				if ok {
					pick.Done(Outcome(r.IntN(int(Abandoned)+1)), time.Millisecond, now)
				}
				if pick.Trial {
					trials++
				}
				if pick.Panic {
					panics++
				}
			}
			if trials < 50 || panics < 50 {
				t.Errorf("%d trials and %d picks in panic: too few to mean anything", trials, panics)
			}
		})
	}
}

func check(t *testing.T, s *Set, pick Pick, ok bool, tried []*upstream.Endpoint) {
	t.Helper()
	wasTried := func(m Member) bool { return slices.Contains(tried, m.Endpoint) }
	panics := s.Healthy()*100 < s.options.PanicPercent*s.Ready()
	eligible := slices.DeleteFunc(slices.Clone(s.ready), func(m Member) bool {
		return !panics && (m.State.Ejected() || m.State.Down())
	})
	fresh := slices.DeleteFunc(slices.Clone(eligible), wasTried)
	ending := slices.ContainsFunc(s.going.members, func(m Member) bool { return m.Endpoint == pick.Endpoint })
	among := slices.ContainsFunc(eligible, func(m Member) bool { return m.Endpoint == pick.Endpoint })
	switch {
	case !ok:
		if len(eligible)+len(s.going.members) > 0 {
			t.Errorf("nobody was picked, of %d", len(eligible))
		}
	case pick.Trial:
		if !pick.State.Ejected() || pick.State.Down() || len(tried) > 0 {
			t.Error("a trial of one that should have none")
		}
	case ending:
		if len(fresh) > 0 {
			t.Error("a terminating one was picked though another could be")
		}
	case !among:
		t.Error("one was picked that is ejected or down")
	case slices.Contains(tried, pick.Endpoint) && (len(fresh) > 0 || slices.ContainsFunc(s.going.members, func(m Member) bool { return !wasTried(m) })):
		t.Error("one was picked that was tried, though another could be")
	case pick.Panic != panics:
		t.Error("panic is not what it should be")
	}
}
