// SPDX-License-Identifier: Apache-2.0

// Package observe says what the data path reports: the events that metrics and the access log are made of, and the
// interface that takes them. Package telemetry implements it; table binds the series and forward fires the events.
package observe

import (
	"net/netip"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Direction is the side of its workload on which a proxy carries something.
type Direction uint8

// The directions.
const (
	Outbound Direction = iota // the workload calls
	Inbound                   // the workload is called
)

// String returns "outbound" or "inbound".
func (d Direction) String() string {
	if d == Inbound {
		return "inbound"
	}
	return "outbound"
}

// Labels are what a series has before anything happens. Every field comes from signed config, never from a caller, so
// their number is bounded by what the proxy holds.
type Labels struct {
	Direction Direction
	Service   string // name.namespace; empty: not a Service of the mesh
	Route     string // name of the route of the ServiceProfile, or empty
	Backend   string // name of the backend of the split, or empty
	Workload  string // the called workload: the endpoint's outbound, the proxy's own inbound; or empty
}

// Observer makes series. It must be safe for concurrent use. Binding equal labels twice gives series that add up to one.
type Observer interface {
	Bind(Labels) Series
}

// Series takes what happens under one set of labels.
type Series interface {
	// Observe counts one finished request, or one finished connection that is not HTTP, and writes its line of the access
	// log. It runs on the hot path: it must not block and must not keep e, nor e's Method and Path, whose memory is used
	// again.
	Observe(e *Event)
}

// Bound is a series, and the labels that it was bound with.
type Bound struct {
	Labels Labels
	series Series
}

// Bind makes a series.
func Bind(o Observer, l Labels) *Bound { return &Bound{l, o.Bind(l)} }

// Observe gives the event the labels, and counts it.
func (b *Bound) Observe(e *Event) {
	e.Labels = &b.Labels
	b.series.Observe(e)
}

// Event is one finished request, stream of HTTP/2, or connection that is not HTTP.
type Event struct {
	Labels *Labels // those of the series; never written

	// Protocol is one of "http1", "http2", "grpc", "tcp", "tls".
	Protocol string
	// Method, Path and Status are those of HTTP; empty and 0 otherwise. Path has no query. Path and Method are the
	// caller's, for the log alone: never a label of a metric.
	Method, Path string
	Status       int
	// ServerName is whom TLS of the application's own is for, as its caller says (SNI); for the log alone.
	ServerName string
	// GRPCStatus is the grpc-status of the answer, or -1.
	GRPCStatus int

	Start    time.Time
	Duration time.Duration
	// BytesIn went from the caller to the endpoint, BytesOut back; of HTTP the bodies alone.
	BytesIn, BytesOut int64

	// MTLS says whether the hop between proxies is mTLS: towards the endpoint outbound, from the caller inbound.
	MTLS bool
	// Peer is who proved its identity on that hop, nil without mTLS.
	Peer *identity.ID
	// Source is the caller's address and Destination where it wanted to go (as the kernel tells).
	Source, Destination netip.AddrPort
	// Endpoint is where it was sent; the zero value if it was not.
	Endpoint netip.AddrPort
	// Pod is the endpoint's "namespace/name", or empty.
	Pod string
	// Attempts is how many endpoints were tried, 0 if none was.
	Attempts int
	// RetryReason is what the last of the tries but one ended with: "connect_failure", "refused_stream", "reset", "timeout"
	// or "status"; empty with one try.
	RetryReason string
	// Panic says that an endpoint was picked though too few were eligible.
	Panic bool
	// Fault is the name of the last fault that was injected, "namespace/profile/fault", or empty.
	Fault string
	// CopyDropped says that a copy was to be sent, and that too many were under way.
	CopyDropped bool

	// Reason is why the proxy refused it or broke it off, empty if it did neither, and Rule the authorization rule that
	// decided. Err is the error underneath, for the log; it may be nil.
	Reason refusal.Reason
	Rule   string
	Err    error
}

// Class is the response class, a label of metrics: "1xx" to "5xx" by status; for gRPC "ok" or "error" by grpc-status
// where there was one; for what is not HTTP "ok", or "refused" when there is a reason.
func (e *Event) Class() string {
	switch {
	case e.Protocol == "grpc" && e.GRPCStatus == 0:
		return "ok"
	case e.Protocol == "grpc" && e.GRPCStatus > 0:
		return "error"
	case e.Status >= 100 && e.Status < 600:
		return classes[e.Status/100-1]
	case e.Reason != refusal.None:
		return "refused"
	}
	return "ok"
}

var classes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// Nothing is an Observer that drops everything.
type Nothing struct{}

// Bind returns a series that drops everything.
func (Nothing) Bind(Labels) Series { return nothing{} }

type nothing struct{}

func (nothing) Observe(*Event) {}
