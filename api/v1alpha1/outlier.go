// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// OutlierDetection says when an endpoint that answers badly gets no requests for a
// while. Each proxy judges by what it sees itself.
// +kubebuilder:validation:XValidation:rule="!has(self.maxEjection) || duration(self.maxEjection) >= duration(has(self.baseEjection) ? self.baseEjection : '5s')",message="outlierDetection.maxEjection must be at least baseEjection",fieldPath=".maxEjection"
type OutlierDetection struct {
	// consecutiveFailures in a row that eject an endpoint: 5xx but 501, gRPC codes
	// that are the server's fault, resets and timeouts. 0 to 1000; 0: never.
	// Default: 5.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	ConsecutiveFailures *int32 `json:"consecutiveFailures,omitempty"`

	// consecutiveConnectFailures in a row that eject an endpoint. 0 to 1000; 0:
	// never. Default: 3.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	ConsecutiveConnectFailures *int32 `json:"consecutiveConnectFailures,omitempty"`

	// successRatePercent ejects an endpoint whose share of successes in a window is
	// below this share of the others' mean. 0 to 99; 0: never. Default: 50.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=99
	SuccessRatePercent *int32 `json:"successRatePercent,omitempty"`

	// latencyFactor ejects an endpoint whose mean latency in a window is so many
	// times the others' median. 0, or 2 to 100; 0: never. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:validation:XValidation:rule="self != 1",message="outlierDetection.latencyFactor must be 0 or at least 2"
	LatencyFactor *int32 `json:"latencyFactor,omitempty"`

	// window of successRatePercent and latencyFactor, 1s to 10m. Default: 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="outlierDetection.window must be 1s to 10m"
	Window *Duration `json:"window,omitempty"`

	// minRequests is how many requests an endpoint must have had in the window to
	// be judged by it. 1 to 10000. Default: 50.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MinRequests *int32 `json:"minRequests,omitempty"`

	// baseEjection is how long the first ejection lasts; each that follows lasts
	// twice as long. Afterwards one request tries the endpoint. At most 24h.
	// Default: 5s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('24h')",message="outlierDetection.baseEjection must be at most 24h"
	BaseEjection *Duration `json:"baseEjection,omitempty"`

	// maxEjection is the most that an ejection lasts, at least baseEjection and at
	// most 24h. Default: 60s, or baseEjection if that is more.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('24h')",message="outlierDetection.maxEjection must be at most 24h"
	MaxEjection *Duration `json:"maxEjection,omitempty"`

	// maxEjectedPercent of the endpoints that may be ejected at a time; one may
	// always be, where there are two or more. 0 to 100; 0 turns ejection off.
	// Default: 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxEjectedPercent *int32 `json:"maxEjectedPercent,omitempty"`

	// panicPercent: with fewer than this share of endpoints well, all are called,
	// since what is left would break under the load. 0 to 100; 0: never.
	// Default: 50.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	PanicPercent *int32 `json:"panicPercent,omitempty"`
}
