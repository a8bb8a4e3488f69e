// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"encoding/binary"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// takeHeaders acts on HEADERS (RFC 9113, section 6.2).
func (c *Conn) takeHeaders(f *frame, p []byte) error {
	if f.stream == 0 {
		return errFrame(ProtocolError, "HEADERS without a stream")
	}
	if f.has(flagPadded) {
		if len(p) == 0 {
			return errFrame(FrameSizeError, "padding without a length")
		}
		pad := int(p[0])
		if p = p[1:]; pad > len(p) {
			return errFrame(ProtocolError, "more padding than payload")
		}
		p = p[:len(p)-pad]
	}
	self := false
	if f.has(flagPriority) {
		if len(p) < 5 {
			return errFrame(FrameSizeError, "HEADERS that are cut short")
		}
		self = binary.BigEndian.Uint32(p)&streamMost == f.stream
		p = p[5:]
	}
	if !f.has(flagEndHeaders) {
		c.block, c.blockOf, c.blockSelf, c.parts = append(c.block[:0], p...), *f, self, 0
		return nil
	}
	return c.takeBlock(f, p, self)
}

// takeContinuation acts on CONTINUATION (RFC 9113, section 6.10). How many there may be is limited, whatever is in them
// (CVE-2023-45288).
func (c *Conn) takeContinuation(f *frame, p []byte) error {
	if c.blockOf.kind == 0 || f.stream != c.blockOf.stream {
		return errFrame(ProtocolError, "CONTINUATION without a head")
	}
	if c.parts++; c.parts > c.set.Continuations {
		c.exceeded(limits.Continuations)
		return errFrame(EnhanceYourCalm, "too many CONTINUATION frames")
	}
	c.block = append(c.block, p...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	of, block := c.blockOf, c.block
	c.blockOf, c.block = frame{}, nil
	return c.takeBlock(&of, block, c.blockSelf)
}

// takeBlock acts on a whole head.
func (c *Conn) takeBlock(f *frame, block []byte, self bool) error {
	if err := c.dec.decode(block); err != nil {
		return err
	}
	if c.client {
		return c.takeAnswer(f)
	}
	if f.stream&1 == 0 {
		return errFrame(ProtocolError, "a client's stream with an even number")
	}
	if f.stream <= c.last { // the reader alone writes it
		return c.takeLater(f)
	}
	return c.takeRequest(f, self)
}

// takeRequest begins a stream.
func (c *Conn) takeRequest(f *frame, self bool) error {
	detail := ""
	if self {
		detail = "a stream that depends on itself"
	} else if !c.dec.over() {
		detail = c.dec.request(&c.head, c.config.ExtendedConnect, f.has(flagEndStream))
	}
	c.mu.Lock()
	c.last = f.stream
	if c.stage >= draining {
		c.mu.Unlock()
		return nil
	}
	c.taken = f.stream
	switch {
	case detail != "":
		err := c.turnAway(f.stream, ProtocolError)
		c.mu.Unlock()
		c.refused(400, detail)
		return err
	case len(c.streams) >= c.set.Streams:
		c.exceeded(limits.Streams)
		err := c.turnAway(f.stream, RefusedStream)
		c.mu.Unlock()
		return err
	case c.dec.over() || c.lineSize() > c.set.RequestLine:
		defer c.mu.Unlock()
		return c.tooLarge(f)
	}
	end := f.has(flagEndStream)
	s := &Stream{
		conn: c, id: f.stream, sendWindow: c.peer.window, recvWindow: c.recvInitial, remoteEnd: end,
		expect: c.head.Length, born: c.now,
	}
	c.streams[s.id] = s
	c.credit()
	c.mu.Unlock()
	s.sink = c.accept(s)
	if s.sink == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !s.over {
			c.reset(s, RefusedStream)
			c.kick(nil)
		}
		return c.fatal
	}
	s.sink.Head(&c.head, end)
	return nil
}

// lineSize is what HTTP/1.1 would call the request line.
func (c *Conn) lineSize() int { return len(c.head.Method) + len(c.head.Path) }

// turnAway resets a stream that never began. c.mu is held.
func (c *Conn) turnAway(id uint32, code Code) error {
	c.noteClosed(id, closedByUs)
	c.appended(appendReset(c.output(), id, code))
	c.premature()
	c.kick(nil)
	return c.fatal
}

// refused tells of a request that the engine itself has answered.
func (c *Conn) refused(status int, detail string) {
	if c.config.Refused != nil {
		c.config.Refused(status, detail)
	}
}

// tooLarge answers a request whose head is over a limit. c.mu is held; it is let go for a moment.
func (c *Conn) tooLarge(f *frame) error {
	status, limit := 431, limits.HeaderBytes
	switch {
	case !c.dec.over():
		status, limit = 414, limits.RequestLine
	case c.dec.overFields:
		limit = limits.HeaderFields
	}
	c.exceeded(limit)
	end := f.has(flagEndStream)
	answer := message.Head{Status: status}
	c.writeHead(&Stream{id: f.stream}, &answer, true)
	if end {
		c.noteClosed(f.stream, closedByEnd)
	} else {
		c.noteClosed(f.stream, closedByUs)
		c.appended(appendReset(c.output(), f.stream, NoError))
	}
	c.kick(nil)
	err := c.fatal
	c.mu.Unlock()
	c.refused(status, c.set.Over(limit))
	c.mu.Lock()
	return err
}

// takeLater acts on a head of a stream that has begun: trailer fields, or a mistake.
func (c *Conn) takeLater(f *frame) error {
	c.mu.Lock()
	s := c.streams[f.stream]
	if s == nil {
		defer c.mu.Unlock()
		return c.takeTooLate(f)
	}
	ended := s.remoteEnd
	c.mu.Unlock()
	if ended {
		return c.provoked(s, StreamClosed, "a head after the end")
	}
	return c.takeTrailer(f, s)
}

// takeTooLate acts on a head of a stream that is over. c.mu is held.
func (c *Conn) takeTooLate(f *frame) error {
	how := c.howClosed(f.stream)
	switch {
	case how == closedByUs, !c.client && f.stream > c.taken:
		return nil
	case how == closedByEnd:
		return errFrame(StreamClosed, "a head on a stream that has ended")
	case how == closedUnknown && !c.client && c.last-f.stream < closedSlots:
		return errFrame(ProtocolError, "a stream with a lower number than one before it")
	case how == closedUnknown && c.client:
		return nil
	}
	c.appended(appendReset(c.output(), f.stream, StreamClosed))
	c.premature()
	c.kick(nil)
	return c.fatal
}

// takeTrailer ends a stream's content with fields.
func (c *Conn) takeTrailer(f *frame, s *Stream) error {
	switch {
	case !f.has(flagEndStream):
		return c.provoked(s, ProtocolError, "a second head that does not end the stream")
	case c.dec.over():
		c.exceeded(c.dec.overLimit())
		return c.provoked(s, EnhanceYourCalm, "trailer fields over a limit: "+c.set.Over(c.dec.overLimit()))
	case s.expect > 0:
		return c.provoked(s, ProtocolError, "content that is not as long as content-length says")
	}
	if detail := c.dec.trailer(&c.head); detail != "" {
		return c.provoked(s, ProtocolError, detail)
	}
	c.mu.Lock()
	silent := s.over || s.muted
	if !s.over {
		c.endRemote(s)
	}
	c.mu.Unlock()
	if !silent {
		s.sink.Trailer(c.head.Fields)
	}
	return nil
}

// overLimit is the limit that the block is over.
func (d *decoder) overLimit() limits.Name {
	if d.overFields {
		return limits.HeaderFields
	}
	return limits.HeaderBytes
}

// takeAnswer acts on a head that a server sends.
func (c *Conn) takeAnswer(f *frame) error {
	c.mu.Lock()
	s := c.streams[f.stream]
	if s == nil {
		defer c.mu.Unlock()
		if c.idle(f.stream) {
			return errFrame(ProtocolError, "HEADERS on an idle stream")
		}
		return c.takeTooLate(f)
	}
	ended := s.remoteEnd
	c.mu.Unlock()
	switch {
	case ended:
		return c.provoked(s, StreamClosed, "a head after the end")
	case s.gotHead:
		return c.takeTrailer(f, s)
	case c.dec.over():
		c.exceeded(c.dec.overLimit())
		return c.provoked(s, EnhanceYourCalm, "an answer's head over a limit: "+c.set.Over(c.dec.overLimit()))
	}
	end := f.has(flagEndStream)
	if detail := c.dec.answer(&c.head, s, end); detail != "" {
		return c.provoked(s, ProtocolError, detail)
	}
	c.mu.Lock()
	silent := s.over || s.muted
	if c.head.Status < 200 {
		c.control()
	} else {
		s.gotHead, s.expect = true, c.head.Length
		c.credit()
	}
	if end && !s.over {
		c.endRemote(s)
	}
	fatal := c.fatal
	c.mu.Unlock()
	if !silent {
		s.sink.Head(&c.head, end)
	}
	return fatal
}
