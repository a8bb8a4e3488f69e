// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"net/http"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/balance"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// abort returns how the current try's fault ends it, when its delay is over; nil: it does not.
func (x *exchange) abort() *upstream.Failure {
	f := x.fault
	if f.HTTPStatus == 0 && f.GRPCStatus == 0 && !f.Reset {
		x.begun = balance.Nanos(x.side.Clock()) // the endpoint is not to blame for the delay
		return nil
	}
	x.faulted = true
	return &upstream.Failure{Reason: refusal.FaultInjected, Err: errors.New("fault " + f.Name)}
}

// faultOutcome is how a try has ended by its fault, as retries see it: like a real one.
func (x *exchange) faultOutcome() evaluate.Outcome {
	if x.fault.Reset {
		return evaluate.Outcome{Failure: meshconfig.RetryCondition_RETRY_CONDITION_RESET}
	}
	status, code := x.faultStatus()
	if x.event.Protocol != gRPC {
		return evaluate.Outcome{Status: status}
	}
	if x.fault.GRPCStatus != 0 {
		status = http.StatusOK
	}
	return evaluate.Outcome{Status: status, GRPC: code}
}

// faultStatus is the status and the code of gRPC by which the fault answers, whichever of both the caller understands.
func (x *exchange) faultStatus() (status, code int) {
	f := x.fault
	switch {
	case f.HTTPStatus != 0:
		return f.HTTPStatus, grpcOf(f.HTTPStatus)
	case f.GRPCStatus != 0:
		return statusOf(f.GRPCStatus), f.GRPCStatus
	}
	return 0, 0
}

// resets says whether the caller of a request that a fault has ended gets no answer. What ended it otherwise, after the
// fault had ended a try of it, is answered.
func (x *exchange) resets() bool { return x.event.Reason == refusal.FaultInjected && x.fault.Reset }

// grpcOf is the code for a status of HTTP (https://grpc.github.io/grpc/core/md_doc_http-grpc-status-mapping.html).
func grpcOf(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13 // INTERNAL
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusNotFound:
		return 12 // UNIMPLEMENTED
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// statusOf is the status of HTTP for a code of gRPC, as google.rpc.Code has it.
func statusOf(code int) int {
	switch code {
	case 1:
		return 499
	case 3, 9, 11:
		return http.StatusBadRequest
	case 4:
		return http.StatusGatewayTimeout
	case 5:
		return http.StatusNotFound
	case 6, 10:
		return http.StatusConflict
	case 7:
		return http.StatusForbidden
	case 8:
		return http.StatusTooManyRequests
	case 12:
		return http.StatusNotImplemented
	case 14:
		return http.StatusServiceUnavailable
	case 16:
		return http.StatusUnauthorized
	}
	return http.StatusInternalServerError
}
