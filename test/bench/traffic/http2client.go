// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"errors"
	"fmt"

	"github.com/heddle-mesh/heddle/test/bench/epoll"
)

// streamMessages is how many messages a gRPC stream of Messages carries each way.
const streamMessages = 100

// http2Client keeps its slots' streams open at once.
type http2Client struct {
	g       *generator
	slots   []*slot
	conn    *epoll.Conn
	in      frames
	next    uint32
	streams map[uint32]*slot
	taken   int // since the connection's window was given back
	broken  bool
}

func newHTTP2Client(g *generator, slots []*slot) *http2Client {
	return &http2Client{g: g, slots: slots, next: 1, streams: make(map[uint32]*slot, 2*len(slots))}
}

func (c *http2Client) attach(conn *epoll.Conn) {
	c.conn = conn
	b := append(conn.Buffer(), preface...)
	b = appendSettings(b, settingWindow, grantedStream)
	conn.SetBuffer(appendWindowUpdate(b, grantedConnection))
}

// requestContent is a gRPC message in its DATA frame, but for the stream's number.
var requestContent = append(appendFrame(nil, frameData, 0, 0, 5+requestMessage), append([]byte{0, 0, 0, 0, requestMessage}, make([]byte, requestMessage)...)...)

func (c *http2Client) issue(s *slot) {
	b := c.conn.Buffer()
	if s.stream == 0 {
		s.stream = c.next
		c.next += 2
		c.streams[s.stream] = s
		block := c.g.next()
		flags := byte(flagEndHeaders)
		if c.g.load.Protocol == HTTP2 {
			flags |= flagEndStream
		}
		b = append(appendFrame(b, frameHeaders, flags, s.stream, len(block)), block...)
	}
	if c.g.load.Protocol != HTTP2 {
		s.message++
		at := len(b)
		b = append(b, requestContent...)
		if c.g.load.Protocol == Unary || s.message == streamMessages {
			b[at+4] = flagEndStream
		}
		b[at+5], b[at+6], b[at+7], b[at+8] = byte(s.stream>>24), byte(s.stream>>16), byte(s.stream>>8), byte(s.stream) //nolint:gosec // the low bytes are what is wanted
	}
	c.conn.SetBuffer(b)
}

func (c *http2Client) Data(conn *epoll.Conn, p []byte) {
	c.in.feed(p, c.frame)
	if c.taken > replenish && !c.broken {
		conn.SetBuffer(appendWindowUpdate(conn.Buffer(), c.taken))
		c.taken = 0
	}
}

func (c *http2Client) frame(f frame) bool {
	switch f.kind {
	case frameHeaders, frameData:
		return c.stream(f)
	case frameReset:
		if c.streams[f.stream] != nil {
			return c.fail(fmt.Errorf("stream reset with code %d", f.number()))
		}
	case frameGoAway:
		return c.fail(fmt.Errorf("GOAWAY: %q", f.payload))
	case frameSettings:
		if f.flags&flagAck != 0 {
			return true
		}
		tooFew := false
		f.settings(func(id uint16, value uint32) { tooFew = tooFew || (id == settingStreams && int(value) < len(c.slots)) })
		if tooFew {
			return c.fail(errors.New("the proxy takes fewer streams"))
		}
		c.conn.SetBuffer(appendFrame(c.conn.Buffer(), frameSettings, flagAck, 0, 0))
	case framePing:
		if f.flags&flagAck == 0 {
			c.conn.SetBuffer(append(appendFrame(c.conn.Buffer(), framePing, flagAck, 0, len(f.payload)), f.payload...))
		}
	}
	return true
}

func (c *http2Client) stream(f frame) bool {
	if f.kind == frameData {
		c.taken += len(f.payload)
	}
	s := c.streams[f.stream]
	if s == nil {
		return true
	}
	if f.kind == frameHeaders && s.got == 0 && s.message <= 1 {
		block := f.content()
		for len(block) > 0 && block[0]&0xe0 == 0x20 { // the size of the table, in a byte or more
			n := 1
			if block[0]&0x1f == 0x1f {
				for n < len(block) && block[n]&0x80 != 0 {
					n++
				}
				n++
			}
			block = block[min(n, len(block)):]
		}
		// :status is the first field, and every encoder has 200 as entry 8 of the static table.
		if len(block) == 0 || block[0] != 0x88 {
			return c.fail(fmt.Errorf("the answer isn't 200: %x", block))
		}
	}
	if f.kind == frameData {
		s.got += len(f.content())
	}
	switch {
	case f.flags&flagEndStream != 0:
		if c.wrong(s) {
			return c.fail(fmt.Errorf("%d bytes of content", s.got))
		}
		delete(c.streams, s.stream)
		s.stream, s.message = 0, 0
		c.g.done(s)
	case c.g.load.Protocol == Messages && f.kind == frameData && s.got >= messageSize && s.message < streamMessages:
		c.g.done(s)
	}
	return !c.broken
}

// wrong tells whether an answer that ends has another length than it should.
func (c *http2Client) wrong(s *slot) bool {
	switch c.g.load.Protocol {
	case Unary:
		return s.got != messageSize
	case Messages:
		return s.got != messageSize || s.message != streamMessages
	default:
		return s.got != Sizes[c.g.load.Size]
	}
}

func (c *http2Client) fail(err error) bool {
	c.broken = true
	c.conn.Close()
	c.g.failed(c.slots, err)
	return false
}

func (c *http2Client) Closed(_ *epoll.Conn, err error) {
	c.broken = true
	c.g.failed(c.slots, err)
}
