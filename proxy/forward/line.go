// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// line is a connection that is not HTTP, on its way to an endpoint: what exchange is for a request. A route's retries are
// for requests: a connection that cannot be made is tried once more, as is a request that no route names.
type line struct {
	side    *side
	port    *table.Port
	backend *table.Backend
	event   *observe.Event
	asks    evaluate.Request

	pick    balance.Pick
	begun   int64            // when it was made
	breaker *outlier.Breaker // nil: nothing is bounded
}

// dial connects to an endpoint of the backend, and if that fails to another one. Done is to be called if that went well.
func (l *line) dial(ctx context.Context, alpn string) (*upstream.Stream, *refusal.Error) {
	cluster, retry := l.backend.Cluster, evaluate.Unrouted().Retry
	if breaker := cluster.Breaker(); breaker.Bounded() {
		if bound := breaker.Acquire(outlier.Connections); bound != outlier.NoBound {
			return nil, circuitOpen(bound)
		}
		l.breaker = breaker
	}
	if l.port.Budget != nil {
		l.port.Budget.Earn(balance.Nanos(l.event.Start))
	}
	cluster.Use()
	pick, why := l.choose(nil)
	for why == nil {
		l.take(pick)
		stream, err := pick.Endpoint.Dial(ctx, alpn, cluster.ConnectTimeout())
		if err == nil {
			l.report(outlier.Success)
			l.pick.Trial = false // it is decided, though the connection goes on
			return stream, nil
		}
		why = asRefusal(err)
		verdict := outlier.OfReason(why.Reason)
		if ctx.Err() != nil {
			verdict = outlier.Abandoned
		}
		l.report(verdict)
		l.let(verdict)
		outcome := evaluate.Outcome{Failure: meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE}
		if ctx.Err() != nil || l.event.Attempts > retry.Attempts || !retry.Wants(outcome) {
			break
		}
		next, none := l.choose(pick.Endpoint)
		if none != nil {
			break
		}
		if !l.budgeted() {
			l.putBack(&next)
			break
		}
		l.event.RetryReason = reasons[outcome.Failure]
		pick, why = next, nil
	}
	if l.breaker != nil {
		l.breaker.Release(outlier.Connections)
	}
	return nil, why
}

// budgeted takes a repetition from the service's budget.
func (l *line) budgeted() bool { return l.port.Budget == nil || l.port.Budget.Take(l.now()) }

func (l *line) now() int64 { return balance.Nanos(l.side.Clock()) }

// choose picks an endpoint, another one than the last, which may be nil: that itself would not help. One that has no room
// is passed over while another has.
func (l *line) choose(last *upstream.Endpoint) (balance.Pick, *refusal.Error) {
	cluster := l.backend.Cluster
	ask := balance.Ask{Now: l.now()}
	if last != nil {
		ask.Avoid = []*upstream.Endpoint{last}
	}
	if keys := cluster.Keys(); keys != nil {
		ask.Hash, ask.Hashed = keys.Hash(&l.asks)
	}
	full := outlier.NoBound
	for {
		ask.Random = rand.Uint64()
		pick, ok := cluster.Endpoints().Pick(ask)
		if !ok {
			return pick, noEndpoints(l.backend, l.port)
		}
		again := slices.Contains(ask.Avoid, pick.Endpoint)
		if !again {
			if l.breaker == nil {
				return pick, nil
			}
			if full = l.breaker.Connect(loadOf(&pick)); full == outlier.NoBound {
				return pick, nil
			}
		}
		report(cluster, &pick, outlier.Unrelated, 0, ask.Now)
		pick.Done(balance.Neutral, 0, ask.Now)
		switch {
		case again && full == outlier.NoBound:
			return pick, noEndpoints(l.backend, l.port)
		case again, len(ask.Avoid) > maxTried:
			return pick, circuitOpen(full)
		}
		ask.Avoid = append(ask.Avoid, pick.Endpoint)
	}
}

// take notes the endpoint that is called.
func (l *line) take(pick balance.Pick) {
	l.pick, l.begun = pick, l.now()
	e := l.event
	e.Attempts++
	e.Endpoint, e.Pod = pick.Endpoint.Address, pick.Endpoint.Pod
	e.MTLS, e.Peer, e.Panic = pick.Endpoint.MTLS(), nil, e.Panic || pick.Panic
	if e.MTLS {
		e.Peer = &pick.Endpoint.Identity
	}
}

// putBack gives an endpoint back that is not called after all.
func (l *line) putBack(pick *balance.Pick) {
	now := l.now()
	report(l.backend.Cluster, pick, outlier.Unrelated, 0, now)
	if l.breaker != nil {
		l.breaker.Disconnect(loadOf(pick))
	}
	pick.Done(balance.Neutral, 0, now)
}

// report tells what the endpoint that was picked has shown.
func (l *line) report(verdict outlier.Outcome) {
	now := l.now()
	report(l.backend.Cluster, &l.pick, verdict, time.Duration(now-l.begun), now)
}

// let lets go of the endpoint that was picked.
func (l *line) let(verdict outlier.Outcome) {
	if l.breaker != nil {
		l.breaker.Disconnect(loadOf(&l.pick))
	}
	now := l.now()
	l.pick.Done(says(verdict), time.Duration(now-l.begun), now)
}

// done says that the connection is over.
func (l *line) done() {
	if l.breaker != nil {
		l.breaker.Disconnect(loadOf(&l.pick))
		l.breaker.Release(outlier.Connections)
	}
	l.pick.Done(balance.Neutral, 0, l.now())
}

// suffer waits for the delay of a fault of connections, and says why that ends it; nil: it goes on. A fault that answers is
// for requests.
func (l *line) suffer(ctx context.Context) *refusal.Error {
	f := l.port.Fault(&l.asks, l.side.Clock(), rand.Uint64)
	if f == nil || f.HTTPStatus != 0 || f.GRPCStatus != 0 {
		return nil
	}
	l.event.Fault = f.Name
	timer := time.NewTimer(f.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return &refusal.Error{Reason: refusal.CallerGone, Cause: context.Cause(ctx)}
	}
	if f.Reset {
		return refusal.Newf(refusal.FaultInjected, "fault %s", f.Name)
	}
	return nil
}
