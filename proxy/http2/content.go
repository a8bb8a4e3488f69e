// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"github.com/heddle-mesh/heddle/proxy/message"
)

// beginContent acts on the head of a DATA frame (RFC 9113, section 6.1), whose payload may not be here yet. b begins with
// what is. It is false if the length of padding has not come.
func (c *Conn) beginContent(f *frame, b []byte) (begun bool, err error) {
	switch {
	case !c.settledOnce:
		return false, errFrame(ProtocolError, "the first frame is not SETTINGS")
	case c.blockOf.kind != 0:
		return false, errFrame(ProtocolError, "a frame within a head")
	case f.stream == 0:
		return false, errFrame(ProtocolError, "DATA without a stream")
	}
	head, pad := frameHead, 0
	if f.has(flagPadded) {
		if f.length == 0 {
			return false, errFrame(FrameSizeError, "padding without a length")
		}
		if len(b) == 0 {
			return false, nil
		}
		head, pad = frameHead+1, int(b[0])
		if pad >= f.length {
			return false, errFrame(ProtocolError, "more padding than payload")
		}
	}
	if f.length > c.window {
		return false, errFrame(FlowControlError, "content over the connection's window")
	}
	c.window -= f.length
	c.owed += f.length
	c.begin += head
	left := f.length - pad - (head - frameHead)
	c.content = content{left: left, pad: pad, end: f.has(flagEndStream), open: true}
	s, err := c.charge(f, left)
	if err != nil {
		return false, err
	}
	c.content.stream = s
	return true, nil
}

// charge takes a DATA frame from the stream's window and its content-length. It returns nil if nobody wants the content.
func (c *Conn) charge(f *frame, size int) (*Stream, error) {
	c.mu.Lock()
	s := c.streams[f.stream]
	if s == nil {
		idle, how := c.idle(f.stream), c.howClosed(f.stream)
		ignored := !c.client && f.stream > c.taken
		c.mu.Unlock()
		switch {
		case idle:
			return nil, errFrame(ProtocolError, "DATA on an idle stream")
		case how == closedByUs || ignored:
			return nil, nil
		}
		return nil, c.provokedClosed(f.stream, StreamClosed)
	}
	code, detail := NoError, ""
	switch {
	case s.remoteEnd:
		code, detail = StreamClosed, "content after its end"
	case f.length > s.recvWindow:
		code, detail = FlowControlError, "content over the stream's window"
	case c.client && !s.gotHead:
		code, detail = ProtocolError, "content before a head"
	case s.noContent && size > 0:
		code, detail = ProtocolError, "content where none is allowed"
	case s.expect != message.Unknown && (int64(size) > s.expect || f.has(flagEndStream) && int64(size) != s.expect):
		code, detail = ProtocolError, "content that is not as long as content-length says"
	}
	if detail != "" {
		c.mu.Unlock()
		return nil, c.provoked(s, code, detail)
	}
	s.recvWindow -= f.length
	if padding := f.length - size; padding > 0 && !f.has(flagEndStream) {
		c.owe(s, padding) // nobody consumes it (RFC 9113, section 6.9.1)
	}
	if size > 0 {
		c.credit()
	} else if !f.has(flagEndStream) {
		c.control()
	}
	fatal := c.fatal
	c.mu.Unlock()
	if s.expect != message.Unknown {
		s.expect -= int64(size)
	}
	return s, fatal
}

// deliver passes on what is here of a DATA frame.
func (c *Conn) deliver() error {
	d := &c.content
	n := min(d.left, c.have-c.begin)
	p := c.in[c.begin : c.begin+n]
	c.begin += n
	d.left -= n
	if d.left == 0 {
		skip := min(d.pad, c.have-c.begin)
		c.begin += skip
		d.pad -= skip
	}
	s, last := d.stream, d.left == 0 && d.end && d.stream != nil
	if d.left == 0 && d.stream != nil {
		d.stream = nil // all is delivered, but for padding
	}
	d.open = d.left > 0 || d.pad > 0
	if s == nil || n == 0 && !last {
		return nil
	}
	c.mu.Lock()
	silent := s.over || s.muted
	if last && !s.over {
		c.endRemote(s)
	}
	c.mu.Unlock()
	if !silent {
		s.sink.Data(p, last)
	}
	return nil
}

// endRemote notes the peer's end of a stream. c.mu is held.
func (c *Conn) endRemote(s *Stream) {
	s.remoteEnd = true
	if s.localEnd {
		c.close(s, closedByEnd)
	}
}
