// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
)

// question is what authorization was asked about a connection or request that is being carried.
type question struct {
	peer *identity.ID // who proved its identity, or nil
	op   evaluate.Op
}

// caller is who asks, as authorization wants it.
func (q *question) caller() identity.ID {
	if q.peer == nil {
		return identity.ID{}
	}
	return *q.peer
}

// judge answers it by a policy: nil is yes. The rule that allowed it is returned too.
func (q *question) judge(policy *table.PortPolicy, now time.Time) (rule string, why *refusal.Error) {
	if policy == nil {
		return "", refusal.Newf(refusal.NotReady, "no policy has come yet")
	}
	if q.peer == nil && policy.Authorizer.Mode(now) == meshconfig.MTLSMode_MTLS_MODE_STRICT {
		return "", refusal.Newf(refusal.PlaintextRefused, "port %d", q.op.Port)
	}
	decision := policy.Authorizer.Decide(q.caller(), q.op, now)
	if decision.Allowed {
		return decision.Rule, nil
	}
	who := "a caller without identity"
	if q.peer != nil {
		who = q.peer.String()
	}
	return decision.Rule, &refusal.Error{Reason: refusal.Denied, Rule: decision.Rule, Detail: who}
}

// limit says why a rate limit forbids what was allowed, or nil.
func (q *question) limit(policy *table.PortPolicy, now time.Time) *refusal.Error {
	limits := policy.RateLimits
	matching := limits.Matching(q.caller(), q.op)
	if matching == 0 {
		return nil
	}
	ok, name, after := limits.Allow(matching, q.caller(), now)
	if ok {
		return nil
	}
	return &refusal.Error{Reason: refusal.RateLimited, Detail: "limit " + name, RetryAfter: max(after, 1)}
}

// live is the inbound connections on which something is being carried, so that a policy that changes can end it.
type live struct {
	mu    sync.Mutex
	conns map[*liveConn]struct{}
}

// liveConn is what is being carried on one connection.
type liveConn struct {
	mu    sync.Mutex
	first *entry
}

// entry is one connection or request that is being carried. It is in the list of its liveConn from enter to exit.
type entry struct {
	cutter     cutter
	asked      question
	on         *liveConn
	prev, next *entry
}

// cutter ends what is carried, because of a refusal. It runs with the connection's list locked: it must not wait for
// anything, nor take a lock under which exit is called.
type cutter interface{ cut(why *refusal.Error) }

// join makes a connection one that is judged anew.
func (l *live) join(c *liveConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = make(map[*liveConn]struct{})
	}
	l.conns[c] = struct{}{}
}

// part undoes join.
func (l *live) part(c *liveConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// enter lists the entry, whose question was asked.
func (e *entry) enter(c *liveConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.on, e.prev, e.next = c, nil, c.first
	if e.next != nil {
		e.next.prev = e
	}
	c.first = e
}

// exit undoes enter, if that was called.
func (e *entry) exit() {
	c := e.on
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		c.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.on, e.prev, e.next = nil, nil, nil
}

// add registers a connection that is not HTTP. The function that it returns ends that.
func (l *live) add(q question, cut context.CancelCauseFunc) (done func()) {
	c := &liveConn{}
	e := &entry{cutter: cutFunc(cut), asked: q}
	e.enter(c)
	l.join(c)
	return func() { l.part(c) }
}

// cutFunc makes a cutter of a context's cancel function.
type cutFunc context.CancelCauseFunc

func (f cutFunc) cut(why *refusal.Error) { f(why) }

// judge cuts what a policy denies. Everything else goes on.
func (l *live) judge(policy *table.Inbound, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.judge(policy, now)
	}
}

func (c *liveConn) judge(policy *table.Inbound, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.first; e != nil; e = e.next {
		if _, why := e.asked.judge(policy.Port(e.asked.op.Port), now); why != nil {
			e.cutter.cut(&refusal.Error{Reason: refusal.PolicyChanged, Rule: why.Rule, Detail: why.Error()})
		}
	}
}

// watch judges again whenever the policy changes, by a section or by a date in it, until ctx ends.
func (l *live) watch(ctx context.Context, tables *table.Store, clock func() time.Time) {
	for {
		policy := tables.Policy()
		l.judge(policy, clock())
		var due <-chan time.Time
		var timer *time.Timer
		if next := policy.NextChange(clock()); !next.IsZero() {
			timer = time.NewTimer(min(next.Sub(clock()), time.Hour)) // clocks are set now and then
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-policy.Superseded():
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}
