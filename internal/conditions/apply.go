// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	applyv1alpha1 "github.com/heddle-mesh/heddle/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// ApplyOptions are what a status is applied with: fields that another manager took are taken back.
func ApplyOptions() []client.SubResourceApplyOption {
	return []client.SubResourceApplyOption{client.ForceOwnership, client.FieldOwner(FieldManager)}
}

// Same says whether applying next over old would change nothing. Conditions that others own do not count.
func Same(old, next v1alpha1.Status) bool {
	if old.ObservedGeneration != next.ObservedGeneration || old.Programmed != next.Programmed {
		return false
	}
	ours := slices.DeleteFunc(slices.Clone(old.Conditions), func(c metav1.Condition) bool { return !isOurs(c.Type) })
	return len(ours) == len(next.Conditions) && !slices.ContainsFunc(next.Conditions, func(c metav1.Condition) bool {
		return !slices.ContainsFunc(ours, func(o metav1.Condition) bool { return equal(o, c) })
	})
}

func equal(a, b metav1.Condition) bool {
	times := a.LastTransitionTime.Equal(&b.LastTransitionTime)
	a.LastTransitionTime, b.LastTransitionTime = metav1.Time{}, metav1.Time{}
	return times && a == b
}

func isOurs(kind string) bool {
	switch kind {
	case v1alpha1.ConditionAccepted, v1alpha1.ConditionResolvedRefs, v1alpha1.ConditionConflicted,
		v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady, v1alpha1.ConditionStalled:
		return true
	default:
		return false
	}
}

// Configuration is the part of a status that all kinds share, for server-side apply.
func Configuration(s v1alpha1.Status) applyv1alpha1.StatusApplyConfiguration {
	out := applyv1alpha1.Status()
	if s.ObservedGeneration != 0 {
		out.WithObservedGeneration(s.ObservedGeneration)
	}
	if s.Programmed != "" {
		out.WithProgrammed(s.Programmed)
	}
	for _, c := range s.Conditions {
		if !isOurs(c.Type) {
			continue
		}
		condition := metav1ac.Condition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).
			WithMessage(c.Message).WithLastTransitionTime(c.LastTransitionTime)
		if c.ObservedGeneration != 0 {
			condition.WithObservedGeneration(c.ObservedGeneration)
		}
		out.WithConditions(condition)
	}
	return *out
}
