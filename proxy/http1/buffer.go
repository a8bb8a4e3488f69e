// SPDX-License-Identifier: Apache-2.0

package http1

import "sync"

// Sizes of buffers.
const (
	smallBuffer  = 8 << 10  // to write from: heads, with the content of small messages
	readBuffer   = 20 << 10 // to read into: a head with 16 KiB of content, which many writers send at once
	mediumBuffer = 64 << 10
	largeBuffer  = 192 << 10 // the largest request line and header, by default
)

// buffer is memory of a pool.
type buffer struct{ b []byte }

var pools = [...]struct {
	size int
	pool *sync.Pool
}{{smallBuffer, poolOf(smallBuffer)}, {readBuffer, poolOf(readBuffer)}, {mediumBuffer, poolOf(mediumBuffer)}, {largeBuffer, poolOf(largeBuffer)}}

func poolOf(size int) *sync.Pool {
	return &sync.Pool{New: func() any { return &buffer{make([]byte, size)} }}
}

// newBuffer returns a buffer of n bytes or more.
func newBuffer(n int) *buffer {
	for i := range pools {
		if n <= pools[i].size {
			b, _ := pools[i].pool.Get().(*buffer)
			return b
		}
	}
	return &buffer{make([]byte, n)}
}

// free gives a buffer back; nil is allowed. Nothing may point into it any more.
func (b *buffer) free() {
	if b == nil {
		return
	}
	for i := range pools {
		if len(b.b) == pools[i].size {
			pools[i].pool.Put(b)
		}
	}
}
