// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/http1"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// h1 carries one request of a caller's connection of HTTP/1.1, on that connection's goroutine. It borrows a connection to
// an endpoint. Content that is not all here with the head is sent on by a second goroutine while the answer is relayed;
// the same, or one that starts when the answer takes its time, sees the caller go away. A connection that waits for a
// request has none.
type h1 struct {
	side   *side
	served *served
	conn   *http1.Conn

	request, out, reply message.Head // reply is what the caller gets
	x                   exchange
	content             upload
	deadline            time.Time // of the request, by its route; or zero
	limit               time.Time // of the try until its answer begins, then deadline; or zero
	active              time.Time // when the content was last seen to move, if the route wants to know
	moved               int64     // how much of it had come by then, both ways
	written             int64     // what the caller had got before the answer
	said                bool      // a refusal went out whole
	flows               bool      // the last read of the answer's content filled its buffer

	mu      sync.Mutex
	up      endpointConn   // borrowed for the request; or nil
	stopped *refusal.Error // why the request must end, or nil
	// begun says that the answer is on its way to the caller, so that it can only be broken off.
	begun  bool
	cancel chan struct{}        // closed when the request must end; nil but while a connection is waited for
	sever  func(*refusal.Error) // ends the tunnel that the connection has become; nil before
}

// endpointConn is a connection to an endpoint, borrowed for one request, with the methods of http1.Conn and
// upstream.Conn1. What is no connection of HTTP/1.1 behaves like one.
type endpointConn interface {
	WriteRequest(h *message.Head) error
	Write(p []byte) (int, error)
	End(trailer []message.Field) error
	Flush() error
	ReadResponse(h, request *message.Head) error
	Peek() ([]byte, error)
	Discard(n int)
	Await() error
	Read(p []byte) (int, error)
	Trailer() []message.Field
	SetDeadline(t time.Time)
	Interrupt()
	Raw() (buffered []byte, conn net.Conn)
	Failed(err error) (failure *upstream.Failure, stale bool)
	Release()
	Put(now time.Time)
	Close() error
}

var _ endpointConn = (*upstream.Conn1)(nil)

var idleH1 = sync.Pool{New: func() any {
	d := &h1{}
	d.content.init(d)
	return d
}}

// give makes it ready for another connection.
func (d *h1) give() {
	d.request.Release()
	d.out.Release()
	d.reply.Release()
	d.side, d.served, d.conn, d.x, d.stopped, d.sever = nil, nil, nil, exchange{}, nil, nil
	idleH1.Put(d)
}

// restAfter is how long a connection waits for a request before it rests. One in use does not rest: each request would have
// its stack grown anew.
//
// It is longer than cmd/proxy's tidier takes to collect garbage in a proxy that has fallen idle. Before that the runtime may
// begin stacks at 4 KiB or more: it does while those that the last collection has seen were in use to 1120 bytes and more, on
// average, and requests that are being carried are. What waits for one must stay below.
const restAfter = 25 * time.Second

// serveHTTP1 speaks HTTP/1.1 with a caller.
func (s *side) serveHTTP1(c *served) Rest {
	c.side, c.one = s, http1.New(c.content, &s.Limits, s.Count)
	c.one.SetBudget(s.Budget)
	c.until = s.Clock().Add(s.Limits.Idle)
	return c.requests
}

// requests takes the requests of a connection until it ends or rests.
func (c *served) requests() (rest Rest) {
	defer func() {
		if rest == nil {
			c.finish()
		}
	}()
	s, now := c.side, c.side.Clock()
	for again := true; again; {
		wait := min(restAfter, c.until.Sub(now))
		switch err := c.one.Wait(now.Add(wait)); {
		case errors.Is(err, http1.ErrIdle) && wait == restAfter:
			c.one.Rest(c.until)
			return c.rested
		case errors.Is(err, http1.ErrIdle):
			s.Count.Exceeded(limits.Idle)
			return nil
		case err != nil:
			return nil
		}
		d, _ := idleH1.Get().(*h1)
		d.side, d.served, d.conn = s, c, c.one
		now, again = d.serve()
		d.give()
		c.until = now.Add(s.Limits.Idle)
	}
	return nil
}

// rested goes on with a connection that rests, once there is reason to.
func (c *served) rested() Rest {
	socket.Rest(c.content)
	return c.requests()
}

// serve carries the request that has begun to come. It returns when it ended and whether the connection can take another;
// otherwise that was closed so that the answer is not lost.
func (d *h1) serve() (now time.Time, again bool) {
	if err := d.conn.ReadRequest(&d.request); err != nil {
		d.complain(err)
		return now, false
	}
	return d.carry()
}

// complain answers a request that could not be read.
func (d *h1) complain(err error) {
	var broken *http1.ProtocolError
	switch {
	case errors.As(err, &broken):
	case errors.Is(err, io.EOF):
		return // it left before the first byte
	default:
		d.side.complain(d.served, "http1", 400, "the request's header did not arrive: "+err.Error(), &d.reply)
		return
	}
	body := d.side.complain(d.served, "http1", broken.Status, broken.Detail, &d.reply)
	if d.say(body) == nil {
		d.linger()
	}
}

// say sends the answer that is in reply, with a text.
func (d *h1) say(body string) error {
	if err := d.conn.WriteResponse(&d.reply); err != nil {
		return err
	}
	if _, err := d.conn.Write([]byte(body)); err != nil {
		return err
	}
	if err := d.conn.End(nil); err != nil {
		return err
	}
	return d.conn.Flush()
}

// carry carries one request. It returns when it ended and whether the connection can take another.
func (d *h1) carry() (now time.Time, again bool) {
	x := &d.x
	d.begin()
	x.begin(d.side, d.served, upstream.HTTP1, &d.request, d)
	why := x.route()
	if why == nil {
		why = x.next()
	}
	if why == nil {
		why = d.send()
	}
	if x.mirror != nil && x.event.Attempts > 0 {
		d.mirror()
	}
	if why != nil {
		d.refuse(why)
	}
	whole := d.content.end()
	x.event.BytesIn += d.content.bytes
	now = x.finish()
	up := d.release()
	switch {
	case up == nil:
	case whole && x.event.Reason == refusal.None:
		up.Put(now)
	default:
		up.Close()
	}
	if d.sever != nil || x.event.Reason != refusal.None && !d.said {
		return now, false
	}
	if !whole || !d.conn.Reusable() {
		d.linger()
		return now, false
	}
	return now, true
}

// mirror sends a copy of the request, if its content was held to the end.
func (d *h1) mirror() {
	if content, ok := d.content.copy(); ok {
		d.x.event.CopyDropped = !d.side.mirrors.send(d.x.copyTo(&d.out, content))
	}
}

// begin makes ready for a request.
func (d *h1) begin() {
	d.mu.Lock()
	d.stopped, d.begun, d.cancel = nil, false, nil
	d.mu.Unlock()
	d.deadline, d.limit, d.said, d.flows = time.Time{}, time.Time{}, false, false
	d.written = d.conn.Written()
	d.content.begin(d.request.Length != 0)
}

// cut implements cutter: the request must end, from whatever goroutine that is found out.
func (d *h1) cut(why *refusal.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped != nil {
		return
	}
	d.stopped = why
	if d.up != nil {
		d.up.Interrupt()
		if c, ok := d.up.(*upstream.Conn1); ok {
			go c.Close() // something may be writing to it; it may take a while to say so
		}
	}
	if d.cancel != nil {
		close(d.cancel)
		d.cancel = nil
	}
	switch {
	case d.sever != nil:
		d.sever(why)
	case d.begun:
		d.breakOff()
	}
}

// breakOff ends the connection so that the caller sees that the answer is not whole.
func (d *h1) breakOff() {
	if d.request.HTTP10 {
		socket.Reset(d.served.content) // the end of the connection may be that of the answer
		return
	}
	d.served.Close()
}

// over says why the request must end, or nil: it was cut, or its time has passed.
func (d *h1) over() *refusal.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped == nil && !d.deadline.IsZero() && !time.Now().Before(d.deadline) {
		d.stopped = d.x.late()
	}
	return d.stopped
}

// hold notes the connection that was borrowed. It returns false if the request must end.
func (d *h1) hold(up endpointConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.up, d.cancel = up, nil
	return d.stopped == nil
}

// release returns the connection that was borrowed, or nil.
func (d *h1) release() endpointConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	up := d.up
	d.up = nil
	return up
}

// drop closes the connection that was borrowed.
func (d *h1) drop() {
	if up := d.release(); up != nil {
		up.Close()
	}
}

// letGo gives the connection back after an answer that the caller does not get, if that is all here.
func (d *h1) letGo() {
	up := d.release()
	for d.content.wasSent() { // nobody writes to it any more
		p, err := up.Peek()
		if errors.Is(err, io.EOF) {
			up.Put(d.side.Clock())
			return
		}
		if err != nil || len(p) == 0 {
			break
		}
		up.Discard(len(p))
	}
	up.Close()
}

// refuse answers that the request is not carried, or breaks the answer off that has begun.
func (d *h1) refuse(why *refusal.Error) {
	if why.Reason == refusal.Timeout || why.Reason == refusal.CallerGone {
		d.x.starved = d.x.starved || d.content.isStarved()
	}
	d.drop()
	whole := d.content.end() || d.content.drain()
	if d.x.answered && d.conn.Recall(d.written) {
		d.x.answered = false
	}
	body, ok := d.x.refuse(why, &d.reply)
	if d.x.resets() {
		socket.Reset(d.served.content)
		return
	}
	if !ok {
		d.conn.Flush() // what has come of it
		d.breakOff()
		return
	}
	if !whole {
		d.reply.Close = true
	}
	if d.say(body) != nil {
		d.breakOff()
		return
	}
	d.said = true
}

// linger closes the connection after an answer that the caller may not have read yet: what it still sends is read and
// dropped for a while, since closing a connection of which something is unread resets it, which may overtake the answer
// (RFC 9112, section 9.6).
func (d *h1) linger() {
	const most, each = 5 * time.Second, time.Second
	c := d.served.content
	if c.CloseWrite() != nil {
		return
	}
	buf := takeBuffer()
	defer buf.give()
	for end := time.Now().Add(most); ; {
		now := time.Now()
		if !now.Before(end) || c.SetReadDeadline(now.Add(each)) != nil {
			return
		}
		if _, err := c.Read(buf[:]); err != nil {
			return
		}
	}
}
