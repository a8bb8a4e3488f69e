// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"math"
	"slices"
)

// maglev maps hashes to members by a table, so that every proxy that knows the same members maps them alike, and few keys
// move when members come or go.
//
// Every member prefers the slots in an order of its own. A few members take turns at their next free slot, as Maglev has
// it: equal shares, but who comes or goes shifts the turns of others, which with more members moves many times the keys
// that must move. Of more members the one that prefers a slot most gets it: no key moves but to one that comes or from one
// that goes, and shares vary by a few percent, so that the more there are the larger the table must be.
//
// Nearly every key moves from one kind of table to the next. So it does not happen at once: while the members become five times
// as many, a share of the keys that grows with their logarithm goes by the next kind. Then the keys that move because of
// that are 1/ln 5 of those that must.
type maglev struct {
	names []string    // of the members, in their order
	slots [2][]uint32 // indices of members; the second may be nil
	next  uint32      // the share of the keys, of 2^32, that go by the second
}

// kinds of tables. Their sizes are primes.
var kinds = [...]struct {
	slots int
	fill  func(walks []walk, size int) []uint32
	// From how many members on more and more keys go by the next kind, and from how many all do.
	from, to int
}{
	{65537, byTurns, 20, 100},
	{262147, byPreference, 650, 3250},
	{1048583, byPreference, math.MaxInt, math.MaxInt},
}

// claims is how many slots the members ask for, for each that there is: all but e^-8 of the slots are asked for.
const claims = 8

// Hash maps the value of a request's key to what Ask.Hash takes. It is the same in every proxy.
func Hash(value string) uint64 {
	h := uint64(0xcbf29ce484222325) // FNV-1a
	for i := range len(value) {
		h = (h ^ uint64(value[i])) * 0x100000001b3
	}
	return mix(h)
}

// after makes the table of members, unless this one is of the same.
func (t *maglev) after(members []Member) *maglev {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Endpoint.Address.String()
	}
	if t != nil && slices.Equal(t.names, names) {
		return t
	}
	return newMaglev(names)
}

// newMaglev builds the table of at least one member. The names' order does not matter to who gets what. It takes some
// milliseconds, and for thousands of members tens of them.
func newMaglev(names []string) *maglev {
	order := make([]uint32, len(names))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(names[a], names[b]) })
	kind := 0
	for len(names) >= kinds[kind].to {
		kind++
	}
	t := &maglev{names: names}
	t.slots[0] = fill(kind, names, order)
	if from, to := kinds[kind].from, kinds[kind].to; len(names) > from {
		t.next = uint32(math.Log(float64(len(names))/float64(from)) / math.Log(float64(to)/float64(from)) * (1 << 32))
		t.slots[1] = fill(kind+1, names, order)
	}
	return t
}

// fill makes a table of a kind, of names that are sorted by order.
func fill(kind int, names []string, order []uint32) []uint32 {
	size := kinds[kind].slots
	walks := make([]walk, len(names))
	for i, member := range order {
		h := Hash(names[member])
		walks[i] = walk{uint32(h>>32) % uint32(size), 1 + uint32(h)%uint32(size-1)}
	}
	slots := kinds[kind].fill(walks, size)
	for i, at := range slots {
		slots[i] = order[at]
	}
	return slots
}

// owner is the index of the member that a hash belongs to.
func (t *maglev) owner(hash uint64) uint32 {
	slots := t.slots[0]
	if uint32(hash>>32) < t.next {
		slots = t.slots[1]
	}
	return slots[hash%uint64(len(slots))]
}

// walk is a member's way through all slots, from the one that it prefers.
type walk struct{ at, step uint32 }

func (w *walk) next(size int) {
	if w.at += w.step; w.at >= uint32(size) {
		w.at -= uint32(size)
	}
}

// free is a slot that nobody has.
const free = math.MaxUint32

// byTurns lets members take their next free slot in turn, and returns who has which.
func byTurns(walks []walk, size int) []uint32 {
	slots := make([]uint32, size)
	for i := range slots {
		slots[i] = free
	}
	for taken := 0; ; {
		for i := range walks {
			w := &walks[i]
			for slots[w.at] != free {
				w.next(size)
			}
			slots[w.at] = uint32(i)
			if taken++; taken == size {
				return slots
			}
		}
	}
}

// byPreference gives slots to those that prefer them most, and returns who has which. A slot that nobody asked for goes
// with another one.
func byPreference(walks []walk, size int) []uint32 {
	best := make([]uint64, size) // upper half: how much the member in the lower half prefers the slot; less is more
	for i := range best {
		best[i] = math.MaxUint64
	}
	for i := range walks {
		w := &walks[i]
		for rank := range claims * size / len(walks) {
			best[w.at] = min(best[w.at], uint64(rank)<<32|uint64(i))
			w.next(size)
		}
	}
	slots := make([]uint32, size)
	for i := range slots {
		from := i
		for other := random(i); best[from] == math.MaxUint64; {
			from = int(other.below(uint32(size)))
		}
		slots[i] = uint32(best[from])
	}
	return slots
}

// find returns the index of the member that a query's key belongs to, or if that may not be picked of the one that has it
// instead: the same for all that see the same members fail.
func (t *maglev) find(members *tier, q *query) int {
	again := random(q.Hash)
	at := q.Hash
	for range redraws {
		i := t.owner(at)
		if q.admits(&members.members[i]) {
			return int(i)
		}
		at = again.next()
	}
	q.random = again
	return members.scan(q)
}
