// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"math"
	"slices"
)

// Summary is what rounds come to. Without a value all of it is NaN.
type Summary struct {
	N                           int
	Median, Low, High, Q25, Q75 float64
}

// Summarize returns the summary of a figure's rounds. Rounds without a value, NaN, are left out.
func Summarize(values []float64) Summary {
	sorted := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(sorted)
	if len(sorted) == 0 {
		nan := math.NaN()
		return Summary{0, nan, nan, nan, nan, nan}
	}
	return Summary{
		N: len(sorted), Median: quantile(sorted, 0.5), Low: sorted[0], High: sorted[len(sorted)-1],
		Q25: quantile(sorted, 0.25), Q75: quantile(sorted, 0.75),
	}
}

// quantile interpolates between the values around it.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below == len(sorted)-1 {
		return sorted[below]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Ratios divides round by round, so that what slows a whole round cancels. A round without both values, or over 0, has
// none: NaN.
func Ratios(of, over []float64) []float64 {
	out := make([]float64, max(len(of), len(over)))
	for i := range out {
		out[i] = math.NaN()
		if i < len(of) && i < len(over) && over[i] != 0 {
			out[i] = of[i] / over[i]
		}
	}
	return out
}

// Best is the least of several peers in each round: the one to beat.
func Best(peers ...[]float64) []float64 {
	var out []float64
	for _, values := range peers {
		for i, v := range values {
			if i == len(out) {
				out = append(out, math.NaN())
			}
			if math.IsNaN(out[i]) || v < out[i] {
				out[i] = v
			}
		}
	}
	return out
}
