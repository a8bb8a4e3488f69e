// SPDX-License-Identifier: Apache-2.0

// Package stats holds the arithmetic of the bench: histograms of latencies, medians and spreads over rounds, and the
// times at which an open-loop generator means to send.
package stats

import (
	"math/bits"
	"time"
)

// Each power of two is cut into 128 buckets, so that a value is told to within 0.8 %.
const (
	subBits = 7
	subs    = 1 << subBits
)

// Histogram counts durations. The zero value is empty and ready.
type Histogram struct {
	counts []int64
	total  int64
}

// bucket returns the index of the bucket of a value of at least 0.
func bucket(v int64) int {
	if v < 2*subs {
		return int(v)
	}
	shift := bits.Len64(uint64(v)) - subBits - 1 //nolint:gosec // v isn't negative
	return shift<<subBits + int(v>>shift)
}

// lowest is the inverse of bucket: the smallest value that a bucket holds.
func lowest(index int) int64 {
	if index < 2*subs {
		return int64(index)
	}
	shift := index>>subBits - 1
	return int64(index-shift<<subBits) << shift
}

// Record counts a duration. One below 0 counts as 0.
func (h *Histogram) Record(d time.Duration) {
	i := bucket(max(int64(d), 0))
	if i >= len(h.counts) {
		h.counts = append(h.counts, make([]int64, i+1-len(h.counts))...)
	}
	h.counts[i]++
	h.total++
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() int64 { return h.total }

// Quantile returns the duration that a share q, of 0 to 1, of those recorded doesn't exceed, to within a bucket. It is 0
// if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := max(int64(q*float64(h.total)+0.999999), 1)
	var seen int64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return time.Duration(lowest(i+1) - 1)
		}
	}
	return time.Duration(lowest(len(h.counts)) - 1)
}
