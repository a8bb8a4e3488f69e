// SPDX-License-Identifier: Apache-2.0

package http1

import "sync"

// Sizes of buffers. Almost all heads, with the content of small messages, fit into the smallest.
const (
	smallBuffer  = 8 << 10
	mediumBuffer = 32 << 10
	largeBuffer  = 128 << 10
)

// buffer is memory of a pool.
type buffer struct{ b []byte }

var (
	smallBuffers  = sync.Pool{New: func() any { return &buffer{make([]byte, smallBuffer)} }}
	mediumBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, mediumBuffer)} }}
	largeBuffers  = sync.Pool{New: func() any { return &buffer{make([]byte, largeBuffer)} }}
)

// newBuffer returns a buffer of n bytes or more.
func newBuffer(n int) *buffer {
	switch {
	case n <= smallBuffer:
		return smallBuffers.Get().(*buffer)
	case n <= mediumBuffer:
		return mediumBuffers.Get().(*buffer)
	case n <= largeBuffer:
		return largeBuffers.Get().(*buffer)
	}
	return &buffer{make([]byte, n)}
}

// free gives a buffer back; nil is allowed. Nothing may point into it any more.
func (b *buffer) free() {
	if b == nil {
		return
	}
	switch len(b.b) {
	case smallBuffer:
		smallBuffers.Put(b)
	case mediumBuffer:
		mediumBuffers.Put(b)
	case largeBuffer:
		largeBuffers.Put(b)
	}
}
