// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// countTime is what frames and resets are counted in.
const countTime = 10 * time.Second

// counter counts what happens in spans of countTime.
type counter struct {
	since time.Time
	n     int
}

// over counts one more, and says whether that is too many.
func (n *counter) over(most int) bool {
	if now := time.Now(); now.Sub(n.since) > countTime {
		n.since, n.n = now, 0
	}
	n.n++
	return n.n > most
}

// blame ends the connection: the reader says GOAWAY if err is a ConnError. c.mu is held.
func (c *Conn) blame(err error) {
	if c.fatal == nil {
		c.fatal = err
		c.poke()
	}
}

// control counts a frame that carries nothing. c.mu is held.
func (c *Conn) control() {
	if c.controls.over(c.set.ControlFrames) && c.fatal == nil {
		c.exceeded(limits.ControlFrames)
		c.blame(&ConnError{Code: EnhanceYourCalm, Detail: "too many frames that carry nothing"})
	}
}

// credit takes one from what control has counted, for a frame that carries something in either direction: a peer that does
// much may send a PING or a PRIORITY for each of them. c.mu is held.
func (c *Conn) credit() {
	if c.controls.n > 0 {
		c.controls.n--
	}
}

// premature counts a stream that a client has had reset before it was answered: by its own RST_STREAM (CVE-2023-44487), or
// by a frame that provokes ours (CVE-2025-8671). c.mu is held.
func (c *Conn) premature() {
	if !c.client && c.resets.over(c.set.Resets) && c.fatal == nil {
		c.exceeded(limits.Resets)
		c.blame(&ConnError{Code: EnhanceYourCalm, Detail: "too many streams reset"})
	}
}

// hasty is the age up to which a stream that the client resets counts. Older ones are bounded by how many may be open.
const hasty = time.Second

// provoked resets a stream for what the peer did. The reader calls it.
func (c *Conn) provoked(s *Stream, code Code, detail string) error {
	c.mu.Lock()
	if s.over {
		c.mu.Unlock()
		return nil
	}
	c.reset(s, code)
	c.premature()
	c.kick(nil)
	fatal := c.fatal
	c.mu.Unlock()
	if !s.muted && s.sink != nil {
		s.sink.Reset(&StreamError{Code: code, Detail: detail})
	}
	return fatal
}

// provokedClosed answers a frame on a stream that is not there.
func (c *Conn) provokedClosed(id uint32, code Code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appended(appendReset(c.output(), id, code))
	c.premature()
	c.kick(nil)
	return c.fatal
}
