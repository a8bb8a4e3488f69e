// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// RetryCondition is what may be tried once more.
// +kubebuilder:validation:Enum=ConnectFailure;RefusedStream;Reset;Timeout;GatewayError;ServerError;Throttled
type RetryCondition string

// What may be tried once more.
const (
	// RetryConnectFailure: no connection could be made.
	RetryConnectFailure RetryCondition = "ConnectFailure"
	// RetryRefusedStream: the server, or its proxy, says that it did not look at
	// the request.
	RetryRefusedStream RetryCondition = "RefusedStream"
	// RetryReset: the connection or stream broke before the head of the answer.
	RetryReset RetryCondition = "Reset"
	// RetryTimeout: timeouts.perTry passed.
	RetryTimeout RetryCondition = "Timeout"
	// RetryGatewayError: 502, 503 or 504, or gRPC UNAVAILABLE.
	RetryGatewayError RetryCondition = "GatewayError"
	// RetryServerError: any 5xx but 501, or gRPC INTERNAL, UNKNOWN, UNAVAILABLE
	// or DATA_LOSS.
	RetryServerError RetryCondition = "ServerError"
	// RetryThrottled: 429, or gRPC RESOURCE_EXHAUSTED.
	RetryThrottled RetryCondition = "Throttled"
)

// Idempotency says whether a request may be sent twice.
// +kubebuilder:validation:Enum=Auto;Always;Never
type Idempotency string

// Whether a request may be sent twice.
const (
	// IdempotencyAuto goes by the method (GET, HEAD, OPTIONS, TRACE, PUT, DELETE)
	// and takes a request with an Idempotency-Key too.
	IdempotencyAuto Idempotency = "Auto"
	// IdempotencyAlways declares that the route may be repeated.
	IdempotencyAlways Idempotency = "Always"
	// IdempotencyNever declares that it must not.
	IdempotencyNever Idempotency = "Never"
)

// Retry says which requests are tried again. A request that may have reached the
// application is, whatever the conditions, only if it is idempotent. Every retry goes to
// another endpoint where there is one, and takes from retryBudget.
type Retry struct {
	// attempts is how many more tries there are after the first: 0 to 10.
	// Default: 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	Attempts *int32 `json:"attempts,omitempty"`

	// conditions say after what. Absent: ConnectFailure, RefusedStream, Reset,
	// Timeout and GatewayError.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=7
	Conditions []RetryCondition `json:"conditions,omitempty"`

	// codes of HTTP that are tried again too, 400 to 599. At most 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	Codes []int32 `json:"codes,omitempty"`

	// grpcCodes of gRPC that are tried again too, 1 to 16. At most 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=16
	GRPCCodes []int32 `json:"grpcCodes,omitempty"`

	// backoff is how long the proxy waits between tries. A Retry-After of the
	// server, or its gRPC pushback, is waited for instead if it fits into the
	// request's timeout.
	// +optional
	Backoff *Backoff `json:"backoff,omitempty"`

	// idempotent says whether a request that may have reached the application
	// may be sent once more. Auto: by its method, or if it carries an
	// Idempotency-Key. Default: Auto.
	// +optional
	Idempotent Idempotency `json:"idempotent,omitempty"`
}

// Backoff is a random time up to base x 2^(tries - 1), at most max.
// +kubebuilder:validation:XValidation:rule="!has(self.base) || !has(self.max) || duration(self.max) >= duration(self.base)",message="backoff.max must be at least backoff.base",fieldPath=".max"
type Backoff struct {
	// base is the most that is waited before the second try, at most 1m. Default:
	// 25ms, or max if that is less.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1m')",message="backoff.base must be at most 1m"
	Base *Duration `json:"base,omitempty"`

	// max is the most that is waited before any, at most 1m. Default: 250ms, or
	// base if that is more.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1m')",message="backoff.max must be at most 1m"
	Max *Duration `json:"max,omitempty"`
}

// RetryBudget bounds retries, so that they do not finish off a service that is
// down: each proxy may repeat a share of the requests of the last 10 seconds, and
// always a few. It is on by default.
type RetryBudget struct {
	// percent of the requests that may be repeated, 0 to 100. Default: 20.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`

	// minPerSecond is how many retries a second are allowed whatever the load, 0
	// to 1000. Default: 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	MinPerSecond *int32 `json:"minPerSecond,omitempty"`
}
