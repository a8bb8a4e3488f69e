// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// Methods that change how a message is read.
const (
	methodConnect = "CONNECT"
	methodHead    = "HEAD"
	methodOptions = "OPTIONS"
)

// ReadRequest reads the head of the next request into h, whose memory it uses again. It returns io.EOF where the caller
// has gone before it, io.ErrUnexpectedEOF where it went amid it, and *ProtocolError to answer and close. From its first
// byte the head has limits.HeaderTime. Strings of h are valid as the package says.
func (c *Conn) ReadRequest(h *message.Head) error {
	here := c.in.r < c.in.w && !c.in.waited
	c.in.waited = false
	c.headAsked, c.connectAsked, c.old = false, false, false
	if err := c.readHead(h, (*Conn).parseRequest); err != nil {
		c.closing = c.closing || c.in.refused
		return err
	}
	if !here {
		c.in.row = 0
	} else if c.in.row++; c.in.row > c.set.Pipelined {
		c.count.Exceeded(limits.Pipelined)
		c.closing = true
	}
	c.pending = true
	c.body.idle = c.set.BodyIdle
	return nil
}

// parseRequest parses what is here as the head of a request and takes it, or returns errShort.
func (c *Conn) parseRequest(h *message.Head) error {
	h.Reset()
	b := c.in.buf.b[c.in.r:c.in.w]
	target, i, err := c.requestLine(h, b)
	if err == nil && i > c.set.RequestLine || errors.Is(err, errShort) && len(b) > c.set.RequestLine {
		c.count.Exceeded(limits.RequestLine)
		return &ProtocolError{414, c.set.Over(limits.RequestLine)}
	}
	if err != nil {
		return err
	}
	var f framing
	end, err := c.fields(h, &f, b, i)
	if err != nil {
		return err
	}
	if err := judgeTarget(h, &f, target); err != nil {
		return err
	}
	if err := c.frameRequest(h, &f); err != nil {
		return err
	}
	c.in.r += end
	return nil
}

// requestLine parses "GET /path HTTP/1.1\r\n" and returns the target and the index behind the line. It returns errShort
// only for what may still become one, but for the limit.
func (c *Conn) requestLine(h *message.Head, b []byte) (target string, end int, err error) {
	n := message.TokenEnd(b)
	switch {
	case n == len(b):
		return "", 0, errShort
	case n == 0 || b[n] != ' ':
		return "", 0, bad("the request line does not begin with a method")
	}
	h.Method = view(b[:n])
	from := n + 1
	n = message.TargetEnd(b[from:])
	switch i := from + n; {
	case i == len(b):
		return "", 0, errShort
	case n == 0 || b[i] != ' ':
		return "", 0, bad("the request target has a character that it must not have, or the version is missing")
	}
	target = view(b[from : from+n])
	minor, end, err := version(b, from+n+1)
	if err != nil {
		return "", 0, err
	}
	switch {
	case len(b) == end, b[end] == '\r' && len(b) == end+1:
		return "", 0, errShort
	case b[end] != '\r' || b[end+1] != '\n':
		return "", 0, bad("the request line does not end after the version")
	}
	h.HTTP10 = minor == '0'
	return target, end + 2, nil
}

// version parses "HTTP/1.1" at an index of b and returns its last digit and the index behind it.
func version(b []byte, i int) (minor byte, end int, err error) {
	const name = "HTTP/"
	for j := range len(name) {
		if i+j == len(b) {
			return 0, 0, errShort
		}
		if b[i+j] != name[j] {
			return 0, 0, bad("not a version of HTTP")
		}
	}
	i += len(name)
	for j := range 3 {
		if i+j == len(b) {
			return 0, 0, errShort
		}
		if isDigit := b[i+j] >= '0' && b[i+j] <= '9'; j == 1 && b[i+j] != '.' || j != 1 && !isDigit {
			return 0, 0, bad("not a version of HTTP")
		}
	}
	if b[i] != '1' || b[i+2] > '1' {
		return 0, 0, &ProtocolError{505, "a version of HTTP besides 1.0 and 1.1"}
	}
	return b[i+2], i + 3, nil
}

// judgeTarget takes the target apart (RFC 9112, section 3.2) and compares it with Host.
func judgeTarget(h *message.Head, f *framing, target string) error {
	switch {
	case f.hosts > 1:
		return bad("Host stands more than once")
	case f.hosts == 0 && !h.HTTP10:
		return bad("Host is missing")
	case f.hosts == 1 && !message.ValidAuthority(f.host):
		return bad("Host is not a host")
	}
	h.Authority = f.host
	switch {
	case h.Method == methodConnect:
		if !message.ValidAuthority(target) || len(message.HostOf(target)) == len(target) {
			return bad("the target of CONNECT is not a host and a port")
		}
		if f.hosts == 1 && !message.EqualFold(f.host, target) && !message.EqualFold(f.host, message.HostOf(target)) {
			return bad("Host differs from the request target")
		}
		h.Authority = target
	case target[0] == '/':
		h.Path = target
	case target == "*" && h.Method == methodOptions:
		h.Path = target
	default:
		return absolute(h, f, target)
	}
	return nil
}

// absolute takes a target in absolute form apart. Its authority is what counts, and Host must be the same.
func absolute(h *message.Head, f *framing, target string) error {
	var rest string
	switch {
	case len(target) > 7 && message.EqualFold(target[:7], "http://"):
		h.Scheme, rest = "http", target[7:]
	case len(target) > 8 && message.EqualFold(target[:8], "https://"):
		h.Scheme, rest = "https", target[8:]
	default:
		return bad("the request target is of no form that the method can have")
	}
	n := 0
	for n < len(rest) && rest[n] != '/' && rest[n] != '?' {
		n++
	}
	authority, path := rest[:n], rest[n:]
	if !message.ValidAuthority(authority) {
		return bad("the request target has no host")
	}
	if f.hosts == 1 && !message.EqualFold(f.host, authority) {
		return bad("Host differs from the request target")
	}
	h.Authority, h.Path = authority, path
	switch {
	case path == "" && h.Method == methodOptions:
		h.Path = "*"
	case path == "":
		h.Path = "/"
	case path[0] == '?':
		h.Path = "/" + path
	}
	return nil
}

// frameRequest decides how long the content is (RFC 9112, section 6.3) and what becomes of the connection.
func (c *Conn) frameRequest(h *message.Head, f *framing) error {
	switch {
	case f.codings > 0 && h.HTTP10:
		return bad("Transfer-Encoding in HTTP/1.0")
	case f.codings > 0:
		if err := f.transfer(); err != nil {
			return err
		}
		c.body.kind, h.Length = chunked, message.Unknown
	case f.length > 0:
		c.body.kind, c.body.left, h.Length = sized, f.length, f.length
	}
	if h.Method == methodConnect && h.Length != 0 {
		return bad("CONNECT with content")
	}
	switch {
	case !f.expects:
	case h.HTTP10: // ignored (RFC 9110, section 10.1.1): it goes on as HTTP/1.1, where it would count
		h.Del("Expect")
	case f.wonders:
		return &ProtocolError{417, "an expectation besides 100-continue"}
	default:
		h.Expect = h.Length != 0
	}
	if !h.HTTP10 {
		h.Upgrade = f.protocol()
	}
	h.Close = f.close || h.HTTP10 && !f.alive
	c.old, c.closing = h.HTTP10, c.closing || h.Close
	c.headAsked, c.connectAsked = h.Method == methodHead, h.Method == methodConnect
	return nil
}
