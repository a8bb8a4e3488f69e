// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Opener is who wants a stream to an endpoint, and its Sink.
type Opener interface {
	http2.Sink
	// Opened is called once unless the wait is cancelled: with the stream, or with why there is none. Events of the stream
	// may come before it, from another goroutine.
	Opened(s *http2.Stream, why *Failure)
}

// Open begins a request of HTTP/2. If a connection has room then Opened is called before Open returns, which returns nil.
// Otherwise the request waits for one; the head must stay as it is until Opened is called. Making one may take a time, the
// timeout; 0: Options.ConnectTimeout.
func (e *Endpoint) Open(h *message.Head, end bool, o Opener, timeout time.Duration) *Waiting {
	return e.two.open(h, end, o, timeout)
}

// pool2 holds the connections of HTTP/2 to one endpoint. Each carries as many streams as its server allows; the oldest
// with room is used, so that those not needed are idle and are closed. One more is opened at a time. A dial belongs to the
// pool: whoever caused it may go away, and whoever waits takes what room appears first.
type pool2 struct {
	endpoint *Endpoint

	mu      sync.Mutex
	conns   []*conn2 // that take streams, the oldest first
	count   int      // connections that are not over, those that take no streams any more among them
	dialing bool
	waiting []*Waiting    // the longest waiting first
	timeout time.Duration // of dials: what the last that waited allows, since who asks is mostly one cluster
	retired bool
	expiry  *time.Timer // runs while somebody waits, until due
	due     time.Time
	reaper  *time.Timer // runs while there are conns
}

// Waiting is a request that waits for a connection.
type Waiting struct {
	pool     *pool2
	head     *message.Head
	end      bool
	opener   Opener
	deadline time.Time
}

// Cancel gives up waiting. The head is not looked at any more, and no stream is opened; but if one was, or waiting had
// failed, then Opened may be about to be called and is called all the same. Unsent says that it is not. It may be called
// on nil.
func (w *Waiting) Cancel() (unsent bool) {
	if w == nil {
		return false
	}
	p := w.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return i >= 0
}

func newPool2(e *Endpoint) *pool2 {
	return &pool2{endpoint: e, timeout: e.registry.options.ConnectTimeout}
}

// ErrNoExtendedConnect is why a request of RFC 8441 cannot be sent.
var ErrNoExtendedConnect = errors.New("the endpoint does not take extended CONNECT")

func (p *pool2) open(h *message.Head, end bool, o Opener, timeout time.Duration) *Waiting {
	for {
		c, old, w, why := p.pick(h, end, o, timeout)
		if old != nil {
			old.http2.Drain()
		}
		switch {
		case why != nil:
			o.Opened(nil, why)
			return nil
		case w != nil:
			return w
		case c != nil && p.on(c, h, end, o):
			return nil
		}
	}
}

// on opens a stream on a connection, or fails for good. It is false when there is no room after all.
func (p *pool2) on(c *conn2, h *message.Head, end bool, o Opener) bool {
	s, why, err := c.open(h, end, o)
	if err != nil {
		p.look(c)
		return false
	}
	o.Opened(s, why)
	return true
}

// pick returns a connection that had room a moment ago; or one whose time is over, which is to be drained; or a place in
// the queue, and sees to it that there will be a connection; or why there can be none.
func (p *pool2) pick(h *message.Head, end bool, o Opener, timeout time.Duration) (c, old *conn2, w *Waiting, why *Failure) {
	options := &p.endpoint.registry.options
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		for i, c := range p.conns {
			switch {
			case c.expired(options.Clock):
				p.conns = slices.Delete(p.conns, i, i+1)
				return nil, c, nil, nil
			case !c.full:
				c.opens++
				return c, nil, nil, nil
			}
		}
	}
	if len(p.waiting) >= options.MaxWaiters {
		return nil, nil, nil, &Failure{refusal.Overloaded, true, errBusy}
	}
	p.timeout = cmp.Or(timeout, options.ConnectTimeout)
	p.dialMore()
	wait := options.WaitTimeout
	if p.dialing { // then its failure says more
		wait = max(wait, p.timeout+p.timeout/16)
	}
	w = &Waiting{p, h, end, o, time.Now().Add(wait)}
	p.waiting = append(p.waiting, w)
	switch {
	case p.expiry == nil:
		p.expiry, p.due = time.AfterFunc(wait, p.expire), w.deadline
	case w.deadline.Before(p.due) && p.expiry.Stop(): // those before are of a cluster that has more time
		p.expiry.Reset(wait)
		p.due = w.deadline
	}
	return nil, nil, w, nil
}

// expire tells those who have waited too long.
func (p *pool2) expire() {
	now := time.Now()
	var late []*Waiting
	p.mu.Lock()
	next := time.Duration(-1)
	kept := p.waiting[:0]
	for _, w := range p.waiting {
		left := w.deadline.Sub(now)
		if left <= 0 {
			late = append(late, w)
			continue
		}
		kept = append(kept, w)
		if next < 0 || left < next {
			next = left
		}
	}
	clear(p.waiting[len(kept):])
	p.waiting, p.expiry = kept, nil
	if next >= 0 {
		p.expiry, p.due = time.AfterFunc(next, p.expire), now.Add(next)
	}
	p.mu.Unlock()
	fail(late, &Failure{refusal.Overloaded, true, errBusy})
}

func fail(waiting []*Waiting, why *Failure) {
	for _, w := range waiting {
		w.opener.Opened(nil, why)
	}
}

// dialMore dials unless somebody does, there is room after all, or there are as many connections as may be. The lock is
// held.
func (p *pool2) dialMore() {
	if p.dialing || p.roomy() != nil || p.count >= p.endpoint.registry.options.MaxConnections {
		return
	}
	p.dialing = true
	timeout := p.timeout
	p.endpoint.registry.dials.Go(func() { p.dial(timeout) })
}

// dial makes a connection, and is its reader until it is over. It counts as made when the server's first frame has come:
// in TLS 1.3 a client is done before the server has judged its certificate, and what does not speak HTTP/2 shows itself.
func (p *pool2) dial(timeout time.Duration) {
	e := p.endpoint
	r := e.registry
	begun := time.Now()
	conn, expires, err := e.dial(r.ctx, ALPNHTTP2, timeout)
	if err != nil {
		p.failed(asFailure(err))
		return
	}
	c := &conn2{pool: p, making: true, expires: expires}
	c.http2 = http2.Client(conn, e.config2(), func(*http2.Conn) { p.look(c) })
	e.track(c, conn)
	stop := context.AfterFunc(r.ctx, func() { c.Close() })
	c.patience = time.AfterFunc(timeout-time.Since(begun), func() { c.http2.Close(errSilent) })
	err = c.http2.Serve()
	stop()
	c.patience.Stop()
	conn.Close()
	if p.over(c) {
		p.failed(&Failure{refusal.ConnectFailed, true, fmt.Errorf("HTTP/2 with %v: %w", e.Address, err)})
	}
	e.untrack(c, conn)
}

// errSilent is why a connection is given up on which the server says nothing.
var errSilent = errors.New("the server did not send its settings in time")

// failed ends a dial that came to nothing: all that wait waited for it.
func (p *pool2) failed(why *Failure) {
	p.mu.Lock()
	p.dialing = false
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	fail(waiting, why)
}
