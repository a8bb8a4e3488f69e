// SPDX-License-Identifier: Apache-2.0

package outlier

import (
	"net/http"
	"time"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Outcome is what a try says of its endpoint.
type Outcome uint8

// The outcomes. Those from Shed on count nothing.
const (
	Success        Outcome = iota
	Failure                // the server's fault, as 5xx, a reset or a try that took too long
	ConnectFailure         // no connection, or none to who should be there
	Shed                   // the endpoint is there and has too much to do
	Abandoned              // the caller went away
	Unrelated              // the endpoint had nothing to do with it: a fault, a bound of a proxy, a caller that took its time
)

// OfStatus is the outcome of an answer by its status of HTTP. 501 says that nobody there knows the method.
func OfStatus(status int) Outcome {
	switch {
	case status == http.StatusTooManyRequests:
		return Shed
	case status >= http.StatusInternalServerError && status != http.StatusNotImplemented:
		return Failure
	}
	return Success
}

// OfGRPC is the outcome of an answer by its grpc-status: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS
// are the server's fault, and so is what is no code (https://grpc.io/docs/guides/status-codes/).
func OfGRPC(code int) Outcome {
	switch code {
	case 8: // RESOURCE_EXHAUSTED
		return Shed
	case 1: // CANCELLED
		return Abandoned
	case 2, 4, 13, 14, 15:
		return Failure
	}
	if code < 0 || code > 16 {
		return Failure
	}
	return Success
}

// OfReason is the outcome of a try that had no answer. Timeout is that of the try.
func OfReason(reason refusal.Reason) Outcome {
	switch reason {
	case refusal.ConnectFailed, refusal.PeerIdentity:
		return ConnectFailure
	case refusal.UpstreamFailed, refusal.Timeout:
		return Failure
	case refusal.CallerGone:
		return Abandoned
	default:
		return Unrelated
	}
}

// Result is how a try ended.
type Result struct {
	Now     int64 // in Unix nanoseconds
	Outcome Outcome
	Latency time.Duration // from the pick to the head of the answer; of a Success
	Trial   bool          // the pick was the endpoint's trial
}

// Cause is why an endpoint was ejected.
type Cause uint8

// The causes.
const (
	ByFailures Cause = iota
	ByConnectFailures
	BySuccessRate
	ByLatency
	causes
)

// String returns the cause as metrics and status name it.
func (c Cause) String() string {
	return [...]string{"consecutive_failures", "connect_failures", "success_rate", "latency"}[c]
}
