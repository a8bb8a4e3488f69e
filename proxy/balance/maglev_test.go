// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/heddle-mesh/heddle/proxy/upstream"
)

func named(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255)
	}
	return names
}

func TestFewKeysMove(t *testing.T) {
	cases := map[string]struct {
		n      int
		spread float64 // how far a share may be from the mean
	}{
		"2": {2, .01}, "3": {3, .01}, "10": {10, .01}, "99": {99, .01},
		"102": {102, .1}, "640": {640, .25}, "1000": {1000, .15},
	}
	for name, c := range cases {
		t.Run(name+" endpoints", func(t *testing.T) {
			fewKeysMove(t, c.n, c.spread)
		})
	}
}

// fewKeysMove compares the tables of n members, of one more and of one less.
func fewKeysMove(t *testing.T, n int, spread float64) {
	t.Helper()
	names := named(n + 1)
	leaves := n / 2
	before := newMaglev(names[:n])
	after := newMaglev(names)
	without := newMaglev(slices.Concat(names[:leaves], names[leaves+1:n]))
	if len(before.slots) != len(after.slots) || len(before.slots) != len(without.slots) {
		t.Fatal("the table grew or shrank")
	}
	counts := make([]int, n)
	came, went := 0, 0
	for i, m := range before.slots {
		counts[m]++
		if after.names[after.slots[i]] != names[m] {
			came++
		}
		if without.names[without.slots[i]] != names[m] {
			went++
		}
	}
	mean := float64(len(before.slots)) / float64(n)
	ideal := float64(len(before.slots)) / float64(n+1)
	low, high := float64(slices.Min(counts))/mean, float64(slices.Max(counts))/mean
	t.Logf("shares %.3f to %.3f of the mean; moved, of the ideal: %.2f when one comes, %.2f when one goes",
		low, high, float64(came)/ideal, float64(went)/float64(counts[leaves]))
	if low < 1-spread || high > 1+spread {
		t.Errorf("shares from %.3f to %.3f of the mean, want within %.2f", low, high, spread)
	}
	if float64(came) >= 2*ideal || went >= 2*counts[leaves] {
		t.Errorf("%d and %d slots moved, ideal is %.0f and %d", came, went, ideal, counts[leaves])
	}
}

func TestTheOrderOfMembersDoesNotMatter(t *testing.T) {
	names := named(50)
	other := slices.Clone(names)
	rand.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	a, b := newMaglev(names), newMaglev(other)
	for i := range a.slots {
		if names[a.slots[i]] != other[b.slots[i]] {
			t.Fatalf("slot %d differs", i)
		}
	}
	if m := members(5); a.next(m) == a || a.next(m).next(slices.Clone(m)) == nil {
		t.Error("a table of other members is the same")
	}
	m := members(5)
	if first := a.next(m); first.next(slices.Clone(m)) != first {
		t.Error("a table of the same members was made again")
	}
}

func TestAKeyStaysWhereItIs(t *testing.T) {
	const keys = 2000
	o := Options{Policy: policies["ConsistentHash"]}
	m := members(20)
	s := set(o, slices.Clone(m)...)
	owner := func(s *Set, key int, avoid ...*upstream.Endpoint) *upstream.Endpoint {
		pick, ok := s.Pick(Ask{Now: start, Random: rand.Uint64(), Hash: Hash(fmt.Sprint(key)), Hashed: true, Avoid: avoid})
		if !ok {
			t.Fatal("nobody was picked")
		}
		return pick.Endpoint
	}
	var before [keys]*upstream.Endpoint
	for key := range keys {
		before[key] = owner(s, key)
		if again := owner(s, key); again != before[key] {
			t.Fatal("a key moved")
		}
	}
	// Of one that is ejected, every key goes to a fixed other one, and they to many; nobody else's key moves.
	bad := s.ready[7]
	bad.State.Eject(start+second, 100)
	heirs := map[*upstream.Endpoint]bool{}
	for key := range keys {
		now := owner(s, key)
		switch {
		case before[key] != bad.Endpoint && now != before[key]:
			t.Fatalf("key %d moved", key)
		case before[key] == bad.Endpoint:
			heirs[now] = true
			if now == bad.Endpoint || now != owner(s, key) {
				t.Fatalf("key %d is nowhere", key)
			}
		}
		if second := owner(s, key, now); second == now || second != owner(s, key, now) {
			t.Fatalf("a second try of key %d goes to the same or anywhere", key)
		}
	}
	if len(heirs) < 12 {
		t.Errorf("its keys went to %d others only", len(heirs))
	}
	bad.State.Restore()
	for key := range keys {
		if owner(s, key) != before[key] {
			t.Fatalf("key %d did not come back", key)
		}
	}
	// When all but one are out that one has them all.
	for _, m := range s.ready[1:] {
		m.State.SetDown(true)
	}
	if owner(s, 1) != s.ready[0].Endpoint {
		t.Error("the only eligible one was not found")
	}
}
