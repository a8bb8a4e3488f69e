// SPDX-License-Identifier: Apache-2.0

// Package conditions turns what is known of an object into the conditions of its status: one table of conditions a kind,
// one pure function that merges, and the server-side apply that writes them.
//
// A condition keeps its lastTransitionTime while its status stays, and carries the generation that was judged, not the
// one that the object has by the time it is written.
package conditions

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// FieldManager owns the status of our kinds in server-side apply.
const FieldManager = "heddle-operator"

// row is one condition that compile judges.
type row struct {
	kind    string                 // type of the condition
	good    metav1.ConditionStatus // the status that lets Ready be True
	reason  string                 // when nothing speaks against it
	message string
	stalls  bool // a bad status does not mend itself
}

// Table lists the conditions of a kind that compile judges. Programmed, Ready and Stalled follow from the others and are
// the same for all kinds.
type Table []row

// The tables of the kinds.
var (
	TrafficSplit = Table{
		{v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "the spec is valid", true},
		{v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, v1alpha1.ReasonResolvedRefs, "the service and all backends exist", false},
		{v1alpha1.ConditionConflicted, metav1.ConditionFalse, v1alpha1.ReasonNoConflict, "no other TrafficSplit owns the service and port", false},
	}
	ServiceProfile = Table{
		{v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "the spec is valid", true},
		{v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, v1alpha1.ReasonResolvedRefs, "the service and its ports exist", false},
		{v1alpha1.ConditionConflicted, metav1.ConditionFalse, v1alpha1.ReasonNoConflict, "no other ServiceProfile owns the service", false},
	}
	MeshPolicy = Table{
		{v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "the spec is valid", true},
		{v1alpha1.ConditionResolvedRefs, metav1.ConditionTrue, v1alpha1.ReasonResolvedRefs, "the target exists", false},
		{v1alpha1.ConditionConflicted, metav1.ConditionFalse, v1alpha1.ReasonNoConflict, "no older MeshPolicy decides on the same target", false},
	}
)

// Verdict is one finding about a condition. A condition of which nothing was found is good.
type Verdict struct {
	Condition string
	Status    metav1.ConditionStatus
	Reason    string
	Message   string
}

// Progress says how far the sections that an object shaped have come.
type Progress struct {
	Subscribed int // connected proxies that use any of them
	Acked      int // of those, the ones that hold the newest of all they use
	// Unpublished are sections whose newest version is kept back: "section routes/checkout.shop/*: <reason>".
	Unpublished []string
	Refusals    []string // "pod shop/web-0 refused routes/checkout.shop/*: <reason>"
	More        int      // of the two, what is not listed
}

// Judgement is what is known of an object: what compile found in one generation of its spec, and how far that has come.
type Judgement struct {
	Generation int64 // of the spec that was judged; 0: none yet
	Shaped     bool  // the object had a part in a section
	LastGood   bool  // by an earlier generation, which is in force in place of it
	Verdicts   []Verdict
	Progress   Progress
}
