// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"math"
	"sync/atomic"
	"time"
)

// Of the adaptive limit.
const (
	firstLimit = 20
	leastLimit = 1
	mostLimit  = 1000

	tolerance    = 1.5 // how many times the usual latency is no reason to let fewer in
	leastShare   = 0.5 // of itself, to which a limit goes down at once
	smoothing    = 0.2 // how much of the way to the limit that was computed it goes
	longWindows  = 600 // how many windows the usual latency is averaged over
	firstWindows = 10  // of which the mean is taken as it is
	decay        = 0.95

	windowTime    = time.Second
	windowSamples = 10 // at least
)

// Adaptive is a bound on concurrent requests that follows latency: as it grows beyond what is usual, requests are queueing
// somewhere, so fewer are let in; while it does not, there is room for a queue of the limit's square root more. It is
// Gradient2 of https://github.com/Netflix/concurrency-limits, with the queue of its first version. Its zero value has the
// first limit. It is safe for concurrent use.
type Adaptive struct {
	limit atomic.Uint32 // 0: firstLimit

	// Of the window.
	end, sum, count, most atomic.Int64

	// Held by who has set busy.
	busy    atomic.Bool
	exact   float64 // the limit with its fraction; 0: firstLimit
	usual   float64 // latency, in nanoseconds
	windows int
}

// Limit is the limit at this time, at least 1.
func (a *Adaptive) Limit() uint32 {
	if limit := a.limit.Load(); limit != 0 {
		return limit
	}
	return firstLimit
}

// Sample takes a request that has ended at a time, with how many were under way, itself among them. Most bounds the limit;
// 0: 1,000.
func (a *Adaptive) Sample(now int64, latency time.Duration, under int64, most uint32) {
	a.sum.Add(int64(latency))
	for {
		top := a.most.Load()
		if under <= top || a.most.CompareAndSwap(top, under) {
			break
		}
	}
	if a.count.Add(1) < windowSamples || !a.over(now) || !a.busy.CompareAndSwap(false, true) {
		return
	}
	if a.over(now) { // nobody else has been here meanwhile
		a.end.Store(now + int64(windowTime))
		count, sum, top := a.count.Swap(0), a.sum.Swap(0), a.most.Swap(0)
		if count > 0 {
			a.update(float64(sum)/float64(count), float64(top), most)
		}
	}
	a.busy.Store(false)
}

// over says whether the window is, or a clock was set back.
func (a *Adaptive) over(now int64) bool {
	end := a.end.Load()
	return now >= end || end-now > 2*int64(windowTime)
}

// update computes the limit from the mean latency of a window and how many were under way at most.
func (a *Adaptive) update(latency, under float64, most uint32) {
	a.windows++
	switch {
	case a.windows <= firstWindows:
		a.usual += (latency - a.usual) / float64(a.windows)
	default:
		a.usual += (latency - a.usual) * 2 / (longWindows + 1)
	}
	if a.usual > 2*latency {
		a.usual *= decay // it was slow for long and is no more
	}
	limit := a.exact
	if limit == 0 {
		limit = firstLimit
	}
	if under < limit/2 {
		return // that few say nothing of what would be too many
	}
	gradient := min(1, max(leastShare, tolerance*a.usual/max(latency, 1)))
	limit = limit*(1-smoothing) + (limit*gradient+math.Sqrt(limit))*smoothing
	top := float64(mostLimit)
	if most > 0 {
		top = float64(most)
	}
	a.exact = min(top, max(leastLimit, limit))
	a.limit.Store(uint32(a.exact))
}
