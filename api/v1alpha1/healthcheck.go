// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// HealthCheck says how callers' proxies ask endpoints whether they are well, beside
// what they see in requests and what Kubernetes says. Only endpoints of Services
// that are in use are asked.
// +kubebuilder:validation:XValidation:rule="[has(self.http), has(self.grpc), has(self.tcp)].filter(x, x).size() == 1",message="healthCheck must set exactly one of http, grpc and tcp"
// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || duration(self.timeout) <= duration(has(self.interval) ? self.interval : '10s')",message="healthCheck.timeout must be at most healthCheck.interval",fieldPath=".timeout"
type HealthCheck struct {
	// http asks by a GET.
	// +optional
	HTTP *HTTPHealthCheck `json:"http,omitempty"`

	// grpc asks grpc.health.v1.Health/Check.
	// +optional
	GRPC *GRPCHealthCheck `json:"grpc,omitempty"`

	// tcp asks by opening a connection: write "tcp: {}".
	// +optional
	TCP *TCPHealthCheck `json:"tcp,omitempty"`

	// ports of the Service at which endpoints are asked, by number; 1 to 64. What is
	// found holds for that port alone. Absent: all that carry requests for http,
	// those of them that may speak HTTP/2 for grpc, all for tcp.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	Ports []int32 `json:"ports,omitempty"`

	// interval from one check of an endpoint to the next, more or less a tenth,
	// 1s to 1h. Default: 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="healthCheck.interval must be 1s to 1h"
	Interval *Duration `json:"interval,omitempty"`

	// timeout of a check, at most interval. Default: 1s.
	// +optional
	Timeout *Duration `json:"timeout,omitempty"`

	// healthyThreshold is how many checks in a row must pass for an endpoint to get
	// requests again, 1 to 10. Default: 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	HealthyThreshold *int32 `json:"healthyThreshold,omitempty"`

	// unhealthyThreshold is how many in a row must fail for it to get none, 1 to
	// 10. Default: 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	UnhealthyThreshold *int32 `json:"unhealthyThreshold,omitempty"`
}

// HTTPHealthCheck asks by a GET.
type HTTPHealthCheck struct {
	// path that is asked for, with its query if it has one. MeshPolicies let any
	// workload of the mesh GET it, but for their Deny rules.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^#\\\s\x00-\x1f\x7f]*$`
	Path string `json:"path"`

	// host that is asked for. Absent: "name.namespace.svc" of the Service.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Host string `json:"host,omitempty"`

	// headers of the request. At most 8.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Headers []Header `json:"headers,omitempty"`

	// codes that are healthy, 200 to 599. At most 16. Absent: 200 to 399, and 429.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Minimum=200
	// +kubebuilder:validation:items:Maximum=599
	Codes []int32 `json:"codes,omitempty"`

	// body is an RE2 expression that the first 4 KiB of the body must hold. At most
	// 256 characters. Absent: anything.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="'a'.matches(self) || !'a'.matches(self)",message="healthCheck.http.body must be an RE2 regular expression"
	Body string `json:"body,omitempty"`
}

// GRPCHealthCheck asks grpc.health.v1.Health/Check.
type GRPCHealthCheck struct {
	// service that is asked about. Absent: the server as a whole.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`
	Service string `json:"service,omitempty"`
}

// TCPHealthCheck asks by opening a connection.
type TCPHealthCheck struct{}
