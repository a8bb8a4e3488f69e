// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// readHead reads a head. First it parses what is here, which is all, most times. Where that is not enough it looks for the
// end alone, from where it looked last, and parses again when there is twice as much, so that a head in small pieces costs
// no more than some times its bytes, and what is wrong with it does not wait for its end.
func (c *Conn) readHead(h *message.Head, parse func(*Conn, *message.Head) error) error {
	in := &c.in
	if in.refused {
		return in.err
	}
	c.forget()
	c.body = body{trailer: c.body.trailer[:0]}
	in.head = true
	defer func() { in.head = false }()
	err := errShort
	parsed := in.w - in.r
	if parsed > 0 {
		err = parse(c, h)
	}
	var deadline time.Time
	for scanned := 0; errors.Is(err, errShort); {
		if in.r < in.w && deadline.IsZero() {
			deadline = epoch.Add(clock() + c.set.HeaderTime)
		}
		c.arm(deadline)
		if in.r == in.w {
			err = c.next()
		} else {
			err = c.fill()
		}
		if err != nil {
			return c.cut(err, deadline)
		}
		err = errShort
		var whole bool
		if parsed > 0 {
			scanned, whole = sectionEnd(in.buf.b[in.r:in.w], scanned)
		}
		if n := in.w - in.r; whole || n >= 2*parsed || parsed <= c.set.RequestLine && n > c.set.RequestLine {
			parsed, err = n, parse(c, h)
		}
	}
	if err != nil {
		return c.refuse(err)
	}
	in.floor = in.r
	return nil
}

// cut says why a head did not come.
func (c *Conn) cut(err error, deadline time.Time) error {
	switch {
	case errors.Is(err, io.EOF) && c.in.r < c.in.w:
		return io.ErrUnexpectedEOF
	case !errors.Is(err, ErrIdle) || deadline.IsZero() || clock() < deadline.Sub(epoch):
		return err
	}
	c.count.Exceeded(limits.HeaderTime)
	return c.refuse(&ProtocolError{408, c.set.Over(limits.HeaderTime)})
}

// refuse notes that nothing more can be read. It leaves what the writing goroutine looks at alone.
func (c *Conn) refuse(err error) error {
	var broken *ProtocolError
	if c.asking && errors.As(err, &broken) && broken.Status != 502 && broken.Status != 504 {
		status := 502
		if broken.Status == 408 {
			status = 504
		}
		err = &ProtocolError{status, broken.Detail}
	}
	c.in.err, c.in.refused = err, true
	return err
}

// sectionEnd says whether the empty line that ends field lines is in b. It looks from an index on and returns that from
// which to look when there is more.
func sectionEnd(b []byte, from int) (next int, whole bool) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return len(b), false
		}
		after := b[from+i+1:]
		switch {
		case len(after) > 0 && after[0] == '\n', len(after) > 1 && after[0] == '\r' && after[1] == '\n':
			return from, true
		case len(after) == 0, len(after) == 1 && after[0] == '\r':
			return from + i, false
		}
		from += i + 1
	}
}

// fields parses the fields of a head that begin at an index of b and notes what they say.
func (c *Conn) fields(h *message.Head, f *framing, b []byte, i int) (end int, err error) {
	s := section{set: c.set, first: true}
	end, h.Fields, err = s.parse(b, i, h.Fields)
	if s.over != "" {
		c.count.Exceeded(s.over)
	}
	if err != nil {
		return end, err
	}
	return end, f.note(h)
}
