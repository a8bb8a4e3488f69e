// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"math/rand/v2"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
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
func (o *Outbound) Serve(ctx context.Context, c *Conn) {
	defer c.Close()
	done, ok := o.begin(c)
	if !ok {
		return
	}
	defer done()
	destination, err := o.Tables.Lookup(ctx, c.Destination)
	if err != nil {
		series, labels := o.Tables.Unrouted().Of("")
		o.refuse(ctx, c, asRefusal(err), series, labels)
		return
	}
	defer destination.Release()
	port := destination.Port()
	if port == nil {
		series, labels := o.Tables.Unrouted().Of("")
		o.refuse(ctx, c, refusal.Newf(refusal.UnknownDestination, "%v", c.Destination), series, labels)
		return
	}
	o.carry(ctx, c, destination, port)
}

// carry finds out what the caller speaks, as far as that is needed, and carries it.
func (o *Outbound) carry(ctx context.Context, c *Conn, d *table.Destination, port *table.Port) {
	wait := o.Limits.Grace
	switch port.Protocol {
	case meshconfig.Protocol_PROTOCOL_TCP, meshconfig.Protocol_PROTOCOL_TLS, meshconfig.Protocol_PROTOCOL_OPAQUE:
		o.tcp(ctx, c, d, port, upstream.ALPNTCP)
		return
	case meshconfig.Protocol_PROTOCOL_HTTP1, meshconfig.Protocol_PROTOCOL_HTTP2, meshconfig.Protocol_PROTOCOL_GRPC:
		wait = o.Limits.Idle
	case meshconfig.Protocol_PROTOCOL_UNSPECIFIED:
	}
	declared := port.Protocol != meshconfig.Protocol_PROTOCOL_UNSPECIFIED
	protocol, err := detect(ctx, c, wait)
	series, labels := port.Series.Of("")
	switch {
	case err != nil:
		o.report(c, &refusal.Error{Reason: refusal.CallerGone, Cause: err}, series, labels)
	case protocol == HTTP1 || protocol == HTTP2:
		o.http(ctx, c, d, port, protocol)
	case protocol == Unknown && !declared:
		o.tcp(ctx, c, d, port, upstream.ALPNDetect)
	case protocol == Unknown && c.Buffered() == 0:
		o.report(c, refusal.Newf(refusal.NoFirstByte, "in %v", wait), series, labels)
	case protocol == TLS || protocol == MeshTLS || !declared:
		o.tcp(ctx, c, d, port, upstream.ALPNTCP)
	case c.Buffered() == 0:
		// It came and went, as some health checks do.
	default:
		o.http(ctx, c, d, port, HTTP1) // it is not, and is answered so
	}
}

// http speaks HTTP with the caller.
func (o *Outbound) http(ctx context.Context, c *Conn, d *table.Destination, port *table.Port, protocol Protocol) {
	series, labels := port.Series.Of("")
	o.side.http(ctx, &served{
		Conn: c, content: c.Peeker, protocol: protocol, destination: d, series: series, labels: labels,
	})
}

// pickFrom picks an endpoint of a backend.
func pickFrom(b *table.Backend, port *table.Port, failed *upstream.Endpoint) (balance.Pick, *refusal.Error) {
	pick, ok := b.Cluster.Endpoints().Pick(rand.Uint64, failed)
	if !ok {
		if b.Name == "" || b.Name == port.Service {
			return pick, refusal.Newf(refusal.NoEndpoints, "service %s", port.Service)
		}
		return pick, refusal.Newf(refusal.NoEndpoints, "backend %s of service %s", b.Name, port.Service)
	}
	return pick, nil
}
