// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"io"
	"sync"
	"sync/atomic"
)

// running counts what is being carried, and can cut it.
type running struct {
	n    atomic.Int64
	ever atomic.Int64
	// waited says that somebody waits for none.
	waited atomic.Bool

	mu    sync.Mutex
	zero  chan struct{} // closed when n is 0; nil while nobody waits
	conns map[io.Closer]struct{}
}

// begin counts one more, end one less.
func (r *running) begin() {
	r.ever.Add(1)
	r.n.Add(1)
}

func (r *running) end() {
	if r.n.Add(-1) == 0 && r.waited.Load() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.wake()
	}
}

// wake tells who waits that nothing is carried. The lock is held.
func (r *running) wake() {
	if r.zero != nil && r.n.Load() == 0 {
		close(r.zero)
		r.zero = nil
		r.waited.Store(false)
	}
}

// add counts one more that is cut with the rest, or is nil; done undoes it.
func (r *running) add(c io.Closer) (done func()) {
	r.begin()
	if c == nil {
		return r.end
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = make(map[io.Closer]struct{})
	}
	r.conns[c] = struct{}{}
	return func() {
		r.mu.Lock()
		delete(r.conns, c)
		r.mu.Unlock()
		r.end()
	}
}

// total is how many were ever carried.
func (r *running) total() int64 { return r.ever.Load() }

func (r *running) count() int { return int(r.n.Load()) }

// none returns a channel that is closed when nothing is carried.
func (r *running) none() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.zero == nil {
		r.zero = make(chan struct{})
		r.waited.Store(true)
	}
	zero := r.zero
	r.wake() // what ended before the flag was seen
	return zero
}

func (r *running) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}
