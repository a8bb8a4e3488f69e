// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// watchTime is how often a connection is looked at. So no frame resets a timer, and all that is late is found out this
// much later.
const watchTime = 5 * time.Second

// watch is what a connection's times are kept with. Conn.mu guards all but the timer.
type watch struct {
	timer  *time.Timer
	heard  uint32        // reads, at the last look
	silent time.Duration // nothing has come
	asked  bool          // a PING of ours is not answered
	opened uint32        // the greatest stream, at the last look
	idle   time.Duration // no stream has been open
	writes uint32        // calls of Write, at the last look
	stuck  time.Duration // the same Write has been under way
	left   time.Duration // a client has not answered the PING of Drain
}

// start is called with c.mu held.
func (w *watch) start(c *Conn) {
	w.timer = time.AfterFunc(watchTime, func() {
		if c.look() {
			w.timer.Reset(watchTime)
		}
	})
}

func (w *watch) stop() { w.timer.Stop() }

// look finds out what is late. It is false when the connection is over.
func (c *Conn) look() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage == over || c.ending {
		return false
	}
	c.lookAtPeer()
	c.lookAtWriter()
	c.lookAtStreams()
	return true
}

// lookAtPeer asks a silent peer whether it is there, and lets the reader give its buffers back.
func (c *Conn) lookAtPeer() {
	w := &c.watch
	if since := c.since.Load(); since != 0 && time.Now().UnixNano()-since >= int64(c.set.HeaderTime) {
		c.exceeded(limits.HeaderTime)
		c.blame(&ConnError{Code: EnhanceYourCalm, Detail: "a head that does not end"})
		return
	}
	if heard := c.heard.Load(); heard != w.heard {
		w.heard, w.silent, w.asked = heard, 0, false
		return
	}
	w.silent += watchTime
	if w.silent == watchTime {
		c.poke()
	}
	every := c.config.KeepAlive
	switch {
	case every <= 0 || !c.settled:
	case w.asked && w.silent >= every+every/2:
		c.blame(ErrSilent)
		c.kill()
	case !w.asked && w.silent >= every:
		w.asked = true
		c.appended(appendPing(c.output(), 0, pingAlive))
		c.kick(nil)
	}
}

// lookAtWriter cuts a peer that takes nothing, or does not answer a server that wants to leave.
func (c *Conn) lookAtWriter() {
	w := &c.watch
	if w.writes != c.writes || !c.writing {
		w.writes, w.stuck = c.writes, 0
	} else if w.stuck += watchTime; w.stuck >= c.set.SendIdle {
		c.exceeded(limits.SendIdle)
		c.blame(ErrStalled)
		c.kill()
	}
	if c.stage == leaving {
		if w.left += watchTime; w.left > watchTime {
			c.stopTaking()
		}
	}
}

// lookAtStreams resets streams whose content the peer does not take, and drains a connection without streams.
func (c *Conn) lookAtStreams() {
	w := &c.watch
	if len(c.streams) > 0 || w.opened != c.last {
		w.opened, w.idle = c.last, 0
	} else if w.idle += watchTime; w.idle >= c.set.Idle && c.stage == open && !c.client {
		c.exceeded(limits.Idle)
		c.drain()
	}
	for _, s := range c.streams {
		if s.pending.size == 0 || s.moved {
			s.moved, s.stalled = false, 0
			continue
		}
		if s.stalled += watchTime; s.stalled >= c.set.SendIdle {
			c.exceeded(limits.SendIdle)
			c.fail(s, &StreamError{Code: Cancel, Detail: "the peer takes none of the content"})
		}
	}
}
