// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"sync"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Sizes of buffers.
const (
	requestBuffer = 4 << 10  // to read requests into; its strings stay as long as the answer takes
	writeBuffer   = 8 << 10  // to write from: heads, with the content of small messages
	answerBuffer  = 20 << 10 // to read answers into: a head with 16 KiB of content, which many servers send at once
	mediumBuffer  = 64 << 10
	largeBuffer   = 192 << 10 // the largest request line and header, by default
)

// buffer is memory of a pool.
type buffer struct {
	b      []byte
	budget *limits.Budget // from which it was taken, or nil
	older  *buffer        // has strings of the same message, or nil
}

var pools = [...]struct {
	size int
	pool *sync.Pool
}{
	{requestBuffer, poolOf(requestBuffer)},
	{writeBuffer, poolOf(writeBuffer)},
	{answerBuffer, poolOf(answerBuffer)},
	{mediumBuffer, poolOf(mediumBuffer)},
	{largeBuffer, poolOf(largeBuffer)},
}

func poolOf(size int) *sync.Pool {
	return &sync.Pool{New: func() any { return &buffer{b: make([]byte, size)} }}
}

// newBuffer returns a buffer of n bytes or more.
func newBuffer(n int) *buffer {
	for i := range pools {
		if n <= pools[i].size {
			b, _ := pools[i].pool.Get().(*buffer)
			return b
		}
	}
	return &buffer{b: make([]byte, n)}
}

// free gives a buffer back, and those older; nil is allowed. Nothing may point into it any more.
func (b *buffer) free() {
	for b != nil {
		older := b.older
		b.budget.Give(len(b.b))
		b.budget, b.older = nil, nil
		for i := range pools {
			if len(b.b) == pools[i].size {
				pools[i].pool.Put(b)
			}
		}
		b = older
	}
}
