// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/snapshot"
)

// object is one of ours, with a spec of it.
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

// judge validates an object and its last good spec.
func judge[S any](w *work, o *options, kind string, meta metav1.Object, spec *S, good *snapshot.LastGood, goodSpec *S,
	validate func(*S) field.ErrorList,
) *choice[S] {
	name := kind + "/" + meta.GetNamespace() + "/" + meta.GetName()
	live := remember(w, unitObject, name, w.inputs(o, versionOf(meta)), func(*object[S]) *object[S] {
		judged := &object[S]{
			origin: Origin{
				Kind: kind, Namespace: meta.GetNamespace(), Name: meta.GetName(), UID: meta.GetUID(), Generation: meta.GetGeneration(),
			},
			created: meta.GetCreationTimestamp().UTC(),
			errs:    validate(spec),
		}
		if len(judged.errs) == 0 {
			judged.spec = spec
		}
		return judged
	})
	x := &choice[S]{live: live, chosen: live}
	switch {
	case good == nil || goodSpec == nil || good.UID != meta.GetUID():
		return x
	case live.spec != nil && (good.Generation == meta.GetGeneration() || equality.Semantic.DeepEqual(live.spec, goodSpec)):
		x.good = live
		return x
	}
	x.good = remember(w, unitObject, "last good "+name, w.inputs(live, good.UID, good.Generation), func(*object[S]) *object[S] {
		if len(validate(goodSpec)) > 0 {
			return nil // written by an operator with other rules
		}
		withGood := *live
		withGood.spec, withGood.lastGood = goodSpec, good.Generation
		return &withGood
	})
	if live.spec == nil && x.good != nil {
		x.chosen = x.good
	}
	return x
}

func older[S any](a, b *object[S]) int {
	return cmp.Or(
		a.created.Compare(b.created),
		cmp.Compare(a.origin.Namespace, b.origin.Namespace),
		cmp.Compare(a.origin.Name, b.origin.Name),
		cmp.Compare(a.origin.UID, b.origin.UID),
	)
}

func (c *compilation) judgeSplits() []*choice[v1alpha1.TrafficSplitSpec] {
	var out []*choice[v1alpha1.TrafficSplitSpec]
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

func (c *compilation) judgeProfiles() []*choice[v1alpha1.ServiceProfileSpec] {
	var out []*choice[v1alpha1.ServiceProfileSpec]
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

// judgePolicies also decides: policies are put together section by section, so an older one that was changed may decide
// on what a younger one did, and no conflict holds a whole policy back.
func (c *compilation) judgePolicies() []*object[v1alpha1.MeshPolicySpec] {
	var all []*choice[v1alpha1.MeshPolicySpec]
	for _, o := range c.meshPolicies {
		good := c.lastGood(v1alpha1.KindMeshPolicy, o)
		var spec *v1alpha1.MeshPolicySpec
		if good != nil {
			spec = good.MeshPolicy
		}
		validate := func(s *v1alpha1.MeshPolicySpec) field.ErrorList {
			return validateMeshPolicy(s, o.Namespace, c.options.operatorNamespace)
		}
		all = append(all, judge(c.work, c.options, v1alpha1.KindMeshPolicy, o, &o.Spec, good, spec, validate))
	}
	all = register(c, all)
	out := make([]*object[v1alpha1.MeshPolicySpec], len(all))
	for i, x := range all {
		conclude(c, x, "")
		out[i] = x.chosen
	}
	return out
}

func (c *compilation) lastGood(kind string, o metav1.Object) *snapshot.LastGood {
	return c.snapshot.LastGood[snapshot.ObjectKey{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}]
}

// register opens the report on each object, and returns those that have a spec that may be in force, oldest first.
func register[S any](c *compilation, objects []*choice[S]) []*choice[S] {
	out := make([]*choice[S], 0, len(objects))
	for _, x := range objects {
		c.report.open(x.live.origin, x.live.errs, x.chosen.spec != nil)
		if x.chosen.spec != nil {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b *choice[S]) int { return older(a.live, b.live) })
	return out
}
