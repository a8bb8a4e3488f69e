// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
	"github.com/heddle-mesh/heddle/proxy/table"
)

// Inbound carries what calls the workload. It is a Server.
type Inbound struct {
	side
	live   live
	apps   apps
	none   *observe.Bound // before there is a policy
	stop   context.CancelFunc
	helper sync.WaitGroup
}

// NewInbound makes an Inbound. Shutdown ends it.
func NewInbound(options Options) *Inbound {
	in := &Inbound{}
	in.init(options, observe.Inbound)
	in.none = observe.Bind(in.Observer, observe.Labels{Direction: observe.Inbound})
	in.apps.registry = in.Upstreams
	ctx, cancel := context.WithCancel(context.Background())
	in.stop = cancel
	in.helper.Go(func() { in.live.watch(ctx, in.Tables, in.Clock) })
	return in
}

// Shutdown implements Server.
func (in *Inbound) Shutdown(ctx context.Context) error {
	err := in.side.Shutdown(ctx)
	in.stop()
	in.helper.Wait()
	in.apps.close()
	return err
}

// Serve implements Server.
func (in *Inbound) Serve(ctx context.Context, c *Conn) Rest { return in.serve(ctx, c, in.open) }

// open finds out what a connection is and carries what is not HTTP. It returns what is: that waits for requests on a stack
// that nothing else stands on.
func (in *Inbound) open(ctx context.Context, c *Conn) *served {
	policy := in.Tables.Inbound(c.Destination.Port())
	if policy == nil {
		return in.refuse(ctx, c, refusal.Newf(refusal.NotReady, "no policy has come yet"), in.none)
	}
	k := &call{in: in, conn: c, content: c.Peeker, policy: policy, port: c.Destination.Port()}
	strict := policy.Authorizer.Mode(in.Clock()) == meshconfig.MTLSMode_MTLS_MODE_STRICT
	wait := in.Limits.FirstByte
	if !strict && serverMaySpeak(policy.Protocol) {
		wait = in.Limits.Grace
	}
	protocol, err := k.look(ctx, wait)
	switch {
	case err != nil:
		k.report(&refusal.Error{Reason: refusal.CallerGone, Cause: err})
	case protocol == MeshTLS, protocol == TLS && endsTLS(policy.Protocol, strict):
		return k.secure(ctx)
	case protocol == Unknown && wait == in.Limits.FirstByte && c.Buffered() == 0:
		in.Count.Exceeded(limits.FirstByte)
		k.report(refusal.Newf(refusal.NoFirstByte, "in %v", wait))
	case protocol == Opaque && c.Buffered() == 0:
		// It came and went, as the kubelet's TCP probes do.
	default:
		return k.carry(ctx, protocol)
	}
	return nil
}

// look looks at the first bytes of what is carried. Where the server spoke first before nobody waits for the caller.
func (k *call) look(ctx context.Context, wait time.Duration) (Protocol, error) {
	if wait == k.in.Limits.Grace && k.policy.ServerFirst.Load() {
		return Unknown, nil
	}
	return detect(ctx, k.content, wait)
}

// endsTLS says whether TLS without an ALPN name of the mesh is for the proxy to end, as that of peers that are no proxies
// of ours: where an application with TLS of its own can't be meant, or nothing could be let through.
func endsTLS(p meshconfig.Protocol, strict bool) bool {
	return !serverMaySpeak(p) || strict && p == meshconfig.Protocol_PROTOCOL_UNSPECIFIED
}

// serverMaySpeak says whether the server of a port may be the one that speaks first.
func serverMaySpeak(p meshconfig.Protocol) bool {
	switch p {
	case meshconfig.Protocol_PROTOCOL_HTTP, meshconfig.Protocol_PROTOCOL_HTTP1, meshconfig.Protocol_PROTOCOL_HTTP2,
		meshconfig.Protocol_PROTOCOL_GRPC:
		return false
	case meshconfig.Protocol_PROTOCOL_UNSPECIFIED, meshconfig.Protocol_PROTOCOL_TCP, meshconfig.Protocol_PROTOCOL_TLS,
		meshconfig.Protocol_PROTOCOL_OPAQUE:
	}
	return true
}

// call is one inbound connection.
type call struct {
	in      *Inbound
	conn    *Conn
	content Peeker // the connection, or what is inside its mesh TLS
	policy  *table.PortPolicy
	port    uint16

	peer    *identity.ID // nil: plaintext
	expires time.Time    // of the peer's leaf
}

// report says that the connection was refused, before anything of it was understood.
func (k *call) report(why *refusal.Error) {
	k.in.report(k.conn, why, k.policy.Series)
}

// carry carries plaintext, from a caller without identity or inside mesh TLS, unless it is HTTP: that is returned.
func (k *call) carry(ctx context.Context, protocol Protocol) *served {
	switch {
	case protocol == HTTP1 || protocol == HTTP2:
		return k.http(protocol)
	case protocol == Opaque && speaksHTTP2(k.policy.Protocol):
		k.report(refusal.Newf(refusal.BadRequest, "neither the preface of HTTP/2 nor a request"))
		return nil
	}
	return k.tcp(ctx, protocol)
}

// speaksHTTP2 says whether a port was declared to be one of HTTP/2, at which bytes that are no HTTP are a mistake.
func speaksHTTP2(p meshconfig.Protocol) bool {
	return p == meshconfig.Protocol_PROTOCOL_HTTP2 || p == meshconfig.Protocol_PROTOCOL_GRPC
}

// http makes what speaks HTTP with the caller.
func (k *call) http(protocol Protocol) *served {
	in, app := k.in, k.in.apps.acquire(k.conn.Destination)
	c := &served{
		Conn: k.conn, content: k.content, protocol: protocol, app: app.endpoint, policy: k.policy,
		peer: k.peer, expires: k.expires, series: k.policy.Series,
	}
	if k.peer != nil {
		c.identity = "URI=" + k.peer.String()
	}
	in.live.join(&c.live)
	c.over = func() {
		in.live.part(&c.live)
		in.apps.release(app)
	}
	return c
}

// tcp relays what is not HTTP, or not known yet to be. What an application speaks in TLS of its own is such, too.
// If it turns out to be HTTP then that is returned.
func (k *call) tcp(ctx context.Context, protocol Protocol) *served {
	in := k.in
	event := &observe.Event{
		Protocol: "tcp", GRPCStatus: -1, Start: in.Clock(), MTLS: k.peer != nil, Peer: k.peer,
		Source: k.conn.Source, Destination: k.conn.Destination,
	}
	finish := func(why *refusal.Error, err error) {
		event.Duration, event.Err = in.Clock().Sub(event.Start), err
		if why != nil {
			event.Reason, event.Rule, event.Err = why.Reason, why.Rule, why
			defer socket.Reset(k.content) // as a server does at which nobody listens
		}
		k.policy.Series.Observe(event)
	}
	noteTLS(event, k.content, protocol)
	asked := question{k.peer, evaluate.Op{Port: k.port}}
	rule, why := asked.judge(k.policy, in.Clock())
	event.Rule = rule
	if why != nil {
		// What the caller may not do as a connection it may still do as a request, or once it has proved who it is.
		switch spoken, err := k.wait(ctx, protocol); {
		case err == nil && (spoken == HTTP1 || spoken == HTTP2):
			return k.http(spoken)
		case err == nil && spoken == MeshTLS && k.peer == nil:
			return k.secure(ctx)
		default:
			finish(why, nil)
		}
		return nil
	}
	app := in.apps.acquire(k.conn.Destination)
	defer in.apps.release(app)
	event.Endpoint, event.Attempts = app.endpoint.Address, 1
	stream, err := app.endpoint.Dial(ctx, "", 0)
	if err != nil {
		finish(asRefusal(err), nil)
		return nil
	}
	defer stream.Close()
	callee, _ := stream.Conn.(end)
	if protocol == Unknown {
		protocol, why = in.whoSpeaks(ctx, k.content, callee, &k.policy.ServerFirst)
		switch {
		case why != nil:
			finish(why, nil)
			return nil
		case protocol == MeshTLS && k.peer == nil:
			stream.Close()
			return k.secure(ctx)
		case protocol == HTTP1 || protocol == HTTP2:
			stream.Close()
			return k.http(protocol)
		}
	}
	noteTLS(event, k.content, protocol)
	if why := asked.limit(k.policy, in.Clock()); why != nil {
		finish(why, nil)
		return nil
	}
	k.relay(ctx, asked, callee, event, finish)
	return nil
}

// wait waits for the caller to speak, if it has not.
func (k *call) wait(ctx context.Context, protocol Protocol) (Protocol, error) {
	if protocol != Unknown {
		return protocol, nil
	}
	return detect(ctx, k.content, k.in.Limits.FirstByte)
}

// relay relays until the sides have ended, or the policy denies it.
func (k *call) relay(
	ctx context.Context, asked question, callee end, event *observe.Event, finish func(*refusal.Error, error),
) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer k.in.live.add(asked, cancel)()
	defer k.in.running.add(both{k.content, callee})()
	var why *refusal.Error
	if _, denied := asked.judge(k.in.Tables.Inbound(k.port), k.in.Clock()); denied != nil {
		finish(denied, nil) // the policy has changed meanwhile
		return
	}
	in, out, err := k.in.relay(ctx, k.content, callee)
	event.BytesIn, event.BytesOut = in, out
	if cause := context.Cause(ctx); cause != nil {
		why = asRefusal(cause)
	}
	finish(why, err)
}
