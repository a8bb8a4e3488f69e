// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// overprovision is how many times the share of near endpoints that are eligible is their share of the requests, in tenths:
// up to 100 %, so that others are called when fewer than 10/14 are. That is Envoy's factor.
const overprovision = 14

// crowd is how many requests a near endpoint has under way, for each of a far one and one more, when that one is called
// instead: what comes faster than near ones answer spills over, and what they are quick enough for does not.
const crowd = 8

// redraws is how often an endpoint that was drawn and is not taken is drawn again, before all are gone through.
const redraws = 16

// Ask is what is asked of a pick.
type Ask struct {
	Now    int64                // as Nanos has it
	Random uint64               // 64 random bits
	Avoid  []*upstream.Endpoint // those that were tried before
	Hash   uint64               // of the request's key: see Hash
	Hashed bool                 // whether the request has a key
	Copy   bool                 // nobody will judge it, so that it is no trial
}

// query is an Ask on its way through the tiers.
type query struct {
	Ask
	random random
	any    bool // nobody is too bad
	out    bool // some are
}

// Pick picks a member. ok is false when there is none that may be called.
func (s *Set) Pick(ask Ask) (pick Pick, ok bool) {
	if s.shared == nil {
		return pick, false
	}
	if len(ask.Avoid) == 0 && !ask.Copy {
		if m, trial := s.shared.try(ask.Now); m != nil {
			return s.begin(m, Pick{Trial: true, trial: trial}), true
		}
	}
	q := query{Ask: ask, random: random(ask.Random), out: s.shared.out.Load() != 0}
	m := s.find(&q)
	if m == nil && len(s.going.members) > 0 {
		bad := q.any
		q.any = true
		m = s.going.choose(s, &q)
		q.any = bad
	}
	if m == nil && len(ask.Avoid) > 0 {
		q.Avoid = nil
		if m = s.find(&q); m == nil {
			q.any = true
			m = s.going.choose(s, &q)
			q.any = false
		}
	}
	if m == nil {
		return pick, false
	}
	return s.begin(m, Pick{Panic: q.any}), true
}

// begin counts one more in flight.
func (s *Set) begin(m *Member, p Pick) Pick {
	p.Endpoint, p.Workload, p.State = m.Endpoint, m.Workload, m.State
	p.learns = s.options.Policy == meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA
	m.Endpoint.Begin()
	return p
}

// find picks a ready member; nil when none is eligible that is not avoided.
func (s *Set) find(q *query) *Member {
	if len(s.ready) == 0 {
		return nil
	}
	near, far := s.near.healthy.Load(), s.far.healthy.Load()
	if q.any = int(near+far)*100 < s.options.PanicPercent*len(s.ready); q.any {
		return s.all.choose(s, q)
	}
	first, second := &s.near, &s.far
	if total := int64(len(s.near.members)); far > 0 && near*overprovision < total*10 &&
		int64(q.random.below(uint32(total*10))) >= near*overprovision {
		first, second = second, first
	}
	m := first.choose(s, q)
	if m == nil && len(second.members) > 0 {
		return second.choose(s, q)
	}
	if m != nil && first == &s.near && far > 0 && m.Endpoint.InFlight() >= crowd {
		if other := second.choose(s, q); other != nil && m.Endpoint.InFlight() >= crowd*(1+other.Endpoint.InFlight()) {
			return other
		}
	}
	return m
}

// choose picks a member of a tier by the policy; nil when there is none that may be.
func (t *tier) choose(s *Set, q *query) *Member {
	switch len(t.members) {
	case 0:
		return nil
	case 1: // there is nothing to draw
		if m := &t.members[0]; q.admits(m) {
			return m
		}
		return nil
	}
	switch s.options.Policy {
	case meshconfig.BalancingPolicy_BALANCING_POLICY_ROUND_ROBIN:
		return t.turn(s, q)
	case meshconfig.BalancingPolicy_BALANCING_POLICY_RANDOM:
		return t.at(t.draw(s, q, none, true))
	case meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH:
		if q.Hashed && t != &s.going {
			return t.at(s.table.find(t, q))
		}
		return t.at(t.draw(s, q, none, true))
	case meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA:
		return t.better(s, q, true)
	default:
		return t.better(s, q, false)
	}
}

// none is the index of no member.
const none = -1

func (t *tier) at(i int) *Member {
	if i < 0 {
		return nil
	}
	return &t.members[i]
}

// turn takes the next one in turn. Whoever is left out does not give all of its turns to the one after it, because the
// cursor is shared: the next request begins behind.
func (t *tier) turn(s *Set, q *query) *Member {
	n := uint64(len(t.members))
	for range redraws {
		m := &t.members[t.cursor.Add(1)%n]
		if q.admits(m) && s.accepts(q, m) {
			return m
		}
	}
	return t.at(t.scan(q))
}

// better takes the better one of two that are drawn: that is idler, or is expected to answer sooner.
func (t *tier) better(s *Set, q *query, learns bool) *Member {
	first := t.draw(s, q, none, true)
	if first == none || len(t.members) == 1 {
		return t.at(first)
	}
	second := t.draw(s, q, first, false)
	if second == none {
		return &t.members[first]
	}
	a, b := &t.members[first], &t.members[second]
	if learns && s.sooner(q, b, a) || !learns && s.idler(q, b, a) {
		return b
	}
	return a
}

// idler says whether a has fewer in flight than b, for what they should have.
func (s *Set) idler(q *query, a, b *Member) bool {
	x, y := a.Endpoint.InFlight(), b.Endpoint.InFlight()
	if q.Now >= s.warm {
		return x < y
	}
	return float64(x)*s.share(q, b) < float64(y)*s.share(q, a)
}

// sooner says whether a is expected to answer before b. Where nothing is known of one of them the idler one is.
func (s *Set) sooner(q *query, a, b *Member) bool {
	x, y := a.State.latency.at(q.Now), b.State.latency.at(q.Now)
	if x == 0 || y == 0 {
		return s.idler(q, a, b)
	}
	m, n := float64(a.Endpoint.InFlight()), float64(b.Endpoint.InFlight())
	if q.Now < s.warm {
		m, n = m/s.share(q, a), n/s.share(q, b)
	}
	return float64(x)*(m+1) < float64(y)*(n+1)
}

// draw draws a member that may be picked, other than one. If it has no luck then thorough says whether all are gone
// through.
func (t *tier) draw(s *Set, q *query, other int, thorough bool) int {
	n := uint32(len(t.members))
	if other != none {
		n--
	}
	if n == 0 {
		return none
	}
	for range redraws {
		i := int(q.random.below(n))
		if other != none && i >= other {
			i++ // without hole
		}
		if m := &t.members[i]; q.admits(m) && s.accepts(q, m) {
			return i
		}
	}
	if !thorough {
		return none
	}
	return t.scan(q)
}

// scan goes through all members, in one of many orders so that nobody gets what a whole neighbourhood does not take.
func (t *tier) scan(q *query) int {
	n := uint32(len(t.members))
	i, step := q.random.below(n), 1+q.random.below(n)
	for gcd(step, n) != 1 {
		step++
	}
	for range n {
		if q.admits(&t.members[i]) {
			return int(i)
		}
		i = uint32((uint64(i) + uint64(step)) % uint64(n))
	}
	return none
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// admits says whether a member may be picked at all.
func (q *query) admits(m *Member) bool {
	// While all are eligible, as they mostly are, it is not worth the way to a State to see that one is.
	if !q.any && q.out && m.State.blocked.Load() != 0 {
		return false
	}
	return len(q.Avoid) == 0 || !slices.Contains(q.Avoid, m.Endpoint)
}

// accepts draws whether a member that is new is picked this time.
func (s *Set) accepts(q *query, m *Member) bool {
	if q.Now >= s.warm {
		return true
	}
	share := s.share(q, m)
	return share == 1 || float64(q.random.next()>>11)/(1<<53) < share
}

// share is what a member should get of what one gets that has been here for the longest time.
func (s *Set) share(q *query, m *Member) float64 {
	if q.Now >= s.warm {
		return 1
	}
	return s.grown(q.Now-m.State.since.Load()) / s.grown(q.Now-s.oldest)
}

// grown is the share of an endpoint that has been here for a time, in nanoseconds: it grows from a tenth.
func (s *Set) grown(age int64) float64 {
	return min(1, 0.1+0.9*max(0, float64(age)/float64(s.options.SlowStart)))
}

// random is a source of random numbers: G. Steele and others, "Fast splittable pseudorandom number generators" (2014).
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	return mix(uint64(*r))
}

// below draws from [0, n), to within 2^-32 of even.
func (r *random) below(n uint32) uint32 {
	return uint32((r.next() >> 32) * uint64(n) >> 32)
}

// mix makes every bit depend on all.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
