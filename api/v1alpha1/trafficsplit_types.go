// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TrafficSplit divides the requests to a Service among backends by weight.
// Callers keep calling the Service by its name; requests that a rule matches can
// be divided in another way. One TrafficSplit owns a service and port, the first.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ts,categories=heddle
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service.name`,description="The Service whose requests are divided"
// +kubebuilder:printcolumn:name="Weights",type=string,JSONPath=`.status.weights`,description="The weights in force"
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.programmed`,description="Proxies that have acknowledged, of those that use it"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether it does what it says"
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why it is ready or not"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What to know or do"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficSplit struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what to divide among whom. The operator never writes it.
	// +required
	Spec TrafficSplitSpec `json:"spec"`
	// status says what is in force and whether it works.
	// +optional
	Status TrafficSplitStatus `json:"status,omitempty"`
}

// TrafficSplitSpec says what to divide among whom.
// +kubebuilder:validation:XValidation:rule="!has(self.active) || self.backends.exists(b, b.name == self.active)",message="active must be the name of one of spec.backends",fieldPath=".active"
// +kubebuilder:validation:XValidation:rule="!has(self.rules) || self.rules.all(r, r.weights.all(w, self.backends.exists(b, b.name == w.backend)))",message="rules[].weights[].backend must be the name of one of spec.backends",fieldPath=".rules"
type TrafficSplitSpec struct {
	// service whose requests are divided: the name that callers use. Without
	// port, all its ports are, but those that another TrafficSplit names.
	// +required
	Service ServicePortReference `json:"service"`

	// backends share the requests that no rule matches, in proportion to their
	// weights; 1 to 16, of which one at least has a weight above 0.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.exists(b, b.weight > 0)",message="backends must hold at least one weight above 0"
	Backends []SplitBackend `json:"backends"`

	// rules divide the requests that they match by weights of their own. The
	// first rule that matches wins; the order is that of the list. At most 16.
	// They read requests, so they work on HTTP and gRPC ports only.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Rules []SplitRule `json:"rules,omitempty"`

	// active is the name of the backend that takes everything, rules and weights
	// notwithstanding: change it to turn blue to green, and back. Absent: weights
	// and rules decide.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Active string `json:"active,omitempty"`

	// stickiness keeps a user on one backend while weights move. Absent: each
	// request is drawn by itself.
	// +optional
	Stickiness *Stickiness `json:"stickiness,omitempty"`
}

// SplitBackend is one of those that share the requests.
// +kubebuilder:validation:XValidation:rule="has(self.service) != has(self.selector)",message="backends[] must set exactly one of service and selector: a Service takes this share, or those pods of spec.service that have the labels"
type SplitBackend struct {
	// name of the backend in this object, in metrics and in status: a DNS label
	// of at most 63 characters, each once.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// service that takes this share; it may be spec.service itself, which then
	// stands for its own endpoints. Without port, the port that the caller used.
	// Exactly one of service and selector is set.
	// +optional
	Service *ServicePortReference `json:"service,omitempty"`

	// selector takes, instead of a Service of its own, those pods of spec.service
	// that have these labels: 1 to 8.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=8
	Selector map[string]string `json:"selector,omitempty"`

	// weight is the share of this backend: weight / sum of the weights. A whole
	// number from 0 to 1000000; 0 sends nothing. Weights need not add up to 100.
	// Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`
}

// SplitRule divides the requests that it matches.
type SplitRule struct {
	// name of the rule, in metrics and messages: a DNS label of at most 63
	// characters, each once.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// matches describe the requests of this rule; one that matches is enough. 1
	// to 8. A rule without matches would be the same as backends, so it is
	// refused.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Matches []RequestMatch `json:"matches"`

	// weights divide the requests of this rule among backends of spec.backends,
	// each named once; a backend that is not named gets none of them. One weight
	// at least is above 0.
	// +required
	// +listType=map
	// +listMapKey=backend
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.exists(w, w.weight > 0)",message="weights must hold at least one weight above 0"
	Weights []SplitWeight `json:"weights"`
}

// SplitWeight is the share of one backend within a rule.
type SplitWeight struct {
	// backend is the name of one of spec.backends.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Backend string `json:"backend"`

	// weight is the share of this backend: weight / sum of the weights of this
	// rule. A whole number from 0 to 1000000. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`
}

// TrafficSplitStatus says what is in force and whether it works.
type TrafficSplitStatus struct {
	Status `json:",inline"`

	// weights in force for requests that no rule matches, in the order of
	// spec.backends: "checkout-v1 90, checkout-v2 10".
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Weights string `json:"weights,omitempty"`
}

// TrafficSplitList is a list of TrafficSplits.
// +kubebuilder:object:root=true
type TrafficSplitList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficSplit `json:"items"`
}
