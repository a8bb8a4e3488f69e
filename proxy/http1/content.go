// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
	"math"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// How content is framed.
type framingKind uint8

const (
	none    framingKind = iota
	sized               // by Content-Length
	chunked             // by chunks
	toEnd               // by the end of the connection
)

// body is the content of the message that is being read.
type body struct {
	kind    framingKind
	state   chunkState
	left    int64 // bytes to come, of the content or of the chunk
	extra   int   // bytes of chunk extensions so far
	scanned int   // bytes of the trailer section in which its end is not
	parsed  int   // bytes of the trailer section that were too few
	idle    time.Duration
	trailer []message.Field
}

// ended says whether the content was read to its end.
func (b *body) ended() bool {
	switch b.kind {
	case sized:
		return b.left == 0
	case chunked:
		return b.state == chunksOver
	case none:
		return true
	default:
		return false
	}
}

// Remaining returns how many bytes of content are to come, or message.Unknown.
func (c *Conn) Remaining() int64 {
	switch {
	case c.body.ended():
		return 0
	case c.body.kind == sized:
		return c.body.left
	}
	return message.Unknown
}

// Peek returns content that is here already, without reading: the bytes are valid until the next call that reads, and
// stay until Discard. Nothing and no error means that Read would have to wait; io.EOF that the content has ended.
func (c *Conn) Peek() ([]byte, error) {
	in, body := &c.in, &c.body
	if in.refused {
		return nil, in.err
	}
	switch body.kind {
	case none:
		return nil, io.EOF
	case chunked:
		if body.state != chunkData || body.left == 0 {
			if err := c.nextChunk(); errors.Is(err, errShort) {
				return nil, nil
			} else if err != nil {
				return nil, err
			}
		}
	case sized:
		if body.left == 0 {
			return nil, io.EOF
		}
	case toEnd:
	}
	if in.r == in.w {
		return nil, nil
	}
	p := in.buf.b[in.r:in.w]
	if body.kind != toEnd && int64(len(p)) > body.left {
		p = p[:body.left]
	}
	return p, nil
}

// Discard takes n bytes that Peek has returned.
func (c *Conn) Discard(n int) {
	c.in.r += n
	if c.body.kind != toEnd {
		c.body.left -= int64(n)
	}
}

// Read reads content, without its framing, and io.EOF at its end, together with the last bytes where the end is known with
// them. What is here already comes first; otherwise a large p is read into from the connection. It returns io.ErrUnexpectedEOF where the peer left amid it, *ProtocolError where it broke
// HTTP, or, as 408, was silent within a request for limits.BodyIdle.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		here, err := c.Peek()
		if err != nil {
			return 0, err
		}
		if len(here) > 0 {
			n := copy(p, here)
			c.Discard(n)
			return n, c.over()
		}
		c.armContent()
		if q := c.direct(p); q != nil {
			n, err := c.read(q)
			if n == 0 {
				return 0, c.contentEnd(err)
			}
			if c.body.kind != toEnd {
				if left := int(min(c.body.left, math.MaxInt)); n > left {
					if err := c.keep(q[left]); err != nil {
						return 0, err
					}
					n = left
				}
				c.body.left -= int64(n)
			}
			return n, c.over()
		}
		if err := c.fill(); err != nil {
			return 0, c.contentEnd(err)
		}
	}
}

// over returns io.EOF if the end of the content is known to be here.
func (c *Conn) over() error {
	if _, err := c.Peek(); errors.Is(err, io.EOF) {
		return io.EOF
	}
	return nil
}

// Await waits until Read has something to return, so that nobody needs to hold memory for it before. It costs a system call
// where something is there already. Its errors are those of Read.
func (c *Conn) Await() error {
	if p, err := c.Peek(); len(p) > 0 || err != nil {
		return err
	}
	c.armContent()
	switch {
	case c.in.err != nil:
		return c.contentEnd(c.in.err)
	case c.interrupted.Load():
		return ErrInterrupted
	}
	if err := c.ready.wait(c.net); err != nil {
		return c.contentEnd(c.failed(err))
	}
	return nil
}

// More reads content that has come by now, without waiting, where Peek has none, and says whether Peek has something to
// say then. Of what is not TCP it does not know.
func (c *Conn) More() bool {
	in := &c.in
	if p, err := c.Peek(); len(p) > 0 || err != nil {
		return true
	}
	if in.err != nil || in.buf == nil || c.interrupted.Load() {
		return false
	}
	if in.r == in.w {
		in.r, in.w = in.floor, in.floor
	}
	if len(in.buf.b)-in.w < room {
		return false
	}
	n, err := c.ready.readNow(c.net, in.buf.b[in.w:])
	in.w += n
	if err != nil {
		in.err = err
	}
	return n > 0
}

// keep puts back a byte that was read behind the content.
func (c *Conn) keep(b byte) error {
	in := &c.in
	if in.buf == nil {
		in.buf = newBuffer(c.firstBuffer())
	}
	in.r, in.w = in.floor, in.floor
	if in.w == len(in.buf.b) {
		if err := c.makeRoom(); err != nil {
			return err
		}
	}
	in.buf.b[in.w] = b
	in.w++
	return nil
}

// direct returns how much of p to read into from the connection, or nil where the buffer does better: it takes the framing
// behind a small chunk in the same read. At the end of content of known length it asks for one byte more: a read that gets
// all that it asked for leaves open whether more was there, and TLS that may hold something cannot be used again.
func (c *Conn) direct(p []byte) []byte {
	body := &c.body
	left := int64(math.MaxInt64)
	switch body.kind {
	case sized:
		if left = body.left; left < int64(len(p)) {
			return p[:left+1]
		} else if left == int64(len(p)) && left > 1 {
			return p[:left-1]
		}
	case chunked:
		if body.state != chunkData {
			return nil
		}
		left = body.left
	case toEnd, none:
	}
	if len(p) < writeBuffer/2 || left < writeBuffer {
		return nil
	}
	return p[:min(int64(len(p)), left)]
}

// armContent sets the read deadline for content.
func (c *Conn) armContent() {
	idle := c.body.idle
	if idle == 0 {
		c.arm(time.Time{})
		return
	}
	c.armFor(idle)
}

// contentEnd says what content ended with.
func (c *Conn) contentEnd(err error) error {
	switch {
	case errors.Is(err, io.EOF) && c.body.kind == toEnd:
		c.body.kind = none
		return io.EOF
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, ErrIdle) && c.body.idle > 0 && (c.in.limit.IsZero() || clock() < c.in.limit.Sub(epoch)):
		c.count.Exceeded(limits.BodyIdle)
		return c.refuse(&ProtocolError{408, c.set.Over(limits.BodyIdle)})
	}
	return err
}
