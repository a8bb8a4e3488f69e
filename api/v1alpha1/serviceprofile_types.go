// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ServiceProfile describes a Service: what its ports speak, which routes it has,
// each with its timeouts, retries and filters, and how its endpoints are chosen,
// watched and bounded. It only adds: that a Service has a profile turns nothing
// off. One ServiceProfile owns a Service, the first.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=sp,categories=heddle
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service.name`,description="The Service that is described"
// +kubebuilder:printcolumn:name="Routes",type=integer,JSONPath=`.status.routes`,description="How many routes are in force"
// +kubebuilder:printcolumn:name="Faults",type=string,JSONPath=`.status.faults`,description="How many faults are injected, and when the next of them ends"
// +kubebuilder:printcolumn:name="Ejected",type=string,JSONPath=`.status.ejected`,description="Endpoints that get no requests at the moment"
// +kubebuilder:printcolumn:name="Exhausted",type=integer,priority=1,JSONPath=`.status.budgetExhausted`,description="Proxies that have used up the retry budget"
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.programmed`,description="Proxies that have acknowledged, of those that use it"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether it does what it says"
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why it is ready or not"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What to know or do"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ServiceProfile struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec describes the Service. The operator never writes it.
	// +required
	Spec ServiceProfileSpec `json:"spec"`
	// status says what is in force and whether it works.
	// +optional
	Status ServiceProfileStatus `json:"status,omitempty"`
}

// ServiceProfileSpec describes a Service.
// +kubebuilder:validation:XValidation:rule="has(self.ports) || has(self.routes) || has(self.retryBudget) || has(self.connectTimeout) || has(self.loadBalancing) || has(self.outlierDetection) || has(self.circuitBreaker) || has(self.healthCheck) || has(self.faults)",message="spec must say something about the Service: set ports, routes, retryBudget, connectTimeout, loadBalancing, outlierDetection, circuitBreaker, healthCheck or faults"
type ServiceProfileSpec struct {
	// service that is described.
	// +required
	Service ServiceReference `json:"service"`

	// ports say what the ports of the Service speak. What is declared here wins
	// over appProtocol, port names and detection. A port that is not listed keeps
	// what those say. At most 64, each port once.
	// +optional
	// +listType=map
	// +listMapKey=port
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Ports []ProfilePort `json:"ports,omitempty"`

	// routes name kinds of requests, for what follows and for metrics. The first
	// route that matches wins; the order is that of the list. A request that none
	// matches has no route and no timeout. At most 64. They read requests, so
	// they work on HTTP and gRPC ports only.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.filter(r, !has(r.matches)).size() == 0 || (self.filter(r, !has(r.matches)).size() == 1 && !has(self[self.size() - 1].matches))",message="routes: only the last route may leave out matches, for it takes every request that is left"
	Routes []ProfileRoute `json:"routes,omitempty"`

	// retryBudget bounds the retries of each proxy. Absent: 20 percent, and always
	// 10 a second.
	// +optional
	RetryBudget *RetryBudget `json:"retryBudget,omitempty"`

	// connectTimeout bounds how long a connection to an endpoint, with its TLS
	// handshake, may take to be made, at most 1m. Absent: 5s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1m')",message="spec.connectTimeout must be at most 1m"
	ConnectTimeout *Duration `json:"connectTimeout,omitempty"`

	// loadBalancing says how an endpoint is chosen. Absent: what a MeshPolicy says,
	// else LeastRequest in the caller's own zone first.
	// +optional
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`

	// outlierDetection says when an endpoint that answers badly gets no requests
	// for a while. Absent: what a MeshPolicy says, else its defaults: it is on.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`

	// circuitBreaker bounds what each proxy has under way. Absent: no
	// bounds but the limits of a proxy as a whole.
	// +optional
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`

	// healthCheck says how proxies ask endpoints whether they are well. Absent:
	// they do not.
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`

	// faults are injected into requests to the Service until they expire. The first
	// that matches is. At most 16.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Faults []Fault `json:"faults,omitempty"`
}

// PortProtocol is what a port speaks.
// +kubebuilder:validation:Enum=HTTP1;HTTP2;GRPC;TCP;TLS;Opaque
type PortProtocol string

// What a port can speak.
const (
	// ProtocolHTTP1 is HTTP/1.1 (and 1.0).
	ProtocolHTTP1 PortProtocol = "HTTP1"
	// ProtocolHTTP2 is HTTP/2 in clear, with prior knowledge.
	ProtocolHTTP2 PortProtocol = "HTTP2"
	// ProtocolGRPC is gRPC: HTTP/2 whose status is in the trailers.
	ProtocolGRPC PortProtocol = "GRPC"
	// ProtocolTCP is a protocol of connections, whichever side speaks first.
	ProtocolTCP PortProtocol = "TCP"
	// ProtocolTLS is the application's own TLS, carried as it is.
	ProtocolTLS PortProtocol = "TLS"
	// ProtocolOpaque is bytes that the mesh must not look at.
	ProtocolOpaque PortProtocol = "Opaque"
)

// ProfilePort says what one port speaks.
type ProfilePort struct {
	// port of the Service, by number, 1 to 65535.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// protocol that the port speaks. HTTP1, HTTP2 and GRPC are split and matched
	// by request; TCP, TLS (the application's own) and Opaque by connection.
	// +required
	Protocol PortProtocol `json:"protocol"`
}

// ProfileRoute names a kind of requests.
type ProfileRoute struct {
	// name of the route, in metrics and messages: a DNS label of at most 63
	// characters, each once.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// matches describe the requests of this route; one that matches is enough. At
	// most 8. Without it the route takes every request; only the last route may
	// do so.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Matches []RequestMatch `json:"matches,omitempty"`

	// timeouts of the requests of this route. Absent: none.
	// +optional
	Timeouts *RouteTimeouts `json:"timeouts,omitempty"`

	// retry says which requests of this route are tried again. Absent: those that
	// certainly did not reach the application, and idempotent ones whose
	// connection broke, once each.
	// +optional
	Retry *Retry `json:"retry,omitempty"`

	// filters change the requests of this route, or answer them.
	// +optional
	Filters *Filters `json:"filters,omitempty"`
}

// RouteTimeouts bound how long a request may take.
// +kubebuilder:validation:MinProperties=1
type RouteTimeouts struct {
	// request bounds a request from when the caller's proxy has its head to the last
	// byte of the response. Then the caller gets 504, or the gRPC status
	// DEADLINE_EXCEEDED; a response that has begun is cut off. A streaming gRPC
	// call is bounded too; an upgraded connection is not. A Go duration string
	// above zero: "15s", "1m30s", "250ms". Absent: no timeout.
	// +optional
	Request *Duration `json:"request,omitempty"`

	// perTry bounds each try, from when an endpoint was picked to the head of its
	// answer. A try that takes longer is given up, and tried again if retry says
	// so. Absent: no timeout.
	// +optional
	PerTry *Duration `json:"perTry,omitempty"`

	// idle bounds how long nothing of the content may move in either direction.
	// Absent: the proxy's limits.
	// +optional
	Idle *Duration `json:"idle,omitempty"`
}

// ServiceProfileStatus says what is in force and whether it works.
type ServiceProfileStatus struct {
	Status `json:",inline"`

	// routes is how many routes are in force.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Routes *int32 `json:"routes,omitempty"`

	// faults is how many faults are injected at the moment, and when the next of
	// them ends: "2, next ends 2026-03-31T18:00:00Z". Absent: none.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Faults string `json:"faults,omitempty"`

	// ejected is how many endpoints get no requests from one proxy at least,
	// because they answered badly or failed checks, and the first of them:
	// "2: 10.0.0.3:8080, 10.0.0.4:8080". It is a few seconds old. Those of backends
	// that a TrafficSplit sends to, and that take settings of this profile, are
	// among them. Absent: none.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Ejected string `json:"ejected,omitempty"`

	// budgetExhausted is how many proxies refused a retry within the last seconds,
	// because the retry budget was used up. Absent: none.
	// +optional
	// +kubebuilder:validation:Minimum=0
	BudgetExhausted *int32 `json:"budgetExhausted,omitempty"`
}

// ServiceProfileList is a list of ServiceProfiles.
// +kubebuilder:object:root=true
type ServiceProfileList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceProfile `json:"items"`
}
