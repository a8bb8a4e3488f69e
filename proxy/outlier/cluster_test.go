// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestDetection(t *testing.T) {
	tests := map[string]struct {
		do   func(w *world)
		want time.Duration // how long endpoint 0 is ejected
	}{
		"five failures one after another":            {func(w *world) { w.end(0, Failure, 5) }, 5 * time.Second},
		"four are too few":                           {func(w *world) { w.end(0, Failure, 4) }, 0},
		"a success between begins anew":              {func(w *world) { w.end(0, Failure, 4); w.end(0, Success, 1); w.end(0, Failure, 4) }, 0},
		"a caller's cancel does not":                 {func(w *world) { w.end(0, Failure, 4); w.end(0, Abandoned, 9); w.end(0, Failure, 1) }, 5 * time.Second},
		"three connections that could not be made":   {func(w *world) { w.end(0, ConnectFailure, 3) }, 5 * time.Second},
		"two are too few":                            {func(w *world) { w.end(0, ConnectFailure, 2) }, 0},
		"both kinds are counted apart":               {func(w *world) { w.end(0, Failure, 4); w.end(0, ConnectFailure, 2) }, 0},
		"a failed answer proves a connection":        {func(w *world) { w.end(0, ConnectFailure, 2); w.end(0, Failure, 1); w.end(0, ConnectFailure, 2) }, 0},
		"429 a thousand times":                       {func(w *world) { w.end(0, Shed, 1000) }, 0},
		"callers that go away a thousand times":      {func(w *world) { w.end(0, Abandoned, 1000) }, 0},
		"faults that were injected a thousand times": {func(w *world) { w.end(0, Unrelated, 1000) }, 0},
		"another endpoint's failures":                {func(w *world) { w.end(1, Failure, 5) }, 0},
		"failures of before count while one is ejected, but do not make it longer": {
			func(w *world) { w.end(0, Failure, 5); w.pass(time.Second); w.end(0, Failure, 50) }, 4 * time.Second,
		},
		"successes of before do not restore":  {func(w *world) { w.end(0, Failure, 5); w.end(0, Success, 50) }, 5 * time.Second},
		"the cap forbids the second of three": {func(w *world) { w.end(1, Failure, 5); w.end(0, Failure, 500) }, 0},
		"what was forbidden is made up for when there is room": {
			func(w *world) { w.end(1, Failure, 5); w.end(0, Failure, 7); w.try(1, Success); w.end(0, Failure, 3) }, 5 * time.Second,
		},
		"a trial that succeeds restores":             {func(w *world) { w.end(0, Failure, 5); w.try(0, Success) }, 0},
		"and forgets the failures":                   {func(w *world) { w.end(0, Failure, 5); w.try(0, Success); w.end(0, Failure, 4) }, 0},
		"a trial that fails ejects for longer":       {func(w *world) { w.end(0, Failure, 5); w.try(0, Failure) }, 10 * time.Second},
		"and so does one without connection":         {func(w *world) { w.end(0, Failure, 5); w.try(0, ConnectFailure) }, 10 * time.Second},
		"and again":                                  {func(w *world) { w.end(0, Failure, 5); w.try(0, Failure); w.try(0, Failure) }, 20 * time.Second},
		"up to the maximum":                          {func(w *world) { w.end(0, Failure, 5); times(9, func() { w.try(0, Failure) }) }, time.Minute},
		"a trial that came too late changes nothing": {func(w *world) { w.end(0, Failure, 5); w.try(0, Success); w.try(0, Failure) }, 0},
		"the next ejection soon after is longer": {
			func(w *world) {
				w.end(0, Failure, 5)
				w.try(0, Success)
				w.pass(59 * time.Second)
				w.end(0, Failure, 5)
			}, 10 * time.Second,
		},
		"a maximum in service forgives one": {
			func(w *world) { w.end(0, Failure, 5); w.try(0, Success); w.pass(time.Minute); w.end(0, Failure, 5) }, 5 * time.Second,
		},
		"and only one": {
			func(w *world) {
				w.end(0, Failure, 5)
				w.try(0, Failure)
				w.try(0, Success)
				w.pass(time.Minute)
				w.end(0, Failure, 5)
			}, 10 * time.Second,
		},
		"the highest level is soon forgiven, however often it was reached": {
			func(w *world) {
				w.end(0, Failure, 5)
				times(100, func() { w.try(0, Failure) })
				w.try(0, Success)
				w.pass(5 * time.Minute)
				w.end(0, Failure, 5)
			}, 5 * time.Second,
		},
		"an endpoint that has gone is not ejected": {func(w *world) { w.gates[0].gone = true; w.end(0, Failure, 500) }, 0},
		"a detector that is off": {
			func(w *world) {
				c := *Defaults()
				c.Failures = 0
				w.Configure(&c)
				w.end(0, Failure, 500)
			}, 0,
		},
		"a failed trial restores when nobody is to be ejected any more": {
			func(w *world) {
				w.end(0, Failure, 5)
				w.Configure(&Config{})
				w.try(0, Failure)
			}, 0,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(3, Defaults())
			test.do(w)
			if got := w.left(0); got != test.want {
				t.Errorf("ejected for %v, want %v", got, test.want)
			}
		})
	}
}

func TestATrialThatSaysNothingChangesNothing(t *testing.T) {
	for _, outcome := range []Outcome{Shed, Abandoned, Unrelated} {
		w := newWorld(3, Defaults())
		w.end(0, Failure, 5)
		until := w.gates[0].until
		w.try(0, outcome)
		if g := w.gates[0]; !g.out || g.until != until || g.times != 1 {
			t.Errorf("outcome %d: ejected %v until %d, %d times", outcome, g.out, g.until, g.times)
		}
	}
}

func times(n int, do func()) {
	for range n {
		do()
	}
}

func TestWhatIsSaidOfAnEjection(t *testing.T) {
	w := newWorld(3, Defaults())
	if _, ok := w.Ejection(w.members[0]); ok || w.members[0].Suspect() {
		t.Fatal("a new endpoint is ejected or suspect")
	}
	w.end(0, ConnectFailure, 1)
	if !w.members[0].Suspect() || w.members[1].Suspect() {
		t.Error("who failed last is suspect, nobody else")
	}
	w.end(0, ConnectFailure, 2)
	w.end(1, Failure, 5)
	w.try(0, Failure)
	e, ok := w.Ejection(w.members[0])
	if want := (Ejection{ByConnectFailures, 2, time.Unix(0, w.gates[0].until)}); !ok || e != want {
		t.Errorf("%+v, want %+v", e, want)
	}
	w.try(0, Success)
	if w.members[0].Suspect() {
		t.Error("suspect after the trial")
	}
	want := Counts{Capped: 1, Passed: 1, Failed: 1}
	want.Ejections[ByConnectFailures] = 1
	if got := w.Counts(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	names := map[string]bool{}
	for c := range causes {
		names[c.String()] = true
	}
	if len(names) != int(causes) {
		t.Errorf("causes are called %v", names)
	}
}

// TestReportsAtOnce lets many report all kinds of outcomes, as fast as they can.
func TestReportsAtOnce(t *testing.T) {
	config := Defaults()
	config.LatencyFactor, config.MinRequests, config.Window, config.MaxEjectedPercent = 300, 5, time.Millisecond, 30
	w := newWorld(10, config)
	var over sync.WaitGroup
	for seed := range uint64(8) {
		over.Go(func() {
			random := rand.New(rand.NewPCG(seed, 2))
			for now := epoch; now < epoch+int64(200*time.Millisecond); now += int64(50 * time.Microsecond) {
				i := random.IntN(len(w.members))
				outcome := Success
				if random.IntN(10) <= i {
					outcome = Outcome(random.IntN(int(Unrelated) + 1))
				}
				w.Report(w.members[i], Result{
					Now: now, Outcome: outcome, Latency: time.Duration(random.IntN(1+i)) * 10 * time.Millisecond,
					Trial: w.gates[i].Ejected() && random.IntN(10) == 0,
				})
				w.gates[0].of.mu.Lock()
				if out := w.gates[0].of.out; out > 3 {
					t.Errorf("%d are ejected", out)
				}
				w.gates[0].of.mu.Unlock()
			}
		})
	}
	over.Wait()
	counts := w.Counts()
	var ejections uint64
	for _, n := range counts.Ejections {
		ejections += n
	}
	out := uint64(w.gates[0].of.out)
	if ejections == 0 || ejections-counts.Passed != out {
		t.Errorf("%d are ejected after %d ejections and %d trials that passed", out, ejections, counts.Passed)
	}
}
