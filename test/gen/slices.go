// SPDX-License-Identifier: Apache-2.0

package gen

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Slices makes the EndpointSlices that Kubernetes would: one of each Service with a selector, of the pods that it
// selects, at the ports that it targets there.
func Slices(services []*corev1.Service, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, s := range services {
		if len(s.Spec.Selector) == 0 {
			continue
		}
		slice := Slice(s.Namespace, s.Name, "auto")
		selector := labels.SelectorFromSet(s.Spec.Selector)
		for _, p := range pods {
			if p.Namespace != s.Namespace || !selector.Matches(labels.Set(p.Labels)) {
				continue
			}
			switch {
			case p.Status.Phase != corev1.PodRunning:
				Endpoint(p, NotReady)(slice)
			case p.DeletionTimestamp != nil:
				Endpoint(p, Terminating)(slice)
			default:
				Endpoint(p)(slice)
			}
			if slice.Ports == nil {
				for _, port := range s.Spec.Ports {
					SlicePort(port.Name, target(port, p))(slice)
				}
			}
		}
		out = append(out, slice)
	}
	return out
}

// target is the port of a pod behind that of a Service.
func target(port corev1.ServicePort, pod *corev1.Pod) int32 {
	if port.TargetPort.Type == intstr.Int {
		if port.TargetPort.IntVal == 0 {
			return port.Port
		}
		return port.TargetPort.IntVal
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == port.TargetPort.StrVal {
				return p.ContainerPort
			}
		}
	}
	return port.Port
}
