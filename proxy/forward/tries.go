// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// maxTried is how many endpoints a request keeps away from: as many as it may be sent to before the last, and a few that
// were full.
const maxTried = 12

// tries is what an exchange knows of its tries. The endpoint of the current one is in pick, which is empty between two.
type tries struct {
	pick  balance.Pick
	tried []*upstream.Endpoint // those before it; its space is used again by the next request

	start    int64         // when the request began, by balance.Nanos; outbound alone
	begun    int64         // when pick was made, likewise
	latency  time.Duration // from then to the head of the answer; 0: nobody asked for it
	verdict  outlier.Outcome
	judged   bool // verdict is that of an answer's head
	reported bool // the verdict was told
	faulted  bool // fault has ended the try
	starved  bool // when time was over or the caller left, the endpoint had all that had come of the request, which was not all

	// fault is what is injected into the current try; nil: nothing.
	fault *evaluate.Fault
	// breaker is that of the backend if it bounds anything, otherwise nil.
	breaker *outlier.Breaker
	// What was acquired of it.
	counted, connected, pending, retrying bool
	bound                                 outlier.Bound // that has refused something
}

// next picks the endpoint for the next try.
func (x *exchange) next() *refusal.Error {
	now, at := x.event.Start, x.start
	if x.event.Attempts > 0 {
		now = x.side.Clock()
		at = balance.Nanos(now)
	}
	pick, why := x.choosePick(at)
	if why != nil {
		x.unpicked()
		return why
	}
	x.take(pick, now, at)
	return nil
}

// unpicked gives the request the series of what has no endpoint.
func (x *exchange) unpicked() {
	x.series = x.backend.Series(x.choice.Route).Of("")
}

// choosePick picks an endpoint, another than those that were tried if there is one. With a breaker it is one that takes a
// request more. At is now, by balance.Nanos, here and below.
func (x *exchange) choosePick(at int64) (balance.Pick, *refusal.Error) {
	if x.side.direction == observe.Inbound {
		x.conn.app.Begin()
		return balance.Pick{Endpoint: x.conn.app}, nil
	}
	cluster := x.backend.Cluster
	ask := balance.Ask{Now: at, Avoid: x.tried}
	if keys := cluster.Keys(); keys != nil {
		ask.Hash, ask.Hashed = keys.Hash(&x.asks)
	}
	for {
		ask.Random = rand.Uint64()
		pick, ok := cluster.Endpoints().Pick(ask)
		if !ok {
			return pick, noEndpoints(x.backend, x.port)
		}
		if x.breaker == nil {
			return pick, nil
		}
		bound := x.room(&pick, ask.Now)
		if bound == outlier.NoBound {
			return pick, nil
		}
		report(cluster, &pick, outlier.Unrelated, 0, ask.Now)
		pick.Done(balance.Neutral, 0, ask.Now)
		if len(x.tried) == maxTried || slices.Contains(ask.Avoid, pick.Endpoint) {
			return pick, circuitOpen(bound)
		}
		x.tried = append(x.tried, pick.Endpoint)
		ask.Avoid = x.tried
	}
}

// room counts the request with an endpoint that was picked, or returns the bound that forbids it. A connection, where it
// would need one for itself, is counted when the try begins: see connect.
func (x *exchange) room(pick *balance.Pick, at int64) outlier.Bound {
	load := loadOf(pick)
	if pick.Endpoint == x.pick.Endpoint { // once more: the current try ends
		x.breaker.Repeat(load)
		return outlier.NoBound
	}
	if bound := x.breaker.Begin(load); bound != outlier.NoBound {
		return bound
	}
	if x.versionFor(pick.Endpoint) == upstream.HTTP2 {
		return outlier.NoBound
	}
	bound := x.breaker.Full(load)
	if bound != outlier.NoBound {
		x.breaker.End(load, at, 0)
	}
	return bound
}

// noEndpoints is why nothing was picked.
func noEndpoints(b *table.Backend, port *table.Port) *refusal.Error {
	if b.Name == "" || b.Name == port.Service {
		return refusal.Newf(refusal.NoEndpoints, "service %s", port.Service)
	}
	return refusal.Newf(refusal.NoEndpoints, "backend %s of service %s", b.Name, port.Service)
}

// circuitOpen is why something is refused that a breaker has no room for.
func circuitOpen(bound outlier.Bound) *refusal.Error {
	return refusal.Newf(refusal.CircuitOpen, "%s", bound)
}

// take begins a try.
func (x *exchange) take(pick balance.Pick, now time.Time, at int64) {
	x.pick, x.begun = pick, at
	x.latency, x.judged, x.reported, x.faulted, x.starved, x.fault = 0, false, false, false, false, nil
	x.event.Attempts++
	x.event.Endpoint, x.event.Pod = pick.Endpoint.Address, pick.Endpoint.Pod
	if x.side.direction == observe.Inbound {
		return
	}
	x.series = x.backend.Series(x.choice.Route).Of(pick.Workload)
	x.event.MTLS, x.event.Peer = pick.Endpoint.MTLS(), nil
	if x.event.MTLS {
		x.event.Peer = &pick.Endpoint.Identity
	}
	x.event.Panic = x.event.Panic || pick.Panic
	if x.port.HasFaults() {
		if x.fault = x.port.Fault(&x.asks, now, rand.Uint64); x.fault != nil {
			x.event.Fault = x.fault.Name
		}
	}
}

// admitted counts the request with the backend's breaker, or says why it is refused.
func (x *exchange) admitted() *refusal.Error {
	breaker := x.backend.Cluster.Breaker()
	if !breaker.Bounded() {
		return nil
	}
	x.breaker = breaker
	if bound := breaker.Acquire(outlier.Requests); bound != outlier.NoBound {
		x.unpicked()
		return circuitOpen(bound)
	}
	x.counted = true
	return nil
}

// connect counts a connection that the try takes for itself, or says why it gets none.
func (x *exchange) connect() *upstream.Failure {
	if x.breaker == nil || x.connected {
		return nil
	}
	if bound := x.breaker.Acquire(outlier.Connections); bound != outlier.NoBound {
		return x.trip(bound)
	}
	if bound := x.breaker.Connect(loadOf(&x.pick)); bound != outlier.NoBound {
		x.breaker.Release(outlier.Connections)
		return x.trip(bound)
	}
	x.connected = true
	return nil
}

// queue counts a try that waits for a connection, or says why it must not. queued undoes it.
func (x *exchange) queue() *upstream.Failure {
	if x.breaker == nil || x.pending {
		return nil
	}
	if bound := x.breaker.Acquire(outlier.Pending); bound != outlier.NoBound {
		return x.trip(bound)
	}
	x.pending = true
	return nil
}

func (x *exchange) queued() {
	if x.pending {
		x.pending = false
		x.breaker.Release(outlier.Pending)
	}
}

// trip is how a try fails for which a breaker has no room.
func (x *exchange) trip(bound outlier.Bound) *upstream.Failure {
	x.bound = bound
	return &upstream.Failure{Reason: refusal.CircuitOpen, Undelivered: true, Err: circuitOpen(bound)}
}

// conclude ends the current try.
func (x *exchange) conclude(verdict outlier.Outcome, at int64) {
	latency := x.latency
	if latency == 0 {
		latency = time.Duration(at - x.begun)
	}
	if x.backend != nil {
		if !x.reported {
			report(x.backend.Cluster, &x.pick, verdict, latency, at)
		}
		if x.breaker != nil {
			x.uncount(verdict, latency, at)
		}
	}
	x.pick.Done(says(verdict), latency, at)
	x.pick = balance.Pick{}
}

// uncount undoes what was counted of the current try.
func (x *exchange) uncount(verdict outlier.Outcome, latency time.Duration, at int64) {
	x.queued()
	load := loadOf(&x.pick)
	if x.connected {
		x.connected = false
		x.breaker.Disconnect(load)
		x.breaker.Release(outlier.Connections)
	}
	if verdict != outlier.Success && (verdict != outlier.Failure || x.judged) {
		latency = 0 // it was fast because it failed, or says nothing
	}
	x.breaker.End(load, at, latency)
}

// release ends the current try, if there is one, and gives back what the request was counted with.
func (x *exchange) release(now time.Time) {
	if x.pick.Endpoint != nil {
		x.conclude(x.final(), balance.Nanos(now))
	}
	if len(x.tried) > 0 {
		clear(x.tried) // or they would be kept
	}
	if x.breaker == nil {
		return
	}
	if x.counted {
		x.breaker.Release(outlier.Requests)
	}
	if x.retrying {
		x.breaker.Release(outlier.Retries)
	}
}

// loadOf returns what is under way towards an endpoint that was picked.
func loadOf(pick *balance.Pick) *outlier.Load {
	member, _ := pick.State.Attach.(*outlier.Member)
	return &member.Load
}

// report tells what a try says of its endpoint, once for every pick.
func report(cluster *table.Cluster, pick *balance.Pick, verdict outlier.Outcome, latency time.Duration, at int64) {
	member, ok := pick.State.Attach.(*outlier.Member)
	if !ok {
		return
	}
	cluster.Outliers().Report(member, outlier.Result{Now: at, Outcome: verdict, Latency: latency, Trial: pick.Trial})
}

// says is what a verdict means to who balances by latency.
func says(verdict outlier.Outcome) balance.Outcome {
	switch verdict {
	case outlier.Success:
		return balance.Success
	case outlier.Failure, outlier.ConnectFailure:
		return balance.Failure
	case outlier.Abandoned:
		return balance.Abandoned
	case outlier.Shed, outlier.Unrelated:
	}
	return balance.Neutral
}
