// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	acmetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	acv1alpha1 "github.com/heddle-mesh/heddle/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

const operator = client.FieldOwner("heddle-operator")

func condition(kind string, status metav1.ConditionStatus, reason string) *acmetav1.ConditionApplyConfiguration {
	return acmetav1.Condition().WithType(kind).WithStatus(status).WithReason(reason).WithMessage("118/120 proxies").
		WithObservedGeneration(1).WithLastTransitionTime(metav1.Now())
}

func createSplit(t *testing.T) *v1alpha1.TrafficSplit {
	t.Helper()
	split := &v1alpha1.TrafficSplit{
		ObjectMeta: metav1.ObjectMeta{Name: "checkout", Namespace: newNamespace(t)},
		Spec: v1alpha1.TrafficSplitSpec{
			Service: v1alpha1.ServicePortReference{Name: "checkout"},
			Backends: []v1alpha1.SplitBackend{
				{Name: "v1", Service: &v1alpha1.ServicePortReference{Name: "checkout-v1"}},
			},
		},
	}
	if err := api.Create(t.Context(), split); err != nil {
		t.Fatal(err)
	}
	return split
}

func TestStatusIsAppliedAndLeavesTheSpecAlone(t *testing.T) {
	split := createSplit(t)
	apply := acv1alpha1.TrafficSplit(split.Name, split.Namespace).WithStatus(acv1alpha1.TrafficSplitStatus().
		WithObservedGeneration(split.Generation).WithProgrammed("118/120").WithWeights("v1 1").
		WithConditions(
			condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNacked),
			condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)))
	if err := api.Status().Apply(t.Context(), apply, operator); err != nil {
		t.Fatal(err)
	}
	var got v1alpha1.TrafficSplit
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(split), &got); err != nil {
		t.Fatal(err)
	}
	if got.Generation != 1 {
		t.Errorf("the generation is %d: a write of status changed the spec", got.Generation)
	}
	s := got.Status
	if s.ObservedGeneration != 1 || s.Programmed != "118/120" || s.Weights != "v1 1" || len(s.Conditions) != 2 {
		t.Errorf("got status %+v", s)
	}
	for _, entry := range got.ManagedFields {
		if entry.Manager != string(operator) {
			continue
		}
		if entry.Subresource != "status" || strings.Contains(entry.FieldsV1.GetRawString(), "f:spec") {
			t.Errorf("the operator owns more than status: %q %s", entry.Subresource, entry.FieldsV1.GetRawString())
		}
	}
}

// Conditions are a map by type, so that another controller can add one of its
// own, and a condition that is no longer applied goes away.
func TestConditionsAreOwnedOneByOne(t *testing.T) {
	split := createSplit(t)
	status := func(owner client.FieldOwner, conditions ...*acmetav1.ConditionApplyConfiguration) {
		t.Helper()
		apply := acv1alpha1.TrafficSplit(split.Name, split.Namespace).
			WithStatus(acv1alpha1.TrafficSplitStatus().WithConditions(conditions...))
		if err := api.Status().Apply(t.Context(), apply, owner); err != nil {
			t.Fatal(err)
		}
	}
	ready := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	stalled := condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonInvalid)
	status(operator, ready, stalled)
	status("flagger", condition("Promoted", metav1.ConditionTrue, "Promoted"))
	status(operator, ready)

	var got v1alpha1.TrafficSplit
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(split), &got); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, c := range got.Status.Conditions {
		types = append(types, c.Type)
	}
	if strings.Join(types, " ") != "Ready Promoted" {
		t.Errorf("got conditions %v, want Ready and Promoted", types)
	}
}

// A canary tool that applies weights by server-side apply must not have to own
// the list of backends.
func TestACanaryToolCanOwnTheWeightsAlone(t *testing.T) {
	split := createSplit(t)
	apply := acv1alpha1.TrafficSplit(split.Name, split.Namespace).WithSpec(acv1alpha1.TrafficSplitSpec().
		WithBackends(acv1alpha1.SplitBackend().WithName("v1").WithWeight(70)))
	if err := api.Apply(t.Context(), apply, client.FieldOwner("flagger"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
	var got v1alpha1.TrafficSplit
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(split), &got); err != nil {
		t.Fatal(err)
	}
	backend := got.Spec.Backends[0]
	if backend.EffectiveWeight() != 70 || backend.Service == nil || backend.Service.Name != "checkout-v1" {
		t.Errorf("got backend %+v, want weight 70 of checkout-v1", backend)
	}
}

func TestStatusCannotBeWrittenThroughTheObject(t *testing.T) {
	split := createSplit(t)
	split.Status.Programmed = "1/1"
	if err := api.Update(t.Context(), split); err != nil {
		t.Fatal(err)
	}
	if split.Status.Programmed != "" {
		t.Errorf("an update of the object wrote status.programmed %q", split.Status.Programmed)
	}
}
