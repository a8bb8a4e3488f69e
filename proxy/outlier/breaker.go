// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Bound is what a Breaker bounds. The zero value is none: nothing was refused.
type Bound uint8

// The bounds. The first four are of a service, the others of one endpoint.
const (
	NoBound Bound = iota
	Connections
	Pending
	Requests
	Retries
	EndpointConnections
	EndpointRequests
	EndpointConcurrency // the adaptive one
	bounds
)

// String returns the bound as refusals and metrics name it: as its field is called in a ServiceProfile.
func (b Bound) String() string {
	return [...]string{
		"", "maxConnections", "maxPending", "maxRequests", "maxRetries", "endpoint.maxConnections", "endpoint.maxRequests",
		"endpoint.adaptive",
	}[b]
}

// Limits are the bounds of a service and of its endpoints, for one proxy. 0 is no bound.
type Limits struct {
	Connections, Pending, Requests, Retries uint32
	EndpointConnections, EndpointRequests   uint32
	Adaptive                                bool
}

// NewLimits reads config, which may be nil: then nothing is bounded.
func NewLimits(m *meshconfig.Breaker) Limits {
	return Limits{
		Connections: m.GetMaxConnections(), Pending: m.GetMaxPending(), Requests: m.GetMaxRequests(), Retries: m.GetMaxRetries(),
		EndpointConnections: m.GetEndpointMaxConnections(), EndpointRequests: m.GetEndpointMaxRequests(), Adaptive: m.GetAdaptive(),
	}
}

// gauge is how many of something are under way.
type gauge struct{ n atomic.Int64 }

// take counts one more, unless there are as many as may be. It never refuses while there are fewer.
func (g *gauge) take(most uint32) bool {
	if most == 0 {
		g.n.Add(1)
		return true
	}
	for {
		n := g.n.Load()
		if n >= int64(most) {
			return false
		}
		if g.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Breaker counts what a proxy has under way towards a service. It is safe for concurrent use.
type Breaker struct {
	limits  atomic.Pointer[Limits]
	used    [Retries + 1]gauge
	refused [bounds]atomic.Uint64
}

// NewBreaker makes a Breaker.
func NewBreaker(limits Limits) *Breaker {
	b := &Breaker{}
	b.Configure(limits)
	return b
}

// Configure changes the bounds. What is under way goes on.
func (b *Breaker) Configure(limits Limits) { b.limits.Store(&limits) }

// Bounded says whether anything is bounded. Of a request that begins while nothing is, nothing need be counted.
func (b *Breaker) Bounded() bool { return *b.limits.Load() != Limits{} }

// Acquire counts one more of a service's Connections, Pending, Requests or Retries, or returns the bound that forbids it.
// Each that was not refused needs one Release.
func (b *Breaker) Acquire(what Bound) Bound {
	l := b.limits.Load()
	var most uint32
	switch what {
	case Connections:
		most = l.Connections
	case Pending:
		most = l.Pending
	case Requests:
		most = l.Requests
	case Retries:
		most = l.Retries
	default:
		return NoBound
	}
	if b.used[what].take(most) {
		return NoBound
	}
	return b.refuse(what)
}

// Release undoes Acquire.
func (b *Breaker) Release(what Bound) {
	if what > NoBound && what <= Retries {
		b.used[what].n.Add(-1)
	}
}

func (b *Breaker) refuse(what Bound) Bound {
	b.refused[what].Add(1)
	return what
}

// Used is how many of a service's are under way.
func (b *Breaker) Used(what Bound) int64 {
	if what > Retries {
		return 0
	}
	return b.used[what].n.Load()
}

// Refused is how often a bound has refused something.
func (b *Breaker) Refused(what Bound) uint64 { return b.refused[what].Load() }

// Load counts what a proxy has under way towards one endpoint of a service. Its zero value counts nothing yet.
type Load struct {
	connections, requests gauge
	adaptive              Adaptive
}

// Connect counts one more connection to an endpoint, or returns the bound that forbids it. Disconnect undoes it.
func (b *Breaker) Connect(l *Load) Bound {
	if l.connections.take(b.limits.Load().EndpointConnections) {
		return NoBound
	}
	return b.refuse(EndpointConnections)
}

// Full returns the bound that forbids one more connection to an endpoint at this time. It counts none.
func (b *Breaker) Full(l *Load) Bound {
	if most := b.limits.Load().EndpointConnections; most != 0 && l.connections.n.Load() >= int64(most) {
		return b.refuse(EndpointConnections)
	}
	return NoBound
}

// Disconnect undoes Connect.
func (b *Breaker) Disconnect(l *Load) { l.connections.n.Add(-1) }

// Begin counts one more request to an endpoint, or returns the bound that forbids it. End undoes it.
func (b *Breaker) Begin(l *Load) Bound {
	limits := b.limits.Load()
	most, bound := limits.EndpointRequests, EndpointRequests
	if limits.Adaptive {
		if limit := l.adaptive.Limit(); most == 0 || limit < most {
			most, bound = limit, EndpointConcurrency
		}
	}
	if l.requests.take(most) {
		return NoBound
	}
	return b.refuse(bound)
}

// Repeat counts one more request to an endpoint that takes the place of one which ends at once. End undoes it.
func (b *Breaker) Repeat(l *Load) { l.requests.n.Add(1) }

// End says that a request is over, by a time in Unix nanoseconds. Latency is how long its answer, or the time after which it
// was given up, took; 0: it says nothing, as of a caller that went away or a failure that was fast.
func (b *Breaker) End(l *Load, now int64, latency time.Duration) {
	under := l.requests.n.Add(-1) + 1
	limits := b.limits.Load()
	if latency > 0 && limits.Adaptive {
		l.adaptive.Sample(now, latency, under, limits.EndpointRequests)
	}
}

// Concurrency is the adaptive bound of an endpoint at this time.
func (l *Load) Concurrency() uint32 { return l.adaptive.Limit() }

// Requests is how many requests to the endpoint are under way.
func (l *Load) Requests() int64 { return l.requests.n.Load() }
