// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// exchange is one request and its answer.
type legacy struct {
	side    *side
	conn    *legacyConn
	w       http.ResponseWriter
	r       *http.Request
	target  target
	body    *replay
	version upstream.Version
	upgrade string // the protocol that the caller wants to upgrade to, or ""

	// pick chooses where to send it, given where it failed; and says which series it counts in.
	pick func(failed *upstream.Endpoint) (balance.Pick, *refusal.Error)
	// prepare changes the header that is sent; it may be nil.
	prepare func(http.Header)
	// mark says whether the caller is a proxy of the mesh, which is told when the application did not see the request.
	mark bool
	// retry says whether a request that failed may be tried once more.
	retry bool

	series  observe.Series
	event   observe.Event
	started bool // the answer's header is out
	broken  bool // the answer broke off: the caller must see that

	upgraded bool // the bytes of the event are those of the upgraded connection
}

// target is what a request asks for.
type target struct {
	path   string // normalised, or what has none: "*" or the authority of CONNECT
	prefix string // what stands before it in the absolute form: "http://host"
	query  string
	asked  bool // there is a question mark
}

// newLegacy begins a request.
func (s *side) newLegacy(conn *legacyConn, w http.ResponseWriter, r *http.Request) *legacy {
	x := &legacy{
		side: s, conn: conn, w: w, r: r, body: newReplay(r, s.Limits.ReplayBytes), series: conn.series,
		event: observe.Event{
			Labels: conn.labels, Protocol: "http1", Method: r.Method, Path: r.URL.Path, GRPCStatus: -1,
			Start: s.Clock(), Source: conn.Source, Destination: conn.Destination,
		},
	}
	if r.ProtoMajor == 2 {
		x.version, x.event.Protocol = upstream.HTTP2, "http2"
		if isGRPC(r.Header.Get("Content-Type")) {
			x.event.Protocol = "grpc"
		}
	} else {
		x.upgrade = upgradeOfOld(r.Header)
		if !x.body.empty() {
			// Answers may begin before the request has ended.
			http.NewResponseController(w).EnableFullDuplex() //nolint:errcheck // HTTP/1.1 has it
		}
	}
	if conn.leave(x.event.Start) {
		w.Header().Set("Connection", "close") // of HTTP/2: GOAWAY
	}
	return x
}

// read checks the request and finds out what it asks for.
func (x *legacy) read() *refusal.Error {
	bad := func(detail string) *refusal.Error { return refusal.Newf(refusal.BadRequest, "%s", detail) }
	r := x.r
	if r.Host == "" && r.ProtoAtLeast(1, 1) {
		return bad("the request has no Host")
	}
	if r.Method == http.MethodConnect {
		return bad("CONNECT is not supported: send the protocol itself to the address")
	}
	raw, query, asked := strings.Cut(r.RequestURI, "?")
	x.target = target{path: raw, query: query, asked: asked}
	if raw == "*" && r.Method == http.MethodOptions {
		return nil
	}
	if r.URL.Scheme != "" && r.URL.Host != "" {
		rest := raw[len(r.URL.Scheme)+len("://"):]
		slash := strings.IndexByte(rest, '/')
		if slash < 0 {
			slash, raw = len(rest), "/"
		} else {
			raw = rest[slash:]
		}
		x.target.prefix = r.URL.Scheme + "://" + rest[:slash]
	}
	path, ok := evaluate.NormalizePath(raw)
	if !ok {
		return bad("the path can be read in two ways, or holds characters that a path must not have")
	}
	x.target.path, x.event.Path = path, path
	return nil
}

// question is the request as evaluate sees it.
func (x *legacy) question() *evaluate.Request {
	return &evaluate.Request{Method: x.r.Method, Path: x.target.path, Authority: x.r.Host, Headers: lines(x.r.Header)}
}

// lines are a request's header lines.
type lines http.Header

// Value implements evaluate.Headers.
func (l lines) Value(name string, i int) (string, bool) {
	values := l[http.CanonicalHeaderKey(name)]
	if i >= len(values) {
		return "", false
	}
	return strings.Trim(values[i], " \t"), true
}

// request makes what is sent, for one try.
func (x *legacy) request(ctx context.Context) *http.Request {
	h := x.r.Header.Clone()
	dropHopByHop(h)
	dropOwnOld(h, x.side.direction == observe.Inbound)
	if x.upgrade != "" {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{x.upgrade}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // not net/http's
	}
	if x.prepare != nil {
		x.prepare(h)
	}
	host := x.r.Host
	if host == "" {
		host = x.conn.Destination.String() // HTTP/1.0
	}
	out := &http.Request{
		Method: x.r.Method,
		URL: &url.URL{
			Scheme: "http", Host: host, Opaque: x.target.prefix + x.target.path,
			RawQuery: x.target.query, ForceQuery: x.target.asked,
		},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Host: host, ContentLength: x.r.ContentLength,
	}
	out.Body, out.Trailer = x.body.try()
	if out.Body != nil {
		out.GetBody = func() (io.ReadCloser, error) { return x.body.again(out.Trailer) }
	}
	return out.WithContext(ctx)
}

// refuse answers that the request is not carried, or breaks the answer off that has begun.
func (x *legacy) refuse(why *refusal.Error) {
	x.event.Reason, x.event.Rule, x.event.Err = why.Reason, why.Rule, why
	if x.started {
		x.broken = true
		return
	}
	x.started = true
	if why.Reason == refusal.CallerGone {
		x.event.Status, x.broken = why.Reason.Meaning().Status, true
		return
	}
	if x.version == upstream.HTTP1 {
		x.body.drain(http.NewResponseController(x.w))
	}
	x.endUnlessWhole()
	if x.mark && why.Undelivered {
		x.w.Header().Set(undelivered, "1")
	}
	x.event.Status, x.event.GRPCStatus = answer(x.w, x.r, why)
}

// endUnlessWhole has a connection of HTTP/1.1 closed after an answer that begins before the request has ended. In its mode
// for that net/http reads the rest of the request when the handler has returned, while it already waits for the next one,
// and fails.
func (x *legacy) endUnlessWhole() {
	if x.version == upstream.HTTP1 && !x.body.ended() {
		x.w.Header().Set("Connection", "close")
	}
}

// finish reports the request, and breaks the connection or stream off if the answer did.
func (x *legacy) finish() {
	x.event.Duration = x.side.Clock().Sub(x.event.Start)
	if !x.upgraded {
		x.event.BytesIn = x.body.read.Load()
	}
	x.series.Observe(&x.event)
	if x.broken {
		panic(http.ErrAbortHandler)
	}
}

// errTimeout is the cause of a context whose route's time is over.
var errTimeout = errors.New("the route's timeout passed")

// why says what a failure means to the caller.
func (x *legacy) why(ctx context.Context, err error) *refusal.Error {
	var known *refusal.Error
	if errors.As(err, &known) {
		return known
	}
	if cause := context.Cause(ctx); cause != nil {
		var cut *refusal.Error
		switch {
		case errors.As(cause, &cut):
			return cut
		case errors.Is(cause, errTimeout):
			return &refusal.Error{Reason: refusal.Timeout, Detail: "route " + x.event.Labels.Route, Cause: err}
		}
		return &refusal.Error{Reason: refusal.CallerGone, Cause: err}
	}
	if errors.Is(err, errNotReplayable) {
		return &refusal.Error{Reason: refusal.ConnectFailed, Detail: "the first endpoint failed, and the body is too long to be sent again", Cause: err}
	}
	if cause := x.body.cause(); cause != nil {
		var network net.Error
		if errors.As(cause, &network) || isEnd(cause) {
			return &refusal.Error{Reason: refusal.CallerGone, Cause: cause}
		}
		return &refusal.Error{Reason: refusal.BadRequest, Detail: "the request's body: " + cause.Error(), Cause: err}
	}
	var failure *upstream.Failure
	if errors.As(err, &failure) {
		return &refusal.Error{
			Reason: failure.Reason, Detail: x.event.Endpoint.String(), Undelivered: failure.Undelivered, Cause: failure.Err,
		}
	}
	return &refusal.Error{Reason: refusal.UpstreamFailed, Detail: x.event.Endpoint.String(), Cause: err}
}
