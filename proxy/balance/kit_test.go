// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

const second = int64(time.Second)

// start is when the tests begin, in Unix nanoseconds.
const start = 1_700_000_000 * second

var policies = map[string]meshconfig.BalancingPolicy{
	"RoundRobin":     meshconfig.BalancingPolicy_BALANCING_POLICY_ROUND_ROBIN,
	"LeastRequest":   meshconfig.BalancingPolicy_BALANCING_POLICY_LEAST_REQUEST,
	"PeakEWMA":       meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA,
	"Random":         meshconfig.BalancingPolicy_BALANCING_POLICY_RANDOM,
	"ConsistentHash": meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH,
}

// members makes endpoints that no other call has made.
func members(n int) []Member {
	registry := upstream.NewRegistry(upstream.Options{})
	list := make([]Member, n)
	for i := range list {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80)
		list[i] = Member{Endpoint: registry.Acquire(upstream.Key{Address: address})}
	}
	return list
}

// zoned is members of zones: so many of each.
func zoned(zones map[string]int) []Member {
	var list []Member
	for _, m := range members(sum(zones)) {
		for zone, n := range zones {
			if n > 0 {
				zones[zone]--
				m.Zone = zone
				break
			}
		}
		list = append(list, m)
	}
	return list
}

func sum(zones map[string]int) int {
	total := 0
	for _, n := range zones {
		total += n
	}
	return total
}

// ask is an Ask with random bits at a time.
func ask(now int64, avoid ...*upstream.Endpoint) Ask {
	h := rand.Uint64()
	return Ask{Now: now, Random: rand.Uint64(), Avoid: avoid, Hash: h, Hashed: h&1 == 0}
}

// count picks n times and says how often whom.
func count(t *testing.T, s *Set, n int, ask func() Ask) map[*upstream.Endpoint]int {
	t.Helper()
	counts := map[*upstream.Endpoint]int{}
	for range n {
		pick, ok := s.Pick(ask())
		if !ok {
			t.Fatal("nobody was picked")
		}
		counts[pick.Endpoint]++
		pick.Done(Neutral, 0, 0)
	}
	return counts
}

// set is a Set of members about which nothing is known yet.
func set(o Options, ready ...Member) *Set { return new(Set).Next(o, ready, nil, start) }

// zone is that of the endpoint that was picked.
func zone(p Pick) string { return p.State.member.Zone }
