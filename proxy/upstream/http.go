// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Receive windows of HTTP/2: what one slow reader, and all of a connection, can make the proxy hold.
const (
	streamWindow     = 256 << 10
	connectionWindow = 64 << 20
)

// wireKey is under which a context carries the *wire that a transport is to run on.
type wireKey struct{}

// newTransports makes the engines. They dial nothing and pool nothing: engine gives them a connection each time.
func newTransports(o Options) (http1, http2 *http.Transport) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		if w, ok := ctx.Value(wireKey{}).(*wire); ok {
			return w, nil
		}
		return nil, errors.New("no connection given")
	}
	transport := func() *http.Transport {
		return &http.Transport{
			DialContext:            dial,
			DisableCompression:     true,
			Protocols:              new(http.Protocols),
			MaxResponseHeaderBytes: int64(o.Limits.HeaderBytes),
			ExpectContinueTimeout:  time.Second,
			HTTP2: &http.HTTP2Config{
				SendPingTimeout:               30 * time.Second,
				PingTimeout:                   15 * time.Second,
				MaxReceiveBufferPerStream:     streamWindow,
				MaxReceiveBufferPerConnection: connectionWindow,
			},
		}
	}
	http1, http2 = transport(), transport()
	http1.Protocols.SetHTTP1(true)
	http2.Protocols.SetUnencryptedHTTP2(true)
	return http1, http2
}

// engine starts an engine of the version on a connection.
func (r *Registry) engine(ctx context.Context, v Version, w *wire) (*http.ClientConn, error) {
	transport := r.http1
	if v == HTTP2 {
		transport = r.http2
	}
	return transport.NewClientConn(context.WithValue(ctx, wireKey{}, w), "http", w.endpoint.Address.String())
}

// maxStale is how many connections in a row may turn out to have been closed by the server while they were idle.
const maxStale = 3

// RoundTrip sends a request on a connection of the pool and returns the answer's header. Errors are *Failure.
//
// A connection that the server had closed before the request began costs nothing: the request goes to another one, if its
// body was not touched or GetBody gives it again.
func (e *Endpoint) RoundTrip(version Version, request *http.Request) (*http.Response, error) {
	pool := e.pools[version]
	for stale := 0; ; stale++ {
		c, reused, err := pool.take(request.Context(), stale == maxStale)
		if err != nil {
			return nil, err
		}
		written := c.wire.written.Load()
		c.wire.busy.Store(true)
		response, err := c.conn.RoundTrip(request)
		if err == nil {
			return response, nil
		}
		failure, again := c.judge(version, err, written)
		if ctx := request.Context(); ctx.Err() != nil {
			return nil, &Failure{refusal.CallerGone, failure.Undelivered, context.Cause(ctx)}
		}
		if !again || !reused || stale == maxStale {
			return nil, failure
		}
		if request = rewind(request); request == nil {
			return nil, failure
		}
	}
}

// rewind returns the request with its body from the start, or nil if that cannot be had.
func rewind(request *http.Request) *http.Request {
	again := request.WithContext(request.Context())
	if request.Body == nil || request.Body == http.NoBody {
		return again
	}
	if request.GetBody == nil {
		return nil
	}
	body, err := request.GetBody()
	if err != nil {
		return nil
	}
	again.Body = body
	return again
}

// Texts of errors of net/http that have no name. A test of this package provokes each.
const (
	textGoAway   = "http2: Transport received Server's graceful shutdown GOAWAY"
	textUnusable = "http2: client conn not usable"
	textAlert    = "remote error: tls:"
	textNoServer = "http2: client conn could not be established"
)

// refusedStream is REFUSED_STREAM of RFC 9113, section 7.
const refusedStream = 0x7

// streamError takes on, by errors.As, the stream errors of net/http, which have no exported type.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// Error gives the code.
func (e streamError) Error() string {
	return fmt.Sprintf("stream %d reset with code %d", e.StreamID, e.Code)
}

// judge says what a failed request means, and whether it was the connection alone that was not good any more.
func (c *pooled) judge(version Version, err error, written int64) (failure *Failure, again bool) {
	failure = &Failure{Reason: refusal.UpstreamFailed, Err: fmt.Errorf("from %v: %w", c.wire.endpoint.Address, err)}
	var reset streamError
	switch text := err.Error(); {
	case strings.Contains(text, textAlert), version == HTTP2 && strings.Contains(text, textNoServer):
		// In TLS 1.3 a client is done before the server has judged its certificate; HTTP/2 sees that as a connection that
		// ended before its first frame.
		failure.Reason, failure.Undelivered = refusal.ConnectFailed, true
	case version == HTTP1 && (c.wire.diedIdle.Load() || c.wire.written.Load() == written):
		failure.Undelivered, again = true, true
	case version == HTTP2 && (strings.Contains(text, textGoAway) || strings.Contains(text, textUnusable)):
		failure.Undelivered, again = true, true
	case version == HTTP2 && errors.As(err, &reset) && reset.Code == refusedStream:
		failure.Undelivered = true
	}
	return failure, again
}
