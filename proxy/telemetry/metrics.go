// SPDX-License-Identifier: Apache-2.0

// Package telemetry counts what the proxy does, for Prometheus, and writes its access log. Series are bound when a table
// is built; counting a request on a bound series neither allocates nor blocks. docs/metrics.md lists every metric.
package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/observe"
)

// DefaultMaxSeries is how many sets of labels are kept apart, each of which becomes some ten series. Those that come
// later are counted together, under the value "overflow".
const DefaultMaxSeries = 1000

// Overflow is the value of every label, but for the direction, of what came after the last set that is kept apart.
const Overflow = "overflow"

// Options say how to count and what to log.
type Options struct {
	Version   string
	MaxSeries int        // 0 is DefaultMaxSeries
	Log       *AccessLog // nil logs nothing
}

// Metrics is the proxy's registry. It is an observe.Observer and safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	max      int
	log      *AccessLog

	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	retries     *prometheus.CounterVec
	panicPicks  *prometheus.CounterVec
	faults      *prometheus.CounterVec
	copies      *prometheus.CounterVec // that were dropped
	connections *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	refused     *prometheus.CounterVec
	accepted    *prometheus.CounterVec
	open        *prometheus.GaugeVec
	panics      prometheus.Counter
	rejected    *prometheus.CounterVec
	overflowed  prometheus.Counter
	scrapes     *prometheus.CounterVec
	exceeded    *prometheus.CounterVec
	limits      map[limits.Name]prometheus.Counter

	mu    sync.Mutex
	bound map[observe.Labels]*series

	reasons [2]*reasons // by direction
}

// buckets are seconds: from what a call within a node takes to what a user waits for.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// New makes a registry with every metric of the data path. Watch adds those of the config.
func New(opts Options) *Metrics {
	if opts.MaxSeries == 0 {
		opts.MaxSeries = DefaultMaxSeries
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		max:      opts.MaxSeries,
		log:      opts.Log,
		bound:    make(map[observe.Labels]*series),
	}
	m.makeTraffic()
	m.makeRest()
	for _, c := range []prometheus.Collector{
		m.requests, m.duration, m.retries, m.panicPicks, m.faults, m.copies, m.connections, m.bytes, m.refused, m.accepted, m.open, m.panics, m.rejected,
		m.overflowed, m.scrapes, m.exceeded,
		gauge("build_info", "1, with the version of the proxy.", prometheus.Labels{"version": opts.Version}, func() float64 { return 1 }),
		counter("access_log_dropped_total", "Lines of the access log that were dropped because they came faster than they could be written.",
			func() float64 { return float64(opts.Log.Dropped()) }),
	} {
		m.registry.MustRegister(c)
	}
	// With a prefix, because the application's metrics are served on the same page and may have the usual names.
	own := prometheus.WrapRegistererWithPrefix("heddle_proxy_", m.registry)
	own.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for d := range m.reasons {
		m.reasons[d] = newReasons(m.refused, observe.Direction(d))
	}
	return m
}

func (m *Metrics) makeTraffic() {
	m.requests = counterVec("requests_total", "Requests of HTTP and gRPC that ended.",
		"direction", "service", "route", "backend", "workload", "response_class", "mtls")
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "heddle", Name: "request_duration_seconds", Buckets: buckets,
		Help: "Time from the first byte of a request of HTTP or gRPC to the last of its response.",
	}, []string{"direction", "service", "route"})
	m.retries = counterVec("retries_total", "Times that a request was sent to another endpoint because the one before did not have it.",
		"direction", "service")
	m.panicPicks = counterVec("panic_picks_total", "Requests and connections for which an endpoint was picked though too few were eligible.",
		"direction", "service")
	m.faults = counterVec("faults_injected_total", "Requests and connections into which a fault was injected.", "direction", "service")
	m.copies = counterVec("mirror_dropped_total", "Copies of requests that were not sent because too many were under way.", "direction", "service")
	m.connections = counterVec("tcp_connections_total", "Connections that are not HTTP and ended.",
		"direction", "service", "backend", "workload", "result", "mtls")
	m.bytes = counterVec("tcp_bytes_total", "Bytes of connections that are not HTTP, counted when these end: \"in\" to the server, \"out\" to the caller.",
		"direction", "service", "backend", "workload", "way")
	m.refused = counterVec("refused_total", "Requests and connections that the proxy refused or broke off, by reason (docs/refusals.md).",
		"direction", "reason")
}

func (m *Metrics) makeRest() {
	m.accepted = counterVec("connections_accepted_total", "Connections that were accepted and carried.", "direction")
	m.open = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "heddle", Name: "connections", Help: "Connections that are carried now.",
	}, []string{"direction"})
	m.panics = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "heddle", Name: "connection_panics_total", Help: "Connections that were dropped for a fault of the proxy: report each with its log line.",
	})
	m.rejected = counterVec("config_rejected_total", "Sections of config that the proxy refused, by reason.", "reason")
	m.overflowed = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "heddle", Name: "series_overflow_total", Help: "Sets of labels that are counted together under \"overflow\", because there are too many.",
	})
	m.scrapes = counterVec("application_scrapes_total", "Times that the application's metrics were asked for, to be merged into these.", "result")
	m.exceeded = counterVec("limit_exceeded_total", "Times that something went over a limit (docs/limits.md).", "limit")
	m.limits = make(map[limits.Name]prometheus.Counter)
	for _, l := range limits.All() { // from the start, so that a rate is right from the first on
		m.limits[l.Name] = m.exceeded.WithLabelValues(string(l.Name))
	}
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "heddle", Name: name, Help: help}, labels)
}

func gauge(name, help string, labels prometheus.Labels, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "heddle", Name: name, Help: help, ConstLabels: labels,
	}, value)
}

func counter(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "heddle", Name: name, Help: help}, value)
}

// Gatherer gives what /metrics serves.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// ConfigRejected counts a section that was refused. The reasons are a closed set of signedconfig and agent.
func (m *Metrics) ConfigRejected(reason string) { m.rejected.WithLabelValues(reason).Inc() }

// Exceeded implements limits.Counter.
func (m *Metrics) Exceeded(name limits.Name) {
	if c := m.limits[name]; c != nil {
		c.Inc()
	}
}

// ApplicationScraped counts an attempt to read the application's metrics: "ok", "unreachable", "malformed" or
// "too_large".
func (m *Metrics) ApplicationScraped(result string) { m.scrapes.WithLabelValues(result).Inc() }

// State is what the gauges of config and identity are read from, at every scrape. The zero time is "none yet". Every
// function is required and must be safe for concurrent use.
type State struct {
	Clock func() time.Time
	// Serial is the highest serial accepted: its epoch, term and counter.
	Serial func() (epoch uint32, term, counter uint64)
	// Heartbeat is when the newest signed heartbeat was made.
	Heartbeat func() time.Time
	// CertificateExpiry is when the proxy's leaf ends.
	CertificateExpiry func() time.Time
	// Connected says whether the stream to the operator is up, Ready what /ready says, Draining whether the pod is going.
	Connected, Ready, Draining func() bool
}

// Watch registers the gauges of config and identity, once.
func (m *Metrics) Watch(s State) {
	part := func(of func(epoch uint32, term, counter uint64) float64) func() float64 {
		return func() float64 { return of(s.Serial()) }
	}
	serial := func(name string, of func(epoch uint32, term, counter uint64) float64) prometheus.Collector {
		return gauge("config_serial", "The highest serial of config that was accepted; later is larger, by epoch, then term, then counter.",
			prometheus.Labels{"part": name}, part(of))
	}
	for _, c := range []prometheus.Collector{
		serial("epoch", func(epoch uint32, _, _ uint64) float64 { return float64(epoch) }),
		serial("term", func(_ uint32, term, _ uint64) float64 { return float64(term) }),
		serial("counter", func(_ uint32, _, counter uint64) float64 { return float64(counter) }),
		gauge("config_age_seconds", "Age of the newest signed heartbeat; it grows while config is withheld. -1 when there was none yet.", nil,
			func() float64 { return age(s.Clock(), s.Heartbeat()) }),
		gauge("certificate_expiry_timestamp_seconds", "When the proxy's certificate ends; 0 when it has none.", nil,
			func() float64 { return timestamp(s.CertificateExpiry()) }),
		gauge("control_connected", "1 while the stream to the operator is up.", nil, oneIf(s.Connected)),
		gauge("ready", "1 while /ready says so.", nil, oneIf(s.Ready)),
		gauge("draining", "1 since the pod began to go away.", nil, oneIf(s.Draining)),
	} {
		m.registry.MustRegister(c)
	}
}

func age(now, at time.Time) float64 {
	if at.IsZero() {
		return -1
	}
	return max(now.Sub(at).Seconds(), 0)
}

func timestamp(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}

func oneIf(condition func() bool) func() float64 {
	return func() float64 {
		if condition() {
			return 1
		}
		return 0
	}
}
