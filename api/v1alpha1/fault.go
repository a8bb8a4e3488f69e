// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Fault is an error or a delay that callers' proxies inject into a share of the
// tries, after an endpoint was picked, so that retries and timeouts meet it as
// they would meet a real one.
// +kubebuilder:validation:XValidation:rule="has(self.delay) || has(self.abort)",message="a fault must set at least one of delay and abort"
type Fault struct {
	// name of the fault, in metrics and messages: a DNS label of at most 63
	// characters, each once.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// matches describe the requests that it may hit; one that matches is enough.
	// At most 8. Of connections that are not HTTP callers alone can be matched.
	// Absent: all, connections too.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Matches []RequestMatch `json:"matches,omitempty"`

	// percent of the tries that it hits, 1 to 100.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent"`

	// delay before the try, at most 5m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('5m')",message="faults[].delay must be at most 5m"
	Delay *Duration `json:"delay,omitempty"`

	// abort fails the try, after the delay.
	// +optional
	Abort *Abort `json:"abort,omitempty"`

	// expiresAt is when the fault ends by itself, as RFC 3339 with a time zone:
	// "2026-03-31T18:00:00Z". A fault without an end is not accepted. The proxies
	// act on it by their own clocks.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Format=date-time
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	ExpiresAt metav1.Time `json:"expiresAt"`
}

// Abort is how a try fails.
// +kubebuilder:validation:XValidation:rule="[has(self.httpStatus), has(self.grpcStatus), has(self.reset)].filter(x, x).size() == 1",message="abort must set exactly one of httpStatus, grpcStatus and reset"
type Abort struct {
	// httpStatus that the try is answered with, 400 to 599.
	// +optional
	// +kubebuilder:validation:Minimum=400
	// +kubebuilder:validation:Maximum=599
	HTTPStatus *int32 `json:"httpStatus,omitempty"`

	// grpcStatus that the try is answered with, 1 to 16.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	GRPCStatus *int32 `json:"grpcStatus,omitempty"`

	// reset breaks the connection or stream; the only abort for what is not HTTP.
	// +optional
	// +kubebuilder:validation:Enum=true
	Reset *bool `json:"reset,omitempty"`
}
