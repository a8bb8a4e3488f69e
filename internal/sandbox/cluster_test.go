// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/compile"
)

func splitYAML(weight string) string {
	return "apiVersion: mesh.heddle.io/v1alpha1\nkind: TrafficSplit\nmetadata: {name: cart, namespace: shop}\n" +
		"spec: {service: {name: cart}, backends: [{name: a, service: {name: cart}, weight: " + weight + "}]}\n"
}

func TestGenerationsFollowTheSpec(t *testing.T) {
	c := clusterOf()
	get := func() *v1alpha1.TrafficSplit {
		o := &v1alpha1.TrafficSplit{}
		check(t, c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "cart"}, o))
		return o
	}
	put := func(text string) bool { return c.replace(objects(t, text)) }
	if !put(splitYAML("1")) {
		t.Error("an object is no change")
	}
	first := get()
	if first.Generation != 1 || first.UID == "" || first.ResourceVersion == "" || first.CreationTimestamp.IsZero() {
		t.Errorf("%+v", first.ObjectMeta)
	}
	if put(splitYAML("1")) {
		t.Error("the same object is a change")
	}
	if !put(splitYAML("2")) || get().Generation != 2 || get().UID != first.UID {
		t.Errorf("another spec: %+v", get().ObjectMeta)
	}
	if !put(strings.Replace(splitYAML("2"), "{name: cart, n", "{labels: {a: b}, name: cart, n", 1)) || get().Generation != 2 {
		t.Errorf("another label: %+v", get().ObjectMeta)
	}
	if !put("") {
		t.Error("an object that is gone is no change")
	}
	put(splitYAML("1"))
	if got := get(); got.UID == first.UID || got.Generation != 1 {
		t.Errorf("one that was made again: %+v", got.ObjectMeta)
	}
}

func TestReadingTheCluster(t *testing.T) {
	c := clusterOf()
	c.replace(objects(t, service("b", "")+service("a", "")+splitYAML("1")))
	list := &corev1.ServiceList{}
	check(t, c.List(t.Context(), list, client.InNamespace("shop")))
	if len(list.Items) != 2 || list.Items[0].Name != "a" {
		t.Errorf("%+v", list.Items)
	}
	check(t, c.List(t.Context(), list, client.InNamespace("depot")))
	if len(list.Items) != 0 {
		t.Errorf("%+v", list.Items)
	}
	if err := c.Get(t.Context(), types.NamespacedName{Name: "x"}, &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Error(err)
	}
	check(t, c.Get(t.Context(), types.NamespacedName{Name: "trafficsplits.mesh.heddle.io"}, &metav1.PartialObjectMetadata{}))
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	check(t, c.Create(t.Context(), secret.DeepCopy()))
	if err := c.Create(t.Context(), secret.DeepCopy()); !apierrors.IsAlreadyExists(err) {
		t.Error(err)
	}
	secret.Data = map[string][]byte{"a": nil}
	check(t, c.Update(t.Context(), secret))
	c.replace(nil) // of the files; the rest stays
	got := &corev1.Secret{}
	check(t, c.Get(t.Context(), types.NamespacedName{Name: "x"}, got))
	if len(got.Data) != 1 {
		t.Errorf("%+v", got)
	}
	check(t, c.Delete(t.Context(), secret))
	if err := c.Delete(t.Context(), secret); !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}

// The last good spec goes the same way as in a cluster: by a ControllerRevision, which goes with its object.
func TestTheLastGoodSpecStaysInForce(t *testing.T) {
	c, err := newControl(t.Context(), testOptions())
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	listening, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.run(ctx, listening) }()
	<-listening
	defer func() {
		cancel()
		check(t, <-ended)
	}()
	accepted := func(text string) compile.Finding {
		c.cluster.replace(newWorld().complete(objects(t, service("cart", "")+text)).objects())
		check(t, c.publish(t.Context()))
		for _, f := range c.result.Load().Findings {
			if f.Condition == v1alpha1.ConditionAccepted {
				return f
			}
		}
		return compile.Finding{}
	}
	if f := accepted(splitYAML("1")); f.Status != metav1.ConditionTrue {
		t.Errorf("%+v", f)
	}
	for range 2 {
		if f := accepted(splitYAML("0")); f.Status != metav1.ConditionFalse || !strings.Contains(f.Message, "generation 1, stays in force") {
			t.Errorf("%+v", f)
		}
	}
	if f := accepted(splitYAML("2")); f.Status != metav1.ConditionTrue || f.Origin.Generation != 3 {
		t.Errorf("%+v", f)
	}
	snap, err := (&collect.Collector{Cache: c.cluster, Live: c.cluster, Options: c.collector.Options}).Take(t.Context())
	check(t, err)
	if len(snap.LastGood) != 1 {
		t.Errorf("%+v", snap.LastGood)
	}
	accepted("")
	snap, err = (&collect.Collector{Cache: c.cluster, Live: c.cluster, Options: c.collector.Options}).Take(t.Context())
	check(t, err)
	if len(snap.LastGood) != 0 {
		t.Errorf("%+v", snap.LastGood)
	}
}
