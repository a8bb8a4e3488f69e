// SPDX-License-Identifier: Apache-2.0

package limits

import "sync/atomic"

// Budget counts bytes that many share, such as what all connections hold in buffers. A nil Budget has no end. It is safe
// for concurrent use.
type Budget struct {
	held atomic.Int64
	most int64
}

// NewBudget makes a Budget of so many bytes.
func NewBudget(most int) *Budget { return &Budget{most: int64(most)} }

// Take takes n bytes, all or none of them, and says whether it did. Who took them has to Give them back.
func (b *Budget) Take(n int) bool {
	if b == nil {
		return true
	}
	if b.held.Add(int64(n)) > b.most {
		b.held.Add(-int64(n))
		return false
	}
	return true
}

// Must takes n bytes even if that is more than there is: of what has to be held, and is bounded otherwise, such as what a
// peer's window lets it send. What is over makes Take fail for others.
func (b *Budget) Must(n int) {
	if b != nil {
		b.held.Add(int64(n))
	}
}

// Give gives n bytes back.
func (b *Budget) Give(n int) {
	if b != nil {
		b.held.Add(-int64(n))
	}
}

// Full says whether nothing is left, without taking anything: who would begin something new should not.
func (b *Budget) Full() bool { return b != nil && b.held.Load() >= b.most }

// Most is how many bytes there are in all.
func (b *Budget) Most() int64 { return b.most }

// Held is how many bytes are taken.
func (b *Budget) Held() int64 {
	if b == nil {
		return 0
	}
	return b.held.Load()
}
