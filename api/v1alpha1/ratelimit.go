// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// RateLimit bounds how many requests, or connections where nothing is HTTP, each
// pod of the target takes. What is over it gets 429 with Retry-After, or gRPC
// RESOURCE_EXHAUSTED; a connection is closed.
type RateLimit struct {
	// name of the limit, which refusals cite: a DNS label of at most 63 characters,
	// each once.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// requests per interval, 1 to 1000000.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Requests int32 `json:"requests"`

	// interval, 100ms to 1h. Default: 1s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('1h')",message="rateLimits[].interval must be 100ms to 1h"
	Interval *Duration `json:"interval,omitempty"`

	// burst is how many may come at once after a quiet time, 1 to 1000000. Absent:
	// as many as requests.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Burst *int32 `json:"burst,omitempty"`

	// per says who shares the limit. Pod: all callers of a pod. Caller: each caller's
	// identity has one of its own; those without one share one. Default: Pod.
	// +optional
	// +kubebuilder:validation:Enum=Pod;Caller
	Per string `json:"per,omitempty"`

	// from says whose requests count; one entry that matches is enough. At most 16.
	// Absent: everyone's.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	From []AuthorizationSource `json:"from,omitempty"`

	// to says which requests count; one entry that matches is enough. At most 16.
	// Absent: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	To []AuthorizationTarget `json:"to,omitempty"`
}
