// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// Sink gets what comes on a stream. It is called by the connection's reader alone, but for Drained, one call at a time,
// with no lock of this package held. It must not block. Nothing comes after Reset, after both sides have ended, or after
// the Stream's own Reset has returned, but for a Drained or another call that is under way just then.
type Sink interface {
	// Head is the head of a request, or of an answer; interim answers (1xx) come the same way, before the final one. Its
	// strings may be kept, h and h.Fields are valid during the call only. end says that there is no content. Host is not
	// among the fields: it is h.Authority. h.Length is that of content-length, 0 where there is no content, otherwise
	// message.Unknown.
	Head(h *message.Head, end bool)
	// Data is a piece of the content, valid during the call only. len(p) bytes of the stream's window are taken until they
	// are Consumed. p may be empty when end is true.
	Data(p []byte, end bool)
	// Trailer ends the stream's content. Strings may be kept, the slice may not.
	Trailer(fields []message.Field)
	// Reset is the last event of a stream that did not end well, but not of one that Stream.Reset has ended.
	Reset(why *StreamError)
	// Drained says that n more bytes are on their way which SendData did not report as passed. The connection's writer
	// calls it, perhaps while another event is under way.
	Drained(n int)
}

// Stream is one request and its answer. Its methods may be called from any goroutine; they never block and never call a
// sink. After the end of the stream they do nothing. What is sent goes out in the order of the calls.
type Stream struct {
	conn *Conn
	id   uint32
	sink Sink

	// Of the reader.
	expect    int64 // content that is still to come by content-length, or message.Unknown
	gotHead   bool  // of a client's stream: the final head has come
	noContent bool  // the answer must have none
	connect   bool  // the request is CONNECT
	born      time.Time

	// Under the connection's lock.
	pair       *Conn
	sendWindow int
	recvWindow int
	owed       int // window that the peer has not been given back
	pending    backlog
	trailer    []message.Field // waits behind pending; not nil if there is one
	headAt     uint64          // where the head began in all that was ever appended to the connection's output
	next       *Stream         // in the queue of those that are ready
	queued     bool
	moved      bool          // something that waited was sent since the last look
	stalled    time.Duration // how long nothing was
	remoteEnd  bool          // the peer has ended its side
	sealed     bool          // nothing may be sent any more: the end waits or was sent
	localEnd   bool          // the end was appended to the output
	sentHead   bool          // of a server's stream: the final head was sent
	resetAfter bool          // RST_STREAM follows the end
	muted      bool          // the sink gets nothing more; it does not change once over, and may be read without the lock then
	over       bool
	failed     *StreamError // what the reader has to tell the sink
}

// Conn returns the stream's connection.
func (s *Stream) Conn() *Conn { return s.conn }

// ID returns the stream's number.
func (s *Stream) ID() uint32 { return s.id }

// Pair says that most of what is sent on s is sent by events of o's streams: the writer is then woken once for all that o
// had at hand, instead of at the first frame of it.
func (s *Stream) Pair(o *Conn) {
	s.conn.mu.Lock()
	s.pair = o
	s.conn.mu.Unlock()
}

// SendHead sends an answer's head, interim ones too. Connection-specific fields and Host are left out (RFC 9113, section
// 8.2.2), names are put in lower case. Strings and Fields are not kept. h.Length is not looked at: only a content-length
// among the fields is sent.
func (s *Stream) SendHead(h *message.Head, end bool) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over || s.sealed || s.sentHead || c.client {
		return
	}
	s.sentHead = h.Status >= 200
	end = end && s.sentHead
	c.writeHead(s, h, end)
	if end {
		s.sealed = true
		c.endLocal(s)
	}
	c.kick(s.pair)
}

// SendData sends content, which it copies, and with end the end of it. passed bytes are on their way; the others wait for
// the peer's windows or for the socket, and are reported by Sink.Drained. What comes after the stream's end passes into
// nothing.
func (s *Stream) SendData(p []byte, end bool) (passed int) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over || s.sealed || len(p) == 0 && !end {
		return len(p)
	}
	s.sealed = end
	if s.pending.size == 0 {
		passed = c.sendNow(s, p, end)
	}
	if passed < len(p) {
		if !s.pending.push(p[passed:], c.config.Budget) {
			c.exceeded(limits.Memory)
			c.fail(s, &StreamError{Code: EnhanceYourCalm, Detail: "no memory for content that waits"})
			return passed
		}
		if s.sendWindow > 0 {
			c.ready.push(s)
		}
	}
	c.kick(s.pair)
	return passed
}

// sendNow appends as much content to the output as windows and room allow, and the end if it is all. c.mu is held.
func (c *Conn) sendNow(s *Stream, p []byte, end bool) (passed int) {
	for passed < len(p) && c.ready.first == nil {
		room := writeSize - len(c.output()) - frameHead
		n := min(len(p)-passed, s.sendWindow, c.sendWindow, room, frameMost)
		if n <= 0 {
			return passed
		}
		c.spend(s, n, len(p)-passed)
		last := end && passed+n == len(p)
		b := appendFrame(c.out.b, n, frameData, endFlag(last), s.id)
		c.appended(append(b, p[passed:passed+n]...))
		passed += n
	}
	if end && passed == len(p) {
		if len(p) == 0 {
			c.appended(appendFrame(c.output(), 0, frameData, flagEndStream, s.id))
		}
		c.endLocal(s)
	}
	return passed
}

// SendTrailer sends trailer fields after the content, and ends it. Without fields it is the end alone.
func (s *Stream) SendTrailer(fields []message.Field) {
	if len(fields) == 0 {
		s.SendData(nil, true)
		return
	}
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over || s.sealed {
		return
	}
	s.sealed = true
	if s.pending.size > 0 {
		s.trailer = make([]message.Field, len(fields))
		for i, f := range fields {
			s.trailer[i] = message.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value), NeverIndexed: f.NeverIndexed}
		}
		return
	}
	c.writeFields(s, fields)
	c.endLocal(s)
	c.kick(s.pair)
}

// Reset ends the stream at once and drops what waits; the sink gets nothing more. NoError after this side's end was sent
// waits for all that is queued (RFC 9113, section 8.1).
func (s *Stream) Reset(code Code) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over {
		return
	}
	if code == NoError && s.sealed && !s.localEnd {
		s.resetAfter, s.muted = true, true
		return
	}
	c.reset(s, code)
	c.kick(s.pair)
}

// Consumed gives n bytes of window back to the peer, in batches. What is consumed must have come by Data.
func (s *Stream) Consumed(n int) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over || s.remoteEnd || n <= 0 {
		return
	}
	c.owe(s, n)
}

// owe gives window of a stream back when it is enough for a batch. c.mu is held.
func (c *Conn) owe(s *Stream, n int) {
	if s.owed += n; s.owed < c.set.StreamWindow/4 {
		return
	}
	c.appended(appendWindow(c.output(), s.id, s.owed))
	s.recvWindow += s.owed
	s.owed = 0
	c.kick(s.pair)
}

// endLocal notes that this side's end is in the output. c.mu is held.
func (c *Conn) endLocal(s *Stream) {
	s.localEnd = true
	switch {
	case s.remoteEnd:
		c.close(s, closedByEnd)
	case s.resetAfter:
		c.reset(s, NoError)
	}
}

// reset ends a stream with RST_STREAM. c.mu is held.
func (c *Conn) reset(s *Stream, code Code) {
	c.appended(appendReset(c.output(), s.id, code))
	c.close(s, closedByUs)
}

// fail is reset by a goroutine that may not call the sink: the reader does. c.mu is held.
func (c *Conn) fail(s *Stream, why *StreamError) {
	c.reset(s, why.Code)
	s.failed = why
	c.errands = append(c.errands, s)
	c.poke()
	c.kick(nil)
}

// close forgets a stream. c.mu is held.
func (c *Conn) close(s *Stream, how uint32) {
	full := c.client && c.room() == 0
	s.over = true
	s.pending.clear(c.config.Budget)
	delete(c.streams, s.id)
	c.noteClosed(s.id, how)
	if full && c.room() > 0 || len(c.streams) == 0 {
		c.notify.Store(true)
		c.leaveIfDone()
	}
}

// How a stream ended, as far as it matters for what comes on it later.
const (
	closedUnknown uint32 = iota
	closedByEnd          // both sides ended it
	closedByPeer         // RST_STREAM came
	closedByUs           // RST_STREAM went: what was on its way is ignored
)

// closedSlots is how many streams that are over are remembered.
const closedSlots = 256

// noteClosed remembers how a stream ended. c.mu is held.
func (c *Conn) noteClosed(id, how uint32) {
	if c.closed == nil {
		c.closed = new([closedSlots]uint32)
	}
	c.closed[id>>1%closedSlots] = id>>1<<2 | how
}

// howClosed says how a stream that is over ended. c.mu is held.
func (c *Conn) howClosed(id uint32) uint32 {
	if c.closed == nil || c.closed[id>>1%closedSlots]>>2 != id>>1 {
		return closedUnknown
	}
	return c.closed[id>>1%closedSlots] & 3
}
