// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// decay is how long a latency takes to lose all but 1/e of its weight.
	decay = 10 * time.Second
	// penalty is the latency that a failure counts as, unless it took longer: an endpoint that fails fast must not look fast.
	penalty = 5 * time.Second
	// leastWeight is for how much time a failure counts at least, so that one counts although an answer came just before.
	leastWeight = 10 * time.Millisecond
	// leastWait is what is learnt of an endpoint at least of which nothing is known and that nobody waited for any longer: it
	// must not look fast because somebody was in a hurry.
	leastWait = 10 * time.Millisecond
	// unknownBelow is the latency that is taken for none.
	unknownBelow = float32(time.Microsecond)
)

// ewma is the mean of latencies, in which newer ones weigh more, and which rises at once to one that is higher, be it one of
// which nobody has waited for the end. It fades while nothing is learnt, so that an endpoint that was slow is asked again. The
// zero ewma knows nothing.
//
// Upper half: the time of the last change, in ticks. Lower half: a float32, in nanoseconds.
type ewma struct{ packed atomic.Uint64 }

// tick is a shift of nanoseconds: 65 µs, so that 32 bits last for three days.
const tick = 16

// elapsed is the time from a stamp until now. Goroutines that are held up between reading the clock and here are a little
// late: that is no time at all, and not three days.
func elapsed(stamp uint32, now int64) time.Duration {
	ticks := uint32(now>>tick) - stamp
	if ago := -int32(ticks); ago > 0 && time.Duration(ago)<<tick < time.Minute {
		return 0
	}
	return time.Duration(ticks) << tick
}

// keeps is the share of a value that is left after a time.
func keeps(d time.Duration) float32 {
	x := float64(d) * (1 / float64(decay))
	if x < 1./32 {
		return float32(1 - x + x*x/2) // to within 1 in 100,000, and most are asked often
	}
	return float32(math.Exp(-x))
}

// learn takes a latency in.
func (e *ewma) learn(latency time.Duration, failed bool, now int64) {
	sample := float32(max(latency, 1))
	if failed {
		sample = max(sample, float32(penalty))
	}
	for {
		old := e.packed.Load()
		stamp := uint32(now >> tick)
		value := math.Float32frombits(uint32(old))
		since := elapsed(uint32(old>>32), now)
		switch {
		case old == 0 && failed:
			value = sample / 10
		case old == 0 || !failed && sample >= value:
			value = sample
		default:
			if failed {
				since = max(since, leastWeight)
			} else if since == 0 {
				return // too soon to weigh anything
			}
			w := keeps(since)
			value = value*w + sample*(1-w)
		}
		if elapsed(uint32(old>>32), now) == 0 && old != 0 {
			stamp = uint32(old >> 32) // not backwards
		}
		if e.packed.CompareAndSwap(old, uint64(stamp)<<32|uint64(math.Float32bits(value))) {
			return
		}
	}
}

// exceeds takes in that there was no answer within a time. It counts no more than a failure does: a stream may be silent for
// hours, and be well.
func (e *ewma) exceeds(waited time.Duration, now int64) {
	sample := float32(min(waited, penalty))
	for {
		old := e.packed.Load()
		stamp, last := uint32(now>>tick), uint32(old>>32)
		since := elapsed(last, now)
		value := math.Float32frombits(uint32(old)) * keeps(since)
		if sample <= value || value < unknownBelow && waited < leastWait {
			return
		}
		if since == 0 && old != 0 {
			stamp = last // not backwards
		}
		if e.packed.CompareAndSwap(old, uint64(stamp)<<32|uint64(math.Float32bits(sample))) {
			return
		}
	}
}

// at is the mean at a time, in nanoseconds; 0 while nothing is known.
func (e *ewma) at(now int64) float32 {
	packed := e.packed.Load()
	if packed == 0 {
		return 0
	}
	value := math.Float32frombits(uint32(packed)) * keeps(elapsed(uint32(packed>>32), now))
	if value < unknownBelow {
		return 0
	}
	return value
}
