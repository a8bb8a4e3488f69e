// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

// ring is a queue of slots.
type ring struct {
	slots []*slot
	at, n int
}

func newRing(size int) ring { return ring{slots: make([]*slot, size)} }

func (r *ring) push(s *slot) {
	r.slots[(r.at+r.n)%len(r.slots)] = s
	r.n++
}

func (r *ring) pop() *slot {
	s := r.slots[r.at]
	r.at, r.n = (r.at+1)%len(r.slots), r.n-1
	return s
}
