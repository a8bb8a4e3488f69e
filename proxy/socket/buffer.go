// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net"
	"sync"
	"syscall"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Sizes of buffers. Four records of TLS in one system call are what pays; the small ones are for when memory is short.
const (
	large = 4 * recordMost
	small = 4 << 10
)

var (
	largePool = sync.Pool{New: func() any { return new([large]byte) }}
	smallPool = sync.Pool{New: func() any { return new([small]byte) }}
)

// borrow takes a buffer, a small one where the budget has no more.
func borrow(b *limits.Budget) []byte {
	if b.Take(large) {
		return largePool.Get().(*[large]byte)[:]
	}
	return borrowSmall(b)
}

func borrowSmall(b *limits.Budget) []byte {
	b.Must(small)
	return smallPool.Get().(*[small]byte)[:]
}

// giveBack takes a whole buffer back.
func giveBack(b *limits.Budget, buffer []byte) {
	b.Give(len(buffer))
	if len(buffer) == large {
		largePool.Put((*[large]byte)(buffer))
		return
	}
	smallPool.Put((*[small]byte)(buffer))
}

// source reads from a connection into a buffer that it borrows when something is there. It is for one goroutine, but for
// close.
type source struct {
	conn   net.Conn
	raw    syscall.RawConn // nil: not TCP
	try    func(uintptr) bool
	look   func(uintptr) // sets silent
	silent bool
	budget *limits.Budget
	most   int // bytes at a time

	mu     sync.Mutex // not held while it waits
	buffer []byte     // borrowed while in is not empty
	in     []byte     // of buffer: what is to be taken
	err    error      // of a read, with no bytes
	closed bool
}

func newSource(c net.Conn, most int, budget *limits.Budget) *source {
	s := &source{conn: c, budget: budget, most: most}
	s.descend()
	return s
}

// descend finds the TCP connection underneath, once nothing is buffered before it.
func (s *source) descend() {
	tcp, ok := inner(s.conn).(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		s.conn, s.raw, s.try = tcp, raw, s.read
		s.look = s.looked
	}
}

// fill waits until there is something to be taken, and reads it unless there is already.
func (s *source) fill() error {
	s.mu.Lock()
	s.err = nil
	have := len(s.in)
	s.mu.Unlock()
	if have > 0 {
		return nil
	}
	if s.raw == nil {
		s.descend()
	}
	if s.raw == nil {
		return s.readOther()
	}
	if err := s.raw.Read(s.try); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// read is called when the connection may be readable; false waits until it is.
func (s *source) read(fd uintptr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	buffer := borrow(s.budget)
	n, done, err := ReadNow(fd, buffer[:min(s.most, len(buffer))])
	switch {
	case s.closed:
		s.err = net.ErrClosed
	case n > 0:
		s.buffer, s.in = buffer, buffer[:n]
		return true
	case !done:
		giveBack(s.budget, buffer)
		return false
	default:
		s.err = fault("read", s.conn, err)
	}
	giveBack(s.budget, buffer)
	return true
}

func (s *source) looked(fd uintptr) {
	ready, _ := Readable(fd)
	s.silent = !ready
}

// quiet says whether nothing can be read from the connection; of what is not TCP it does not know.
func (s *source) quiet() bool {
	if s.raw == nil {
		s.descend()
	}
	if s.raw == nil {
		return true
	}
	// Control, unlike Read, does not look at the deadline.
	return s.raw.Control(s.look) == nil && s.silent
}

// readOther reads what is no TCP connection; a small buffer is held while it waits.
func (s *source) readOther() error {
	buffer := borrowSmall(s.budget)
	n, err := s.conn.Read(buffer[:min(s.most, len(buffer))])
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		err = net.ErrClosed
	case n > 0:
		s.buffer, s.in = buffer, buffer[:n]
		return nil // an error comes again
	}
	giveBack(s.budget, buffer)
	return err
}

// take gives take what there is, and drops as much as it says.
func (s *source) take(take func([]byte) int) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = take(s.in)
	if s.in = s.in[n:]; len(s.in) == 0 {
		s.release()
	}
	return n
}

// close gives the buffer back for good. The connection is closed already.
func (s *source) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.release()
}

// release gives the buffer back. s.mu is held.
func (s *source) release() {
	if s.buffer != nil {
		giveBack(s.budget, s.buffer)
		s.buffer, s.in = nil, nil
	}
}
