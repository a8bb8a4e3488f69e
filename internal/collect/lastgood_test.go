// SPDX-License-Identifier: Apache-2.0

package collect_test

import (
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

func TestALastGoodSpecIsReadAsItWasKept(t *testing.T) {
	t.Parallel()
	split := gen.TrafficSplit("shop", "checkout", "checkout", gen.Backend("v1", 90), gen.Backend("v2", 10),
		gen.Generation[v1alpha1.TrafficSplit](7))
	profile := gen.ServiceProfile("shop", "checkout", "checkout", gen.Route("all", "1500ms"))
	policy := gen.MeshPolicy("shop", "strict")
	for _, c := range []struct {
		object metav1.Object
		kind   string
		want   *snapshot.LastGood
	}{
		{split, v1alpha1.KindTrafficSplit, &snapshot.LastGood{Generation: 7, TrafficSplit: &split.Spec}},
		{profile, v1alpha1.KindServiceProfile, &snapshot.LastGood{Generation: 1, ServiceProfile: &profile.Spec}},
		{policy, v1alpha1.KindMeshPolicy, &snapshot.LastGood{Generation: 1, MeshPolicy: &policy.Spec}},
	} {
		c.want.UID, c.want.Created = c.object.GetUID(), c.object.GetCreationTimestamp()
		revision, err := collect.Revision(c.object)
		if err != nil {
			t.Fatal(err)
		}
		key, got, err := collect.ParseRevision(revision)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Created.Equal(&c.want.Created) {
			t.Errorf("%s: created %s, want %s", c.kind, got.Created, c.want.Created)
		}
		got.Created = c.want.Created
		if want := (snapshot.ObjectKey{Kind: c.kind, Namespace: "shop", Name: c.object.GetName()}); key != want || !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %v %+v, want %v %+v", key, got, want, c.want)
		}
		if owner := revision.OwnerReferences[0]; owner.UID != c.object.GetUID() || owner.Kind != c.kind {
			t.Errorf("%s: the revision is owned by %+v", c.kind, owner)
		}
	}
}

func TestRevisionsThatDoNotHoldALastGoodSpecAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := collect.Revision(&corev1.Pod{}); err == nil {
		t.Error("a pod has a last good spec")
	}
	for name, change := range map[string]func(*appsv1.ControllerRevision){
		"no data":                  func(r *appsv1.ControllerRevision) { r.Data.Raw = nil },
		"another kind":             func(r *appsv1.ControllerRevision) { replace(r, `"TrafficSplit"`, `"Pod"`) },
		"another version":          func(r *appsv1.ControllerRevision) { replace(r, "v1alpha1", "v9") },
		"a spec of another type":   func(r *appsv1.ControllerRevision) { replace(r, `"backends":[`, `"backends":[7,`) },
		"of another namespace":     func(r *appsv1.ControllerRevision) { r.Namespace = "other" },
		"labelled as another's":    func(r *appsv1.ControllerRevision) { r.Labels[collect.LastGoodLabel] = "other" },
		"numbered as another spec": func(r *appsv1.ControllerRevision) { r.Revision++ },
	} {
		revision, err := collect.Revision(gen.TrafficSplit("shop", "checkout", "checkout", gen.Backend("v1", 1)))
		if err != nil {
			t.Fatal(err)
		}
		change(revision)
		if key, good, err := collect.ParseRevision(revision); err == nil || good != nil {
			t.Errorf("%s: read as %v", name, key)
		}
	}
}

func replace(r *appsv1.ControllerRevision, old, replacement string) {
	r.Data.Raw = []byte(strings.ReplaceAll(string(r.Data.Raw), old, replacement))
}
