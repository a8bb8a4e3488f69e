// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// buffer is memory for content that passes: four records of TLS, which one system call takes.
type buffer [64 << 10]byte

var buffers1 = sync.Pool{New: func() any { return new(buffer) }}

func takeBuffer() *buffer {
	b, _ := buffers1.Get().(*buffer)
	return b
}

func (b *buffer) give() { buffers1.Put(b) }

// relay relays the answer of which the head is in reply.
func (d *h1) relay() *refusal.Error {
	x := &d.x
	if why := x.answer(&d.reply); why != nil {
		return why
	}
	if x.tunnels(d.reply.Status) {
		return d.tunnel()
	}
	if !d.content.ended() {
		d.reply.Close = true
	}
	d.mu.Lock()
	d.begun = true
	stopped := d.stopped
	d.mu.Unlock()
	if stopped != nil {
		return stopped
	}
	if err := d.conn.WriteResponse(&d.reply); err != nil {
		return d.unsent(err)
	}
	if err := d.copy(); err != nil {
		return err
	}
	return nil
}

// copy copies the answer's content: whatever has come is sent on at once.
func (d *h1) copy() *refusal.Error {
	up := d.up // only this goroutine changes it
	for {
		p, err := up.Peek()
		switch {
		case len(p) > 0:
			n, err := d.conn.Write(p)
			d.x.event.BytesOut += int64(n)
			if err != nil {
				return d.unsent(err)
			}
			up.Discard(len(p))
		case errors.Is(err, io.EOF):
			return d.end(up)
		case err != nil:
			return d.broken(err)
		case d.reply.Length <= joined && d.conn.Written() == d.written && more(up):
			// It came in several pieces, and goes on in one.
		default:
			if err := d.conn.Flush(); err != nil {
				return d.unsent(err)
			}
			if why := d.more(up); why != nil {
				return why
			}
		}
	}
}

// joined is the most content that is looked for before the head is sent.
const joined = 16 << 10

// more says whether more of an answer is here than was seen, without waiting for it.
func more(up endpointConn) bool {
	c, ok := up.(*upstream.Conn1)
	return ok && c.More()
}

// end ends the answer.
func (d *h1) end(up endpointConn) *refusal.Error {
	if err := d.conn.End(d.x.trailer(up.Trailer())); err != nil {
		return d.unsent(err)
	}
	if err := d.conn.Flush(); err != nil {
		return d.unsent(err)
	}
	return nil
}

// more waits for more of the answer's content and sends it on. Where it may take long, no memory waits with it.
func (d *h1) more(up endpointConn) *refusal.Error {
	for !d.flows && d.reply.Length == message.Unknown {
		err := up.Await()
		if err == nil {
			break
		}
		if why := d.ended(up, err); why != nil || errors.Is(err, io.EOF) {
			return why
		}
	}
	buf := takeBuffer()
	defer buf.give()
	for {
		n, err := up.Read(buf[:])
		if d.flows = n == len(buf); n > 0 {
			written, err := d.conn.Write(buf[:n])
			d.x.event.BytesOut += int64(written)
			if err != nil {
				return d.unsent(err)
			}
			return nil
		}
		if why := d.ended(up, err); why != nil || errors.Is(err, io.EOF) {
			return why
		}
	}
}

// ended says what it means that no more content could be read. Nil is to go on, or that it has ended, as Peek says, too.
func (d *h1) ended(up endpointConn, err error) *refusal.Error {
	if err == nil || errors.Is(err, io.EOF) || d.waitOn(up, err) {
		return nil
	}
	return d.broken(err)
}

// unsent says what it means that an answer cannot be sent.
func (d *h1) unsent(err error) *refusal.Error {
	if why := d.over(); why != nil {
		return why
	}
	return &refusal.Error{Reason: refusal.CallerGone, Cause: err}
}

// tunnel relays what the endpoint has agreed to speak from here on.
func (d *h1) tunnel() *refusal.Error {
	if !d.content.end() {
		return d.broken(errors.New("it switched protocols before the request had ended"))
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	d.mu.Lock()
	up, stopped := d.up, d.stopped
	d.begun, d.sever = true, func(why *refusal.Error) { cancel(why) }
	d.mu.Unlock()
	if stopped != nil {
		return stopped
	}
	if err := d.conn.WriteResponse(&d.reply); err != nil {
		return d.unsent(err)
	}
	if err := d.conn.Flush(); err != nil {
		return d.unsent(err)
	}
	d.x.keep() // tunnels last, and what was read is given back
	caller, ok := newTunnelEnd(d.conn.Raw())
	callee, okToo := newTunnelEnd(up.Raw())
	d.conn.Release()
	up.Release()
	if !ok || !okToo {
		return d.broken(errors.New("its connection cannot end one direction alone"))
	}
	in, out, err := d.side.relay(ctx, caller, callee)
	d.x.event.BytesIn, d.x.event.BytesOut, d.x.event.Err = in, out, err
	if why := d.over(); why != nil {
		return why
	}
	return nil
}

// tunnelEnd is one side of a tunnel: a connection, and what was read from it before.
type tunnelEnd struct {
	end
	ahead []byte
}

func newTunnelEnd(ahead []byte, conn net.Conn) (*tunnelEnd, bool) {
	e, ok := conn.(end)
	conn.SetWriteDeadline(time.Time{}) //nolint:errcheck // writing tells
	return &tunnelEnd{e, bytes.Clone(ahead)}, ok
}

// Read implements io.Reader.
func (t *tunnelEnd) Read(p []byte) (int, error) {
	if len(t.ahead) > 0 {
		n := copy(p, t.ahead)
		t.ahead = t.ahead[n:]
		return n, nil
	}
	return t.end.Read(p)
}

// NetConn implements socket.Around.
func (t *tunnelEnd) NetConn() net.Conn { return t.end }

// Under implements socket.Around.
func (t *tunnelEnd) Under() net.Conn {
	if len(t.ahead) > 0 {
		return nil
	}
	return t.end
}
