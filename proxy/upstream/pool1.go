// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// pool1 holds the connections of HTTP/1.1 to one endpoint. Each carries a request at a time; the last used is used first,
// so that those not needed grow old and are closed. A dial belongs to the pool: whoever waits takes the connection that
// comes first, whether it was made or given back.
type pool1 struct {
	endpoint *Endpoint

	mu      sync.Mutex
	ready   []*Conn1 // the last used is the last
	open    int      // connections that are not closed, ready ones among them
	dialing int
	waiters []*waiter1    // the longest waiting first
	timeout time.Duration // of dials: what the last that asked allows, since who asks is mostly one cluster
	retired bool
	reaper  *time.Timer // runs while something is ready
	tick    int         // how often the reaper has run
}

// waiter1 is a request that waits for a connection.
type waiter1 struct{ turn chan turn }

// turn is what a waiter gets: a connection, or why there is none.
type turn struct {
	conn *Conn1
	why  *Failure
}

// errBusy is why a connection is refused when there are as many as may be.
var errBusy = errors.New("too many connections to the endpoint, or waiting for one")

func newPool1(e *Endpoint) *pool1 {
	return &pool1{endpoint: e, timeout: e.registry.options.ConnectTimeout}
}

// Reuse borrows a connection of HTTP/1.1 that is idle and good, or returns nil. Each is looked at: what has come on one
// that nobody asked is its end, or would be taken for the answer to a request that it has never seen.
func (e *Endpoint) Reuse(now time.Time) *Conn1 {
	p := e.one
	for {
		p.mu.Lock()
		n := len(p.ready)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.ready[n-1]
		p.ready[n-1] = nil
		p.ready = p.ready[:n-1]
		p.mu.Unlock()
		if c.expired(now) || !c.Alive() {
			c.Close()
			continue
		}
		c.mark = c.Written()
		return c
	}
}

// Connect waits for a connection of HTTP/1.1: one that is given back or that is made, whichever comes first. It gives up
// at a time, if that is not zero, and when cancel is closed. Making one may take a time, the timeout; 0:
// Options.ConnectTimeout.
func (e *Endpoint) Connect(until time.Time, cancel <-chan struct{}, timeout time.Duration) (*Conn1, *Failure) {
	for {
		c, why := e.one.wait(until, cancel, timeout)
		if c == nil || !c.reused || c.Alive() {
			return c, why
		}
		c.Close()
	}
}

func (p *pool1) wait(until time.Time, cancel <-chan struct{}, timeout time.Duration) (*Conn1, *Failure) {
	w, dials, patience, why := p.queue(timeout)
	if why != nil {
		return nil, why
	}
	p.start(dials)
	if !until.IsZero() {
		patience = min(patience, time.Until(until))
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case t := <-w.turn:
		return t.conn, t.why
	case <-cancel:
		why = &Failure{refusal.CallerGone, true, errors.New("the request was given up")}
	case <-timer.C:
		why = &Failure{refusal.Overloaded, true, errBusy}
	}
	if p.unqueue(w) {
		return nil, why
	}
	t := <-w.turn // it was this one's turn just now
	return t.conn, t.why
}

// queue makes a waiter. Dials is how many connections are to be made for those who wait, patience how long this one is to
// wait: whoever has no dial to wait for does so for less.
func (p *pool1) queue(timeout time.Duration) (w *waiter1, dials int, patience time.Duration, why *Failure) {
	o := &p.endpoint.registry.options
	w = &waiter1{make(chan turn, 1)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiters)-p.dialing >= o.MaxWaiters {
		return nil, 0, 0, &Failure{refusal.Overloaded, true, errBusy}
	}
	p.waiters = append(p.waiters, w)
	p.timeout = cmp.Or(timeout, o.ConnectTimeout)
	dials = p.claim()
	patience = o.WaitTimeout
	if len(p.waiters) <= p.dialing {
		patience = p.timeout + time.Second // dials end by themselves before that
	}
	return w, dials, patience, nil
}

// claim says how many dials are to be started for those who wait, and counts them. The lock is held.
func (p *pool1) claim() int {
	o := &p.endpoint.registry.options
	n := min(len(p.waiters)-p.dialing, o.MaxDials-p.dialing, o.MaxConnections-p.open-p.dialing)
	if n <= 0 {
		return 0
	}
	p.dialing += n
	return n
}

// unqueue takes a waiter out; false: it has had its turn.
func (p *pool1) unqueue(w *waiter1) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiters, w)
	if i < 0 {
		return false
	}
	p.waiters = slices.Delete(p.waiters, i, i+1)
	return true
}

// start starts dials that were claimed. The lock is not held.
func (p *pool1) start(dials int) {
	r := p.endpoint.registry
	for range dials {
		r.dials.Go(p.dial)
	}
}

// dial makes a connection and gives it, or why there is none, to who has waited longest.
func (p *pool1) dial() {
	e := p.endpoint
	p.mu.Lock()
	timeout := p.timeout
	p.mu.Unlock()
	conn, expires, err := e.dial(e.registry.ctx, ALPNHTTP1, timeout)
	var c *Conn1
	if err == nil {
		c = newConn1(e, conn, expires)
	}
	p.mu.Lock()
	p.dialing--
	unwanted := false
	if err == nil {
		p.open++
		if unwanted = p.retired && len(p.waiters) == 0; !unwanted {
			p.give(c)
		}
	} else if w := p.first(); w != nil {
		w.turn <- turn{why: asFailure(err)}
	}
	dials := p.claim()
	p.mu.Unlock()
	if unwanted {
		c.Close()
	}
	p.start(dials)
}

// asFailure returns the Failure that every error of this package is.
func asFailure(err error) *Failure {
	var failure *Failure
	if errors.As(err, &failure) {
		return failure
	}
	return &Failure{refusal.ConnectFailed, true, err}
}

// first takes out who has waited longest, or returns nil. The lock is held.
func (p *pool1) first() *waiter1 {
	if len(p.waiters) == 0 {
		return nil
	}
	w := p.waiters[0]
	p.waiters = slices.Delete(p.waiters, 0, 1)
	return w
}

// give gives an idle connection to who has waited longest, or keeps it. The lock is held.
func (p *pool1) give(c *Conn1) {
	if w := p.first(); w != nil {
		c.mark = c.Written()
		w.turn <- turn{conn: c}
		return
	}
	c.tick = p.tick
	p.ready = append(p.ready, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.endpoint.registry.options.IdleTimeout/reapsPerTimeout, p.reap)
	}
}

// put takes a connection back; false: it is to be closed.
func (p *pool1) put(c *Conn1) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired {
		return false
	}
	c.reused = true
	p.give(c)
	return true
}

// gone says that a connection was closed.
func (p *pool1) gone() {
	p.mu.Lock()
	p.open--
	dials := p.claim()
	p.mu.Unlock()
	p.start(dials)
}

// reapsPerTimeout is how often the reaper runs in the time that a connection may be idle.
const reapsPerTimeout = 5

// reap closes what has been idle for most of its time, and comes back while something is left.
func (p *pool1) reap() {
	p.mu.Lock()
	p.tick++
	old := 0
	for old < len(p.ready) && p.tick-p.ready[old].tick >= reapsPerTimeout {
		old++
	}
	reaped := slices.Clone(p.ready[:old])
	p.ready = slices.Delete(p.ready, 0, old)
	if len(p.ready) > 0 {
		p.reaper.Reset(p.endpoint.registry.options.IdleTimeout / reapsPerTimeout)
	} else {
		p.reaper = nil
	}
	p.mu.Unlock()
	for _, c := range reaped {
		c.Close()
	}
}

// retire makes the pool keep nothing any more and returns what closes that which is idle.
func (p *pool1) retire() (idle []io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for _, c := range p.ready {
		idle = append(idle, c)
	}
	p.ready = nil
	return idle
}

// revive undoes retire.
func (p *pool1) revive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = false
}
