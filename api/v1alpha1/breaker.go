// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// CircuitBreaker bounds what each proxy has under way to the Service. What is over
// a bound is refused at once. An absent bound bounds nothing; the limits of a proxy
// as a whole hold beside it.
type CircuitBreaker struct {
	// maxConnections that are open to all endpoints, 1 to 1000000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConnections *int32 `json:"maxConnections,omitempty"`

	// maxPending requests that wait for a connection, 1 to 1000000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxPending *int32 `json:"maxPending,omitempty"`

	// maxRequests that are under way, 1 to 1000000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxRequests *int32 `json:"maxRequests,omitempty"`

	// maxRetries that are under way, 1 to 1000000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxRetries *int32 `json:"maxRetries,omitempty"`

	// endpoint bounds what is under way to each endpoint.
	// +optional
	Endpoint *EndpointBreaker `json:"endpoint,omitempty"`
}

// EndpointBreaker bounds what each proxy has under way to one endpoint.
type EndpointBreaker struct {
	// maxConnections that are open, 1 to 1000000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConnections *int32 `json:"maxConnections,omitempty"`

	// maxRequests that are under way, 1 to 1000000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxRequests *int32 `json:"maxRequests,omitempty"`

	// adaptive lowers the bound on requests by itself while the endpoint's latency
	// grows, and raises it again. Default: false.
	// +optional
	Adaptive bool `json:"adaptive,omitempty"`
}
