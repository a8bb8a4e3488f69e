// SPDX-License-Identifier: Apache-2.0

package collect_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/collect"
	"github.com/heddle-mesh/heddle/internal/snapshot"
	"github.com/heddle-mesh/heddle/test/gen"
)

// cluster is an API server and a cache that may be behind it.
type cluster struct {
	api       client.WithWatch
	cache     client.WithWatch
	notServed map[string]bool // types of lists that the cache has no mapping for
	reads     int             // of CRDs from the API server
}

func newCluster(t *testing.T, objects ...client.Object) (*cluster, *collect.Collector) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	for _, plural := range []string{"trafficsplits", "serviceprofiles", "meshpolicies"} {
		objects = append(objects, crd(plural))
	}
	for _, o := range objects {
		o.SetResourceVersion("")
	}
	c := &cluster{notServed: map[string]bool{}}
	build := func() client.WithWatch {
		copies := make([]client.Object, len(objects))
		for i, o := range objects {
			copies[i] = o.DeepCopyObject().(client.Object) //nolint:forcetypeassert // a copy of the same type
		}
		return fake.NewClientBuilder().WithScheme(scheme).WithObjects(copies...).Build()
	}
	c.api, c.cache = build(), build()
	cache := interceptor.NewClient(c.cache, interceptor.Funcs{
		List: func(ctx context.Context, w client.WithWatch, l client.ObjectList, o ...client.ListOption) error {
			gvks, _, err := scheme.ObjectKinds(l)
			if err == nil && c.notServed[gvks[0].Kind] {
				return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: gvks[0].Kind}}
			}
			return w.List(ctx, l, o...)
		},
	})
	live := interceptor.NewClient(c.api, interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			c.reads++
			return w.Get(ctx, key, o, options...)
		},
	})
	return c, &collect.Collector{Cache: cache, Live: live, Options: func() snapshot.Options {
		return snapshot.Options{TrustDomain: "cluster.local"}
	}}
}

func crd(plural string) *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{
		Name: plural + "." + v1alpha1.GroupName, Finalizers: []string{"customresourcecleanup.apiextensions.k8s.io"},
	}}
}

// everywhere changes the API server and the cache.
func (c *cluster) everywhere(t *testing.T, change func(client.Client) error) {
	t.Helper()
	for _, in := range []client.Client{c.api, c.cache} {
		if err := change(in); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) delete(t *testing.T, o client.Object) {
	t.Helper()
	c.everywhere(t, func(in client.Client) error {
		return in.Delete(t.Context(), o.DeepCopyObject().(client.Object)) //nolint:forcetypeassert // a copy of the same type
	})
}

func take(t *testing.T, c *collect.Collector) *snapshot.Snapshot {
	t.Helper()
	s, err := c.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names[T metav1.Object](list []T) string {
	var out []string
	for _, o := range list {
		out = append(out, o.GetNamespace()+"/"+o.GetName())
	}
	return strings.Join(out, " ")
}

func TestTakeListsWhatThereIsInOrder(t *testing.T) {
	t.Parallel()
	pod := gen.Pod("shop", "web", "10.0.0.1")
	kept, err := collect.Revision(gen.MeshPolicy("shop", "b", gen.Generation[v1alpha1.MeshPolicy](3)))
	if err != nil {
		t.Fatal(err)
	}
	older, err := collect.Revision(gen.MeshPolicy("shop", "b", gen.Generation[v1alpha1.MeshPolicy](2)))
	if err != nil {
		t.Fatal(err)
	}
	broken := kept.DeepCopy()
	broken.Name, broken.Data.Raw = "broken", []byte("{}")
	foreign := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "of-a-statefulset"}}
	_, collector := newCluster(t,
		gen.Service("shop", "web"), gen.Service("bank", "web"), gen.Service("shop", "api"), pod,
		gen.Slice("shop", "web", "x"), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}},
		gen.MeshPolicy("shop", "b"), gen.MeshPolicy("shop", "a"), gen.TrafficSplit("shop", "s", "web"),
		gen.ServiceProfile("shop", "p", "web"), older, kept, broken, foreign)
	s := take(t, collector)
	if got, want := names(s.Services), "bank/web shop/api shop/web"; got != want {
		t.Errorf("services %q, want %q", got, want)
	}
	if got, want := names(s.MeshPolicies), "shop/a shop/b"; got != want {
		t.Errorf("policies %q, want %q", got, want)
	}
	for what, n := range map[string]int{
		"pods": len(s.Pods), "slices": len(s.EndpointSlices), "nodes": len(s.Nodes), "CIDRs": len(s.ServiceCIDRs),
		"splits": len(s.TrafficSplits), "profiles": len(s.ServiceProfiles), "last good specs": len(s.LastGood),
	} {
		if n != 1 {
			t.Errorf("%d %s, want 1", n, what)
		}
	}
	good := s.LastGood[snapshot.ObjectKey{Kind: v1alpha1.KindMeshPolicy, Namespace: "shop", Name: "b"}]
	if good == nil || good.Generation != 3 {
		t.Errorf("the last good spec of shop/b is %+v, want that of generation 3", good)
	}
	if s.Options.TrustDomain != "cluster.local" || len(s.Missing) != 0 {
		t.Errorf("options %+v, missing %v", s.Options, s.Missing)
	}
}

func TestADeletedObjectIsGone(t *testing.T) {
	t.Parallel()
	policy := gen.MeshPolicy("shop", "a")
	c, collector := newCluster(t, policy, gen.MeshPolicy("shop", "b"))
	take(t, collector)
	reads := c.reads
	c.delete(t, policy)
	if got := names(take(t, collector).MeshPolicies); got != "shop/b" {
		t.Errorf("policies %q, want shop/b", got)
	}
	if c.reads != reads+1 {
		t.Errorf("%d reads of CRDs, want 1", c.reads-reads)
	}
	take(t, collector)
	if c.reads != reads+1 {
		t.Error("CRDs are read though nothing vanished")
	}
}

func TestADeletedCRDLeavesItsObjects(t *testing.T) {
	t.Parallel()
	a, b := gen.MeshPolicy("shop", "a"), gen.MeshPolicy("shop", "b")
	revision, err := collect.Revision(a)
	if err != nil {
		t.Fatal(err)
	}
	c, collector := newCluster(t, a, b, revision, gen.TrafficSplit("shop", "s", "web"))
	take(t, collector)
	check := func(when, policies, missing string) {
		t.Helper()
		s := take(t, collector)
		if got := names(s.MeshPolicies); got != policies {
			t.Errorf("%s: policies %q, want %q", when, got, policies)
		}
		if got := strings.Join(s.Missing, " "); got != missing {
			t.Errorf("%s: missing %q, want %q", when, got, missing)
		}
		if good := s.LastGood[snapshot.ObjectKey{Kind: v1alpha1.KindMeshPolicy, Namespace: "shop", Name: "a"}]; (good != nil) != (missing != "") {
			t.Errorf("%s: last good spec %+v", when, good)
		}
		if got := names(s.TrafficSplits); got != "shop/s" {
			t.Errorf("%s: splits %q", when, got)
		}
	}
	// As the API server does it: the CRD is marked, its objects are deleted one by one, then it goes.
	definition := crd("meshpolicies")
	c.delete(t, definition)
	c.delete(t, a)
	c.delete(t, revision)
	check("one object is gone", "shop/a shop/b", v1alpha1.KindMeshPolicy)
	c.delete(t, b)
	check("all objects are gone", "shop/a shop/b", v1alpha1.KindMeshPolicy)
	c.everywhere(t, func(in client.Client) error {
		got := &apiextensionsv1.CustomResourceDefinition{}
		if err := in.Get(t.Context(), client.ObjectKeyFromObject(definition), got); err != nil {
			return err
		}
		got.Finalizers = nil
		return in.Update(t.Context(), got)
	})
	check("the CRD is gone", "shop/a shop/b", v1alpha1.KindMeshPolicy)
	c.notServed["MeshPolicyList"] = true
	check("the cache knows it", "shop/a shop/b", v1alpha1.KindMeshPolicy)
	// It comes back with another policy, which the cache does not see at once.
	again := gen.MeshPolicy("shop", "c")
	again.ResourceVersion = ""
	if err := c.api.Create(t.Context(), crd("meshpolicies")); err != nil {
		t.Fatal(err)
	}
	if err := c.api.Create(t.Context(), again.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	delete(c.notServed, "MeshPolicyList")
	check("the CRD is back", "shop/c", "")
	check("the cache is behind", "shop/c", "")
	if err := c.cache.Create(t.Context(), again.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	check("the cache has caught up", "shop/c", "")
	reads := c.reads
	check("all is well", "shop/c", "")
	if c.reads != reads {
		t.Error("CRDs are still read")
	}
}

func TestAKindThatIsNotServedAtTheStartIsAnError(t *testing.T) {
	t.Parallel()
	c, collector := newCluster(t)
	c.delete(t, crd("trafficsplits"))
	if _, err := collector.Take(t.Context()); err == nil || !strings.Contains(err.Error(), "trafficsplits.mesh.heddle.io") {
		t.Errorf("got error %v", err)
	}
}

func TestAnErrorIsToldWithWhatFailed(t *testing.T) {
	t.Parallel()
	c, collector := newCluster(t, gen.MeshPolicy("shop", "a"))
	refused := errors.New("refused")
	collector.Live = interceptor.NewClient(c.api, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return refused
		},
	})
	if _, err := collector.Take(t.Context()); !errors.Is(err, refused) || !strings.Contains(err.Error(), "CustomResourceDefinition") {
		t.Errorf("got error %v", err)
	}
	collector.Cache = interceptor.NewClient(c.cache, interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return refused },
	})
	if _, err := collector.Take(t.Context()); !errors.Is(err, refused) || !strings.Contains(err.Error(), "ServiceList") {
		t.Errorf("got error %v", err)
	}
}

func TestAClusterWithoutServiceCIDRs(t *testing.T) {
	t.Parallel()
	c, collector := newCluster(t)
	c.notServed["ServiceCIDRList"] = true
	if s := take(t, collector); slices.Contains(s.Missing, "ServiceCIDR") || len(s.ServiceCIDRs) != 0 {
		t.Errorf("missing %v", s.Missing)
	}
}
