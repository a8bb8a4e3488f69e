// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Bind implements observe.Observer. Equal labels share a series.
func (m *Metrics) Bind(l observe.Labels) observe.Series {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.bound[l]; s != nil {
		return s
	}
	if len(m.bound) >= m.max {
		m.overflowed.Inc()
		l = observe.Labels{Direction: l.Direction, Service: Overflow, Route: Overflow, Backend: Overflow, Workload: Overflow}
		if s := m.bound[l]; s != nil {
			return s
		}
	}
	s := m.newSeries(l)
	m.bound[l] = s
	return s
}

// classes are the values of observe.Event.Class.
var classes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx", "ok", "error", "refused"}

// series is what counts under one set of labels. Each appears on the page when it first counts something.
type series struct {
	metrics *Metrics
	labels  observe.Labels
	reasons *reasons

	duration    lazy[prometheus.Observer]
	requests    [len(classes)][2]lazy[prometheus.Counter] // by class and mTLS
	connections [2][2]lazy[prometheus.Counter]            // by success and mTLS
	in, out     lazy[prometheus.Counter]
	retries     lazy[prometheus.Counter]
	panicPicks  lazy[prometheus.Counter]
	faults      lazy[prometheus.Counter]
	copies      lazy[prometheus.Counter]
}

func (m *Metrics) newSeries(l observe.Labels) *series {
	return &series{metrics: m, labels: l, reasons: m.reasons[l.Direction&1]}
}

// Observe implements observe.Series.
func (s *series) Observe(e *observe.Event) {
	switch e.Protocol {
	case "tcp", "tls":
		s.connection(e)
	default:
		s.request(e)
	}
	if e.Reason != refusal.None {
		s.reasons.of(e.Reason).Inc()
	}
	if e.Attempts > 1 {
		s.ofService(&s.retries, s.metrics.retries).Add(float64(e.Attempts - 1))
	}
	if e.Panic {
		s.ofService(&s.panicPicks, s.metrics.panicPicks).Inc()
	}
	if e.Fault != "" {
		s.ofService(&s.faults, s.metrics.faults).Inc()
	}
	if e.CopyDropped {
		s.ofService(&s.copies, s.metrics.copies).Inc()
	}
	s.metrics.log.observe(e)
}

// ofService returns a counter that has direction and service alone.
func (s *series) ofService(c *lazy[prometheus.Counter], of *prometheus.CounterVec) prometheus.Counter {
	return c.get(func() prometheus.Counter { return of.WithLabelValues(s.labels.Direction.String(), s.labels.Service) })
}

func (s *series) request(e *observe.Event) {
	class := classIndex(e.Class())
	s.requests[class][index(e.MTLS)].get(func() prometheus.Counter {
		l := &s.labels
		return s.metrics.requests.WithLabelValues(
			l.Direction.String(), l.Service, l.Route, l.Backend, l.Workload, classes[class], yesNo(e.MTLS))
	}).Inc()
	s.duration.get(func() prometheus.Observer {
		return s.metrics.duration.WithLabelValues(s.labels.Direction.String(), s.labels.Service, s.labels.Route)
	}).Observe(e.Duration.Seconds())
}

func (s *series) connection(e *observe.Event) {
	l := &s.labels
	refused := e.Reason != refusal.None
	s.connections[index(refused)][index(e.MTLS)].get(func() prometheus.Counter {
		result := "ok"
		if refused {
			result = "refused"
		}
		return s.metrics.connections.WithLabelValues(l.Direction.String(), l.Service, l.Backend, l.Workload, result, yesNo(e.MTLS))
	}).Inc()
	if e.BytesIn > 0 {
		s.in.get(func() prometheus.Counter { return s.way("in") }).Add(float64(e.BytesIn))
	}
	if e.BytesOut > 0 {
		s.out.get(func() prometheus.Counter { return s.way("out") }).Add(float64(e.BytesOut))
	}
}

func (s *series) way(way string) prometheus.Counter {
	l := &s.labels
	return s.metrics.bytes.WithLabelValues(l.Direction.String(), l.Service, l.Backend, l.Workload, way)
}

func classIndex(class string) int {
	for i := range classes {
		if classes[i] == class {
			return i
		}
	}
	return len(classes) - 1
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

func yesNo(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// lazy is a counter or histogram that is made when it is first needed. Making it twice at once gives the same.
type lazy[T any] struct{ made atomic.Pointer[T] }

func (l *lazy[T]) get(create func() T) T {
	if m := l.made.Load(); m != nil {
		return *m
	}
	m := create()
	l.made.Store(&m)
	return m
}

// reasons are the counters of refusals of one direction. They exist from the start, so that a rate is right from the
// first refusal on.
type reasons struct {
	known map[refusal.Reason]prometheus.Counter
	other prometheus.Counter
}

func newReasons(refused *prometheus.CounterVec, d observe.Direction) *reasons {
	r := &reasons{
		known: make(map[refusal.Reason]prometheus.Counter),
		other: refused.WithLabelValues(d.String(), "other"),
	}
	for _, reason := range append(refusal.All(), notRedirected) {
		r.known[reason] = refused.WithLabelValues(d.String(), string(reason))
	}
	return r
}

// notRedirected is listener.NotRedirected.
const notRedirected refusal.Reason = "not_redirected"

func (r *reasons) of(reason refusal.Reason) prometheus.Counter {
	if c := r.known[reason]; c != nil {
		return c
	}
	return r.other
}

// Connections returns what counts the connections of one direction's listener. It is a listener.Events.
func (m *Metrics) Connections(d observe.Direction) *Connections {
	return &Connections{
		accepted: m.accepted.WithLabelValues(d.String()),
		open:     m.open.WithLabelValues(d.String()),
		panics:   m.panics,
		reasons:  m.reasons[d&1],
	}
}

// Connections counts a listener's connections.
type Connections struct {
	accepted prometheus.Counter
	open     prometheus.Gauge
	panics   prometheus.Counter
	reasons  *reasons
}

// Opened counts a connection that begins to be carried.
func (c *Connections) Opened() { c.accepted.Inc(); c.open.Inc() }

// Closed counts its end.
func (c *Connections) Closed() { c.open.Dec() }

// Panicked counts one that a fault of the proxy ended.
func (c *Connections) Panicked() { c.panics.Inc() }

// Refused counts one that was not carried.
func (c *Connections) Refused(reason refusal.Reason) { c.reasons.of(reason).Inc() }
