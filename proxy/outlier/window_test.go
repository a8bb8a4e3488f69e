// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"slices"
	"testing"
	"time"
)

// seen is what an endpoint did in a window.
type seen struct {
	successes, failures int
	latency             time.Duration
}

// watch lets a window pass in which the endpoints did this, failures between successes, and returns who is ejected after it.
func watch(w *world, window time.Duration, all ...seen) (ejected []int) {
	for i, s := range all {
		for n := range max(s.successes, s.failures) {
			if n < s.failures {
				w.Report(w.members[i], Result{Now: w.now, Outcome: Failure, Latency: time.Hour})
			}
			if n < s.successes {
				w.Report(w.members[i], Result{Now: w.now, Outcome: Success, Latency: s.latency})
			}
		}
	}
	w.pass(window)
	w.Report(w.members[len(w.members)-1], Result{Now: w.now, Outcome: Success})
	for i, g := range w.gates {
		if g.Ejected() {
			ejected = append(ejected, i)
		}
	}
	return ejected
}

func TestWindows(t *testing.T) {
	const ms = time.Millisecond
	well := seen{100, 0, ms}
	tests := map[string]struct {
		window time.Duration // 0: what the config says
		all    []seen
		want   []int
	}{
		"all are well":                          {0, []seen{well, well, well}, nil},
		"one fails more than half":              {0, []seen{{45, 55, ms}, well, well}, []int{0}},
		"one fails less than half":              {0, []seen{{55, 45, ms}, well, well}, nil},
		"all fail alike":                        {0, []seen{{40, 60, ms}, {42, 58, ms}, {38, 62, ms}}, nil},
		"the worst where the cap allows one":    {0, []seen{{40, 60, ms}, {5, 95, ms}, well, well}, []int{1}},
		"too few requests to be judged":         {0, []seen{{1, 48, ms}, well, well}, nil},
		"peers with too few requests":           {0, []seen{{5, 95, ms}, {20, 0, ms}, {20, 0, ms}}, nil},
		"of two one fails":                      {0, []seen{{5, 95, ms}, well}, []int{0}},
		"one endpoint alone":                    {0, []seen{{5, 95, ms}}, nil},
		"one is slower than three times all":    {0, []seen{{100, 0, 40 * ms}, {100, 0, 10 * ms}, {100, 0, 12 * ms}}, []int{0}},
		"one is slower, but not by three times": {0, []seen{{100, 0, 29 * ms}, {100, 0, 10 * ms}, {100, 0, 12 * ms}}, nil},
		"three times of next to nothing":        {0, []seen{{100, 0, 5 * ms}, {100, 0, ms}, {100, 0, ms}}, nil},
		"of two nobody knows who is slow":       {0, []seen{{100, 0, 400 * ms}, {100, 0, 10 * ms}}, nil},
		"a slow one among the peers of a slow one": {
			0, []seen{{100, 0, 90 * ms}, {100, 0, 10 * ms}, {100, 0, 80 * ms}, {100, 0, 10 * ms}, {100, 0, 10 * ms}}, []int{0},
		},
		"failures say nothing of latency":                  {0, []seen{{100, 90, ms}, well, well}, nil},
		"a window that ended long ago":                     {3 * time.Minute, []seen{{5, 95, ms}, well, well}, nil},
		"one that ended as long ago as it took is history": {20 * time.Second, []seen{{5, 95, ms}, well, well}, nil},
		"one that ended a little less long ago is not":     {20*time.Second - 1, []seen{{5, 95, ms}, well, well}, []int{0}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config := Defaults()
			config.Failures, config.LatencyFactor = 0, 300
			if test.window == 0 {
				test.window = config.Window
			}
			if got := watch(newWorld(len(test.all), config), test.window, test.all...); !slices.Equal(got, test.want) {
				t.Errorf("ejected %v, want %v", got, test.want)
			}
		})
	}
}

func TestWindowsDoNotAddUp(t *testing.T) {
	config := Defaults()
	config.Failures = 0
	w := newWorld(3, config)
	for range 20 {
		if got := watch(w, config.Window, seen{10, 30, 0}, seen{100, 0, 0}, seen{100, 0, 0}); got != nil {
			t.Fatalf("ejected %v by less than the least number of requests", got)
		}
	}
}

func TestAClockThatIsSetBackEndsTheWindow(t *testing.T) {
	config := Defaults()
	config.Failures = 0
	w := newWorld(3, config)
	w.end(0, Success, 1)
	w.pass(-time.Hour)
	w.end(0, Success, 1)
	if got := watch(w, config.Window, seen{5, 95, 0}, seen{100, 0, 0}, seen{100, 0, 0}); !slices.Equal(got, []int{0}) {
		t.Errorf("ejected %v", got)
	}
}

func TestMedianOfTheOthers(t *testing.T) {
	for n := 2; n < 9; n++ {
		samples := make([]sample, n)
		for i := range samples {
			samples[i].mean = float64((n - i) * (n - i))
		}
		for i := range samples {
			var others []float64
			for j, s := range samples {
				if j != i {
					others = append(others, s.mean)
				}
			}
			slices.Sort(others)
			want := (others[(len(others)-1)/2] + others[len(others)/2]) / 2
			if got := medianBut(samples, i); got != want {
				t.Errorf("without %d of %d: %v, want %v", i, n, got, want)
			}
		}
	}
}
