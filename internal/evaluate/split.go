// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"math/bits"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Bounds of a split.
const (
	maxBackends = 256
	maxWeight   = 1_000_000
)

// Split divides requests among backends by weight. A share of one in 1,000,000 is kept exactly.
type Split struct {
	backends   []*meshconfig.WeightedBackend
	cumulative []uint64 // of the weights
	total      uint64
	seeds      []uint64 // of stickiness
}

func newSplit(backends []*meshconfig.WeightedBackend) (*Split, error) {
	if len(backends) == 0 || len(backends) > maxBackends {
		return nil, fmt.Errorf("%d backends: want 1 to %d", len(backends), maxBackends)
	}
	s := &Split{backends: backends, cumulative: make([]uint64, len(backends)), seeds: make([]uint64, len(backends))}
	for i, b := range backends {
		if b.GetWeight() > maxWeight {
			return nil, fmt.Errorf("weight %d of backend %q: want 0 to %d", b.GetWeight(), b.GetName(), maxWeight)
		}
		s.total += uint64(b.GetWeight())
		s.cumulative[i] = s.total
		s.seeds[i] = backendSeed(b)
	}
	return s, nil
}

// Backends returns the backends; the caller must not change them.
func (s *Split) Backends() []*meshconfig.WeightedBackend { return s.backends }

// Pick returns the index of a backend for 64 random bits, each with a probability of weight / sum of the weights (to
// within 2^-36). It returns -1 if all weights are 0.
func (s *Split) Pick(random uint64) int {
	if s.total == 0 {
		return -1
	}
	// The high half of the product is uniform in [0, total): multiplication instead of a biased modulo.
	point, _ := bits.Mul64(random, s.total)
	low, high := 0, len(s.cumulative)-1
	for low < high {
		middle := (low + high) / 2
		if point < s.cumulative[middle] {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}
