// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MeshPolicy says who may reach workloads and how: mutual TLS, authorization and
// rate limits; and how endpoints are chosen where no ServiceProfile says it. It applies to the whole mesh, a namespace, the pods of a Service, or chosen
// pods. The narrowest policy that sets mtls, or authorization, decides on it;
// Deny rules of wider policies hold beside it. Without any policy mTLS is strict
// and every identity of the mesh may call.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=meshpolicies,shortName=mp,categories=heddle
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRef.kind`,description="What kind of thing the policy applies to"
// +kubebuilder:printcolumn:name="Target-Name",type=string,JSONPath=`.spec.targetRef.name`,description="The Service or pod that the policy applies to"
// +kubebuilder:printcolumn:name="mTLS",type=string,JSONPath=`.spec.mtls.mode`,description="How callers must connect"
// +kubebuilder:printcolumn:name="Until",type=string,priority=1,JSONPath=`.spec.mtls.until`,description="When the mTLS mode turns Strict"
// +kubebuilder:printcolumn:name="Default",type=string,JSONPath=`.spec.authorization.defaultAction`,description="What happens to requests that no rule matches"
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.programmed`,description="Proxies that have acknowledged, of those that it applies to"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether it does what it says"
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why it is ready or not"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What to know or do"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MeshPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what applies to whom. The operator never writes it.
	// +required
	Spec MeshPolicySpec `json:"spec"`
	// status says what is in force and whether it works.
	// +optional
	Status MeshPolicyStatus `json:"status,omitempty"`
}

// MeshPolicySpec says what applies to whom.
// +kubebuilder:validation:XValidation:rule="has(self.mtls) || has(self.authorization) || has(self.rateLimits) || has(self.loadBalancing) || has(self.outlierDetection)",message="spec must set at least one of mtls, authorization, rateLimits, loadBalancing and outlierDetection"
// +kubebuilder:validation:XValidation:rule="self.targetRef.kind != 'Workload' && !has(self.targetRef.port) || !has(self.loadBalancing) && !has(self.outlierDetection)",message="loadBalancing and outlierDetection are about all endpoints of Services: use kind Mesh, Namespace or Service, without a port"
// +kubebuilder:validation:XValidation:rule="!has(self.targetRef.port) || !has(self.mtls) || !has(self.mtls.ports)",message="mtls.ports cannot be set beside targetRef.port, which already chooses the port",fieldPath=".mtls.ports"
// +kubebuilder:validation:XValidation:rule="!has(self.targetRef.port) || !has(self.authorization) || !has(self.authorization.rules) || self.authorization.rules.all(r, !has(r.to) || r.to.all(t, !has(t.ports)))",message="authorization.rules[].to[].ports cannot be set beside targetRef.port, which already chooses the port",fieldPath=".authorization.rules"
// +kubebuilder:validation:XValidation:rule="!has(self.targetRef.port) || !has(self.rateLimits) || self.rateLimits.all(l, !has(l.to) || l.to.all(t, !has(t.ports)))",message="rateLimits[].to[].ports cannot be set beside targetRef.port, which already chooses the port",fieldPath=".rateLimits"
type MeshPolicySpec struct {
	// targetRef says to which workloads the policy applies.
	// +required
	TargetRef PolicyTarget `json:"targetRef"`

	// mtls says whether callers must use mutual TLS. Absent: this policy does not
	// decide on it.
	// +optional
	MTLS *MTLS `json:"mtls,omitempty"`

	// authorization says who may call what. Absent: this policy does not decide
	// on it.
	// +optional
	Authorization *Authorization `json:"authorization,omitempty"`

	// rateLimits bound what each pod of the target takes. A request counts against
	// every limit that it matches, of wider policies too. At most 16.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	RateLimits []RateLimit `json:"rateLimits,omitempty"`

	// loadBalancing is for Services whose ServiceProfile says nothing about it; for
	// kinds Mesh, Namespace and Service. Absent: this policy does not decide on it.
	// +optional
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`

	// outlierDetection is for Services whose ServiceProfile says nothing about it;
	// for kinds Mesh, Namespace and Service. Absent: this policy does not decide on
	// it.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
}

// MeshPolicyStatus says what is in force and whether it works.
type MeshPolicyStatus struct {
	Status `json:",inline"`
}

// MeshPolicyList is a list of MeshPolicies.
// +kubebuilder:object:root=true
type MeshPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshPolicy `json:"items"`
}
