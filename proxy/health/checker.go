// SPDX-License-Identifier: Apache-2.0

package health

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

const (
	perInterval = 8 // endpoints of a cluster
	quietRounds = 3 // intervals without a request after which a cluster rests
)

// State is what a check decides on. Package balance's is one.
type State interface{ SetDown(isDown bool) }

// Target is an endpoint that may be checked.
type Target struct {
	Endpoint *upstream.Endpoint
	State    State
	// Suspect says whether requests to it have failed lately. It is called from the Checker's goroutine.
	Suspect func() bool
}

// Checker checks the endpoints of one cluster, from one goroutine, while the cluster is in use.
type Checker struct {
	check  *Check
	pace   *Pace
	random func() uint64
	end    context.CancelFunc
	over   sync.WaitGroup

	targets atomic.Pointer[[]Target]
	uses    atomic.Int64 // since the last round began
	asleep  atomic.Bool
	wake    chan struct{}

	passed, failed, skipped atomic.Uint64
	down                    atomic.Int64

	// Of the goroutine.
	seed    maphash.Seed
	known   *[]Target // targets when subset was drawn
	subset  []*record
	records map[*upstream.Endpoint]*record // of those that were checked, or are in subset
	round   int
	results chan result
}

// record is what is known of an endpoint.
type record struct {
	Target
	rank      uint64
	good, bad int  // checks one after another
	down      bool // it was taken out
	running   bool // a check is under way
	last      int  // the round of the last one; 0: none
	gone      bool // what a check has found is of no matter any more
}

type result struct {
	record *record
	err    error
}

// NewChecker makes a Checker, which rests until the first Use, given what bounds all checks of the proxy and a source of
// random bits. The end of ctx, or Close, ends it; Close it in any case.
func NewChecker(ctx context.Context, check *Check, pace *Pace, random func() uint64) *Checker {
	ctx, end := context.WithCancel(ctx)
	c := &Checker{
		check: check, pace: pace, random: random, end: end, wake: make(chan struct{}, 1), seed: maphash.MakeSeed(),
		records: make(map[*upstream.Endpoint]*record), results: make(chan result),
	}
	c.targets.Store(&[]Target{})
	c.over.Go(func() { c.run(ctx) })
	return c
}

// Use says that a request is sent to the cluster. It does not block and may be called on nil.
func (c *Checker) Use() {
	if c == nil {
		return
	}
	c.uses.Add(1)
	if c.asleep.Load() && c.asleep.CompareAndSwap(true, false) {
		c.wake <- struct{}{} // has room: who ends the rest sends, and there is no other rest before that has come
	}
}

// Update says which endpoints there are. Call it when they change; the slice is kept.
func (c *Checker) Update(targets []Target) { c.targets.Store(&targets) }

// Close ends all checks, waits for them, and lets everybody in again.
func (c *Checker) Close() {
	c.end()
	c.over.Wait()
}

// Counts is what a Checker has done since it was made.
type Counts struct {
	Made, Failed uint64
	Skipped      uint64 // because of the Pace
	Down         int    // endpoints that are out at this time
}

// Counts returns what the Checker has done since it was made.
func (c *Checker) Counts() Counts {
	failed := c.failed.Load()
	return Counts{c.passed.Load() + failed, failed, c.skipped.Load(), int(c.down.Load())}
}

func (c *Checker) run(ctx context.Context) {
	defer c.forget()
	for c.rest(ctx) {
		c.wait(ctx, c.part(c.check.Interval, 0))
		for quiet := 0; quiet < quietRounds && ctx.Err() == nil; {
			uses := c.uses.Swap(0)
			quiet++
			if uses > 0 {
				quiet = 0
			}
			c.goRound(ctx, int(min(perInterval, max(1, uses))))
		}
		c.forget()
	}
}

// rest waits for the first use; false: the Checker ends.
func (c *Checker) rest(ctx context.Context) bool {
	c.asleep.Store(true)
	if c.uses.Load() > 0 && c.asleep.CompareAndSwap(true, false) {
		return ctx.Err() == nil
	}
	for {
		select {
		case r := <-c.results:
			c.take(r)
		case <-c.wake:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// part is a random part of a time, of which at least some percent.
func (c *Checker) part(d time.Duration, percent int64) time.Duration {
	least := d * time.Duration(percent) / 100
	return least + time.Duration(c.random()%uint64(d-least+1))
}

// goRound makes at most n checks. It takes an interval, give or take a tenth.
func (c *Checker) goRound(ctx context.Context, n int) {
	c.round++
	plan := c.plan(n)
	gap := c.check.Interval * 11 / 10 / time.Duration(max(1, len(plan)))
	for _, r := range plan {
		c.start(ctx, r)
		c.wait(ctx, c.part(gap, 82)) // of 110 %: 90 to 110
	}
	if len(plan) == 0 {
		c.wait(ctx, c.part(gap, 82))
	}
}

// wait takes results for a time.
func (c *Checker) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case r := <-c.results:
			c.take(r)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// plan says who is checked in this round: of those that are to be looked after and of the subset, who was not for the
// longest time, and at that who looks worst.
func (c *Checker) plan(n int) []*record {
	targets := c.targets.Load()
	if targets != c.known {
		c.learn(targets)
	}
	for _, t := range *targets {
		if t.Suspect != nil && c.records[t.Endpoint] == nil && t.Suspect() {
			c.records[t.Endpoint] = &record{Target: t}
		}
	}
	candidates := make([]*record, 0, len(c.records))
	for e, r := range c.records {
		suspect := r.Suspect != nil && r.Suspect()
		switch {
		case r.running:
		case r.bad > 0 || r.down:
			candidates = append(candidates, r)
		case suspect || slices.Contains(c.subset, r):
			candidates = append(candidates, r)
		default:
			r.gone = true
			delete(c.records, e)
		}
	}
	slices.SortFunc(candidates, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(b.bad, a.bad), cmp.Compare(a.rank, b.rank))
	})
	return candidates[:min(n, len(candidates))]
}

// learn forgets endpoints that have gone and draws the subset: those of the lowest rank, by the proxy's own seed, so that it
// changes no more than the endpoints do.
func (c *Checker) learn(targets *[]Target) {
	old := c.records
	c.known, c.records, c.subset = targets, make(map[*upstream.Endpoint]*record, perInterval), nil
	for _, t := range *targets {
		rank := maphash.Comparable(c.seed, t.Endpoint.Key)
		r := old[t.Endpoint]
		if r != nil && r.State != t.State {
			r = nil // it was away between: it is dropped with the others
		}
		if r == nil {
			if len(c.subset) == perInterval && rank >= c.subset[perInterval-1].rank {
				continue
			}
			r = &record{}
		} else {
			c.records[t.Endpoint] = r
			delete(old, t.Endpoint)
		}
		r.Target, r.rank = t, rank
		at, _ := slices.BinarySearchFunc(c.subset, rank, func(r *record, rank uint64) int {
			if r.rank < rank {
				return -1
			}
			return 1
		})
		c.subset = slices.Insert(c.subset, at, r)
		c.subset = c.subset[:min(perInterval, len(c.subset))]
	}
	for _, r := range c.subset {
		c.records[r.Endpoint] = r
	}
	for _, r := range old {
		c.drop(r)
	}
}

// start begins a check.
func (c *Checker) start(ctx context.Context, r *record) {
	if ctx.Err() != nil || r.gone || r.running {
		return
	}
	r.last = c.round
	if !c.pace.take(time.Now()) {
		c.skipped.Add(1)
		return
	}
	r.running = true
	endpoint := r.Endpoint
	c.over.Go(func() {
		once, cancel := context.WithTimeout(ctx, c.check.Timeout)
		defer cancel()
		err := c.check.Once(once, endpoint)
		select {
		case c.results <- result{r, err}:
		case <-ctx.Done():
		}
	})
}

// take takes what a check has found.
func (c *Checker) take(got result) {
	r := got.record
	r.running = false
	if got.err != nil {
		c.failed.Add(1)
		r.good = 0
		r.bad++
	} else {
		c.passed.Add(1)
		r.bad = 0
		r.good++
	}
	switch {
	case r.gone:
	case !r.down && r.bad >= c.check.Unhealthy:
		r.down = true
		c.down.Add(1)
		r.State.SetDown(true)
	case r.down && r.good >= c.check.Healthy:
		c.restore(r)
	}
}

func (c *Checker) restore(r *record) {
	r.down = false
	c.down.Add(-1)
	r.State.SetDown(false)
}

// drop forgets an endpoint.
func (c *Checker) drop(r *record) {
	r.gone = true
	if r.down {
		c.restore(r)
	}
}

// forget forgets what was found.
func (c *Checker) forget() {
	for _, r := range c.records {
		c.drop(r)
	}
	clear(c.records)
	c.known, c.subset = nil, nil
}
