// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"sync"

	"github.com/heddle-mesh/heddle/internal/limits"
)

const (
	// readSize holds the largest frame that must be whole; readMore is for connections on which much comes at a time.
	readSize = 20 << 10
	readMore = 64 << 10
	// writeSize is how much content goes into one Write, and how much may wait for the next.
	writeSize = 64 << 10
	// chunkSize is what the content that waits in a stream is kept in.
	chunkSize = 8 << 10
)

var (
	readBuffers  = sync.Pool{New: func() any { return new([readSize]byte) }}
	readLarger   = sync.Pool{New: func() any { return new([readMore]byte) }}
	writeBuffers = sync.Pool{New: func() any { return &output{b: make([]byte, 0, writeSize+1<<10)} }}
	chunks       = sync.Pool{New: func() any { return new(chunk) }}
)

// output is what is to be written.
type output struct{ b []byte }

func (o *output) release() {
	if cap(o.b) <= 2*writeSize {
		o.b = o.b[:0]
		writeBuffers.Put(o)
	}
}

// chunk is a piece of a backlog.
type chunk struct {
	next       *chunk
	begin, end int
	bytes      [chunkSize]byte
}

// backlog is content that waits in a stream.
type backlog struct {
	first, last *chunk
	size        int
}

// push copies content to the end of the backlog. It is false if the budget has no room for all of it.
func (q *backlog) push(p []byte, budget *limits.Budget) bool {
	for len(p) > 0 {
		if q.last == nil || q.last.end == chunkSize {
			if !budget.Take(chunkSize) {
				return false
			}
			fresh := chunks.Get().(*chunk)
			fresh.next, fresh.begin, fresh.end = nil, 0, 0
			if q.last == nil {
				q.first = fresh
			} else {
				q.last.next = fresh
			}
			q.last = fresh
		}
		n := copy(q.last.bytes[q.last.end:], p)
		q.last.end += n
		q.size += n
		p = p[n:]
	}
	return true
}

// appendTo moves n bytes, which must be there, to the end of b.
func (q *backlog) appendTo(b []byte, n int, budget *limits.Budget) []byte {
	q.size -= n
	for n > 0 {
		head := q.first
		take := min(n, head.end-head.begin)
		b = append(b, head.bytes[head.begin:head.begin+take]...)
		head.begin += take
		n -= take
		if head.begin == head.end && (head.end == chunkSize || q.size == 0) {
			q.drop(budget)
		}
	}
	return b
}

// drop gives the first chunk back.
func (q *backlog) drop(budget *limits.Budget) {
	head := q.first
	q.first = head.next
	if q.first == nil {
		q.last = nil
	}
	head.next = nil
	chunks.Put(head)
	budget.Give(chunkSize)
}

// clear drops all.
func (q *backlog) clear(budget *limits.Budget) {
	for q.first != nil {
		q.drop(budget)
	}
	q.size = 0
}
