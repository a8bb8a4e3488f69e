// SPDX-License-Identifier: Apache-2.0

package health

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestNobodyIsCheckedWhoIsNotInUse(t *testing.T) {
	bubble(t, 3, func(f *fleet) {
		t := f.T
		if got := f.pass(100, 0); len(got) != 0 {
			t.Fatalf("%d checks without a request", len(got))
		}
		if got := f.pass(10, 5); distinct(got) != 3 || len(got) < 20 || len(got) > 33 {
			t.Errorf("of three endpoints %d were checked, %d times in ten intervals", distinct(got), len(got))
		}
		f.pass(quietRounds+2, 0)
		if got := f.pass(100, 0); len(got) != 0 {
			t.Errorf("%d checks long after the last request", len(got))
		}
		if got := f.pass(10, 5); distinct(got) != 3 {
			t.Errorf("of three endpoints %d are checked again", distinct(got))
		}
	})
}

func TestThresholds(t *testing.T) {
	bubble(t, 2, func(f *fleet) {
		t := f.T
		f.pass(5, 9)
		f.broken[1].Store(true)
		if f.pass(2, 9); len(f.out()) != 0 {
			t.Error("out after two bad checks")
		}
		f.broken[1].Store(false)
		f.pass(2, 9)
		f.broken[1].Store(true)
		if f.pass(2, 9); len(f.out()) != 0 {
			t.Error("a good check between does not begin anew")
		}
		if f.pass(3, 9); !slices.Equal(f.out(), []int{1}) || f.Counts().Down != 1 {
			t.Errorf("out are %v, counted %d", f.out(), f.Counts().Down)
		}
		f.pass(20, 9)
		f.broken[1].Store(false)
		if f.pass(1, 9); len(f.out()) != 1 {
			t.Error("in after one good check")
		}
		if f.pass(3, 9); len(f.out()) != 0 || f.Counts().Down != 0 {
			t.Errorf("out are %v, counted %d", f.out(), f.Counts().Down)
		}
		if got := f.states[1].changes.Load(); got != 2 {
			t.Errorf("it was changed %d times", got)
		}
		if c := f.Counts(); c.Failed == 0 || c.Made <= c.Failed || c.Skipped != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestARestForgetsWhoWasOut(t *testing.T) {
	bubble(t, 2, func(f *fleet) {
		t := f.T
		f.broken[0].Store(true)
		f.pass(6, 9)
		if !slices.Equal(f.out(), []int{0}) {
			t.Fatalf("out are %v", f.out())
		}
		f.pass(quietRounds+2, 0)
		if len(f.out()) != 0 || f.Counts().Down != 0 {
			t.Errorf("out are %v, counted %d", f.out(), f.Counts().Down)
		}
	})
}

func TestChecksAreBoundedHoweverManyEndpointsThereAre(t *testing.T) {
	bubble(t, 1000, func(f *fleet) {
		t := f.T
		got := f.pass(100, 1000)
		if len(got) > 100*perInterval*11/10 || len(got) < 100*perInterval*8/10 {
			t.Errorf("%d checks in a hundred intervals", len(got))
		}
		if distinct(got) != perInterval {
			t.Errorf("%d endpoints were checked, and not always the same", distinct(got))
		}
	})
}

func TestTheSubsetChangesNoMoreThanTheEndpoints(t *testing.T) {
	bubble(t, 500, func(f *fleet) {
		t := f.T
		before := f.pass(20, 100)
		gone := before[0]
		f.Update(slices.Delete(slices.Clone(f.targets), gone, gone+1))
		f.pass(2, 100)
		after := f.pass(20, 100)
		if slices.Contains(after, gone) {
			t.Error("who has gone is checked")
		}
		if both := distinct(slices.Concat(before, after)); distinct(after) != perInterval || both != perInterval+1 {
			t.Errorf("%d are checked after one has gone, %d in all", distinct(after), both)
		}
	})
}

func TestProxiesDrawSubsetsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []int
		for range 10 {
			f := newFleet(t, 100)
			f.begin(t, NewPace(PerSecond))
			all = append(all, f.pass(15, 100)...)
			f.Close()
		}
		if n := distinct(all); n < 40 {
			t.Errorf("ten proxies check %d of 100 endpoints", n)
		}
	})
}

func TestSuspectsAreCheckedThoughTheyAreNotOfTheSubset(t *testing.T) {
	bubble(t, 300, func(f *fleet) {
		t := f.T
		before := f.pass(20, 100)
		other := 0
		for slices.Contains(before, other) {
			other++
		}
		f.suspect[other].Store(true)
		f.broken[other].Store(true)
		if f.pass(8, 100); !slices.Equal(f.out(), []int{other}) {
			t.Fatalf("out are %v", f.out())
		}
		f.suspect[other].Store(false)
		if f.pass(8, 100); !slices.Equal(f.out(), []int{other}) {
			t.Errorf("who is out is forgotten: out are %v", f.out())
		}
		f.broken[other].Store(false)
		if f.pass(8, 100); len(f.out()) != 0 {
			t.Errorf("out are %v", f.out())
		}
		if after := f.pass(20, 100); slices.Contains(after, other) {
			t.Error("who is well again is checked on")
		}
	})
}

func TestNoMoreChecksThanRequests(t *testing.T) {
	bubble(t, 8, func(f *fleet) {
		t := f.T
		if got := f.pass(100, 2); len(got) > 222 || len(got) < 180 || distinct(got) != 8 {
			t.Errorf("%d checks of %d endpoints for 200 requests", len(got), distinct(got))
		}
	})
}

func TestAllClustersShareAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace(2)
		var fleets []*fleet
		for range 40 {
			f := newFleet(t, 8)
			f.check.Interval = time.Second
			f.begin(t, pace)
			fleets = append(fleets, f)
		}
		made, skipped := 0, uint64(0)
		for range 30 {
			for _, f := range fleets {
				for range 8 {
					f.Use()
				}
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		for _, f := range fleets {
			f.Close()
			made += len(f.checks)
			skipped += f.Counts().Skipped
		}
		if made > 62 || made < 50 || skipped < 1000 {
			t.Errorf("%d checks in 30 s, %d left out", made, skipped)
		}
	})
}

func TestPace(t *testing.T) {
	p := NewPace(10)
	now := time.Unix(1_000_000, 0)
	random := rand.New(rand.NewPCG(4, 4))
	var made []time.Time
	for range 20_000 {
		now = now.Add(time.Duration(random.IntN(int(20 * time.Millisecond))))
		if p.take(now) {
			made = append(made, now)
			for i := 0; i < len(made); i++ {
				if made[i].Before(now.Add(-time.Second)) {
					made = made[1:]
					i--
				}
			}
			if len(made) > 20 {
				t.Fatalf("%d in a second", len(made))
			}
		}
	}
	if len(made) < 9 {
		t.Errorf("%d in the last second", len(made))
	}
}

func TestCloseLetsEverybodyInAndWaitsForNobody(t *testing.T) {
	bubble(t, 3, func(f *fleet) {
		t := f.T
		f.check.Timeout = 10 * time.Second
		for i := range f.broken {
			f.broken[i].Store(true)
		}
		f.pass(10, 9)
		if len(f.out()) != 3 {
			t.Fatalf("out are %v", f.out())
		}
		begun := time.Now()
		f.Close()
		f.Use()
		if took := time.Since(begun); took != 0 || len(f.out()) != 0 {
			t.Errorf("it took %v, out are %v", took, f.out())
		}
	})
	var none *Checker
	none.Use()
}

func TestAnEndpointThatWasAwayBeginsAnew(t *testing.T) {
	bubble(t, 2, func(f *fleet) {
		t := f.T
		f.broken[0].Store(true)
		f.pass(6, 9)
		old := f.states[0]
		f.states[0] = &state{}
		targets := slices.Clone(f.targets)
		targets[0].State = f.states[0]
		f.Update(targets)
		f.pass(1, 9)
		if f.states[0].down.Load() != 0 || old.down.Load() != 0 || f.Counts().Down != 0 {
			t.Errorf("the new one is out: %d, the old one: %d, counted %d", f.states[0].down.Load(), old.down.Load(), f.Counts().Down)
		}
		if f.pass(5, 9); f.states[0].down.Load() != 1 {
			t.Error("the new one is not found to be down")
		}
	})
}

// TestAnyOrderOfEvents lets endpoints come, go, break and mend at random. Who is out has failed, and is one of them.
func TestAnyOrderOfEvents(t *testing.T) {
	for seed := range uint64(10) {
		bubble(t, 30, func(f *fleet) {
			t := f.T
			random := rand.New(rand.NewPCG(seed, 5))
			for range 150 {
				i := random.IntN(len(f.targets))
				switch random.IntN(5) {
				case 0:
					f.broken[i].Store(random.IntN(2) == 0)
				case 1:
					f.suspect[i].Store(random.IntN(2) == 0)
				case 2:
					some := slices.Clone(f.targets)
					rand.New(random).Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
					f.Update(some[:random.IntN(len(some)+1)])
				default:
					checks := f.pass(1, random.IntN(12))
					if len(checks) > 2*perInterval {
						t.Fatalf("%d checks in an interval", len(checks))
					}
				}
				synctest.Wait()
				if down := f.Counts().Down; down != len(f.out()) {
					t.Fatalf("%d are out, %d are counted", len(f.out()), down)
				}
			}
			for i := range f.broken {
				f.broken[i].Store(false)
			}
			f.Update(f.targets)
			if f.pass(40, 100); len(f.out()) != 0 {
				t.Errorf("out are %v though all are well", f.out())
			}
		})
	}
}
