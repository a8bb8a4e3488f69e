// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"math/rand/v2"
	"time"
)

// Schedule says when an open-loop generator means to send: at a mean rate, with the exponential gaps of callers who know
// nothing of each other. One seed gives one schedule, so that every peer of a round gets the same load.
type Schedule struct {
	random *rand.Rand
	gap    float64 // mean, in nanoseconds
	next   float64
}

// NewSchedule returns a schedule of so many a second, which begins at 0.
func NewSchedule(rate float64, seed uint64) *Schedule {
	s := &Schedule{random: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), gap: float64(time.Second) / rate}
	s.Advance()
	return s
}

// Next returns the time of the next one, as the distance from the beginning. It does not move on.
func (s *Schedule) Next() time.Duration { return time.Duration(s.next) }

// Advance moves on to the one after.
func (s *Schedule) Advance() { s.next += s.random.ExpFloat64() * s.gap }
