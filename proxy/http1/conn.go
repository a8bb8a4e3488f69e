// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

const (
	room         = 1 << 10 // the least space for what is read next
	usualTrailer = 16      // fields for which memory is kept
)

var (
	past  = time.Unix(1, 0)
	epoch = time.Now()
)

// clock is time.Now for half of its price, as the time since epoch.
func clock() time.Duration { return time.Since(epoch) }

// Conn is a connection that speaks HTTP/1.1. Its zero value is not usable.
type Conn struct {
	net   net.Conn
	set   *limits.Set
	count limits.Counter

	in   input
	body body
	out  output

	// What one direction tells the other.
	headAsked    bool // the answer has no content whatever its head says: the request was HEAD
	connectAsked bool
	asking       bool // answers are read here, not requests
	old          bool // the peer speaks HTTP/1.0
	closing      bool // somebody said close
	pending      bool // the final answer has not come, or was not begun
	interim      int  // interim answers to the request that runs

	interrupted atomic.Bool
	ready       ready
}

// input is what was read and not yet taken.
type input struct {
	buf     *buffer // nil while nothing is held
	r, w    int     // buf.b[r:w] was read and not yet taken
	floor   int     // buf.b[:floor] has the strings of the head
	kept    *buffer // has the strings of the head instead, where content went on in another buffer
	err     error   // what reading ended with; what is here already may be read all the same,
	refused bool    // unless it was we who ended it
	head    bool    // a head is being read
	waited  bool    // the bytes that are here came during Wait

	armed  time.Duration // the read deadline of the connection, since epoch, or 0
	limit  time.Time     // SetDeadline's
	row    int           // requests that were here before the answer to the one before was sent
	budget *limits.Budget
}

// New returns the HTTP/1.1 of a connection. Set has all its limits (limits.Set.WithDefaults) and is shared; count may be
// nil. Nothing may have set a read deadline on c, and nothing else may from now on. Close is for c itself.
func New(c net.Conn, set *limits.Set, count limits.Counter) *Conn {
	if count == nil {
		count = limits.Nop{}
	}
	return &Conn{net: c, set: set, count: count}
}

// SetBudget has memory beyond 4 KiB for what is read taken from a budget. Where it has none for a large head, that is
// refused, with 503. Free must be called in the end.
func (c *Conn) SetBudget(b *limits.Budget) { c.in.budget = b }

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.net }

// Wait waits for the first byte of the next message until a time; the zero time is no end. What is held of the message
// before is given up. It returns io.EOF at the connection's end, ErrIdle, ErrInterrupted or what reading failed with.
// It holds no buffer.
func (c *Conn) Wait(until time.Time) error {
	if c.in.refused {
		return c.in.err
	}
	c.forget()
	if c.in.r < c.in.w {
		return nil
	}
	c.in.waited = true
	c.armUntil(until)
	err := c.next()
	if errors.Is(err, ErrIdle) && !c.late(until) {
		c.arm(until) // it was a little less
		err = c.next()
	}
	return err
}

// Rest makes ready for waiting below the connection, by socket.Rest, until a time. A Wait must follow, which tells how that
// went.
func (c *Conn) Rest(until time.Time) {
	if c.in.buf != nil && c.in.r == c.in.w { // a record of TLS had begun, but nothing of it came
		c.in.buf.free()
		c.in.buf = nil
	}
	c.arm(until)
}

// next reads the first bytes of a message, and holds no buffer before they are here.
func (c *Conn) next() error {
	in := &c.in
	if in.err != nil {
		return in.err
	}
	in.buf.free()
	in.buf = nil
	if c.interrupted.Load() {
		return ErrInterrupted
	}
	buf, n, err := c.ready.read(c.net, c.firstBuffer())
	switch {
	case err != nil:
		return c.failed(err)
	case buf == nil:
		return c.fill()
	}
	in.buf, in.r, in.w = buf, 0, n
	return nil
}

// failed notes what reading failed with, unless it can go on.
func (c *Conn) failed(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.in.err = err
		return err
	}
	if c.interrupted.Load() {
		return ErrInterrupted
	}
	return ErrIdle
}

// forget gives the strings of the last head up.
func (c *Conn) forget() {
	in := &c.in
	in.kept.free()
	in.kept, in.floor = nil, 0
	clear(c.body.trailer) // or its strings would keep a buffer that was given back
	if c.body.trailer = c.body.trailer[:0]; cap(c.body.trailer) > usualTrailer {
		c.body.trailer = nil
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// Release gives the buffers back where nothing is in them, as of a connection that goes into a pool. The strings of the
// last head are void then.
func (c *Conn) Release() {
	c.forget()
	if c.in.r == c.in.w {
		c.in.buf.free()
		c.in.buf = nil
	}
	c.out.release()
}

// Free gives all memory back, whatever is in it. Nothing else may be done with the connection then, nor run meanwhile.
func (c *Conn) Free() {
	in := &c.in
	in.err = net.ErrClosed
	in.kept.free()
	in.buf.free()
	in.kept, in.buf, in.r, in.w, in.floor = nil, nil, 0, 0, 0
	c.out.n = 0
	c.out.release()
}

// SetDeadline bounds all reading from now on, until it is set to another time or to none; reading returns ErrIdle then. It
// is for the reading goroutine.
func (c *Conn) SetDeadline(t time.Time) { c.in.limit = t }

// Interrupt ends the read that runs, and every other until Resume, with ErrInterrupted. Any goroutine may call it.
func (c *Conn) Interrupt() {
	c.interrupted.Store(true)
	_ = c.net.SetReadDeadline(past)
}

// Resume lets an interrupted connection be read again. It is for the reading goroutine.
func (c *Conn) Resume() {
	c.interrupted.Store(false)
	c.in.armed = past.Sub(epoch)
}

// arm sets the read deadline, if it is not that already.
func (c *Conn) arm(t time.Time) {
	if limit := c.in.limit; !limit.IsZero() && (t.IsZero() || limit.Before(t)) {
		t = limit
	}
	var at time.Duration
	if !t.IsZero() {
		at = t.Sub(epoch)
	}
	if at == c.in.armed {
		return
	}
	c.in.armed = at
	_ = c.net.SetReadDeadline(t)
	if c.interrupted.Load() { // meanwhile, or the deadline would be lost
		_ = c.net.SetReadDeadline(past)
	}
}

// armFor sets the read deadline to a time from now, or up to an eighth less: one that is about right stays, so that a busy
// connection seldom sets it.
func (c *Conn) armFor(d time.Duration) {
	until := clock() + d
	if armed := c.in.armed; !c.in.limit.IsZero() || armed == 0 || armed > until || armed < until-d/8 {
		c.arm(epoch.Add(until))
	}
}

// armUntil is armFor the time that is left until another, or for ever.
func (c *Conn) armUntil(t time.Time) {
	if t.IsZero() {
		c.arm(t)
		return
	}
	c.armFor(t.Sub(epoch) - clock())
}

// late says whether a time, or that of SetDeadline, has passed.
func (c *Conn) late(t time.Time) bool {
	now := clock()
	return !t.IsZero() && t.Sub(epoch) <= now || !c.in.limit.IsZero() && c.in.limit.Sub(epoch) <= now
}

// read reads once. It returns bytes or an error, not both.
func (c *Conn) read(p []byte) (int, error) {
	if c.in.err != nil {
		return 0, c.in.err
	}
	if c.interrupted.Load() {
		return 0, ErrInterrupted
	}
	for range 100 {
		n, err := c.net.Read(p)
		switch {
		case err == nil && n > 0:
			return n, nil
		case err == nil:
			continue
		}
		if err = c.failed(err); n > 0 {
			err = nil
		}
		return n, err
	}
	c.in.err = io.ErrNoProgress
	return 0, c.in.err
}

// fill reads once behind what is buffered, and makes room first. Strings of the head stay where they are.
func (c *Conn) fill() error {
	in := &c.in
	switch {
	case in.buf == nil:
		in.buf, in.r, in.w = newBuffer(c.firstBuffer()), 0, 0
	case in.r == in.w:
		in.r, in.w = in.floor, in.floor
	}
	if len(in.buf.b)-in.w < room {
		if err := c.makeRoom(); err != nil {
			return err
		}
	}
	n, err := c.read(in.buf.b[in.w:])
	in.w += n
	return err
}

// firstBuffer returns the size of the buffer into which a message is read first.
func (c *Conn) firstBuffer() int {
	if c.asking {
		return answerBuffer
	}
	return requestBuffer
}

// makeRoom moves what is buffered to the front, or into a larger buffer, which the budget has to allow for a head.
func (c *Conn) makeRoom() error {
	in := &c.in
	held := in.buf.b[in.r:in.w]
	if len(in.buf.b)-in.floor-len(held) >= room {
		in.r, in.w = in.floor, in.floor+copy(in.buf.b[in.floor:], held)
		return nil
	}
	next := newBuffer(2 * len(in.buf.b))
	switch next.budget = in.budget; {
	case !in.head:
		in.budget.Must(len(next.b))
	case !in.budget.Take(len(next.b)):
		next.budget = nil
		next.free()
		c.count.Exceeded(limits.Memory)
		return c.refuse(&ProtocolError{503, c.set.Over(limits.Memory)})
	}
	n := copy(next.b, held)
	if in.floor > 0 {
		in.buf.older, in.kept = in.kept, in.buf
	} else {
		in.buf.free()
	}
	in.buf, in.r, in.w, in.floor = next, 0, n, 0
	return nil
}

// Watch waits until the peer speaks or leaves, while a request of it is being answered: after its content has ended, and
// while nothing else reads. It returns nil when there are bytes, io.EOF when the peer has ended its side, ErrInterrupted,
// or what the connection broke with. What it reads stays here for the next request.
func (c *Conn) Watch() error {
	if c.in.r < c.in.w {
		return nil
	}
	c.arm(time.Time{})
	return c.fill()
}

// Raw returns the connection, and what was read from it beyond the last head, after an Upgrade or CONNECT: all that comes
// now is bytes, without deadlines. The bytes are valid until Release. The Conn is not used any more but for that.
func (c *Conn) Raw() (buffered []byte, conn net.Conn) {
	c.SetDeadline(time.Time{})
	c.arm(time.Time{})
	_ = c.net.SetWriteDeadline(time.Time{}) // limits.SendIdle is for messages
	c.closing = true
	if c.in.buf == nil {
		return nil, c.net
	}
	return c.in.buf.b[c.in.r:c.in.w], c.net
}

// Alive says whether an idle connection is still good, without waiting: nothing is there to be read, neither bytes that
// nobody asked for nor the end. Of a connection that is no socket it knows only what was read already.
func (c *Conn) Alive() bool {
	return c.in.err == nil && c.in.r == c.in.w && c.out.err == nil && c.ready.quiet(c.net)
}

// Reusable says whether the connection can carry another request: both messages have ended as they should, nobody said
// close or interrupted it, and nothing is behind an answer.
func (c *Conn) Reusable() bool {
	if c.asking && c.in.r < c.in.w || c.interrupted.Load() {
		return false
	}
	return !c.closing && !c.pending && c.in.err == nil && c.out.err == nil && c.body.ended() && c.out.ended()
}

// Trailer returns the trailer fields of the message that was read, once its content has ended.
func (c *Conn) Trailer() []message.Field { return c.body.trailer }
