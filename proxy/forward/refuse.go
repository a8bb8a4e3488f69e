// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// isGRPC says whether a content type is that of gRPC over HTTP/2.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// refuse makes the answer that says why the request is not carried. When ok is false there is none: the answer has begun,
// or the caller has gone, so the connection or stream is to be broken off.
func (x *exchange) refuse(why *refusal.Error, h *message.Head) (body string, ok bool) {
	if why == answersItself {
		x.answered = true
		x.redirected(h)
		return "", true
	}
	x.event.Reason, x.event.Rule, x.event.Err = why.Reason, why.Rule, why
	if x.answered {
		return "", false
	}
	x.answered = true
	switch {
	case why.Reason == refusal.CallerGone:
		x.event.Status = why.Reason.Meaning().Status
		return "", false
	case x.resets():
		return "", false
	}
	h.Reset()
	status := cmp.Or(x.status, why.Reason.Meaning().Status)
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	if isGRPC(contentType(x.request)) {
		x.event.GRPCStatus = x.refuseGRPC(why, cmp.Or(x.code, why.Reason.Meaning().GRPC), h)
	} else {
		body = explain(why, status, h)
	}
	if why.RetryAfter > 0 {
		h.Add("Retry-After", strconv.FormatInt(int64((why.RetryAfter+time.Second-1)/time.Second), 10))
	}
	h.Close, x.event.Status = x.last, h.Status
	if x.mark && why.Undelivered {
		h.Add(undelivered, "1")
	}
	empty := h.Status == http.StatusNoContent || h.Status == http.StatusNotModified // a fault's
	if empty {
		h.Del("content-length")
	}
	if empty || x.request.Method == http.MethodHead {
		body, h.Length = "", 0
	}
	return body, true
}

// explain makes a refusal that people and programs can read: a status, a field and plain text.
func explain(why *refusal.Error, status int, h *message.Head) (body string) {
	body = why.Body()
	h.Status, h.Length = status, int64(len(body))
	h.Add(refusal.Header, string(why.Reason))
	h.Add("Content-Type", "text/plain; charset=utf-8")
	h.Add("Content-Length", strconv.Itoa(len(body)))
	return body
}

// refuseGRPC makes one for gRPC: the status in fields of the head, and no content. Its type is the request's, which may be
// "application/grpc+json": clients take no other.
func (x *exchange) refuseGRPC(why *refusal.Error, code int, h *message.Head) int {
	if code == 0 {
		code = 14 // UNAVAILABLE
	}
	kind, _, _ := strings.Cut(contentType(x.request), ";")
	h.Status = http.StatusOK
	h.Add(refusal.Header, string(why.Reason))
	h.Add("Content-Type", strings.TrimRight(kind, " \t"))
	h.Add("Grpc-Status", strconv.Itoa(code))
	h.Add("Grpc-Message", grpcMessage(why.Body()))
	h.Add("Content-Length", "0")
	return code
}

// grpcMessage encodes a message as the gRPC protocol over HTTP/2 asks: percent-encoded UTF-8.
func grpcMessage(s string) string {
	var b strings.Builder
	for _, c := range []byte(strings.TrimSpace(s)) {
		if c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// complain reports a request that could not be read, and makes the answer to it.
func (s *side) complain(c *served, protocol string, status int, detail string, h *message.Head) (body string) {
	why := refusal.Newf(refusal.BadRequest, "%s", detail)
	if c.series != nil {
		c.series.Observe(&observe.Event{
			Protocol: protocol, Status: status, GRPCStatus: -1, Start: s.Clock(), MTLS: c.peer != nil, Peer: c.peer,
			Source: c.Source, Destination: c.Destination, Reason: why.Reason, Err: why,
		})
	}
	h.Reset()
	h.Close = true
	return explain(why, status, h)
}
