// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"runtime"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// outputMost is how much may wait to be written: one Write of content, and heads and answers to control frames. A peer that
// makes us answer and does not read is over it some day.
const outputMost = writeSize + 1<<20

// output returns what there is to write, to be appended to. c.mu is held.
func (c *Conn) output() []byte {
	if c.out == nil {
		c.out = writeBuffers.Get().(*output)
	}
	return c.out.b
}

// appended takes the output back with what was appended. c.mu is held.
func (c *Conn) appended(b []byte) {
	c.at += uint64(len(b) - len(c.out.b))
	c.out.b = b
	if len(b) > outputMost {
		c.blame(&ConnError{Code: EnhanceYourCalm, Detail: "the peer makes us answer and does not read"})
	}
}

// batch is what the reader of a connection does with the input that it has at hand. The writers of connections on which it
// causes output are woken at its end, once.
type batch struct {
	mu    sync.Mutex
	open  bool
	dirty []*Conn
}

// begin opens the batch.
func (b *batch) begin() {
	b.mu.Lock()
	b.open = true
	b.mu.Unlock()
}

// add takes a connection whose writer is to be woken at the end. It is false when no batch is open.
func (b *batch) add(c *Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		b.dirty = append(b.dirty, c)
	}
	return b.open
}

// end closes the batch and wakes the writers.
func (b *batch) end() {
	b.mu.Lock()
	b.open = false
	b.mu.Unlock()
	for i, c := range b.dirty {
		c.mu.Lock()
		c.wake.Signal()
		c.mu.Unlock()
		b.dirty[i] = nil
	}
	b.dirty = b.dirty[:0]
}

// kick sees to it that the writer looks at what there is: now, or when the reader of this connection or that of via,
// which may be nil, is done with what it has at hand, unless there is much by then. c.mu is held.
func (c *Conn) kick(via *Conn) {
	switch {
	case !c.awake:
		c.awake = true
		c.later = c.batch.add(c) || via != nil && via.batch.add(c)
		if !c.later {
			c.wake.Signal()
		}
	case c.later && c.out != nil && len(c.out.b) > writeSize/2:
		c.later = false
		c.wake.Signal()
	}
}

// queue is a line of streams.
type queue struct{ first, last *Stream }

func (q *queue) push(s *Stream) {
	if s.queued {
		return
	}
	s.queued, s.next = true, nil
	if q.last == nil {
		q.first = s
	} else {
		q.last.next = s
	}
	q.last = s
}

// pop takes the first out, which must be there.
func (q *queue) pop() {
	s := q.first
	q.first = s.next
	if q.first == nil {
		q.last = nil
	}
	s.queued, s.next = false, nil
}

// drained is a sink that is to be told.
type drained struct {
	sink Sink
	n    int
}

// write is the writer: it writes what there is, until the connection is over.
func (c *Conn) write() {
	defer close(c.wrote)
	var tell []drained
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.killed {
		c.pump()
		if c.out == nil && len(c.drained) == 0 && !c.notify.Load() {
			if c.ending {
				return
			}
			c.awake = false
			c.wake.Wait()
			c.later = false
			// Whoever can run now may have more to be written, and goes first: so what comes on many connections goes out on one
			// in one record of TLS.
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
			continue
		}
		out := c.out
		c.out = nil
		tell, c.drained = c.drained, tell[:0]
		if out != nil {
			c.written += uint64(len(out.b))
			c.writes++
			c.writing = true
		}
		c.mu.Unlock()
		for i := range tell {
			tell[i].sink.Drained(tell[i].n)
			tell[i] = drained{}
		}
		c.tellChange()
		var n int
		var err error
		if out != nil {
			n, err = c.net.Write(out.b)
		}
		c.mu.Lock()
		c.writing = false
		if err != nil {
			c.written -= uint64(len(out.b) - n)
			c.breakOff(err)
			return
		}
		if out != nil {
			out.release()
		}
	}
}

// breakOff ends the writer when the peer takes nothing any more. What it sent before, such as GOAWAY, is still read. c.mu
// is held, but for a moment.
func (c *Conn) breakOff(err error) {
	c.broken = err
	c.leave(draining)
	c.until(time.Now().Add(lingerTime))
	c.mu.Unlock()
	c.tellChange()
	c.mu.Lock()
}

// tellChange calls change if it is due.
func (c *Conn) tellChange() {
	if c.notify.Load() && c.notify.Swap(false) && c.change != nil {
		c.change(c)
	}
}

// pump moves content that waits to the output, from one stream after the other. c.mu is held.
func (c *Conn) pump() {
	for c.ready.first != nil {
		room := writeSize
		if c.out != nil {
			room -= len(c.out.b) + frameHead
		}
		if room <= 0 {
			return
		}
		s := c.ready.first
		if s.over || s.pending.size == 0 {
			c.ready.pop()
			continue
		}
		n := min(s.pending.size, s.sendWindow, c.sendWindow, room, frameMost)
		if n <= 0 && c.sendWindow <= 0 && s.sendWindow > 0 {
			return
		}
		c.ready.pop()
		if n <= 0 {
			continue
		}
		c.sendPending(s, n)
		if s.pending.size > 0 && s.sendWindow > 0 {
			c.ready.push(s)
		}
	}
}

// sendPending moves n bytes of what waits in a stream to the output, and what waits behind them. c.mu is held.
func (c *Conn) sendPending(s *Stream, n int) {
	last := n == s.pending.size && s.sealed && s.trailer == nil
	c.spend(s, n, s.pending.size)
	b := appendFrame(c.output(), n, frameData, endFlag(last), s.id)
	c.appended(s.pending.appendTo(b, n, c.config.Budget))
	s.moved = true
	c.drained = append(c.drained, drained{s.sink, n})
	if s.pending.size > 0 || !s.sealed {
		return
	}
	if s.trailer != nil {
		c.writeFields(s, s.trailer)
	}
	c.endLocal(s)
}

// spend takes n bytes of those that wait from the windows. A frame that is small because of the peer's window alone counts
// like one that carries nothing (CVE-2019-9511). c.mu is held.
func (c *Conn) spend(s *Stream, n, waiting int) {
	if n < dribbleSize && n < waiting && n == s.sendWindow {
		c.control()
	} else {
		c.credit()
	}
	s.sendWindow -= n
	c.sendWindow -= n
	c.spent += n
}

const dribbleSize = 128

func endFlag(end bool) byte {
	if end {
		return flagEndStream
	}
	return 0
}

// writeHead appends a head. c.mu is held.
func (c *Conn) writeHead(s *Stream, h *message.Head, end bool) {
	at := len(c.output())
	b := appendFrame(c.out.b, 0, frameHeaders, flagEndHeaders|endFlag(end), s.id)
	b = c.enc.begin(b)
	if c.client {
		b = c.enc.request(b, h)
	} else {
		b = c.enc.status(b, h.Status)
	}
	for i := range h.Fields {
		b = c.enc.passed(b, &h.Fields[i])
	}
	c.appended(splitHead(b, at))
}

// writeFields appends trailer fields, and with them the end of the stream. c.mu is held.
func (c *Conn) writeFields(s *Stream, fields []message.Field) {
	at := len(c.output())
	b := appendFrame(c.out.b, 0, frameHeaders, flagEndHeaders|flagEndStream, s.id)
	b = c.enc.begin(b)
	for i := range fields {
		b = c.enc.passed(b, &fields[i])
	}
	c.appended(splitHead(b, at))
}

// splitHead completes the HEADERS frame that begins at an index of b and reaches to its end. What is too long for one
// frame goes on in CONTINUATION frames.
func splitHead(b []byte, at int) []byte {
	length := len(b) - at - frameHead
	if length <= frameMost {
		putLength(b[at:], length)
		return b
	}
	head := parseFrame(b[at:])
	block := append([]byte(nil), b[at+frameHead:]...)
	b = appendFrame(b[:at], frameMost, frameHeaders, head.flags&^flagEndHeaders, head.stream)
	b = append(b, block[:frameMost]...)
	for block = block[frameMost:]; ; block = block[frameMost:] {
		if len(block) <= frameMost {
			b = appendFrame(b, len(block), frameContinuation, flagEndHeaders, head.stream)
			return append(b, block...)
		}
		b = appendFrame(b, frameMost, frameContinuation, 0, head.stream)
		b = append(b, block[:frameMost]...)
	}
}

// request appends the pseudo-fields of a request.
func (e *encoder) request(b []byte, h *message.Head) []byte {
	b = e.field(b, ":method", h.Method)
	if h.Protocol != "" {
		b = e.field(b, ":protocol", h.Protocol)
	}
	if h.Method != connectMethod || h.Protocol != "" {
		scheme := h.Scheme
		if scheme == "" {
			scheme = "http"
		}
		b = e.field(b, ":scheme", scheme)
		b = e.field(b, ":path", h.Path)
	}
	if h.Authority != "" {
		b = e.field(b, ":authority", h.Authority)
	}
	return b
}

// status appends the pseudo-field of an answer.
func (e *encoder) status(b []byte, status int) []byte {
	if status == 200 {
		return append(b, 0x80|8)
	}
	e.number = append(e.number[:0], byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
	return e.field(b, ":status", view(e.number))
}

// passed appends a field, unless it is of one connection alone or one that HTTP/2 has a pseudo-field for.
func (e *encoder) passed(b []byte, f *message.Field) []byte {
	switch {
	case message.IsHopByHop(f.Name), len(f.Name) == len("host") && message.EqualFold(f.Name, "host"):
		return b
	case len(f.Name) == len("te") && message.EqualFold(f.Name, "te"):
		if !message.HasItem(f.Value, "trailers") {
			return b
		}
		return e.field(b, "te", "trailers")
	case f.NeverIndexed:
		return e.never(b, f.Name, f.Value)
	}
	return e.field(b, f.Name, f.Value)
}

// exceeded counts a limit.
func (c *Conn) exceeded(name limits.Name) { c.count.Exceeded(name) }
