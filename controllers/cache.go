// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/issue"
	"github.com/heddle-mesh/heddle/internal/leader"
)

// CacheOptions narrow the cache to what the operator reads: no Secrets at all, ConfigMaps and ControllerRevisions of its
// own, pods without what their containers are made of, and managedFields of nothing.
func CacheOptions(namespace string) cache.Options {
	shared := true // what is read from the cache is never written to
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		// Collecting reads every object of the cluster at every change: copies would cost more than compiling.
		DefaultUnsafeDisableDeepCopy: &shared,
		ReaderFailOnMissingInformer:  false,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:  {Transform: trimPod},
			&corev1.Node{}: {Transform: trimNode},
			&corev1.ConfigMap{}: {
				Field: fields.OneTermEqualSelector("metadata.name", RootsConfigMap),
			},
			&appsv1.ControllerRevision{}: {Label: lastGoodSelector()},
			&cmapi.CertificateRequest{}: {
				Namespaces: map[string]cache.Config{namespace: {LabelSelector: labels.SelectorFromSet(issue.RequestLabels())}},
			},
		},
	}
}

// Inputs are the kinds that compile reads, as a new leader must have caught up with them.
func Inputs() []leader.KindList {
	return []leader.KindList{
		{List: &corev1.ServiceList{}},
		{List: &discoveryv1.EndpointSliceList{}},
		{List: &corev1.PodList{}},
		{List: &corev1.NodeList{}},
		{List: &networkingv1.ServiceCIDRList{}},
		{List: &v1alpha1.TrafficSplitList{}},
		{List: &v1alpha1.ServiceProfileList{}},
		{List: &v1alpha1.MeshPolicyList{}},
		{List: &appsv1.ControllerRevisionList{}, Options: []client.ListOption{client.MatchingLabelsSelector{Selector: lastGoodSelector()}}},
	}
}

// lastGoodSelector selects the ControllerRevisions that hold last good specs.
func lastGoodSelector() labels.Selector {
	has, err := labels.NewRequirement(LastGoodLabel, selection.Exists, nil)
	if err != nil {
		return labels.Nothing() // a constant: cannot be
	}
	return labels.NewSelector().Add(*has)
}

// trimPod drops most of a pod: environments, volumes, probes and states of its containers are nothing that shapes config.
func trimPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	spec := corev1.PodSpec{
		NodeName: pod.Spec.NodeName, ServiceAccountName: pod.Spec.ServiceAccountName, HostNetwork: pod.Spec.HostNetwork,
		Containers: trimContainers(pod.Spec.Containers), InitContainers: trimContainers(pod.Spec.InitContainers),
	}
	status := corev1.PodStatus{
		Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs, HostIP: pod.Status.HostIP,
	}
	pod.Spec, pod.Status = spec, status
	trimMeta(pod)
	return pod, nil
}

func trimContainers(in []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(in))
	for i := range in {
		out[i] = corev1.Container{Name: in[i].Name, Ports: in[i].Ports, RestartPolicy: in[i].RestartPolicy}
	}
	return out
}

// trimNode drops the images and conditions that a kubelet reports.
func trimNode(o any) (any, error) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	node.Status = corev1.NodeStatus{Addresses: node.Status.Addresses}
	trimMeta(node)
	return node, nil
}

func trimMeta(o metav1.Object) {
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
		kept := make(map[string]string, len(a)-1)
		for k, v := range a {
			if k != corev1.LastAppliedConfigAnnotation {
				kept[k] = v
			}
		}
		o.SetAnnotations(kept)
	}
}
