// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Version is a version of HTTP; it is kept from end to end.
type Version int

// The versions.
const (
	HTTP1 Version = iota
	HTTP2
)

func (v Version) alpn() string { return [...]string{ALPNHTTP1, ALPNHTTP2}[v] }

// pool holds the connections of one version of HTTP to one endpoint. One of HTTP/1.1 carries a request at a time; the
// last used is used first, so that those not needed grow old and are closed. HTTP/2 connections carry as many as the
// server allows, and one more is opened at a time.
type pool struct {
	endpoint *Endpoint
	version  Version
	maxDials int

	mu      sync.Mutex
	open    map[*pooled]struct{}
	ready   []*pooled // may take a request; the last used is the last
	dialing int
	waiters []*waiter // the longest waiting first
	retired bool
	reaper  *time.Timer // runs while something is ready
}

// waiter is a request that waits for a connection: woken with nil to try again, or with why it cannot have one.
type waiter struct{ wake chan error }

func newPool(e *Endpoint, v Version) *pool {
	p := &pool{endpoint: e, version: v, maxDials: 1, open: make(map[*pooled]struct{})}
	if v == HTTP1 {
		p.maxDials = e.registry.options.MaxDials
	}
	return p
}

// errBusy is why a connection is refused when there are as many as may be.
var errBusy = errors.New("too many connections to the endpoint, or waiting for one")

// take returns a connection with room for one request reserved, and whether it was used before. With fresh it is a new
// one. Errors are *Failure.
func (p *pool) take(ctx context.Context, fresh bool) (c *pooled, reused bool, err error) {
	var deadline <-chan time.Time
	for {
		c, expired := p.pop(fresh)
		closeAll(expired)
		if c != nil {
			if p.reserve(c) {
				return c, true, nil
			}
			continue
		}
		w, err := p.claim()
		if err != nil {
			return nil, false, err
		}
		if w == nil {
			c, err := p.add(ctx)
			return c, false, err
		}
		if deadline == nil {
			timer := time.NewTimer(p.endpoint.registry.options.WaitTimeout)
			defer timer.Stop()
			deadline = timer.C
		}
		if err := p.wait(ctx, w, deadline); err != nil {
			return nil, false, err
		}
		fresh = false // whoever waited takes what there is
	}
}

// pop takes the connection that is to be tried next, or nil, and those that are too old and idle, for the caller to close.
func (p *pool) pop(fresh bool) (c *pooled, expired []*pooled) {
	now := p.endpoint.registry.options.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.ready) - 1; i >= 0 && !fresh; i-- {
		c := p.ready[i]
		if c.expired(now) {
			p.unready(c)
			if c.isIdle() {
				delete(p.open, c)
				expired = append(expired, c)
			}
			continue
		}
		if p.version == HTTP1 {
			p.unready(c)
		}
		c.taken++
		return c, expired
	}
	return nil, expired
}

// reserve makes sure of room on a connection that pop gave.
func (p *pool) reserve(c *pooled) bool {
	reserved := c.conn.Reserve() == nil // may call p.changed
	p.mu.Lock()
	c.taken--
	if reserved {
		p.mu.Unlock()
		return true
	}
	p.unready(c)
	over := p.settle(c)
	p.mu.Unlock()
	if over {
		c.close()
	}
	return false
}

// claim gives the right to dial, as nil, or a place in the queue.
func (p *pool) claim() (*waiter, error) {
	o := &p.endpoint.registry.options
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.dialing < p.maxDials && len(p.open)+p.dialing < o.MaxConnections:
		p.dialing++
		return nil, nil
	case len(p.waiters) >= o.MaxWaiters:
		return nil, &Failure{refusal.Overloaded, true, errBusy}
	}
	w := &waiter{make(chan error, 1)}
	p.waiters = append(p.waiters, w)
	return w, nil
}

// wait waits for the waiter's turn.
func (p *pool) wait(ctx context.Context, w *waiter, deadline <-chan time.Time) error {
	var failure error
	select {
	case err := <-w.wake:
		return err
	case <-ctx.Done():
		failure = &Failure{refusal.CallerGone, true, context.Cause(ctx)}
	case <-deadline:
		failure = &Failure{refusal.Overloaded, true, errBusy}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	} else {
		p.wakeOne() // it was this one's turn: the next takes it
	}
	return failure
}

// add opens a connection with room for one request reserved. The right to dial came from claim; it is given back only
// once the connection is ready for others, or they would dial in between.
func (p *pool) add(ctx context.Context) (*pooled, error) {
	c, err := p.connect(ctx)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dialing--
		if p.version == HTTP2 && ctx.Err() == nil {
			p.wakeAll(err) // all of them waited for this connection
		} else {
			p.wakeOne()
		}
		return nil, err
	}
	p.mu.Lock()
	p.open[c] = struct{}{}
	c.taken++
	p.mu.Unlock()
	c.conn.SetStateHook(func(*http.ClientConn) { p.changed(c) })
	reserved := p.reserve(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if !reserved {
		p.wakeOne()
		return nil, &Failure{refusal.ConnectFailed, true, errors.New("the connection was closed as soon as it was made")}
	}
	if p.version == HTTP2 {
		p.settle(c)
		p.wakeAll(nil)
	}
	return c, nil
}

// connect dials and starts the engine.
func (p *pool) connect(ctx context.Context) (*pooled, error) {
	e := p.endpoint
	conn, expires, err := e.dial(ctx, p.version.alpn())
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, endpoint: e, expires: expires}
	e.track(w)
	engine, err := e.registry.engine(ctx, p.version, w)
	if err != nil {
		w.Close()
		return nil, &Failure{refusal.ConnectFailed, true, err}
	}
	return &pooled{wire: w, conn: engine}, nil
}

// changed is the engine's hook: a request is over, or the connection is.
func (p *pool) changed(c *pooled) {
	p.mu.Lock()
	done := p.settle(c)
	p.mu.Unlock()
	if done {
		c.close()
	}
}

// settle puts a connection where it belongs now, and wakes who waited for it. It says whether it is to be closed, when
// the lock is not held any more.
func (p *pool) settle(c *pooled) bool {
	if _, ok := p.open[c]; !ok || p.version == HTTP1 && c.taken > 0 {
		return false
	}
	if c.conn.Err() != nil {
		p.drop(c)
		return false
	}
	idle := c.isIdle()
	if idle {
		c.used = time.Now()
		c.wire.busy.Store(false)
	}
	switch {
	case p.retired || c.expired(p.endpoint.registry.options.Clock()):
		p.unready(c)
		if idle {
			p.drop(c)
		}
		return idle
	case c.conn.Available() > 0 && !c.ready:
		c.ready = true
		p.ready = append(p.ready, c)
		p.wakeOne()
		p.reapLater()
	}
	return false
}

// drop takes a connection out of the pool.
func (p *pool) drop(c *pooled) {
	p.unready(c)
	delete(p.open, c)
	p.wakeOne()
}

func (p *pool) unready(c *pooled) {
	if c.ready {
		c.ready = false
		p.ready = slices.Delete(p.ready, slices.Index(p.ready, c), slices.Index(p.ready, c)+1)
	}
}

func (p *pool) wakeOne() {
	if len(p.waiters) > 0 {
		p.waiters[0].wake <- nil
		p.waiters = slices.Delete(p.waiters, 0, 1)
	}
}

func (p *pool) wakeAll(err error) {
	for _, w := range p.waiters {
		w.wake <- err
	}
	p.waiters = nil
}
