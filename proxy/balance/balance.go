// SPDX-License-Identifier: Apache-2.0

// Package balance picks endpoints: the less busy of two that are drawn at random.
//
// M. Mitzenmacher, "The power of two choices in randomized load balancing" (2001): a second draw takes most of the
// imbalance away, and needs no state that is shared between proxies.
package balance

import (
	"math/bits"
	"slices"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Member is an endpoint of a backend, with what reports say of it.
type Member struct {
	Endpoint *upstream.Endpoint
	Workload string
}

// Set is the endpoints of a backend at one time. It never changes. The zero Set is empty.
type Set struct {
	ready       []Member
	terminating []Member
}

// NewSet makes a Set. Terminating members are picked only while none is ready.
func NewSet(ready, terminating []Member) *Set { return &Set{ready, terminating} }

// Members returns all, ready ones first.
func (s *Set) Members() []Member { return slices.Concat(s.ready, s.terminating) }

// Len is how many members there are.
func (s *Set) Len() int { return len(s.ready) + len(s.terminating) }

// Pick is an endpoint that was picked and counts one more in flight until Done.
type Pick struct{ Member }

// Done says that the request or connection is over. Call it once.
func (p Pick) Done() { p.Endpoint.End() }

// Pick picks a member, given a source of 64 random bits. It avoids the endpoint that failed just now, if one is given and
// there is another. ok is false when there is no member.
func (s *Set) Pick(random func() uint64, failed *upstream.Endpoint) (pick Pick, ok bool) {
	members := s.ready
	if len(members) == 0 || len(members) == 1 && members[0].Endpoint == failed && len(s.terminating) > 0 {
		members = s.terminating
	}
	if len(members) == 0 {
		return Pick{}, false
	}
	pick = Pick{members[choose(members, random(), failed)]}
	pick.Endpoint.Begin()
	return pick, true
}

// choose returns the index of a member.
func choose(members []Member, random uint64, failed *upstream.Endpoint) int {
	n := uint32(len(members))
	skip := n // the index that is left out
	if failed != nil && n > 1 {
		if i := slices.IndexFunc(members, func(m Member) bool { return m.Endpoint == failed }); i >= 0 {
			skip = uint32(i)
			n--
		}
	}
	if n == 1 {
		return int(around(0, skip))
	}
	first := below(uint32(random), n)
	second := around(below(uint32(random>>32), n-1), first) // two different ones
	first, second = around(first, skip), around(second, skip)
	if members[second].Endpoint.InFlight() < members[first].Endpoint.InFlight() {
		return int(second)
	}
	return int(first)
}

// below maps 32 random bits to [0, n), to within 2^-32 of even.
func below(random, n uint32) uint32 {
	high, _ := bits.Mul32(random, n)
	return high
}

// around maps [0, n-1) to [0, n) without hole.
func around(i, hole uint32) uint32 {
	if i >= hole {
		return i + 1
	}
	return i
}
