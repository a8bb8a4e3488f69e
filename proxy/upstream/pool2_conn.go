// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// conn2 is a connection of a pool2. Its fields are guarded by the pool's lock, but for those that never change.
type conn2 struct {
	pool    *pool2
	http2   *http2.Conn
	expires time.Time // when it must take no new stream any more; or zero

	making   bool        // the server's first frame has not come yet
	patience *time.Timer // for that

	full  bool      // no stream can be opened now
	ended bool      // Serve has returned
	opens uint64    // attempts to open a stream
	seen  uint64    // opens when the reaper looked
	idle  time.Time // since when the reaper has seen nothing on it; or zero
}

// expired says whether a leaf of the connection is over.
func (c *conn2) expired(clock func() time.Time) bool {
	return !c.expires.IsZero() && !clock().Before(c.expires)
}

// Close cuts the connection and all that is on it.
func (c *conn2) Close() error {
	c.http2.Close(net.ErrClosed)
	return nil
}

// open opens a stream, or says why there can be none on any connection. With an error nothing was sent, and another
// connection may do. Nobody is called, so that the pool's lock may be held.
func (c *conn2) open(h *message.Head, end bool, o Opener) (*http2.Stream, *Failure, error) {
	if h.Protocol != "" && !c.http2.ExtendedConnect() {
		return nil, &Failure{refusal.UpstreamFailed, true, ErrNoExtendedConnect}, nil
	}
	s, err := c.http2.Open(h, end, o)
	return s, nil, err
}

// look sees what state a connection is in, and gives its room to those who wait.
func (p *pool2) look(c *conn2) {
	p.mu.Lock()
	if c.ended {
		p.mu.Unlock()
		return
	}
	c.full = c.http2.Room() == 0
	made := false
	switch {
	case c.http2.Gone():
		p.drop(c)
	case c.making && !c.full:
		made = true
		p.made(c)
	}
	waiting := len(p.waiting) > 0
	p.mu.Unlock()
	if waiting {
		p.feed()
	}
	if made {
		p.unlessRetired(c)
	}
}

// made puts a new connection to use. The lock is held.
func (p *pool2) made(c *conn2) {
	c.making = false
	c.patience.Stop()
	p.dialing = false
	p.count++
	p.conns = append(p.conns, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.endpoint.registry.options.IdleTimeout/2, p.reap)
	}
}

// unlessRetired keeps a new connection but of an endpoint that has left: then it was for those alone who waited.
func (p *pool2) unlessRetired(c *conn2) {
	p.mu.Lock()
	retired := p.retired
	if retired {
		p.drop(c)
	}
	p.mu.Unlock()
	if retired {
		c.http2.Drain()
	}
}

// feed gives what room there is to those who wait, the longest waiting first.
func (p *pool2) feed() {
	for {
		w, s, why := p.serve()
		if w == nil {
			return
		}
		w.opener.Opened(s, why)
	}
}

// serve opens a stream for who has waited longest; w is nil when nobody waits or there is no room. The lock is held while
// the head is read: who has cancelled may have used its memory again.
func (p *pool2) serve() (w *Waiting, s *http2.Stream, why *Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 {
		c := p.roomy()
		if c == nil {
			p.dialMore()
			break
		}
		w := p.waiting[0]
		c.opens++
		s, why, err := c.open(w.head, w.end, w.opener)
		switch {
		case err == nil:
			p.waiting = slices.Delete(p.waiting, 0, 1)
			return w, s, why
		case errors.Is(err, http2.ErrNoRoom):
			c.full = c.http2.Room() == 0
		default:
			p.drop(c)
		}
	}
	return nil, nil, nil
}

// roomy returns a connection that has room, or nil. The lock is held.
func (p *pool2) roomy() *conn2 {
	for _, c := range p.conns {
		if !c.full {
			return c
		}
	}
	return nil
}

// drop takes a connection out of use. The lock is held.
func (p *pool2) drop(c *conn2) {
	if i := slices.Index(p.conns, c); i >= 0 {
		p.conns = slices.Delete(p.conns, i, i+1)
	}
}

// over is called when a connection has ended. It says whether it had never been made.
func (p *pool2) over(c *conn2) (unmade bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.ended, c.full = true, true
	if c.making {
		return true
	}
	p.count--
	p.drop(c)
	if len(p.waiting) > 0 {
		p.dialMore()
	}
	return false
}

// retire makes the pool keep nothing any more. It returns its connections, for the caller to close when it holds no lock:
// they end when what is on them does.
func (p *pool2) retire() []io.Closer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	all := make([]io.Closer, len(p.conns))
	for i, c := range p.conns {
		all[i] = drained{c}
	}
	p.conns = nil
	return all
}

// drained is a connection whose end may take its time.
type drained struct{ *conn2 }

// Close asks the connection to end when what is on it does: at once when nothing is.
func (d drained) Close() error {
	d.http2.Drain()
	return nil
}

// revive undoes retire.
func (p *pool2) revive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = false
}

// reap drains connections on which nothing was for the idle timeout, and those whose leaves are over.
func (p *pool2) reap() {
	options := &p.endpoint.registry.options
	now := time.Now()
	var old []*conn2
	p.mu.Lock()
	kept := p.conns[:0]
	for _, c := range p.conns {
		busy := c.opens != c.seen || c.http2.Streams() > 0
		c.seen = c.opens
		switch {
		case busy:
			c.idle = time.Time{}
		case c.idle.IsZero():
			c.idle = now
		}
		if c.expired(options.Clock) || !c.idle.IsZero() && now.Sub(c.idle) >= options.IdleTimeout {
			old = append(old, c)
			continue
		}
		kept = append(kept, c)
	}
	clear(p.conns[len(kept):])
	p.conns, p.reaper = kept, nil
	if len(kept) > 0 {
		p.reaper = time.AfterFunc(options.IdleTimeout/2, p.reap)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.http2.Drain()
	}
}

// keepAlive2 is the silence of a workload's proxy after which it is asked whether it is still there. Others are not: they
// are in the same pod, or found to be dead by TCP, and servers of gRPC take offence.
const keepAlive2 = 30 * time.Second

// config2 is what connections of HTTP/2 that are made now go by.
func (e *Endpoint) config2() *http2.Config {
	o := &e.registry.options
	c := &http2.Config{Limits: &o.Limits, Count: o.Count, Budget: o.Budget}
	if e.MTLS() {
		c.KeepAlive = keepAlive2
	}
	return c
}
