// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// WriteRequest writes the head of a request into the buffer; Flush, or content that does not fit, sends it. Content of
// h.Length bytes, or of Unknown length in chunks, follows by Write and End.
//
// Fields are written as they are but for what the connection decides: Host is h.Authority, in its place or first;
// Content-Length is h.Length; Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding and Upgrade among the fields are
// left out, and written from h.Close, h.Length and h.Upgrade. h.Close therefore is whether this connection is to close,
// not what the message came with. With h.Scheme the target has the absolute form.
func (c *Conn) WriteRequest(h *message.Head) error {
	c.pending, c.interim = true, 0
	target := h.Path
	switch {
	case !message.ValidToken(h.Method), h.Length < message.Unknown, h.Scheme != "" && h.Authority == "",
		strings.IndexByte(h.Scheme, ' ') >= 0, strings.IndexByte(h.Authority, ' ') >= 0:
		return ErrField
	case h.Method == methodConnect:
		if target = h.Authority; target == "" {
			return ErrField
		}
	case target == "", target[0] != '/' && (target != "*" || h.Method != methodOptions), strings.IndexByte(target, ' ') >= 0:
		return ErrField
	}
	b, err := c.out.begin(c, h, len(target)+len(h.Method)+len(h.Scheme)+3*len(h.Authority))
	if err != nil {
		return err
	}
	b = append(b, h.Method...)
	b = append(b, ' ')
	if h.Scheme != "" && h.Method != methodConnect {
		b = append(b, h.Scheme...)
		b = append(b, "://"...)
		b = append(b, h.Authority...)
		if target == "*" {
			target = ""
		}
	}
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\n"...)
	c.out.frame(h.Length, h.Length == message.Unknown)
	if _, ok := h.Get("host"); !ok {
		b = c.out.field(b, "Host", h.Authority)
	}
	b = c.appendFields(b, h, true, h.Length > 0)
	if h.Close {
		c.closing = true
	}
	b = c.out.connection(b, h, h.Close, false)
	return c.out.finish(b)
}

// WriteResponse writes the head of the final answer to the request that was read, or of 101, as WriteRequest does. Content
// of Unknown length goes in chunks, or to an HTTP/1.0 caller until the connection's end. An answer to HEAD, 204 and 304
// have no content: what is written of it is dropped. "Connection: close" is added where the request or anything else made
// this the connection's last message.
func (c *Conn) WriteResponse(h *message.Head) error {
	if h.Status < 101 || h.Status > 999 || h.Length < message.Unknown {
		return ErrField
	}
	b, err := c.out.begin(c, h, 0)
	if err != nil {
		return err
	}
	c.pending = false
	b = appendStatusLine(b, h.Status)
	empty := h.Status < 200 || h.Status == 204
	tunnel := h.Status == 101 || c.connectAsked && h.Status >= 200 && h.Status < 300
	switch {
	case empty || tunnel || h.Status == 304 || c.headAsked:
		c.out.drop()
	case h.Length == message.Unknown && c.old:
		c.out.kind, c.out.over, c.closing = toEnd, false, true
	default:
		c.out.frame(h.Length, h.Length == message.Unknown)
	}
	b = c.appendFields(b, h, false, !empty && !tunnel && (h.Length > 0 || h.Length == 0 && c.out.kind == sized))
	if h.Close || tunnel {
		c.closing = true
	}
	b = c.out.connection(b, h, c.closing && !tunnel, c.old)
	return c.out.finish(b)
}

// WriteInterim writes an interim answer, but for 101. An HTTP/1.0 caller gets none.
func (c *Conn) WriteInterim(h *message.Head) error {
	if h.Status < 100 || h.Status > 199 || h.Status == 101 {
		return ErrField
	}
	if c.old {
		return nil
	}
	b, err := c.out.begin(c, h, 0)
	if err != nil {
		return err
	}
	b = appendStatusLine(b, h.Status)
	c.out.drop()
	b = c.appendFields(b, h, false, false)
	return c.out.finish(b)
}

// begin makes room for a head and returns the buffer to append to.
func (o *output) begin(c *Conn, h *message.Head, line int) ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	const rest = 256 // the line, framing and Connection
	size := line + rest + len(h.Upgrade)
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Name == "" {
			return nil, ErrField
		}
		size += len(f.Name) + len(f.Value) + len(": \r\n")
	}
	if err := c.space(size); err != nil {
		return nil, err
	}
	o.lines = 1 // and the field lines
	return o.buf.b[:o.n], nil
}

// finish ends a head that was appended to the buffer. Whoever wrote it, what would be more lines than were meant does not
// leave.
func (o *output) finish(b []byte) error {
	b = append(b, lineEnd...)
	head := b[o.n:]
	if n := o.lines + 1; bytes.Count(head, lineEnd[:1]) != n || bytes.Count(head, lineEnd[1:]) != n || bytes.IndexByte(head, 0) >= 0 {
		return ErrField
	}
	o.n = len(b)
	return nil
}

// frame notes how content is to be framed.
func (o *output) frame(length int64, inChunks bool) {
	o.kind, o.left, o.over = sized, length, false
	if inChunks {
		o.kind, o.left = chunked, 0
	}
}

// drop notes that there is no content.
func (o *output) drop() { o.kind, o.left, o.over = none, 0, false }

// appendFields appends fields but for those of the connection, and the framing. With length, h.Length is announced.
func (c *Conn) appendFields(b []byte, h *message.Head, request, length bool) []byte {
	announced := false
	for i := range h.Fields {
		f := &h.Fields[i]
		value := f.Value
		switch len(f.Name) {
		case len("host"):
			if request && message.EqualFold(f.Name, "host") {
				value = h.Authority
			}
		case len("content-length"):
			if !message.EqualFold(f.Name, "content-length") {
				break
			}
			switch {
			case announced || h.Length == message.Unknown || h.Status >= 100 && (h.Status < 200 || h.Status == 204):
				continue
			case c.out.kind == sized:
				announced = true
				b = c.out.length(b, f.Name, h.Length)
				continue
			default: // of HEAD and 304: what it would be
				announced = true
				value = withoutZeros(value)
			}
		default:
			if message.IsHopByHop(f.Name) {
				continue
			}
		}
		b = c.out.field(b, f.Name, value)
	}
	switch {
	case c.out.kind == chunked:
		b = c.out.field(b, "Transfer-Encoding", "chunked")
	case length && !announced:
		b = c.out.length(b, "Content-Length", h.Length)
	}
	return b
}

// withoutZeros takes zeros from the front of a number: some take them for a sign of octal digits.
func withoutZeros(number string) string {
	for len(number) > 1 && number[0] == '0' {
		number = number[1:]
	}
	return number
}

// field appends a field line.
func (o *output) field(b []byte, name, value string) []byte {
	o.lines++
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// length appends Content-Length under a name.
func (o *output) length(b []byte, name string, length int64) []byte {
	o.lines++
	b = append(b, name...)
	b = append(b, ": "...)
	b = strconv.AppendInt(b, length, 10)
	return append(b, "\r\n"...)
}

// connection appends Connection and Upgrade. TE has to be listed (RFC 9110, section 10.1.4).
func (o *output) connection(b []byte, h *message.Head, last, old bool) []byte {
	te := false
	for i := range h.Fields {
		te = te || len(h.Fields[i].Name) == 2 && message.EqualFold(h.Fields[i].Name, "te")
	}
	options := [...]struct {
		is   bool
		name string
	}{{last, "close"}, {old && !last, "keep-alive"}, {te && h.Method != "", "TE"}, {h.Upgrade != "", "Upgrade"}}
	separator := "Connection: "
	for i := range options {
		if options[i].is {
			b = append(b, separator...)
			b = append(b, options[i].name...)
			separator = ", "
		}
	}
	if separator == ", " {
		o.lines++
		b = append(b, "\r\n"...)
	}
	if h.Upgrade != "" {
		b = o.field(b, "Upgrade", h.Upgrade)
	}
	return b
}
