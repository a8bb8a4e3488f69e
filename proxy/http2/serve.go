// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Serve reads the connection until it is over, and closes it. It must be called exactly once. When it returns, every sink
// has had its last event. A connection that ended well, after Drain, the peer's GOAWAY, or its end of file without open
// streams, returns nil.
func (c *Conn) Serve() error {
	c.mu.Lock()
	c.awake = true
	c.until(time.Now().Add(c.set.FirstByte))
	c.watch.start(c)
	c.mu.Unlock()
	go c.write()
	err := c.read()
	return c.end(err)
}

// end tells the sinks of open streams, writes what is left where that makes sense, and closes the connection.
func (c *Conn) end(err error) error {
	c.watch.stop()
	c.mu.Lock()
	err = c.verdict(err)
	c.stage = over
	streams := c.streams
	c.streams = make(map[uint32]*Stream)
	failed := c.errands
	c.errands = nil
	var told *ConnError
	polite := err == nil || errors.As(err, &told) || errors.Is(err, ErrPreface)
	if polite && told != nil && !told.FromPeer {
		c.appended(appendGoAway(c.output(), c.lastTaken(), told.Code, told.Detail))
	}
	for _, s := range streams {
		s.over = true
		s.pending.clear(c.config.Budget)
		s.failed = c.lost(s, err)
	}
	if polite && !c.killed {
		_ = c.net.SetDeadline(time.Now().Add(lingerTime))
		c.ending = true
		c.wake.Signal()
	} else {
		c.kill()
	}
	c.mu.Unlock()
	for _, s := range failed {
		c.tellFailed(s)
	}
	for _, s := range streams {
		c.tellFailed(s)
	}
	<-c.wrote
	c.hangUp(polite)
	c.release()
	if c.change != nil {
		c.change(c)
	}
	return err
}

// verdict is why the connection ended, which another goroutine may know better than the reader. c.mu is held.
func (c *Conn) verdict(err error) error {
	switch {
	case c.fatal != nil:
		return c.fatal
	case c.peerCode != NoError:
		return &ConnError{Code: c.peerCode, FromPeer: true, Detail: "GOAWAY"}
	case c.broken != nil && len(c.streams) > 0:
		return c.broken
	case err == nil:
		return nil
	case !errors.Is(err, io.EOF):
		return err
	case !c.settled:
		return ErrPreface
	case len(c.streams) > 0:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// lastTaken is the last stream of the peer that was acted upon. c.mu is held.
func (c *Conn) lastTaken() uint32 {
	if c.client {
		return 0
	}
	return c.taken
}

// lost is what the sink of a stream learns when the connection is over. c.mu is held.
func (c *Conn) lost(s *Stream, err error) *StreamError {
	why := &StreamError{
		Code: Cancel, Gone: true, Detail: "the connection ended",
		Unprocessed: c.client && (s.headAt >= c.written || s.id > c.peerLast),
	}
	if err != nil {
		why.Detail = "the connection ended: " + err.Error()
	}
	return why
}

// tellFailed calls the sink of a stream that is over.
func (c *Conn) tellFailed(s *Stream) {
	if s.sink != nil && !s.muted {
		s.sink.Reset(s.failed)
	}
}

const (
	// lingerTime is what a peer has to take the last frames and to hang up itself. Who closes a socket with input unread
	// makes the kernel reset the connection, and what was on its way is lost.
	lingerTime = time.Second
	lingerMost = 1 << 20
)

// hangUp closes the socket.
func (c *Conn) hangUp(polite bool) {
	if !polite {
		// A tls.Conn would try to say goodbye on a socket that may be full.
		if under, ok := c.net.(interface{ NetConn() net.Conn }); ok {
			under.NetConn().Close()
		}
		c.net.Close()
		return
	}
	if half, ok := c.net.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.want()
		for n := 0; n < lingerMost; {
			got, err := c.net.Read(c.in)
			if err != nil {
				break
			}
			n += got
		}
	}
	c.net.Close()
}

// poke makes the reader look up. c.mu is held.
func (c *Conn) poke() {
	if !c.poked {
		c.poked = true
		_ = c.net.SetReadDeadline(past)
	}
}

// until sets when the reader has waited long enough; zero is never. c.mu is held.
func (c *Conn) until(t time.Time) {
	c.deadline = t
	if !c.poked && !c.killed {
		_ = c.net.SetReadDeadline(t)
	}
}

// lookUp is what the reader does when its wait ended without input.
func (c *Conn) lookUp() error {
	c.mu.Lock()
	poked := c.poked
	c.poked = false
	fatal, broken, ended := c.fatal, c.broken, c.stage == over
	failed := c.errands
	c.errands = nil
	if !c.killed {
		_ = c.net.SetReadDeadline(c.deadline)
	}
	c.mu.Unlock()
	for _, s := range failed {
		c.tellFailed(s)
	}
	switch {
	case fatal != nil:
		return fatal
	case ended:
		return nil
	case !poked && broken != nil:
		return broken
	case !poked && !c.settledOnce:
		return ErrPreface
	}
	return errGoOn
}

// errGoOn says that the reader goes on.
var errGoOn = errors.New("go on")

// read is the reader: it acts on what comes until the connection is over.
func (c *Conn) read() error {
	for {
		err := c.fill()
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			if err = c.lookUp(); !errors.Is(err, errGoOn) {
				return err
			}
			c.giveBack()
			continue
		}
		c.batch.begin()
		err = c.parse()
		c.tellChange()
		c.batch.end()
		if err != nil {
			return err
		}
	}
}
