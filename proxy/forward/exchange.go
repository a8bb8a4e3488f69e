// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// exchange is one request and its answer: what is decided about them, without I/O, for every version of HTTP.
//
// What moves the bytes, the driver, calls from one goroutine at a time, in this order:
//
//	x.begin(side, conn, version, head)
//	why := x.route()                        // may it go on, and where to
//	why = x.next()                          // picks an endpoint: x.pick.Endpoint, to be spoken to in x.upstreamVersion()
//	x.outgoing(&out)                        // the head that is sent to it
//	failure := x.abort()                    // if there is an x.fault, after its delay: how it ends the try
//	wait, ok := x.again(failure, answer, _) // after a try, unless mayEnd(answer): whether there is another, and when
//	why = x.next()                          // after the wait, if there is one
//	x.inform(answer)                        // an interim answer, on its way to the caller
//	why = x.answer(answer)                  // the final one
//	x.trailer(fields), x.requestTrailer(fields)
//	body, ok := x.refuse(why, &out)         // instead of an answer
//	x.finish()                              // always
//
// The request's strings must stay valid until finish. An exchange is used again by the next begin.
type exchange struct {
	entry
	side    *side
	conn    *served
	request *message.Head
	version upstream.Version // that the caller speaks

	asks    evaluate.Request
	changed bool   // the path is not as the caller sent it
	upgrade string // the protocol that the caller wants to upgrade to, or empty
	tunnel  bool   // it may become something else than HTTP: an upgrade or CONNECT

	port      *table.Port
	choice    table.Choice
	backend   *table.Backend // nil inbound
	random    uint64         // that it was picked with
	setCookie bool           // the answer brings the cookie of the choice's Stickiness
	redirect  *evaluate.Redirect
	mirror    *table.Backend // who gets a copy; nil: nobody
	tries

	// timeout is how long it may take from now to the end of the answer, tryTimeout each try to the head, and idle without
	// a byte of content; 0 is for ever.
	timeout, tryTimeout, idle time.Duration
	// lowered says that timeout is not what the caller asked for.
	lowered bool
	// mark says whether the caller is a proxy of the mesh, which is told when the application did not see the request.
	mark bool
	// retry says whether a request that failed may be tried once more.
	retry bool
	// status and code of gRPC are those of a refusal, where they are not its reason's.
	status, code int
	// last says whether the connection should take no further request.
	last bool
	// answered says that the head of the final answer, or refusal, was decided on.
	answered bool

	series *observe.Bound
	event  observe.Event
}

// begin begins a request. Nil cutters are of what no policy can end.
func (x *exchange) begin(s *side, conn *served, version upstream.Version, request *message.Head, cut cutter) {
	now := s.Clock()
	s.running.begin()
	path, _, _ := strings.Cut(request.Path, "?")
	tried := x.tried[:0]
	*x = exchange{} // and then field by field: a literal of them all would be made elsewhere and copied, 1.2 KB of it
	x.cutter, x.side, x.conn, x.request, x.version = cut, s, conn, request, version
	x.last, x.series, x.tried = s.leave(conn, now), conn.series, tried
	e := &x.event
	e.Protocol, e.Method, e.Path, e.GRPCStatus, e.Start = "http1", request.Method, path, -1, now
	e.Source, e.Destination = conn.Source, conn.Destination
	if s.direction == observe.Inbound {
		x.event.MTLS, x.event.Peer = conn.peer != nil, conn.peer
	}
	if version == upstream.HTTP2 {
		x.event.Protocol = "http2"
		if isGRPC(contentType(request)) {
			x.event.Protocol = gRPC
		}
	}
}

// route checks the request and decides where it goes, or why it does not.
func (x *exchange) route() *refusal.Error {
	if why := x.conn.refused; why != nil {
		x.last = true
		return why
	}
	if why := x.read(); why != nil {
		return why
	}
	if x.side.Budget.Full() {
		x.side.Count.Exceeded(limits.Memory)
		return refusal.Newf(refusal.Overloaded, "%s", x.side.Limits.Over(limits.Memory))
	}
	if x.side.direction == observe.Inbound {
		return x.admit()
	}
	return x.choose()
}

// read checks the request and finds out what it asks for.
func (x *exchange) read() *refusal.Error {
	r := x.request
	if r.Authority == "" && !r.HTTP10 {
		return refusal.Newf(refusal.BadRequest, "the request has no Host")
	}
	if r.Protocol != "" && (!message.ValidToken(r.Protocol) || isHTTP2(r.Protocol)) {
		return refusal.Newf(refusal.BadRequest, "the :protocol of an extended CONNECT is none that may be upgraded to")
	}
	x.upgrade = upgradeOf(r)
	x.tunnel = x.upgrade != "" || r.Method == methodConnect
	raw, query, _ := strings.Cut(r.Path, "?")
	x.asks.Query = query
	x.asks.Path = raw // that is none: "*", or empty with CONNECT
	if r.Method == methodConnect && r.Protocol == "" || raw == "*" && r.Method == methodOptions {
		return nil
	}
	path, ok := evaluate.NormalizePath(raw)
	if !ok {
		return refusal.Newf(refusal.BadRequest, "the path can be read in two ways, or holds characters that a path must not have")
	}
	x.changed = path != raw
	x.asks.Path, x.event.Path = path, path
	return nil
}

// method is what the request is judged by. An extended CONNECT (RFC 8441) is the GET that the same handshake is on
// HTTP/1.1: that is what a server of HTTP/1.1 gets, and answers though it may know nothing of the protocol.
func (x *exchange) method() string {
	if x.request.Protocol != "" {
		return http.MethodGet
	}
	return x.request.Method
}

// target is a path with the query of the request.
func (x *exchange) target(path string) string {
	if i := strings.IndexByte(x.request.Path, '?'); i >= 0 {
		path += x.request.Path[i:]
	}
	return path
}

// underway is how long after the end of a leaf a request may arrive: it was sent before, or clocks differ.
const underway = 10 * time.Second

// admit asks the policy of the workload's port.
func (x *exchange) admit() *refusal.Error {
	port := x.conn.Destination.Port()
	policy := x.side.Tables.Inbound(port)
	x.series = policy.Series
	x.mark = x.conn.peer != nil
	x.asked = question{
		x.conn.peer, evaluate.Op{Port: port, HTTP: true, Method: x.method(), Path: x.asks.Path},
	}
	// Registered first: a policy that changes from here on finds it.
	x.enter(&x.conn.live)
	if e := x.conn.expires; !e.IsZero() && x.event.Start.After(e.Add(underway)) {
		return &refusal.Error{
			Reason: refusal.TLSFailed, Detail: "the certificate of one side has expired since the connection was made", Undelivered: true,
		}
	}
	rule, why := x.asked.judge(x.side.Tables.Inbound(port), x.event.Start)
	x.event.Rule = rule
	if why == nil {
		why = x.asked.limit(policy, x.event.Start)
	}
	return why
}

// choose asks the table of the port that was called for a backend.
func (x *exchange) choose() *refusal.Error {
	x.port = x.conn.destination.Port()
	if x.port == nil {
		return refusal.Newf(refusal.UnknownDestination, "%v has gone", x.conn.Destination)
	}
	x.retry, x.start = true, balance.Nanos(x.event.Start)
	a := &x.asks
	a.Method, a.Authority, a.Headers = x.method(), x.request.Authority, (*headerLines)(x.request)
	a.Caller, a.Source = x.conn.own(x.side.Tables), x.conn.Source.Addr()
	x.choice, x.random = x.port.Route(&x.asks), rand.Uint64()
	x.backend, x.setCookie = x.choice.Backend(&x.asks, x.random)
	if x.backend == nil {
		return refusal.Newf(refusal.NoEndpoints, "every backend of %s has weight 0", x.port.Service)
	}
	if f := x.choice.Route.Filters; f != nil {
		if why := x.filter(f); why != nil {
			return why
		}
	}
	x.backend.Cluster.Use()
	x.heed()
	if why := x.admitted(); why != nil {
		return why
	}
	if x.port.Budget != nil {
		x.port.Budget.Earn(x.start)
	}
	return nil
}

// finish ends the request and reports it. It returns the time.
func (x *exchange) finish() time.Time {
	x.exit()
	now := x.side.Clock()
	x.release(now)
	x.event.Duration = now.Sub(x.event.Start)
	x.series.Observe(&x.event)
	x.side.running.end()
	return now
}

// connectTimeout is how long making a connection to the endpoint may take; 0: the default.
func (x *exchange) connectTimeout() time.Duration {
	if x.backend == nil {
		return 0
	}
	return x.backend.Cluster.ConnectTimeout()
}

// why says what the failure of the last try means to the caller.
func (x *exchange) why(failure *upstream.Failure) *refusal.Error {
	why := &refusal.Error{
		Reason: failure.Reason, Detail: x.event.Endpoint.String(), Undelivered: failure.Undelivered, Cause: failure.Err,
	}
	switch failure.Reason {
	case refusal.CircuitOpen:
		why.Detail = x.bound.String()
	case refusal.FaultInjected:
		why.Detail = "fault " + x.fault.Name
		x.status, x.code = x.faultStatus()
	case refusal.Timeout:
		why.Detail = fmt.Sprintf("%v did not answer in %v, as a try must by route %s", x.event.Endpoint, x.tryTimeout, x.series.Labels.Route)
	default:
	}
	return why
}

// keep makes the request's strings last until finish though the head is given up, as while it is a tunnel.
func (x *exchange) keep() {
	e := &x.event
	e.Method, e.Path = strings.Clone(e.Method), strings.Clone(e.Path)
	if c := x.on; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		x.asked.op.Method, x.asked.op.Path = e.Method, strings.Clone(x.asked.op.Path)
	}
}

// late is why a request is given up whose timeout has passed.
func (x *exchange) late() *refusal.Error {
	if x.event.Protocol == gRPC && !x.lowered {
		return &refusal.Error{Reason: refusal.Timeout, Detail: "the caller's own, of grpc-timeout"}
	}
	return &refusal.Error{Reason: refusal.Timeout, Detail: "route " + x.series.Labels.Route}
}

// quiet is why a request is given up of which nothing has moved for too long.
func (x *exchange) quiet() *refusal.Error {
	return refusal.Newf(refusal.Timeout, "nothing moved for %v, which route %s does not allow", x.idle, x.series.Labels.Route)
}
