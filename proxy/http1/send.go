// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// output is what waits to be sent, and the state of the message that is being written.
type output struct {
	buf   *buffer // nil while nothing waits
	n     int     // buf.b[:n] waits
	lines int     // of the head that is being written
	err   error   // what writing failed with

	kind framingKind
	over bool  // End was called
	left int64 // bytes to come of sized content

	written atomic.Int64  // bytes that the connection has taken, ever
	armed   time.Duration // the write deadline of the connection, since epoch, or 0
}

func (o *output) ended() bool {
	return o.over || o.kind == none || o.kind == sized && o.left == 0
}

func (o *output) release() {
	if o.n == 0 {
		o.buf.free()
		o.buf = nil
	}
}

// space makes room for n bytes behind what waits, and sends that where there is too little.
func (c *Conn) space(n int) error {
	o := &c.out
	if o.buf == nil {
		o.buf = newBuffer(n)
	}
	if len(o.buf.b)-o.n >= n {
		return nil
	}
	if err := c.Flush(); err != nil {
		return err
	}
	o.buf = newBuffer(n)
	return nil
}

// Write writes content of the message whose head was written, framed. Small content joins what waits for Flush; large
// content leaves at once with all that waits, without being copied where the connection allows it.
func (c *Conn) Write(p []byte) (int, error) {
	o := &c.out
	switch {
	case o.err != nil:
		return 0, o.err
	case len(p) == 0:
		return 0, nil
	case o.over:
		return 0, ErrLength
	case o.kind == none:
		if c.headAsked {
			return len(p), nil
		}
		return 0, o.fail(ErrLength)
	case o.kind == sized && int64(len(p)) > o.left:
		return 0, o.fail(ErrLength)
	}
	const frame = 20 // of a chunk: 16 digits and two ends of lines
	if o.buf == nil {
		o.buf = newBuffer(writeBuffer)
	}
	if o.n+len(p)+frame <= len(o.buf.b) {
		o.appendChunkSize(len(p))
		o.append(p)
		o.appendChunkEnd()
		o.took(len(p))
		return len(p), nil
	}
	if err := c.space(frame); err != nil {
		return 0, err
	}
	o.appendChunkSize(len(p))
	var end []byte
	if o.kind == chunked {
		end = lineEnd
	}
	if err := c.through(p, end); err != nil {
		return 0, err
	}
	o.took(len(p))
	return len(p), nil
}

var lineEnd = []byte("\r\n")

func (o *output) append(p []byte) { o.n += copy(o.buf.b[o.n:], p) }

func (o *output) appendChunkSize(n int) {
	if o.kind == chunked {
		o.n = len(append(strconv.AppendInt(o.buf.b[:o.n], int64(n), 16), lineEnd...))
	}
}

func (o *output) appendChunkEnd() {
	if o.kind == chunked {
		o.append(lineEnd)
	}
}

func (o *output) took(n int) {
	if o.kind == sized {
		o.left -= int64(n)
	}
}

func (o *output) fail(err error) error {
	if o.err == nil {
		o.err = err
	}
	return err
}

// through sends what waits, p and end.
func (c *Conn) through(p, end []byte) error {
	o := &c.out
	c.armSend()
	if tcp, ok := socket.Beneath(c.net).(*socket.TCP); ok {
		n, err := tcp.WriteParts(o.buf.b[:o.n], p, end)
		o.written.Add(int64(n))
		o.n = 0
		o.release()
		return c.sent(err)
	}
	// TLS copies anyway: what leaves together makes whole records, in one system call.
	for {
		if o.buf == nil {
			o.buf = newBuffer(min(len(p)+len(end), mediumBuffer))
		}
		if more := o.n + len(p) + len(end); more > len(o.buf.b) && len(o.buf.b) < mediumBuffer {
			larger := newBuffer(min(more, mediumBuffer))
			copy(larger.b, o.buf.b[:o.n])
			o.buf.free()
			o.buf = larger
		}
		for _, part := range [...]*[]byte{&p, &end} {
			n := copy(o.buf.b[o.n:], *part)
			o.n += n
			*part = (*part)[n:]
		}
		if len(p) == 0 && len(end) == 0 {
			return nil
		}
		if err := c.Flush(); err != nil {
			return err
		}
	}
}

// End ends the content. Trailer fields go with chunks alone; other framing cannot carry them and drops them. It returns
// ErrLength where the content is shorter than was announced: the connection must be closed then.
func (c *Conn) End(trailer []message.Field) error {
	o := &c.out
	switch {
	case o.err != nil:
		return o.err
	case o.over:
		return nil
	case o.kind == sized && o.left > 0:
		return o.fail(ErrLength)
	case o.kind == chunked:
		size := len("0\r\n\r\n")
		for i := range trailer {
			f := &trailer[i]
			if !message.ValidToken(f.Name) || message.ControlIn(f.Value) < len(f.Value) || message.ForbiddenTrailer(f.Name) {
				return o.fail(ErrField)
			}
			size += len(f.Name) + len(f.Value) + len(": \r\n")
		}
		if err := c.space(size); err != nil {
			return err
		}
		b := append(o.buf.b[:o.n], "0\r\n"...)
		for i := range trailer {
			b = o.field(b, trailer[i].Name, trailer[i].Value)
		}
		o.n = len(append(b, lineEnd...))
	}
	o.over = true
	return nil
}

// Written is how many bytes the connection has taken since it was made. Any goroutine may call it.
func (c *Conn) Written() int64 { return c.out.written.Load() }

// Flush sends what waits.
func (c *Conn) Flush() error {
	o := &c.out
	if o.err != nil {
		return o.err
	}
	if o.n > 0 {
		c.armSend()
		n, err := c.net.Write(o.buf.b[:o.n])
		o.n = 0
		o.written.Add(int64(n))
		if err != nil {
			return c.sent(err)
		}
	}
	o.release()
	return nil
}

// armSend sets the write deadline. One that is about right stays.
func (c *Conn) armSend() {
	idle := c.set.SendIdle
	until := clock() + idle
	if armed := c.out.armed; armed != 0 && armed > until-idle/8 {
		return
	}
	c.out.armed = until
	_ = c.net.SetWriteDeadline(epoch.Add(until))
}

// sent notes what writing failed with.
func (c *Conn) sent(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.count.Exceeded(limits.SendIdle)
	}
	return c.out.fail(err)
}
