// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 refuses objects of the three kinds for what the CEL rules of the CRDs cannot say, with the functions
// that the compiler judges them by. It fails open: an object that gets past it shows the same words in its conditions.
package v1alpha1

import (
	"context"
	"fmt"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
)

// Where the API server sends objects, as config/webhook says.
const (
	PathTrafficSplit   = "/validate-mesh-heddle-io-v1alpha1-trafficsplit"
	PathServiceProfile = "/validate-mesh-heddle-io-v1alpha1-serviceprofile"
	PathMeshPolicy     = "/validate-mesh-heddle-io-v1alpha1-meshpolicy"
)

// Register serves the validation of all three kinds. operatorNamespace is where policies for the whole mesh are allowed.
func Register(server webhook.Server, scheme *runtime.Scheme, operatorNamespace string) {
	server.Register(PathTrafficSplit, admission.WithValidator(scheme, trafficSplits()))
	server.Register(PathServiceProfile, admission.WithValidator(scheme, serviceProfiles()))
	server.Register(PathMeshPolicy, admission.WithValidator(scheme, meshPolicies(operatorNamespace)))
}

func trafficSplits() *validator[*v1alpha1.TrafficSplit] {
	return &validator[*v1alpha1.TrafficSplit]{
		kind:     v1alpha1.KindTrafficSplit,
		validate: compile.ValidateTrafficSplit,
		spec:     func(o *v1alpha1.TrafficSplit) any { return &o.Spec },
	}
}

func serviceProfiles() *validator[*v1alpha1.ServiceProfile] {
	return &validator[*v1alpha1.ServiceProfile]{
		kind:     v1alpha1.KindServiceProfile,
		validate: compile.ValidateServiceProfile,
		warn:     warnOfFaults,
		spec:     func(o *v1alpha1.ServiceProfile) any { return &o.Spec },
	}
}

func meshPolicies(operatorNamespace string) *validator[*v1alpha1.MeshPolicy] {
	return &validator[*v1alpha1.MeshPolicy]{
		kind: v1alpha1.KindMeshPolicy,
		validate: func(o *v1alpha1.MeshPolicy) field.ErrorList {
			return compile.ValidateMeshPolicy(o, operatorNamespace)
		},
		spec: func(o *v1alpha1.MeshPolicy) any { return &o.Spec },
	}
}

// validator is the validation of one kind.
type validator[T client.Object] struct {
	kind     string
	validate func(T) field.ErrorList
	warn     func(o T, now time.Time) admission.Warnings // of what is valid and hardly meant; nil: of nothing
	spec     func(T) any
}

// ValidateCreate refuses an object that is wrong by itself. What it refers to may come later.
func (v *validator[T]) ValidateCreate(_ context.Context, object T) (admission.Warnings, error) {
	return v.judge(object)
}

// ValidateUpdate judges a changed spec only: an object that got in before a rule was there can still be labelled, and
// its finalizers removed.
func (v *validator[T]) ValidateUpdate(_ context.Context, before, after T) (admission.Warnings, error) {
	if apiequality.Semantic.DeepEqual(v.spec(before), v.spec(after)) {
		return nil, nil
	}
	return v.judge(after)
}

// ValidateDelete lets everything go.
func (v *validator[T]) ValidateDelete(context.Context, T) (admission.Warnings, error) {
	return nil, nil
}

func (v *validator[T]) judge(object T) (admission.Warnings, error) {
	if faults := v.validate(object); len(faults) > 0 {
		return nil, apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind(v.kind).GroupKind(), object.GetName(), faults)
	}
	if v.warn == nil {
		return nil, nil
	}
	return v.warn(object, time.Now()), nil
}

// longFault is how far ahead the end of a fault may be without a word.
const longFault = 30 * 24 * time.Hour

// warnOfFaults warns of faults that are over already and of those that seem to have no end. Both are valid: the first are
// there after every fault, and how long practice lasts is for its owner to say.
func warnOfFaults(o *v1alpha1.ServiceProfile, now time.Time) admission.Warnings {
	var out admission.Warnings
	for i, f := range o.Spec.Faults {
		at := field.NewPath("spec", "faults").Index(i).Child("expiresAt")
		end := f.ExpiresAt.UTC().Format(time.RFC3339)
		switch {
		case !f.ExpiresAt.After(now):
			out = append(out, fmt.Sprintf("%s: fault %s ended at %s, so that it injects nothing: set a later date, or take it out", at, f.Name, end))
		case f.ExpiresAt.After(now.Add(longFault)):
			out = append(out, fmt.Sprintf("%s: fault %s ends at %s only, more than 30 days from now: set an earlier date unless that is meant", at, f.Name, end))
		}
	}
	return out
}
