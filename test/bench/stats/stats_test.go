// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestEveryValueFallsIntoABucketThatHoldsIt(t *testing.T) {
	for _, v := range []int64{0, 1, 127, 128, 255, 256, 257, 511, 512, 1000, 65535, 65536, 1e6, 1e9, 60e9, math.MaxInt64} {
		i := bucket(v)
		if low := lowest(i); low > v {
			t.Errorf("%d is in the bucket that begins at %d", v, low)
		}
		if v == math.MaxInt64 {
			continue // the last one
		}
		next := lowest(i + 1)
		if next <= v {
			t.Errorf("%d is in a bucket whose next begins at %d", v, next)
		}
		if width := next - lowest(i); width > 1 && float64(width) > 0.008*float64(v) {
			t.Errorf("the bucket of %d is %d wide", v, width)
		}
	}
}

func TestBucketsAreInOrder(t *testing.T) {
	for i := range 5000 {
		if bucket(lowest(i)) != i {
			t.Fatalf("bucket %d begins at %d, which is in %d", i, lowest(i), bucket(lowest(i)))
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 {
		t.Error("an empty histogram has a quantile")
	}
	for i := 1; i <= 1000; i++ {
		h.Record(time.Duration(i) * time.Millisecond)
	}
	h.Record(-time.Second) // counts as 0
	if h.Count() != 1001 {
		t.Error(h.Count())
	}
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 0.999: 999 * time.Millisecond, 1: time.Second} {
		if got := h.Quantile(q); got < want || float64(got-want) > 0.008*float64(want) {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
}

func TestSummaries(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		values []float64
		want   Summary
	}{
		"an odd number of rounds":  {[]float64{3, 1, 2}, Summary{3, 2, 1, 3, 1.5, 2.5}},
		"an even number of rounds": {[]float64{4, 1, 2, 3}, Summary{4, 2.5, 1, 4, 1.75, 3.25}},
		"one round":                {[]float64{7}, Summary{1, 7, 7, 7, 7, 7}},
		"a round without a value":  {[]float64{nan, 5, 7}, Summary{2, 6, 5, 7, 5.5, 6.5}},
	} {
		if got := Summarize(c.values); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := Summarize([]float64{nan}); got.N != 0 || !math.IsNaN(got.Median) {
		t.Errorf("no values: %+v", got)
	}
}

func TestRatiosAreMadeRoundByRound(t *testing.T) {
	nan := math.NaN()
	got := Ratios([]float64{10, 30, nan, 4, 5}, []float64{20, 20, 20, 0})
	want := []float64{0.5, 1.5, nan, nan, nan}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTheBestOfPeersIsFoundInEachRound(t *testing.T) {
	nan := math.NaN()
	got := Best([]float64{5, 1, nan}, []float64{3, 2, nan, 9})
	if want := []float64{3, 1, nan, 9}; !slices.EqualFunc(got, want, same) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Best(); got != nil {
		t.Error(got)
	}
}

func same(a, b float64) bool { return a == b || (math.IsNaN(a) && math.IsNaN(b)) }

func TestASchedule(t *testing.T) {
	const rate, n = 1000.0, 100_000
	a, b := NewSchedule(rate, 1), NewSchedule(rate, 1)
	last := time.Duration(0)
	for range n {
		if a.Next() != b.Next() {
			t.Fatal("the same seed gives another schedule")
		}
		if a.Next() < last {
			t.Fatal("it goes back")
		}
		last = a.Next()
		a.Advance()
		b.Advance()
	}
	if got := n / last.Seconds(); math.Abs(got-rate) > 0.02*rate {
		t.Errorf("%v a second, want %v", got, rate)
	}
	if NewSchedule(rate, 2).Next() == NewSchedule(rate, 1).Next() {
		t.Error("another seed gives the same schedule")
	}
}
