// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The condition types that every kind carries. Each condition holds the
// observedGeneration that it was judged at.
const (
	// ConditionAccepted is True when the spec is valid. While it is False the
	// last good spec of the object stays in force.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs is True when everything that the spec names exists.
	// What does not exist gets no traffic. The rest of the object is in force.
	ConditionResolvedRefs = "ResolvedRefs"
	// ConditionConflicted is True when another object owns the same thing: the
	// service and port of a TrafficSplit, the service of a ServiceProfile, the
	// target and section of a MeshPolicy. The message names the owner. A True is
	// bad: what the owner decides on, this object does not.
	ConditionConflicted = "Conflicted"
	// ConditionProgrammed is True when every connected proxy that uses the
	// object has acknowledged it. The message says "118/120 proxies".
	ConditionProgrammed = "Programmed"
	// ConditionReady sums up the others: it is True when the object does what
	// its spec says, and it is written at once, Unknown at first.
	ConditionReady = "Ready"
	// ConditionStalled is True only for what will not mend itself, an invalid
	// spec for example. It is absent otherwise, as kstatus expects.
	ConditionStalled = "Stalled"
)

// Reasons of ConditionAccepted.
const (
	// ReasonAccepted says that the spec is valid. Status True.
	ReasonAccepted = "Accepted"
	// ReasonInvalid says that the spec breaks a rule that the schema cannot
	// express; the message names the field. Status False.
	ReasonInvalid = "Invalid"
	// ReasonNotPermitted says that the object may not do this from where it is:
	// a MeshPolicy of kind Mesh outside the operator's namespace. Status False.
	ReasonNotPermitted = "NotPermitted"
	// ReasonPending says that the operator has not judged the object yet, or is
	// not done. Status Unknown; any condition may carry it.
	ReasonPending = "Pending"
)

// Reasons of ConditionResolvedRefs.
const (
	// ReasonResolvedRefs says that everything named exists. Status True.
	ReasonResolvedRefs = "ResolvedRefs"
	// ReasonServiceNotFound says that spec.service, or the Service that a
	// targetRef names, does not exist. Status False.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonBackendNotFound says that the Service of a backend does not exist.
	// Its share of requests is refused. Status False.
	ReasonBackendNotFound = "BackendNotFound"
	// ReasonPortNotFound says that a Service exists without the port that is
	// named. Status False.
	ReasonPortNotFound = "PortNotFound"
	// ReasonWorkloadNotFound says that a targetRef of kind Workload matches no
	// pod in the mesh. Status False.
	ReasonWorkloadNotFound = "WorkloadNotFound"
	// ReasonProtocolMismatch says that a rule reads requests on a port whose
	// protocol has none: HTTP matches on an opaque port. Status False.
	ReasonProtocolMismatch = "ProtocolMismatch"
)

// Reasons of ConditionConflicted.
const (
	// ReasonNoConflict says that no other object owns the same thing. Status False.
	ReasonNoConflict = "NoConflict"
	// ReasonConflicted says that another object owns it, which the message names.
	// Status True.
	ReasonConflicted = "Conflicted"
)

// Reasons of ConditionProgrammed.
const (
	// ReasonProgrammed says that all proxies concerned have acknowledged. Status True.
	ReasonProgrammed = "Programmed"
	// ReasonNoSubscribers says that no connected proxy uses the object, so that
	// nothing is outstanding. Status True.
	ReasonNoSubscribers = "NoSubscribers"
	// ReasonNacked says that a proxy refused the config and kept its last good
	// one; the message names the pod and its reason. Status False.
	ReasonNacked = "Nacked"
	// ReasonNotPublished says that the operator keeps the newest config back, since
	// no proxy would take it or it could not be signed; the message names the
	// section and why. Status False.
	ReasonNotPublished = "NotPublished"
	// ReasonNotInForce says that there is nothing of this generation to program,
	// because it is not accepted, conflicts leave nothing of it, or it waits for
	// pods. Status False.
	ReasonNotInForce = "NotInForce"
)

// Reasons of ConditionReady, beside the reason of the condition that holds it
// back, which it repeats.
const (
	// ReasonReady says that the object does what it says. Status True.
	ReasonReady = "Ready"
)

// Status is what the status of every kind begins with.
type Status struct {
	// observedGeneration is the metadata.generation that this status speaks of.
	// While it is lower than metadata.generation, the operator has not looked at
	// the newest spec.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions say whether the object works. Types: Accepted, ResolvedRefs,
	// Conflicted, Programmed, Ready, and Stalled for what will not mend itself.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// programmed is how many of the connected proxies that use this object have
	// acknowledged it, for example "118/120".
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Programmed string `json:"programmed,omitempty"`
}
