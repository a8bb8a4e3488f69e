// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TargetKind is the kind of thing that a policy applies to, widest first.
// +kubebuilder:validation:Enum=Mesh;Namespace;Service;Workload
type TargetKind string

// The kinds of things that a policy can apply to.
const (
	// TargetMesh is every workload of the mesh.
	TargetMesh TargetKind = "Mesh"
	// TargetNamespace is every workload of the policy's namespace.
	TargetNamespace TargetKind = "Namespace"
	// TargetService is the workloads behind a Service of the policy's namespace.
	TargetService TargetKind = "Service"
	// TargetWorkload is chosen workloads of the policy's namespace.
	TargetWorkload TargetKind = "Workload"
)

// PolicyTarget says to which workloads a policy applies.
// +kubebuilder:validation:XValidation:rule="self.kind in ['Service', 'Workload'] || !has(self.name)",message="targetRef.name must be left out for kind Mesh and Namespace: a Namespace policy applies to the namespace that it is in",fieldPath=".name"
// +kubebuilder:validation:XValidation:rule="self.kind != 'Service' || has(self.name)",message="targetRef.name must be set for kind Service",fieldPath=".name"
// +kubebuilder:validation:XValidation:rule="self.kind == 'Workload' || !has(self.selector)",message="targetRef.selector must be left out unless kind is Workload",fieldPath=".selector"
// +kubebuilder:validation:XValidation:rule="self.kind != 'Workload' || has(self.name) != has(self.selector)",message="targetRef must set exactly one of name and selector for kind Workload"
// +kubebuilder:validation:XValidation:rule="self.kind in ['Service', 'Workload'] || !has(self.port)",message="targetRef.port must be left out for kind Mesh and Namespace: use mtls.ports and authorization.rules[].to[].ports",fieldPath=".port"
type PolicyTarget struct {
	// kind of thing that the policy applies to. Mesh: every workload; such a
	// policy counts only in the operator's namespace. Namespace: every workload
	// of this object's namespace. Service: the workloads behind the Service that
	// name says. Workload: the pods that name or selector choose.
	// +required
	Kind TargetKind `json:"kind"`

	// name of the Service, or of one pod, in this object's namespace. Required
	// for kind Service. For kind Workload exactly one of name and selector is set;
	// pod names last only where something keeps them, as a StatefulSet does.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`

	// selector chooses pods of this object's namespace by label; for kind
	// Workload only. An empty selector is refused: use kind Namespace.
	// +optional
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",message="targetRef.selector must hold matchLabels or matchExpressions: use kind Namespace for all pods"
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// port narrows the policy to one port, and wins there over a policy of the
	// same kind without port. 1 to 65535; a port of the Service for kind Service,
	// of the pod for kind Workload, not for the other kinds.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
}

// String is the target as messages show it: "Mesh", "Service/checkout:8080",
// "Workload(app=web)".
func (t PolicyTarget) String() string {
	s := string(t.Kind)
	switch {
	case t.Name != "":
		s += "/" + t.Name
	case t.Selector != nil:
		s += "(" + metav1.FormatLabelSelector(t.Selector) + ")"
	}
	if t.Port != nil {
		s += fmt.Sprintf(":%d", *t.Port)
	}
	return s
}
