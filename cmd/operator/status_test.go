// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// ready is the Ready condition of an object as the API server has it.
func ready(t *testing.T, o *v1alpha1.TrafficSplit) metav1.Condition {
	t.Helper()
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil {
		return metav1.Condition{}
	}
	return *c
}

func TestStatusCountsProxiesOfEveryReplica(t *testing.T) {
	i := install(t)
	a, _ := i.start(t)
	eventually(t, "the only replica does not lead", func() bool { return a.leads() })
	b, _ := i.start(t)
	p := i.newProxy(t, a.meshID)
	ns, weight := p.pod.Namespace, int32(90)
	split := &v1alpha1.TrafficSplit{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "checkout"},
		Spec: v1alpha1.TrafficSplitSpec{
			Service: v1alpha1.ServicePortReference{Name: "checkout"},
			Backends: []v1alpha1.SplitBackend{
				{Name: "v1", Service: &v1alpha1.ServicePortReference{Name: "v1"}, Weight: &weight},
				{Name: "v2", Service: &v1alpha1.ServicePortReference{Name: "v2"}},
			},
		},
	}
	for _, name := range []string{"checkout", "v1", "v2"} {
		create(t, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		})
	}
	create(t, split)
	routes := meshconfig.RoutesName("checkout." + ns)
	p.mustAsk(t, b, i, routes)
	p.follow(t, b, i, meshconfig.MeshName, meshconfig.BindingName(string(p.pod.UID)), routes)
	eventually(t, "status does not count the proxy", func() bool {
		c := ready(t, split)
		return c.Status == metav1.ConditionTrue && c.Message == "1/1 proxies" && split.Status.Programmed == "1/1"
	})

	p.refuses("the test refuses it")
	weight = 50
	split.Spec.Backends[0].Weight = &weight
	if err := api.Update(t.Context(), split); err != nil {
		t.Fatal(err)
	}
	eventually(t, "status does not say who refused", func() bool {
		c := ready(t, split)
		return c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonNacked && c.ObservedGeneration == split.Generation &&
			strings.Contains(c.Message, "0/1 proxies: pod "+ns+"/web refused "+string(routes)+": the test refuses it")
	})
}

func TestDeletedCRDsLeaveTheLastPolicyInForce(t *testing.T) {
	i := install(t)
	a, _ := i.start(t)
	eventually(t, "the only replica does not lead", func() bool { return a.leads() })
	p := i.newProxy(t, a.meshID)
	create(t, &v1alpha1.MeshPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.pod.Namespace, Name: "closed"},
		Spec: v1alpha1.MeshPolicySpec{
			TargetRef:     v1alpha1.PolicyTarget{Kind: v1alpha1.TargetNamespace},
			Authorization: &v1alpha1.Authorization{DefaultAction: v1alpha1.ActionDeny},
		},
	})
	inbound := func(p *proxy) (meshconfig.Name, *meshconfig.Inbound) {
		t.Helper()
		binding := message[*meshconfig.Binding](t, p, a, i, meshconfig.BindingName(string(p.pod.UID)))
		name := meshconfig.Name(binding.GetInbound())
		return name, message[*meshconfig.Inbound](t, p, a, i, name)
	}
	var name meshconfig.Name
	eventually(t, "the policy does not come", func() bool {
		var policy *meshconfig.Inbound
		name, policy = inbound(p)
		return policy.GetDefaultPolicy().GetDefaultAction() == meshconfig.Action_ACTION_DENY
	})

	t.Cleanup(func() {
		if _, err := envtest.InstallCRDs(apiServer, envtest.CRDInstallOptions{Paths: []string{crds}}); err != nil {
			t.Error(err)
		}
	})
	for _, plural := range []string{"trafficsplits", "serviceprofiles", "meshpolicies"} {
		crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: plural + "." + v1alpha1.GroupName}}
		if err := api.Delete(t.Context(), crd); err != nil {
			t.Fatal(err)
		}
		eventually(t, "CRD "+plural+" stays", func() bool {
			return apierrors.IsNotFound(api.Get(t.Context(), client.ObjectKeyFromObject(crd), crd))
		})
	}
	// What comes later shows that the mesh goes on, and by what.
	other := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.pod.Namespace, Name: "later", Annotations: p.pod.Annotations},
		Spec:       *p.pod.Spec.DeepCopy(),
	}
	create(t, other)
	later := &proxy{pod: other, cert: p.cert, verifier: i.verifierOf(other, a.meshID)}
	if newName, policy := inbound(later); newName != name || policy.GetDefaultPolicy().GetDefaultAction() != meshconfig.Action_ACTION_DENY {
		t.Errorf("a pod that came later has %s: %v", newName, policy)
	}
}
