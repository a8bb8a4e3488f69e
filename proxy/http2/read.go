// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// reader is what the reader of a connection alone looks at.
type reader struct {
	in          []byte          // nil while the connection is idle
	full        bool            // what came last filled it
	begin, have int             // in[begin:have] is unread
	first       [frameHead]byte // where an idle connection waits for input, if socket.Wait does not know its kind
	now         time.Time       // when the input came

	prefaceLeft string // what has to come before the first frame
	settledOnce bool   // the first frame was SETTINGS
	// since is when the frame or head began that is not whole, in nanoseconds, or 0. The watch looks at it, too.
	since atomic.Int64

	dec  decoder
	head message.Head

	// A head in parts.
	block     []byte
	blockOf   frame
	blockSelf bool // it depends on itself
	parts     int  // CONTINUATION frames

	// A DATA frame in parts.
	content content

	window int // of the connection: what the peer may send
	owed   int // what it has not been given back
}

// content is the DATA frame that is being read.
type content struct {
	stream    *Stream // nil if nobody wants it
	left, pad int
	end, open bool // END_STREAM; part of the frame has not been delivered
}

func (r *reader) init(set *limits.Set) {
	r.dec = decoder{most: tableMost, bytesMost: set.HeaderBytes, fieldsMost: set.HeaderFields}
	r.window = windowDefault + max(0, set.ConnectionWindow-windowDefault)
}

// want takes a buffer.
func (r *reader) want() {
	if r.in == nil {
		r.in = readBuffers.Get().(*[readSize]byte)[:]
		r.begin, r.have, r.full = 0, 0, false
	}
}

// makeRoom makes room for more input.
func (r *reader) makeRoom() {
	if !r.full || len(r.in) == readMore {
		if r.begin > 0 {
			r.have = copy(r.in, r.in[r.begin:r.have])
			r.begin = 0
		}
		return
	}
	more := readLarger.Get().(*[readMore]byte)[:]
	have := copy(more, r.in[r.begin:r.have])
	r.release()
	r.in, r.begin, r.have = more, 0, have
}

// release gives the buffer back.
func (r *reader) release() {
	if r.in != nil {
		if len(r.in) == readMore {
			readLarger.Put((*[readMore]byte)(r.in))
		} else {
			readBuffers.Put((*[readSize]byte)(r.in))
		}
		r.in = nil
	}
}

// giveBack gives the buffers of a silent connection back, if nothing is in them.
func (c *Conn) giveBack() {
	if c.begin == c.have && c.blockOf.kind == 0 {
		c.release()
		c.dec.fields, c.dec.scratch, c.block = nil, nil, nil
		c.head = message.Head{}
	}
}

// fill waits for input.
func (c *Conn) fill() error {
	var n int
	var err error
	if c.in == nil {
		if err = socket.Wait(c.net); err != nil {
			return err
		}
		n, err = c.net.Read(c.first[:])
		if n > 0 {
			c.want()
			copy(c.in, c.first[:n])
		}
	} else {
		c.makeRoom()
		n, err = c.net.Read(c.in[c.have:])
		c.full = n == len(c.in)-c.have
	}
	if n <= 0 {
		return err
	}
	c.have += n
	c.heard.Add(1)
	c.now = time.Now()
	return nil
}

// parse acts on all frames that are here.
func (c *Conn) parse() error {
	if c.prefaceLeft != "" {
		if err := c.parsePreface(); err != nil || c.prefaceLeft != "" {
			return err
		}
	}
	progress := false
	for {
		if c.content.open {
			if err := c.deliver(); err != nil {
				return err
			}
			if c.content.open {
				break
			}
		}
		b := c.in[c.begin:c.have]
		if len(b) < frameHead {
			break
		}
		f := parseFrame(b)
		if f.length > frameMost {
			return &ConnError{Code: FrameSizeError, Detail: "a frame that is too long"}
		}
		if f.kind == frameData {
			begun, err := c.beginContent(&f, b[frameHead:])
			if err != nil {
				return err
			}
			if !begun {
				break
			}
			progress = true
			continue
		}
		if len(b) < frameHead+f.length {
			break
		}
		c.begin += frameHead + f.length
		progress = true
		if err := c.take(&f, b[frameHead:frameHead+f.length]); err != nil {
			return err
		}
	}
	c.mark(progress)
	return c.giveWindow()
}

// parsePreface takes what has come of the preface.
func (c *Conn) parsePreface() error {
	n := min(len(c.prefaceLeft), c.have-c.begin)
	if string(c.in[c.begin:c.begin+n]) != c.prefaceLeft[:n] {
		return ErrPreface
	}
	c.begin += n
	c.prefaceLeft = c.prefaceLeft[n:]
	return nil
}

// mark notes for the watch since when a frame or head has not been whole; another one began if there was progress.
// Content has all the time in the world: it is the stream's matter.
func (c *Conn) mark(progress bool) {
	inHead := c.blockOf.kind != 0
	switch was := c.since.Load(); {
	case !inHead && (c.content.open || c.begin == c.have):
		if was != 0 {
			c.since.Store(0)
		}
	case was == 0 || progress && !inHead:
		c.since.Store(c.now.UnixNano())
	}
}

// giveWindow gives the connection's window back when enough was taken. What waits is bounded by the streams' windows.
func (c *Conn) giveWindow() error {
	if c.owed < c.set.ConnectionWindow/4 {
		return nil
	}
	c.mu.Lock()
	c.appended(appendWindow(c.output(), 0, c.owed))
	c.kick(nil)
	c.mu.Unlock()
	c.window += c.owed
	c.owed = 0
	return nil
}

// take acts on a whole frame.
func (c *Conn) take(f *frame, p []byte) error {
	if !c.settledOnce && (f.kind != frameSettings || f.has(flagAck)) {
		return &ConnError{Code: ProtocolError, Detail: "the first frame is not SETTINGS"}
	}
	if c.blockOf.kind != 0 && f.kind != frameContinuation {
		return &ConnError{Code: ProtocolError, Detail: "a frame within a head"}
	}
	switch f.kind {
	case frameHeaders:
		return c.takeHeaders(f, p)
	case frameContinuation:
		return c.takeContinuation(f, p)
	case framePriority:
		return c.takePriority(f, p)
	case frameReset:
		return c.takeReset(f, p)
	case frameSettings:
		return c.takeSettings(f, p)
	case framePush:
		return &ConnError{Code: ProtocolError, Detail: "PUSH_PROMISE, which is not allowed"}
	case framePing:
		return c.takePing(f, p)
	case frameGoAway:
		return c.takeGoAway(f, p)
	case frameWindow:
		return c.takeWindow(f, p)
	}
	// An unknown frame carries nothing that we know of (RFC 9113, section 5.5).
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control()
	return c.fatal
}
