// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"
	"testing"
	"time"
)

func TestAnOldTrialChangesNothing(t *testing.T) {
	cases := map[string]func(s *Set, bad *State){
		"while another one is under way": func(*Set, *State) {},
		"after another one has failed":   func(_ *Set, bad *State) { bad.Eject(start+1000*second, 100) },
		"after another ejection":         func(_ *Set, bad *State) { bad.Restore(); bad.Eject(start+1000*second, 100) },
	}
	for name, between := range cases {
		t.Run(name, func(t *testing.T) {
			s := set(Options{}, members(3)...)
			bad := s.ready[1].State
			bad.Eject(start+second, 100)
			old, _ := s.Pick(ask(start + second))
			now := start + second + int64(trialTime)
			newer, _ := s.Pick(ask(now))
			if !old.Trial || !newer.Trial {
				t.Fatal("there were not two trials")
			}
			between(s, bad)
			old.Done(Neutral, 0, now)
			for range 100 {
				if pick, _ := s.Pick(ask(now)); pick.Trial {
					t.Fatal("there is one trial more")
				}
			}
		})
	}
}

func TestACopyIsNoTrial(t *testing.T) {
	s := set(Options{}, members(3)...)
	s.ready[1].State.Eject(start+second, 100)
	for range 100 {
		copied := ask(start + second)
		copied.Copy = true
		if pick, _ := s.Pick(copied); pick.Trial || pick.State == s.ready[1].State {
			t.Fatal("a copy is a trial")
		}
	}
	if pick, _ := s.Pick(ask(start + second)); !pick.Trial {
		t.Error("there is no trial after copies")
	}
}

// Who has loaded a Set before it was replaced may ask it after that.
func TestAnOldSetPicksNobodyWhoIsEjected(t *testing.T) {
	for policy, p := range policies {
		t.Run(policy, func(t *testing.T) {
			o := Options{Policy: p, Zone: "a", PanicPercent: 50}
			old := set(o, zoned(map[string]int{"a": 3, "b": 3})...)
			next := old.Next(o, slices.Clone(old.ready), nil, start)
			bad := next.ready[0].State
			bad.Eject(start+second, 100)
			for range 400 {
				if pick, _ := old.Pick(ask(start)); pick.State == bad {
					t.Fatal("it was picked")
				}
			}
			bad.Restore()
			seen := false
			for range 400 {
				pick, _ := old.Pick(ask(start))
				seen = seen || pick.State == bad
			}
			if !seen {
				t.Error("it is not picked any more")
			}
		})
	}
}

func TestALowerCapRestores(t *testing.T) {
	s := set(Options{}, members(10)...)
	for i, m := range s.ready[:5] {
		if !m.State.Eject(start+int64(i)*second, 50) {
			t.Fatal("not ejected")
		}
	}
	s.Cap(20)
	if s.Healthy() != 8 || !s.ready[3].State.Ejected() || !s.ready[4].State.Ejected() {
		t.Errorf("%d are healthy, want 8, without the two that are ejected for the longest", s.Healthy())
	}
	s.Cap(0)
	if s.Healthy() != 10 {
		t.Errorf("%d are healthy when nobody may be ejected", s.Healthy())
	}
	if pick, _ := s.Pick(ask(start + 100*second)); pick.Trial {
		t.Error("a trial of one that is not ejected")
	}
	new(Set).Cap(10)
}

func TestAClockThatIsSetBackHoldsNobodyBack(t *testing.T) {
	const n, each = 4, 2000
	for policy, p := range policies {
		o := Options{Policy: p}
		all := members(n)
		s := set(o, slices.Clone(all[:n-1])...).Next(o, all, nil, start+3600*second)
		for e, got := range count(t, s, n*each, func() Ask { return ask(start) }) {
			if got < each*9/10 || got > each*11/10 {
				t.Errorf("%s: %v was picked %d times of %d, want about %d", policy, e.Address, got, n*each, each)
			}
		}
	}
}

func TestNanos(t *testing.T) {
	if Nanos(began) != began.UnixNano() || Nanos(began.Add(time.Hour)) != began.UnixNano()+int64(time.Hour) {
		t.Error("a time that is read from the clock is not by it")
	}
	// Without a reading of the monotonic clock it is what the wall clock says.
	if wall := time.Unix(1_800_000_000, 7); Nanos(wall) != wall.UnixNano() {
		t.Errorf("%d, want %d", Nanos(wall), wall.UnixNano())
	}
}
