// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

const (
	methodConnect = http.MethodConnect
	methodOptions = http.MethodOptions
)

// headerLines are a request's field lines as evaluate sees them.
type headerLines message.Head

// Value implements evaluate.Headers.
func (l *headerLines) Value(name string, i int) (string, bool) {
	for f := range l.Fields {
		if !message.EqualFold(l.Fields[f].Name, name) {
			continue
		}
		if i == 0 {
			return l.Fields[f].Value, true
		}
		i--
	}
	return "", false
}

func contentType(h *message.Head) string {
	value, _ := h.Get("content-type")
	return value
}

// upgradeOf returns the protocols to which a request of HTTP/1.1 wants to upgrade, or the :protocol of HTTP/2, or "".
func upgradeOf(h *message.Head) string {
	if h.Protocol != "" {
		return h.Protocol
	}
	return h.Upgrade
}

// isHTTP2 says whether a protocol is HTTP/2 itself, to which RFC 9113, section 3.1, has withdrawn the upgrade: it would
// hide requests from every rule. On HTTP/1.1 package http1 takes no notice of it.
func isHTTP2(protocol string) bool {
	return len(protocol) >= 2 && message.EqualFold(protocol[:2], "h2")
}

// upstreamVersion is the version of HTTP in which the endpoint is spoken to: the caller's, except towards a server itself,
// as opposed to its proxy, of which another one is declared.
func (x *exchange) upstreamVersion() upstream.Version {
	return x.versionFor(x.pick.Endpoint)
}

func (x *exchange) versionFor(endpoint *upstream.Endpoint) upstream.Version {
	var declared meshconfig.Protocol
	switch {
	case x.event.Protocol == gRPC: // whatever was declared: there is no gRPC over HTTP/1.1
	case x.side.direction == observe.Inbound:
		declared = x.conn.policy.Protocol
	case endpoint.MTLS():
	case x.port != nil:
		declared = x.port.Protocol
	}
	switch declared {
	case meshconfig.Protocol_PROTOCOL_HTTP1:
		return upstream.HTTP1
	case meshconfig.Protocol_PROTOCOL_HTTP2, meshconfig.Protocol_PROTOCOL_GRPC:
		return upstream.HTTP2
	case meshconfig.Protocol_PROTOCOL_UNSPECIFIED, meshconfig.Protocol_PROTOCOL_HTTP, meshconfig.Protocol_PROTOCOL_TCP,
		meshconfig.Protocol_PROTOCOL_TLS, meshconfig.Protocol_PROTOCOL_OPAQUE:
	}
	return x.version
}

// outgoing makes the head that is sent to the endpoint, in the caller's order. It has the strings of the request.
func (x *exchange) outgoing(out *message.Head) {
	fields := append(out.Fields[:0], x.request.Fields...)
	*out = *x.request
	out.Fields, out.Upgrade, out.HTTP10, out.Close = fields, "", false, false
	message.DropHopByHop(out)
	dropOwn(out, x.side.direction == observe.Inbound)
	if x.version == upstream.HTTP1 {
		out.Upgrade = x.upgrade
	}
	if out.Authority == "" { // of HTTP/1.0
		out.Authority = x.conn.Destination.String()
	}
	if x.changed {
		out.Path = x.target(x.asks.Path)
	}
	if x.side.direction == observe.Inbound {
		if x.conn.identity != "" {
			out.Add(callerIdentity, x.conn.identity)
		}
		return
	}
	x.rewrite(out)
	x.tellTimeout(out)
}

// inform makes an interim answer, in place, what the caller gets of it.
func (x *exchange) inform(h *message.Head) {
	message.DropHopByHop(h)
	x.dropForeign(h)
	h.Upgrade, h.Close, h.HTTP10 = "", false, false
}

// answer makes the final answer's head, in place, what the caller gets of it; or says why it gets something else.
func (x *exchange) answer(h *message.Head) *refusal.Error {
	upgrade := ""
	if h.Status == http.StatusSwitchingProtocols {
		if upgrade = h.Upgrade; !message.HasItem(x.upgrade, upgrade) {
			return refusal.Newf(refusal.UpstreamFailed, "%v switched to a protocol that was not asked for", x.event.Endpoint)
		}
	}
	message.DropHopByHop(h)
	x.dropForeign(h)
	h.Upgrade, h.Close, h.HTTP10 = upgrade, x.last, false
	x.answered, x.event.Status = true, h.Status
	reason := x.refusedBy(h)
	if reason != refusal.None {
		x.event.Err = errors.New("refused by the endpoint's proxy: " + string(reason))
	}
	x.grpcStatus(h.Fields)
	x.judge(h, reason)
	x.decorate(h)
	return nil
}

// tunnels says whether what follows an answer is the protocol that was asked for, in both directions.
func (x *exchange) tunnels(status int) bool {
	if x.upgrade != "" && x.request.Protocol == "" {
		return status == http.StatusSwitchingProtocols
	}
	return x.tunnel && status >= 200 && status < 300
}

// trailer makes the trailer of an answer what the caller gets of it.
func (x *exchange) trailer(fields []message.Field) []message.Field {
	h := message.Head{Fields: fields}
	x.dropForeign(&h)
	x.grpcStatus(h.Fields)
	if x.verdict == outlier.Success && x.event.GRPCStatus >= 0 {
		x.verdict = outlier.OfGRPC(x.event.GRPCStatus)
	}
	return h.Fields
}

// requestTrailer makes the trailer of a request what the endpoint gets of it. The fields stay as they are: a second try
// sends them, too, maybe from another goroutine.
func (x *exchange) requestTrailer(fields []message.Field) []message.Field {
	if len(fields) == 0 {
		return nil
	}
	h := message.Head{Fields: slices.Clone(fields)}
	dropOwn(&h, true)
	return h.Fields
}

// dropForeign removes our own fields from an answer unless a proxy of the mesh wrote them.
func (x *exchange) dropForeign(h *message.Head) {
	if x.pick.Endpoint.MTLS() {
		h.Del(undelivered)
		return
	}
	dropOwn(h, false)
}

// grpcStatus notes the status of a gRPC answer, which is in the trailer or, without a body, in the header.
func (x *exchange) grpcStatus(fields []message.Field) {
	if x.event.Protocol != gRPC {
		return
	}
	for _, f := range fields {
		if message.EqualFold(f.Name, "grpc-status") {
			if code, err := strconv.Atoi(f.Value); err == nil {
				x.event.GRPCStatus = code
			}
			return
		}
	}
}
