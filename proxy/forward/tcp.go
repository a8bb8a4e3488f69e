// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// tcp carries a connection that is not HTTP. With ALPNDetect it is not known yet whether it is: the endpoint is dialled so
// that its server can speak first, and if the caller speaks HTTP then that is returned.
func (o *Outbound) tcp(ctx context.Context, c *Conn, d *table.Destination, port *table.Port, protocol Protocol, alpn string) *served {
	event := &observe.Event{
		Protocol: "tcp", GRPCStatus: -1, Start: o.Clock(), Source: c.Source, Destination: c.Destination,
	}
	series := port.Series.Of("")
	finish := func(err error) {
		event.Duration = o.Clock().Sub(event.Start)
		if why := new(refusal.Error); errors.As(err, &why) {
			event.Reason, event.Rule = why.Reason, why.Rule
		}
		event.Err = err
		series.Observe(event)
	}
	l := &line{side: &o.side, port: port, event: event}
	l.asks = evaluate.Request{Caller: ownIdentity(o.Tables), Source: c.Source.Addr()}
	choice := port.Connection()
	if l.backend, _ = choice.Backend(&l.asks, rand.Uint64()); l.backend == nil {
		finish(refusal.Newf(refusal.NoEndpoints, "every backend of %s has weight 0", port.Service))
		socket.Reset(c.Peeker)
		return nil
	}
	stream, why := l.dial(ctx, alpn)
	if why != nil {
		if alpn == upstream.ALPNDetect {
			return o.refuse(ctx, c, why, series)
		}
		finish(why)
		socket.Reset(c.Peeker) // an end in good order would be that of a server which has nothing to say
		return nil
	}
	defer l.done()
	defer stream.Close()
	series = l.backend.Series(evaluate.Unrouted()).Of(l.pick.Workload)
	callee, _ := stream.Conn.(end)
	if protocol == Unknown && (alpn == upstream.ALPNDetect || port.Protocol == meshconfig.Protocol_PROTOCOL_TLS) {
		if protocol, why = o.whoSpeaks(ctx, c.Peeker, callee, &port.ServerFirst); why != nil {
			finish(why)
			return nil
		}
		if alpn == upstream.ALPNDetect && (protocol == HTTP1 || protocol == HTTP2) {
			stream.Close()
			return o.http(c, d, port, protocol)
		}
	}
	noteTLS(event, c.Peeker, protocol)
	defer o.running.add(both{c.Peeker, callee})()
	if why := l.suffer(ctx); why != nil {
		both{c.Peeker, callee}.reset()
		finish(why)
		return nil
	}
	var err error
	event.BytesIn, event.BytesOut, err = o.relay(ctx, c.Peeker, callee)
	finish(err)
	return nil
}

// noteTLS notes whom TLS of the application's own is for.
func noteTLS(event *observe.Event, caller Peeker, protocol Protocol) {
	if protocol == TLS || protocol == MeshTLS {
		event.Protocol, event.ServerName = "tls", caller.ServerName()
	}
}

// asRefusal says of an error of another package why something is not carried.
func asRefusal(err error) *refusal.Error {
	var why *refusal.Error
	if errors.As(err, &why) {
		return why
	}
	var failure *upstream.Failure
	if errors.As(err, &failure) {
		return &refusal.Error{Reason: failure.Reason, Cause: failure.Err}
	}
	return &refusal.Error{Reason: refusal.UpstreamFailed, Cause: err}
}
