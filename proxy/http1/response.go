// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"net"

	"github.com/heddle-mesh/heddle/proxy/message"
)

// maxInterim bounds the interim answers to one request.
const maxInterim = 32

// ReadResponse reads the head of an answer to a request into h, whose memory it uses again. Interim answers (1xx) are
// answers, too: call it again. An error is io.EOF where the server has gone before its first byte, io.ErrUnexpectedEOF
// where it went amid it, or *ProtocolError. Strings of h are valid as the package says.
//
// After 101, and 2xx to CONNECT, the connection is Raw. 101 comes only where request.Upgrade has all that it agrees to.
func (c *Conn) ReadResponse(h, request *message.Head) error {
	c.headAsked, c.connectAsked = request.Method == methodHead, request.Method == methodConnect
	c.asking = true
	if err := c.readHead(h, (*Conn).parseResponse); err != nil {
		return err
	}
	switch {
	case h.Status == 101:
		if !agreed(h.Upgrade, request.Upgrade) {
			return c.refuse(badAnswer("101 to what was not asked for"))
		}
		c.closing, c.pending = true, false
	case h.Status < 200:
		if c.interim++; c.interim > maxInterim {
			return c.refuse(badAnswer("too many interim answers"))
		}
	default:
		c.pending = false
	}
	return nil
}

// Ask sends what waits, which is all of the request that was written, and reads the head of its answer as ReadResponse
// does. Towards TCP, with a deadline (SetDeadline), it saves the read that would find nothing yet.
func (c *Conn) Ask(h, request *message.Head) error {
	o := &c.out
	if _, isTCP := under(c.net).(*net.TCPConn); !isTCP || o.n == 0 || o.err != nil || c.in.r < c.in.w || c.in.limit.IsZero() {
		if err := c.Flush(); err != nil {
			return err
		}
		return c.ReadResponse(h, request)
	}
	c.armSend()
	c.ready.to, c.ready.send, c.ready.sent, c.ready.unsent = c.net, o.buf.b[:o.n], 0, nil
	err := c.ReadResponse(h, request)
	if c.ready.send != nil { // it did not come to that
		c.ready.send = nil
		if err := c.Flush(); err != nil {
			return err
		}
		return err
	}
	o.written.Add(int64(c.ready.sent))
	o.n = 0
	if c.ready.unsent != nil {
		return c.sent(c.ready.unsent)
	}
	o.release()
	return err
}

func badAnswer(detail string) error { return &ProtocolError{502, detail} }

// agreed says whether an answer upgrades to nothing but what was asked for.
func agreed(to, asked string) bool {
	for item := range message.Items(to) {
		if !message.HasItem(asked, item) {
			return false
		}
	}
	return to != ""
}

// parseResponse parses what is here as the head of an answer and takes it, or returns errShort.
func (c *Conn) parseResponse(h *message.Head) error {
	h.Reset()
	b := c.in.buf.b[c.in.r:c.in.w]
	i, err := c.statusLine(h, b)
	if errors.Is(err, errShort) && len(b) > c.set.RequestLine || err == nil && i > c.set.RequestLine {
		return badAnswer("the status line is too long")
	}
	if err != nil {
		return err
	}
	var f framing
	end, err := c.fields(h, &f, b, i)
	if err != nil {
		return err
	}
	if err := c.frameResponse(h, &f); err != nil {
		return err
	}
	c.in.r += end
	return nil
}

// statusLine parses "HTTP/1.1 200 OK\r\n" and returns the index behind it. The reason, or the space before it, may be
// missing.
func (c *Conn) statusLine(h *message.Head, b []byte) (end int, err error) {
	minor, i, err := version(b, 0)
	if err != nil {
		return 0, err
	}
	if len(b) < i+5 { // " 200\r"
		return 0, errShort
	}
	status := 0
	for _, c := range b[i+1 : i+4] {
		if c < '0' || c > '9' {
			return 0, badAnswer("not a status")
		}
		status = status*10 + int(c-'0')
	}
	if b[i] != ' ' || status < 100 {
		return 0, badAnswer("not a status")
	}
	i += 4
	if b[i] == ' ' {
		i += message.ControlIn(b[i:])
	}
	switch {
	case i == len(b), b[i] == '\r' && i+1 == len(b):
		return 0, errShort
	case b[i] != '\r' || b[i+1] != '\n':
		return 0, badAnswer("the status line does not end after the reason")
	}
	h.Status, h.HTTP10 = status, minor == '0'
	return i + 2, nil
}

// frameResponse decides how long the content is (RFC 9112, section 6.3) and what becomes of the connection.
func (c *Conn) frameResponse(h *message.Head, f *framing) error {
	if f.codings > 0 {
		if h.HTTP10 {
			return badAnswer("Transfer-Encoding in HTTP/1.0")
		}
		if err := f.transfer(); err != nil {
			return err
		}
	}
	none := h.Status < 200 || h.Status == 204
	tunnel := c.connectAsked && h.Status >= 200 && h.Status < 300
	h.Close = f.close || h.HTTP10 && !f.alive
	switch {
	case (none || tunnel) && (f.codings > 0 || f.length > 0):
		return badAnswer("content where there must be none")
	case h.Status < 200 && h.HTTP10:
		return badAnswer("an interim answer in HTTP/1.0")
	case none || c.headAsked || h.Status == 304:
	case tunnel:
		h.Close = true
	case f.codings > 0:
		c.body.kind, h.Length = chunked, message.Unknown
	case f.lengths > 0:
		if f.length > 0 {
			c.body.kind, c.body.left, h.Length = sized, f.length, f.length
		}
	default:
		c.body.kind, h.Length, h.Close = toEnd, message.Unknown, true
	}
	if h.Status == 101 || h.Status == 426 {
		h.Upgrade = f.protocol()
	}
	if h.Close && h.Status >= 200 {
		c.closing = true
	}
	return nil
}
