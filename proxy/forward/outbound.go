// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Outbound carries what the workload calls. It is a Server.
type Outbound struct{ side }

// NewOutbound makes an Outbound. Shutdown ends it.
func NewOutbound(options Options) *Outbound {
	o := &Outbound{}
	o.init(options, observe.Outbound)
	return o
}

// Serve implements Server.
func (o *Outbound) Serve(ctx context.Context, c *Conn) Rest { return o.serve(ctx, c, o.open) }

// open finds out where a connection goes and what it is, and carries what is not HTTP. It returns what is: that waits for
// requests on a stack that nothing else stands on.
func (o *Outbound) open(ctx context.Context, c *Conn) *served {
	destination, err := o.Tables.Lookup(ctx, c.Destination)
	if err != nil {
		return o.refuse(ctx, c, asRefusal(err), o.Tables.Unrouted().Of(""))
	}
	var h *served
	if port := destination.Port(); port != nil {
		h = o.carry(ctx, c, destination, port)
	} else {
		h = o.refuse(ctx, c, refusal.Newf(refusal.UnknownDestination, "%v", c.Destination), o.Tables.Unrouted().Of(""))
	}
	if h == nil {
		destination.Release()
		return nil
	}
	h.over = destination.Release
	return h
}

// carry finds out what the caller speaks, as far as that is needed, and carries it, unless it is HTTP: that is returned.
func (o *Outbound) carry(ctx context.Context, c *Conn, d *table.Destination, port *table.Port) *served {
	wait := o.Limits.Grace
	switch port.Protocol {
	case meshconfig.Protocol_PROTOCOL_TCP, meshconfig.Protocol_PROTOCOL_TLS, meshconfig.Protocol_PROTOCOL_OPAQUE:
		return o.tcp(ctx, c, d, port, Unknown, upstream.ALPNTCP)
	case meshconfig.Protocol_PROTOCOL_HTTP, meshconfig.Protocol_PROTOCOL_HTTP1, meshconfig.Protocol_PROTOCOL_HTTP2,
		meshconfig.Protocol_PROTOCOL_GRPC:
		wait = o.Limits.Idle
	case meshconfig.Protocol_PROTOCOL_UNSPECIFIED:
		if port.ServerFirst.Load() {
			return o.tcp(ctx, c, d, port, Unknown, upstream.ALPNDetect)
		}
	}
	declared := port.Protocol != meshconfig.Protocol_PROTOCOL_UNSPECIFIED
	protocol, err := detect(ctx, c, wait)
	series := port.Series.Of("")
	switch {
	case err != nil:
		o.report(c, &refusal.Error{Reason: refusal.CallerGone, Cause: err}, series)
	case protocol == HTTP1 || protocol == HTTP2:
		return o.http(c, d, port, protocol)
	case protocol == Unknown && !declared:
		return o.tcp(ctx, c, d, port, protocol, upstream.ALPNDetect)
	case protocol == Unknown && c.Buffered() == 0:
		o.Count.Exceeded(limits.Idle)
		o.report(c, refusal.Newf(refusal.NoFirstByte, "in %v", wait), series)
	case protocol == TLS || protocol == MeshTLS || !declared:
		return o.tcp(ctx, c, d, port, protocol, upstream.ALPNTCP)
	case c.Buffered() == 0:
		// It came and went, as some health checks do.
	case speaksHTTP2(port.Protocol):
		o.report(c, refusal.Newf(refusal.BadRequest, "neither the preface of HTTP/2 nor a request"), series)
	default:
		return o.http(c, d, port, HTTP1) // it is not, and is answered so
	}
	return nil
}

// http makes what speaks HTTP with the caller.
func (o *Outbound) http(c *Conn, d *table.Destination, port *table.Port, protocol Protocol) *served {
	return &served{Conn: c, content: c.Peeker, protocol: protocol, destination: d, series: port.Series.Of("")}
}
