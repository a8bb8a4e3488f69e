// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// side is what both directions have.
type side struct {
	Options
	direction observe.Direction
	leaving   atomic.Bool // callers are asked to leave
	two       h2set       // open connections of HTTP/2
	states    sync.Pool   // *h2state; not of the process, since those have timers that tests have clocks of their own for
	conns     running     // connections that are being served
	running   running     // requests, and connections that are not HTTP
	gone      atomic.Bool
	mirrors   mirrors
}

func (s *side) init(o Options, d observe.Direction) {
	o.Limits = o.Limits.WithDefaults()
	if o.Count == nil {
		o.Count = limits.Nop{}
	}
	if o.Budget == nil {
		o.Budget = limits.NewBudget(o.Limits.Memory)
	}
	s.Options, s.direction = o, d
	s.states.New = func() any { return new(h2state) }
}

// begin counts a connection that is to be served, until done is called. Once the proxy is going none is: its caller must
// see that before it has sent anything.
func (s *side) begin(c *Conn) (done func(), ok bool) {
	done = s.conns.add(c)
	if s.gone.Load() {
		done()
		return nil, false
	}
	return done, true
}

// Drain implements Server.
func (s *side) Drain() {
	if !s.leaving.Swap(true) {
		s.two.drain()
	}
}

// Active implements Server.
func (s *side) Active() int { return s.running.count() }

// quiet is how long nothing new must come before idle connections are cut: what is on its way arrives meanwhile.
const quiet = 500 * time.Millisecond

// Shutdown implements Server.
func (s *side) Shutdown(ctx context.Context) error {
	s.Drain()
	err := s.settle(ctx)
	s.gone.Store(true)
	s.two.close()
	s.running.cut()
	s.conns.cut()
	s.mirrors.close()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-s.running.none(): // what was cut ends at once
	case <-timer.C:
	}
	return err
}

// settle waits until nothing is carried and nobody has a connection left, or nothing has come for a while.
func (s *side) settle(ctx context.Context) error {
	for {
		select {
		case <-s.running.none():
		case <-ctx.Done():
			return ctx.Err()
		}
		before := s.running.total() + s.conns.total()
		timer := time.NewTimer(quiet)
		select {
		case <-s.conns.none():
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if s.running.total()+s.conns.total() == before && s.running.count() == 0 {
			return ctx.Err()
		}
	}
}

// detect looks at a connection's first bytes for as long as given; 0 is without end.
func detect(ctx context.Context, p Peeker, wait time.Duration) (Protocol, error) {
	if wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	return p.Detect(ctx)
}

// refuse ends a connection that is not carried, by a reset, unless its caller speaks HTTP and can be told why: that is
// returned.
func (s *side) refuse(ctx context.Context, c *Conn, why *refusal.Error, series *observe.Bound) *served {
	const patience = 250 * time.Millisecond // a caller that speaks first has spoken by then
	protocol, err := detect(ctx, c, patience)
	if err == nil && (protocol == HTTP1 || protocol == HTTP2) {
		return &served{Conn: c, content: c.Peeker, protocol: protocol, refused: why, series: series}
	}
	s.report(c, why, series)
	socket.Reset(c.Peeker)
	return nil
}

// report says that a connection was refused that is not HTTP.
func (s *side) report(c *Conn, why *refusal.Error, series *observe.Bound) {
	now := s.Clock()
	series.Observe(&observe.Event{
		Protocol: "tcp", GRPCStatus: -1, Start: now,
		Source: c.Source, Destination: c.Destination, Reason: why.Reason, Rule: why.Rule, Err: why,
	})
}
