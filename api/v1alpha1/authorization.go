// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// AuthorizationAction is what happens to a request.
// +kubebuilder:validation:Enum=Allow;Deny
type AuthorizationAction string

// What can happen to a request.
const (
	// ActionAllow lets the request through.
	ActionAllow AuthorizationAction = "Allow"
	// ActionDeny answers 403, or closes the connection where nothing is HTTP.
	ActionDeny AuthorizationAction = "Deny"
)

// Authorization says who may call what. Deny rules are read first, those of
// wider policies too; then Allow rules; then defaultAction decides.
type Authorization struct {
	// defaultAction is what happens to requests that no rule matches. It is
	// required, so that a policy never denies or allows by what it leaves out.
	// +required
	DefaultAction AuthorizationAction `json:"defaultAction"`

	// rules allow or deny requests. Their order does not matter: a Deny that
	// matches wins over every Allow. At most 64. Absent: defaultAction decides on
	// every request.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Rules []AuthorizationRule `json:"rules,omitempty"`
}

// AuthorizationRule allows or denies the requests that it matches. A request
// matches when one entry of from and one entry of to match; what is absent does
// not constrain.
type AuthorizationRule struct {
	// name of the rule, which denials cite: a DNS label of at most 63 characters,
	// each once.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// action that the rule takes: Allow or Deny.
	// +required
	Action AuthorizationAction `json:"action"`

	// from says who calls; one entry that matches is enough. 1 to 16. Absent:
	// anyone, plaintext callers without an identity too.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	From []AuthorizationSource `json:"from,omitempty"`

	// to says what is called; one entry that matches is enough. 1 to 16. Absent:
	// everything.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	To []AuthorizationTarget `json:"to,omitempty"`
}

// AuthorizationSource says who calls. One list is set, and one value of it that
// matches is enough. Callers without an identity match none of them.
// +kubebuilder:validation:XValidation:rule="[has(self.serviceAccounts), has(self.namespaces), has(self.identities)].filter(x, x).size() == 1",message="from[] must set exactly one of serviceAccounts, namespaces and identities: write serviceAccounts as namespace/name, and use an entry of from for each alternative"
type AuthorizationSource struct {
	// serviceAccounts of the caller: "name" in this object's namespace,
	// "namespace/name", or "*" for every service account. 1 to 64.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:items:Pattern=`^(\*|([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)$`
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`

	// namespaces of the caller, or "*" for every namespace. 1 to 64.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$`
	Namespaces []string `json:"namespaces,omitempty"`

	// identities of the caller: SPIFFE IDs
	// "spiffe://<trust-domain>/ns/<namespace>/sa/<serviceaccount>", compared as a
	// whole, or "*" for every caller that has one. 1 to 64.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=600
	// +kubebuilder:validation:items:Pattern=`^(\*|spiffe://[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?/ns/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/sa/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)$`
	Identities []string `json:"identities,omitempty"`
}

// AuthorizationTarget says what is called. All lists that are set must match, by
// one value each.
// +kubebuilder:validation:XValidation:rule="has(self.ports) || has(self.methods) || has(self.paths)",message="to[] must set at least one of ports, methods and paths: leave to out for everything"
type AuthorizationTarget struct {
	// ports that are called, 1 to 65535: of the Service if the target is a
	// Service, else of the pod. 1 to 32.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	Ports []int32 `json:"ports,omitempty"`

	// methods of the request in capitals, for example GET, or "*" for every
	// method. Only for ports that speak HTTP. 1 to 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:Pattern=`^(\*|[A-Z][A-Z0-9_-]*)$`
	Methods []string `json:"methods,omitempty"`

	// paths of the request, normalised and without the query: exact ("/healthz"),
	// everything below ("/admin/*", which matches /admin itself too, as a Prefix
	// match does), or "*" for every path. Only for ports that speak HTTP. 1 to 32.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:Pattern=`^(\*|/([^*?#\\\s\x00-\x1f\x7f]*/)?\*|/[^*?#\\\s\x00-\x1f\x7f]*)$`
	Paths []string `json:"paths,omitempty"`
}
