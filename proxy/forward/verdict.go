// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"strconv"
	"time"

	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/outlier"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// gRPC is the Protocol of an event that is gRPC.
const gRPC = "grpc"

// judge notes what the head of the final answer says of the endpoint. Reason is why the endpoint's proxy has refused the
// request, or empty. A trial is decided now, if that can be said: the answer may last.
func (x *exchange) judge(h *message.Head, reason refusal.Reason) {
	if x.backend == nil {
		return
	}
	x.judged, x.verdict = true, verdictOf(h, x.event.GRPCStatus, reason)
	if !x.pick.Trial && x.breaker == nil && !x.backend.Cluster.Timed() {
		return
	}
	at := balance.Nanos(x.side.Clock())
	x.latency = time.Duration(max(1, at-x.begun))
	if x.pick.Trial && (x.event.Protocol != gRPC || x.verdict != outlier.Success || x.event.GRPCStatus >= 0) {
		x.reported = true
		report(x.backend.Cluster, &x.pick, x.verdict, x.latency, at)
	}
}

// flows notes that content of the answer comes. A trial by a stream of gRPC, which may never end, is decided by it.
func (x *exchange) flows() {
	if x.pick.Trial && x.judged && !x.reported {
		x.reported = true
		report(x.backend.Cluster, &x.pick, x.verdict, x.latency, balance.Nanos(x.side.Clock()))
	}
}

// verdictOf is what an answer says of its endpoint; code is its grpc-status, or -1.
func verdictOf(h *message.Head, code int, reason refusal.Reason) outlier.Outcome {
	switch {
	case reason != refusal.None:
		return outlier.OfReason(reason)
	case code >= 0:
		return outlier.OfGRPC(code)
	}
	return outlier.OfStatus(h.Status)
}

// ofTry is the verdict on a try that is not the last: exactly one of both is given.
func (x *exchange) ofTry(failure *upstream.Failure, answer *message.Head) outlier.Outcome {
	switch {
	case x.faulted:
		return outlier.Unrelated
	case failure != nil:
		return x.ofReason(failure.Reason)
	}
	return verdictOf(answer, grpcCode(answer), x.refusedBy(answer))
}

// final is the verdict on the last try.
func (x *exchange) final() outlier.Outcome {
	switch {
	case x.faulted:
		return outlier.Unrelated
	case !x.judged, x.event.Reason == refusal.UpstreamFailed:
		return x.ofReason(x.event.Reason)
	case x.event.Reason == refusal.Timeout && x.event.Protocol == gRPC && x.verdict == outlier.Success && x.event.BytesOut == 0:
		return x.ofReason(refusal.Timeout) // a server may send the head before it has anything to say
	}
	return x.verdict
}

// ofReason is the verdict on a try without an answer. One that took too long because of a delay of ours says nothing, nor
// one that waited for its caller.
func (x *exchange) ofReason(reason refusal.Reason) outlier.Outcome {
	delayed := x.fault != nil && (reason == refusal.Timeout || reason == refusal.CallerGone)
	if delayed || x.starved {
		return outlier.Unrelated
	}
	return outlier.OfReason(reason)
}

// mayStarve says whether an endpoint that has all that came of the request may be waiting for the rest: not where its caller
// may be waiting for it, as in tunnels, in streams of gRPC, and before any content that was asked leave for.
func (x *exchange) mayStarve(came int64) bool {
	return !x.tunnel && x.event.Protocol != gRPC && (came > 0 || !x.request.Expect)
}

// refusedBy is why the endpoint's proxy has refused the request; none if it has not.
func (x *exchange) refusedBy(answer *message.Head) refusal.Reason {
	if !x.pick.Endpoint.MTLS() {
		return refusal.None
	}
	reason, _ := answer.Get(refusal.Header)
	return refusal.Reason(reason)
}

// isUndelivered says whether an answer is that of an endpoint's proxy to what its application did not see. Towards gRPC it
// has the status 200.
func (x *exchange) isUndelivered(answer *message.Head) bool {
	if answer.Status < http.StatusInternalServerError && x.event.Protocol != gRPC || !x.pick.Endpoint.MTLS() {
		return false
	}
	_, marked := answer.Get(undelivered)
	return marked
}

// grpcCode is the grpc-status in the head of an answer, or -1.
func grpcCode(answer *message.Head) int {
	value, ok := answer.Get("grpc-status")
	if !ok {
		return -1
	}
	code, err := strconv.Atoi(value)
	if err != nil {
		return -1
	}
	return code
}
