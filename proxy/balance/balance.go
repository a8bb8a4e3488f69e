// SPDX-License-Identifier: Apache-2.0

// Package balance picks endpoints.
//
// A Set is the endpoints of a cluster at one time; what is learnt of each of them, its State, is carried over from one Set
// to the next. A pick takes no lock and allocates nothing. It goes, in this order, to
//
//   - an ejected endpoint whose time is over, once: its trial;
//   - an eligible endpoint that is ready, by the policy, of the nearer tier first;
//   - one that is terminating, while no other is eligible;
//   - an eligible one that the caller wanted to avoid.
//
// With fewer eligible ones than the panic threshold all are picked from, since those that are left would break too.
//
// Sources: M. Mitzenmacher, "The power of two choices in randomized load balancing" (2001), for LeastRequest and PeakEWMA:
// a second draw takes most of the imbalance away, and needs no state that is shared between proxies; D. Eisenbud and
// others, "Maglev" (NSDI 2016), for ConsistentHash; Finagle's PeakEwma; Envoy's overprovisioning factor for the tiers.
package balance

import (
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Member is an endpoint of a backend, with what reports say of it.
type Member struct {
	Endpoint *upstream.Endpoint
	Workload string
	Zone     string
	Hints    []string // zones that it should be called from
	State    *State   // set by the Set that it is in
}

// Set is the endpoints of a backend at one time. It never changes, but for the States in it. The zero Set is empty.
type Set struct {
	options Options
	shared  *cluster

	ready []Member // those of the nearer tier first
	near  tier     // all, when there is one tier alone
	far   tier
	all   tier // both, for a panic; not used with one tier alone
	going tier // terminating

	table *maglev // of ConsistentHash

	// The endpoint that is ready for the longest time, and when the newest one has its full share, in Unix nanoseconds.
	oldest, warm int64
}

// NewSet makes a Set by the default policy, of endpoints about which nothing is known. Terminating members are picked only
// while no other can be.
func NewSet(ready, terminating []Member) *Set {
	return new(Set).Next(Options{}, ready, terminating, 0)
}

// Members returns all, ready ones first.
func (s *Set) Members() []Member { return slices.Concat(s.ready, s.going.members) }

// Len is how many members there are.
func (s *Set) Len() int { return len(s.ready) + len(s.going.members) }

// Healthy is how many ready members are neither ejected nor down.
func (s *Set) Healthy() int { return int(s.near.healthy.Load() + s.far.healthy.Load()) }

// Ready is how many members are ready.
func (s *Set) Ready() int { return len(s.ready) }

// Cap sets what share of the ready members may be ejected, in percent, and ends the ejections that are too many then, the first
// to end first.
func (s *Set) Cap(maxPercent int) {
	if s.shared == nil {
		return
	}
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.maxPercent = maxPercent
	s.shared.keep()
}

// began is when the process did.
var began = time.Now()

// Nanos is a time as packages balance and outlier want it: Unix nanoseconds, but by the clock that nobody sets, where t has a
// reading of it. Otherwise ejections would last for as much longer as the wall clock is set back.
func Nanos(t time.Time) int64 { return began.UnixNano() + int64(t.Sub(began)) }

// Outcome is what a try says of its endpoint.
type Outcome uint8

// The outcomes.
const (
	Neutral Outcome = iota // nothing
	Success
	Failure   // however fast it was
	Abandoned // nobody waited for the answer any longer: it takes at least the latency
)

// Pick is an endpoint that was picked and counts one more in flight until Done.
type Pick struct {
	Endpoint *upstream.Endpoint
	Workload string
	State    *State
	// Trial says that the endpoint is ejected and that this decides whether it stays so.
	Trial bool
	// Panic says that too few endpoints are eligible, so that it may be one that is not.
	Panic bool

	learns bool
	trial  uint64 // its number
}

// Done says that the request or connection is over. Call it once. Latency is the time from the pick to the head of the
// answer, or to the failure, or until it was abandoned; it means nothing with Neutral. Now is in Unix nanoseconds.
func (p *Pick) Done(outcome Outcome, latency time.Duration, now int64) {
	p.Endpoint.End()
	if p.Trial && (outcome == Neutral || outcome == Abandoned) {
		p.State.cluster.tryAgain(p.State, p.trial, now)
	}
	switch {
	case !p.learns, outcome == Neutral:
	case outcome == Abandoned:
		p.State.latency.exceeds(latency, now)
	default:
		p.State.latency.learn(latency, outcome == Failure, now)
	}
}
