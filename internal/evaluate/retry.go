// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"net/http"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Bounds of retries.
const (
	maxAttempts = 10
	minCode     = 400 // of HTTP; from here on codes are failures
	maxCode     = 599
	maxGRPCCode = 16
)

// Retry says which requests are sent again after a try that went wrong, how often and when. Nobody changes one.
type Retry struct {
	// Attempts is how many tries there may be beyond the first.
	Attempts int

	conditions  uint32    // bit by meshconfig.RetryCondition
	codes       [4]uint64 // of HTTP; bit 0 is minCode
	grpcCodes   uint32    // bit by code
	backoffBase time.Duration
	backoffMax  time.Duration
	idempotency meshconfig.Idempotency
}

func newRetry(m *meshconfig.Retry) (*Retry, error) {
	if m.GetAttempts() > maxAttempts {
		return nil, fmt.Errorf("attempts: %d: at most %d", m.GetAttempts(), maxAttempts)
	}
	r := &Retry{Attempts: int(m.GetAttempts()), idempotency: m.GetIdempotency()}
	for i, c := range m.GetOn() {
		if c < meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE || c > meshconfig.RetryCondition_RETRY_CONDITION_TIMEOUT {
			return nil, fmt.Errorf("on[%d]: unknown condition %d", i, c)
		}
		r.conditions |= 1 << c
	}
	for i, c := range m.GetCodes() {
		if c < minCode || c > maxCode {
			return nil, fmt.Errorf("codes[%d]: %d: want %d to %d", i, c, minCode, maxCode)
		}
		r.codes[(c-minCode)/64] |= 1 << ((c - minCode) % 64)
	}
	for i, c := range m.GetGrpcCodes() {
		if c == 0 || c > maxGRPCCode {
			return nil, fmt.Errorf("grpc_codes[%d]: %d: want 1 to %d", i, c, maxGRPCCode)
		}
		r.grpcCodes |= 1 << c
	}
	switch r.idempotency {
	case meshconfig.Idempotency_IDEMPOTENCY_UNSPECIFIED, meshconfig.Idempotency_IDEMPOTENCY_ALWAYS, meshconfig.Idempotency_IDEMPOTENCY_NEVER:
	default:
		return nil, fmt.Errorf("idempotency: unknown value %d", r.idempotency)
	}
	var err error
	if r.backoffBase, err = milliseconds("backoff_base", m.GetBackoffBase()); err != nil {
		return nil, err
	}
	if r.backoffMax, err = milliseconds("backoff_max", m.GetBackoffMax()); err != nil {
		return nil, err
	}
	if r.backoffMax < r.backoffBase {
		return nil, fmt.Errorf("backoff_max: %v is below backoff_base, %v", r.backoffMax, r.backoffBase)
	}
	return r, nil
}

// Outcome is how a try ended.
type Outcome struct {
	// Failure is what happened instead of an answer; 0: there was one, and none that a proxy marked as not delivered.
	Failure meshconfig.RetryCondition
	// Status is the HTTP status of the answer.
	Status int
	// GRPC is the code in the answer's head; 0 without one.
	GRPC int
}

// Undelivered says whether the application cannot have seen the request.
func (o Outcome) Undelivered() bool {
	return o.Failure == meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE || o.Failure == meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM
}

// Wants says whether such an outcome is one to try again after. Attempts and Safe must agree, too.
func (r *Retry) Wants(o Outcome) bool {
	if o.Failure != meshconfig.RetryCondition_RETRY_CONDITION_UNSPECIFIED {
		return r.conditions>>o.Failure&1 != 0
	}
	if o.Status >= minCode && o.Status <= maxCode && r.codes[(o.Status-minCode)/64]>>((o.Status-minCode)%64)&1 != 0 {
		return true
	}
	return o.GRPC > 0 && o.GRPC <= maxGRPCCode && r.grpcCodes>>o.GRPC&1 != 0
}

// Safe says whether a request may be sent again after such an outcome: if the application cannot have seen it, or if seeing
// it twice does no harm, because of its method (RFC 9110, section 9.2.2), because the route says so, or because an
// Idempotency-Key tells the application that it is the same.
func (r *Retry) Safe(o Outcome, request *Request) bool {
	if o.Undelivered() {
		return true
	}
	switch r.idempotency {
	case meshconfig.Idempotency_IDEMPOTENCY_ALWAYS:
		return true
	case meshconfig.Idempotency_IDEMPOTENCY_NEVER:
		return false
	default:
		return isIdempotent(request.Method) || firstValue(request.Headers, "idempotency-key") != ""
	}
}

func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// firstValue returns the value of the first line of a header, or "". The name is in lower case.
func firstValue(headers Headers, name string) string {
	if headers == nil {
		return ""
	}
	value, _ := headers.Value(name, 0)
	return value
}
