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
	caller identity.ID // zero: nobody
	op     evaluate.Op
}

// judge answers it by a policy: nil is yes. The rule that allowed it is returned too.
func (q question) judge(policy *table.PortPolicy, now time.Time) (rule string, why *refusal.Error) {
	if policy == nil {
		return "", refusal.Newf(refusal.NotReady, "no policy has come yet")
	}
	if q.caller.IsZero() && policy.Authorizer.Mode(now) == meshconfig.MTLSMode_MTLS_MODE_STRICT {
		return "", refusal.Newf(refusal.PlaintextRefused, "port %d", q.op.Port)
	}
	decision := policy.Authorizer.Decide(q.caller, q.op, now)
	if decision.Allowed {
		return decision.Rule, nil
	}
	who := "a caller without identity"
	if !q.caller.IsZero() {
		who = q.caller.String()
	}
	return decision.Rule, &refusal.Error{Reason: refusal.Denied, Rule: decision.Rule, Detail: who}
}

// live is what is being carried inbound, so that a policy that changes can end it.
type live struct {
	mu      sync.Mutex
	entries map[*liveEntry]struct{}
}

// liveEntry is one connection or request.
type liveEntry struct {
	question
	cut context.CancelCauseFunc
}

// add registers a connection or request. The function that it returns ends that.
func (l *live) add(q question, cut context.CancelCauseFunc) (done func()) {
	e := &liveEntry{q, cut}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries == nil {
		l.entries = make(map[*liveEntry]struct{})
	}
	l.entries[e] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.entries, e)
	}
}

// judge cuts what a policy denies. Everything else goes on.
func (l *live) judge(policy *table.Inbound, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.entries {
		_, why := e.judge(policy.Port(e.op.Port), now)
		if why != nil {
			e.cut(&refusal.Error{Reason: refusal.PolicyChanged, Rule: why.Rule, Detail: why.Error()})
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
