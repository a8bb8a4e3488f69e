// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// object is one of ours, with the spec that is in force.
type object[S any] struct {
	origin   Origin
	created  time.Time
	spec     *S              // nil: none
	errs     field.ErrorList // of the live spec
	lastGood int64           // the generation of spec, if it is not the live one
}

type (
	split   = object[v1alpha1.TrafficSplitSpec]
	profile = object[v1alpha1.ServiceProfileSpec]
)

// policy is a MeshPolicy with its compiled selector, which is nil unless its target has one.
type policy struct {
	*object[v1alpha1.MeshPolicySpec]
	selector labels.Selector
}

func (o *object[S]) service(name string) string { return serviceKey(o.origin.Namespace, name) }

// judge validates an object and chooses the spec that is in force.
func judge[S any](w *work, o *options, kind string, meta metav1.Object, live *S, good *snapshot.LastGood, goodSpec *S,
	validate func(*S) field.ErrorList,
) *object[S] {
	name := kind + "/" + meta.GetNamespace() + "/" + meta.GetName()
	judged := remember(w, unitObject, name, w.inputs(o, versionOf(meta)), func(*object[S]) *object[S] {
		judged := &object[S]{
			origin: Origin{
				Kind: kind, Namespace: meta.GetNamespace(), Name: meta.GetName(), UID: meta.GetUID(), Generation: meta.GetGeneration(),
			},
			created: meta.GetCreationTimestamp().UTC(),
			errs:    validate(live),
		}
		if len(judged.errs) == 0 {
			judged.spec = live
		}
		return judged
	})
	if judged.spec != nil || good == nil || goodSpec == nil || good.UID != meta.GetUID() {
		return judged
	}
	return remember(w, unitObject, "last good "+name, w.inputs(judged, good.UID, good.Generation), func(*object[S]) *object[S] {
		if len(validate(goodSpec)) > 0 {
			return judged // written by an operator with other rules
		}
		withGood := *judged
		withGood.spec, withGood.lastGood = goodSpec, good.Generation
		return &withGood
	})
}

// sortOldest puts the object that wins over others first.
func sortOldest[S any](objects []*object[S]) {
	slices.SortFunc(objects, func(a, b *object[S]) int { return older(a, b) })
}

func older[S any](a, b *object[S]) int {
	return cmp.Or(
		a.created.Compare(b.created),
		cmp.Compare(a.origin.Namespace, b.origin.Namespace),
		cmp.Compare(a.origin.Name, b.origin.Name),
		cmp.Compare(a.origin.UID, b.origin.UID),
	)
}

func (c *compilation) judgeSplits() []*split {
	var out []*split
	for _, o := range c.splits {
		good := c.lastGood(v1alpha1.KindTrafficSplit, o)
		var spec *v1alpha1.TrafficSplitSpec
		if good != nil {
			spec = good.TrafficSplit
		}
		out = append(out, judge(c.work, c.options, v1alpha1.KindTrafficSplit, o, &o.Spec, good, spec, validateTrafficSplit))
	}
	return register(c, out)
}

func (c *compilation) judgeProfiles() []*profile {
	var out []*profile
	for _, o := range c.serviceProfiles {
		good := c.lastGood(v1alpha1.KindServiceProfile, o)
		var spec *v1alpha1.ServiceProfileSpec
		if good != nil {
			spec = good.ServiceProfile
		}
		out = append(out, judge(c.work, c.options, v1alpha1.KindServiceProfile, o, &o.Spec, good, spec, validateServiceProfile))
	}
	return register(c, out)
}

func (c *compilation) judgePolicies() []*object[v1alpha1.MeshPolicySpec] {
	var out []*object[v1alpha1.MeshPolicySpec]
	for _, o := range c.meshPolicies {
		good := c.lastGood(v1alpha1.KindMeshPolicy, o)
		var spec *v1alpha1.MeshPolicySpec
		if good != nil {
			spec = good.MeshPolicy
		}
		validate := func(s *v1alpha1.MeshPolicySpec) field.ErrorList {
			return validateMeshPolicy(s, o.Namespace, c.options.operatorNamespace)
		}
		out = append(out, judge(c.work, c.options, v1alpha1.KindMeshPolicy, o, &o.Spec, good, spec, validate))
	}
	return register(c, out)
}

func (c *compilation) lastGood(kind string, o metav1.Object) *snapshot.LastGood {
	return c.snapshot.LastGood[snapshot.ObjectKey{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}]
}

// register opens the report on each object, and returns those of which a spec is in force, oldest first.
func register[S any](c *compilation, objects []*object[S]) []*object[S] {
	inForce := make([]*object[S], 0, len(objects))
	for _, o := range objects {
		c.report.open(o.origin, o.errs, o.lastGood, o.spec != nil)
		if o.spec != nil {
			inForce = append(inForce, o)
		}
	}
	sortOldest(inForce)
	return inForce
}
