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
		"2": {2, .01}, "3": {3, .01}, "10": {10, .01}, "20, when the next kind of table begins": {20, .01}, "33": {33, .05},
		"50": {50, .1}, "70": {70, .1}, "99, when the next kind has nearly all": {99, .1}, "100": {100, .1}, "102": {102, .1},
	}
	for name, c := range cases {
		t.Run(name+" endpoints", func(t *testing.T) {
			fewKeysMove(t, c.n, c.spread)
		})
	}
}

// shares are what part of the keys each member has.
func (t *maglev) shares() []float64 {
	shares := make([]float64, len(t.names))
	second := float64(t.next) / (1 << 32)
	for i, part := range []float64{1 - second, second} {
		for _, m := range t.slots[i] {
			shares[m] += part / float64(len(t.slots[i]))
		}
	}
	return shares
}

// moved is the share of the keys that have another member in another table. Those that go by another kind all have.
func (t *maglev) moved(to *maglev) float64 {
	differ := func(a, b []uint32) float64 {
		n := 0
		for i := range a {
			if t.names[a[i]] != to.names[b[i]] {
				n++
			}
		}
		return float64(n) / float64(len(a))
	}
	second, then := float64(t.next)/(1<<32), float64(to.next)/(1<<32)
	switch {
	case len(t.slots[0]) == len(to.slots[0]):
		moved := max(second, then) - min(second, then) + (1-max(second, then))*differ(t.slots[0], to.slots[0])
		if both := min(second, then); both > 0 {
			moved += both * differ(t.slots[1], to.slots[1])
		}
		return moved
	case len(t.slots[1]) == len(to.slots[0]): // no key is left that goes by the first
		return 1 - second + second*differ(t.slots[1], to.slots[0])
	}
	return 1
}

// fewKeysMove compares the tables of n members, of one more and of one less.
func fewKeysMove(t *testing.T, n int, spread float64) {
	t.Helper()
	names := named(n + 1)
	leaves := n / 2
	before := newMaglev(names[:n])
	without := newMaglev(slices.Concat(names[:leaves], names[leaves+1:n]))
	shares := before.shares()
	low, high := slices.Min(shares)*float64(n), slices.Max(shares)*float64(n)
	came, went := before.moved(newMaglev(names))*float64(n+1), without.moved(before)/shares[leaves]
	t.Logf("shares %.3f to %.3f of the mean; moved, of the ideal: %.2f when one comes, %.2f when one goes", low, high, came, went)
	if low < 1-spread || high > 1+spread {
		t.Errorf("shares from %.3f to %.3f of the mean, want within %.2f", low, high, spread)
	}
	if came >= 2 || went >= 2 {
		t.Errorf("%.2f and %.2f times the slots moved that must", came, went)
	}
}

func TestTheOrderOfMembersDoesNotMatter(t *testing.T) {
	names := named(50)
	other := slices.Clone(names)
	rand.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	a, b := newMaglev(names), newMaglev(other)
	for i := range a.slots {
		for j := range a.slots[i] {
			if names[a.slots[i][j]] != other[b.slots[i][j]] {
				t.Fatalf("slot %d differs", j)
			}
		}
	}
	if m := members(5); a.after(m) == a || a.after(m).after(slices.Clone(m)) == nil {
		t.Error("a table of other members is the same")
	}
	m := members(5)
	if first := a.after(m); first.after(slices.Clone(m)) != first {
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
