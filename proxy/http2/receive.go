// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"encoding/binary"
	"time"
)

// pingDrain and pingAlive are the data of our own PINGs.
const (
	pingDrain = 0x686564646c650001
	pingAlive = 0x686564646c650002
)

func errFrame(code Code, detail string) error { return &ConnError{Code: code, Detail: detail} }

// takeSettings acts on SETTINGS (RFC 9113, section 6.5).
func (c *Conn) takeSettings(f *frame, p []byte) error {
	if f.stream != 0 {
		return errFrame(ProtocolError, "SETTINGS on a stream")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.has(flagAck) {
		if len(p) != 0 {
			return errFrame(FrameSizeError, "an acknowledgement with settings")
		}
		c.takeAck()
		return c.fatal
	}
	if len(p)%6 != 0 {
		return errFrame(FrameSizeError, "SETTINGS that are cut short")
	}
	full := c.room() == 0
	if !c.settled {
		c.peer.streams = streamMost
	}
	initial := c.peer.window
	for ; len(p) > 0; p = p[6:] {
		if err := c.setting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:]), &initial); err != nil {
			return err
		}
	}
	if err := c.resizeWindows(initial); err != nil {
		return err
	}
	c.settledOnce = true
	if !c.settled {
		c.settled = true
		c.until(time.Time{})
		c.notify.Store(true)
	} else {
		c.control()
	}
	if full && c.room() > 0 {
		c.notify.Store(true)
	}
	c.appended(appendFrame(c.output(), 0, frameSettings, flagAck, 0))
	c.kick(nil)
	return c.fatal
}

// takeAck applies our own settings: from now on the peer goes by them. c.mu is held.
func (c *Conn) takeAck() {
	if c.acked {
		c.control()
		return
	}
	c.acked = true
	for _, s := range c.streams {
		s.recvWindow += c.set.StreamWindow - c.recvInitial
	}
	c.recvInitial = c.set.StreamWindow
}

// setting acts on one of the peer's settings. The last INITIAL_WINDOW_SIZE of a frame is what counts: each one costs a
// look at every stream. c.mu is held.
func (c *Conn) setting(id uint16, value uint32, initial *int) error {
	switch id {
	case settingTableSize:
		c.enc.resize(int(min(value, tableMost)))
	case settingPush:
		if value > 1 || c.client && value != 0 {
			return errFrame(ProtocolError, "ENABLE_PUSH that is not allowed")
		}
	case settingStreams:
		c.peer.streams = int(min(value, streamMost))
	case settingWindow:
		if value > windowMost {
			return errFrame(FlowControlError, "INITIAL_WINDOW_SIZE over 2^31-1")
		}
		*initial = int(value)
	case settingFrameSize:
		if value < frameMost || value > sixteenMost {
			return errFrame(ProtocolError, "MAX_FRAME_SIZE that is not allowed")
		}
	case settingExtendedConnect:
		if value > 1 || value == 0 && c.peer.extended {
			return errFrame(ProtocolError, "ENABLE_CONNECT_PROTOCOL that is not allowed")
		}
		c.peer.extended = value == 1
	}
	return nil
}

// resizeWindows applies INITIAL_WINDOW_SIZE, also to the streams that are open; their windows may become negative (RFC
// 9113, section 6.9.2). c.mu is held.
func (c *Conn) resizeWindows(initial int) error {
	more := initial - c.peer.window
	if more == 0 {
		return nil
	}
	c.peer.window = initial
	for _, s := range c.streams {
		s.sendWindow += more
		if s.sendWindow > windowMost {
			return errFrame(FlowControlError, "INITIAL_WINDOW_SIZE makes a window too large")
		}
		if s.sendWindow > 0 && s.pending.size > 0 {
			c.ready.push(s)
		}
	}
	return nil
}

// takePing answers a PING (RFC 9113, section 6.7).
func (c *Conn) takePing(f *frame, p []byte) error {
	switch {
	case f.stream != 0:
		return errFrame(ProtocolError, "PING on a stream")
	case len(p) != 8:
		return errFrame(FrameSizeError, "PING that is not of 8 bytes")
	}
	data := binary.BigEndian.Uint64(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !f.has(flagAck):
		c.control()
		c.appended(appendPing(c.output(), flagAck, data))
	case data == pingDrain && c.stage == leaving:
		c.stopTaking()
	case data == pingAlive && c.watch.asked:
		c.watch.asked = false
	default:
		c.control()
	}
	c.kick(nil)
	return c.fatal
}

// stopTaking is the second half of a server's Drain. c.mu is held.
func (c *Conn) stopTaking() {
	c.appended(appendGoAway(c.output(), c.taken, NoError, ""))
	c.leave(draining)
}

// takeGoAway acts on GOAWAY (RFC 9113, section 6.8).
func (c *Conn) takeGoAway(f *frame, p []byte) error {
	switch {
	case f.stream != 0:
		return errFrame(ProtocolError, "GOAWAY on a stream")
	case len(p) < 8:
		return errFrame(FrameSizeError, "GOAWAY that is cut short")
	}
	last := binary.BigEndian.Uint32(p) & streamMost
	code := Code(binary.BigEndian.Uint32(p[4:]))
	c.mu.Lock()
	if last > c.peerLast {
		c.mu.Unlock()
		return errFrame(ProtocolError, "GOAWAY with a later last stream than before")
	}
	c.peerLast, c.peerCode = last, code
	var unprocessed []*Stream
	if c.client {
		for id, s := range c.streams {
			if id > last {
				s.failed = &StreamError{Code: RefusedStream, Unprocessed: true, FromPeer: true, Detail: "GOAWAY: " + code.String()}
				c.close(s, closedByUs)
				unprocessed = append(unprocessed, s)
			}
		}
	} else {
		c.control()
	}
	if c.client || code != NoError {
		c.leave(draining)
	}
	fatal := c.fatal
	c.mu.Unlock()
	for _, s := range unprocessed {
		c.tellFailed(s)
	}
	return fatal
}

// takeReset acts on RST_STREAM (RFC 9113, section 6.4).
func (c *Conn) takeReset(f *frame, p []byte) error {
	switch {
	case f.stream == 0:
		return errFrame(ProtocolError, "RST_STREAM without a stream")
	case len(p) != 4:
		return errFrame(FrameSizeError, "RST_STREAM that is not of 4 bytes")
	}
	code := Code(binary.BigEndian.Uint32(p))
	c.mu.Lock()
	s := c.streams[f.stream]
	if s == nil {
		defer c.mu.Unlock()
		if c.idle(f.stream) {
			return errFrame(ProtocolError, "RST_STREAM on an idle stream")
		}
		c.late(f.stream)
		return c.fatal
	}
	c.close(s, closedByPeer)
	if !s.sentHead && c.now.Sub(s.born) < hasty {
		c.premature()
	}
	fatal := c.fatal
	c.mu.Unlock()
	if !s.muted && s.sink != nil {
		s.sink.Reset(&StreamError{Code: code, FromPeer: true, Unprocessed: c.client && code == RefusedStream})
	}
	return fatal
}

// idle says whether nobody has used a stream's number yet. c.mu is held.
func (c *Conn) idle(id uint32) bool { return id&1 == 0 || id > c.last }

// takeWindow acts on WINDOW_UPDATE (RFC 9113, section 6.9).
func (c *Conn) takeWindow(f *frame, p []byte) error {
	if len(p) != 4 {
		return errFrame(FrameSizeError, "WINDOW_UPDATE that is not of 4 bytes")
	}
	n := int(binary.BigEndian.Uint32(p) & windowMost)
	if f.stream == 0 {
		return c.widen(n)
	}
	c.mu.Lock()
	s := c.streams[f.stream]
	if s == nil {
		defer c.mu.Unlock()
		if c.idle(f.stream) {
			return errFrame(ProtocolError, "WINDOW_UPDATE on an idle stream")
		}
		c.late(f.stream)
		return c.fatal
	}
	if n == 0 || s.sendWindow+n > windowMost {
		c.mu.Unlock()
		if n == 0 {
			return c.provoked(s, ProtocolError, "WINDOW_UPDATE of nothing")
		}
		return c.provoked(s, FlowControlError, "a window over 2^31-1")
	}
	defer c.mu.Unlock()
	s.sendWindow += n
	if s.pending.size > 0 && s.sendWindow > 0 {
		c.ready.push(s)
		c.kick(nil)
	} else if n < dribbleSize && !s.localEnd && s.sendWindow-n >= c.peer.window {
		c.control() // nothing of the window was spent
	}
	return c.fatal
}

// late counts a frame on a stream that is over. One that was on its way when the stream ended is nobody's fault. c.mu is
// held.
func (c *Conn) late(id uint32) {
	if c.howClosed(id) == closedUnknown {
		c.control()
	}
}

// widen gives us more of the connection's window.
func (c *Conn) widen(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n == 0:
		return errFrame(ProtocolError, "WINDOW_UPDATE of nothing")
	case c.sendWindow+n > windowMost:
		return errFrame(FlowControlError, "a window over 2^31-1")
	}
	c.sendWindow += n
	if c.spent == 0 && n < dribbleSize {
		c.control()
	}
	c.spent = max(0, c.spent-n)
	if c.ready.first != nil {
		c.kick(nil)
	}
	return c.fatal
}

// takePriority checks PRIORITY, which means nothing any more (RFC 9113, section 5.3.2).
func (c *Conn) takePriority(f *frame, p []byte) error {
	switch {
	case f.stream == 0:
		return errFrame(ProtocolError, "PRIORITY without a stream")
	case len(p) != 5:
		return c.streamFault(f.stream, FrameSizeError, "PRIORITY that is not of 5 bytes")
	case binary.BigEndian.Uint32(p)&streamMost == f.stream:
		return c.streamFault(f.stream, ProtocolError, "a stream that depends on itself")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control()
	return c.fatal
}

// streamFault resets a stream, open or not.
func (c *Conn) streamFault(id uint32, code Code, detail string) error {
	c.mu.Lock()
	s := c.streams[id]
	c.mu.Unlock()
	if s != nil {
		return c.provoked(s, code, detail)
	}
	return c.provokedClosed(id, code)
}
