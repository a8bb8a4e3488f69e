// SPDX-License-Identifier: Apache-2.0

package gen

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Service builds a Service that selects pods with label app=name. Give it ports and an address.
func Service(namespace, name string, options ...Option[corev1.Service]) *corev1.Service {
	return build(&corev1.Service{
		ObjectMeta: meta("service", namespace, name),
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": name}},
	}, options)
}

// ClusterIP gives a Service its addresses.
func ClusterIP(ips ...string) Option[corev1.Service] {
	return func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = ips[0], ips }
}

// Headless makes a Service one without an address.
func Headless() Option[corev1.Service] { return ClusterIP(corev1.ClusterIPNone) }

// Port adds a port to a Service; target is an int or the name of a container's port.
func Port(name string, port int32, target any) Option[corev1.Service] {
	return func(s *corev1.Service) {
		p := corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP}
		switch t := target.(type) {
		case int:
			p.TargetPort = intstr.FromInt32(int32(t))
		case string:
			p.TargetPort = intstr.FromString(t)
		}
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
}

// AppProtocol declares what the last port of a Service speaks.
func AppProtocol(protocol string) Option[corev1.Service] {
	return func(s *corev1.Service) { s.Spec.Ports[len(s.Spec.Ports)-1].AppProtocol = &protocol }
}

// Selector changes which pods a Service selects; without pairs, none.
func Selector(pairs ...string) Option[corev1.Service] {
	return func(s *corev1.Service) {
		s.Spec.Selector = nil
		for i := 0; i+1 < len(pairs); i += 2 {
			if s.Spec.Selector == nil {
				s.Spec.Selector = map[string]string{}
			}
			s.Spec.Selector[pairs[i]] = pairs[i+1]
		}
	}
}

// ExternalName makes a Service an alias of a DNS name.
func ExternalName(host string) Option[corev1.Service] {
	return func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: host, Ports: s.Spec.Ports}
	}
}

// Pod builds a running pod in the mesh, with label app=name and service account name.
func Pod(namespace, name, ip string, options ...Option[corev1.Pod]) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: meta("pod", namespace, name),
		Spec: corev1.PodSpec{
			ServiceAccountName: name,
			InitContainers:     []corev1.Container{{Name: "heddle-init"}, {Name: "heddle-proxy"}},
			Containers:         []corev1.Container{{Name: "app"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
	pod.Annotations = map[string]string{"heddle.io/injected": "true"}
	pod.Labels = map[string]string{"app": name}
	return build(pod, options)
}

// App has a pod belong to a Deployment: its label, its service account and its controller.
func App(app string) Option[corev1.Pod] {
	return func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": app, "pod-template-hash": "5d4f"}
		p.Spec.ServiceAccountName = app
		controller := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: app + "-5d4f", Controller: &controller}}
	}
}

// ControlledBy names the controller of a pod.
func ControlledBy(kind, name string) Option[corev1.Pod] {
	controller := true
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, Controller: &controller}}
	}
}

// Unmeshed takes a pod out of the mesh.
func Unmeshed() Option[corev1.Pod] {
	return func(p *corev1.Pod) { p.Annotations, p.Spec.InitContainers = nil, nil }
}

// HostNetwork puts a pod on its node's network, and so out of the mesh.
func HostNetwork() Option[corev1.Pod] {
	return func(p *corev1.Pod) { Unmeshed()(p); p.Spec.HostNetwork = true }
}

// Phase sets the phase of a pod.
func Phase(phase corev1.PodPhase) Option[corev1.Pod] {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

// ServiceAccount sets the service account of a pod.
func ServiceAccount(name string) Option[corev1.Pod] {
	return func(p *corev1.Pod) { p.Spec.ServiceAccountName = name }
}

// ContainerPort adds a named port to the first container of a pod.
func ContainerPort(name string, port int32) Option[corev1.Pod] {
	return func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: name, ContainerPort: port, Protocol: corev1.ProtocolTCP})
	}
}

// Slice builds an EndpointSlice of a Service for IPv4, with a name derived from suffix.
func Slice(namespace, service, suffix string, options ...Option[discoveryv1.EndpointSlice]) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  meta("slice", namespace, service+"-"+suffix),
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	return build(slice, options)
}

// SlicePort adds a port to a slice: its name is that of the Service's port.
func SlicePort(name string, port int32) Option[discoveryv1.EndpointSlice] {
	return func(s *discoveryv1.EndpointSlice) {
		protocol := corev1.ProtocolTCP
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &protocol})
	}
}

// Endpoint adds a pod to a slice, ready unless a condition says otherwise.
func Endpoint(pod *corev1.Pod, conditions ...Condition) Option[discoveryv1.EndpointSlice] {
	return func(s *discoveryv1.EndpointSlice) {
		Address(pod.Status.PodIP, conditions...)(s)
		s.Endpoints[len(s.Endpoints)-1].TargetRef = &corev1.ObjectReference{
			Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		}
	}
}

// Address adds an endpoint that is no pod to a slice.
func Address(ip string, conditions ...Condition) Option[discoveryv1.EndpointSlice] {
	return func(s *discoveryv1.EndpointSlice) {
		ready := true
		e := discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
		for _, c := range conditions {
			c(&e)
		}
		s.Endpoints = append(s.Endpoints, e)
	}
}

// Condition changes the state of an endpoint.
type Condition func(*discoveryv1.Endpoint)

// NotReady is an endpoint that must get no traffic.
func NotReady(e *discoveryv1.Endpoint) {
	no := false
	e.Conditions.Ready, e.Conditions.Serving = &no, &no
}

// Terminating is an endpoint that is going away and still serves.
func Terminating(e *discoveryv1.Endpoint) {
	yes, no := true, false
	e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
}

// Zone puts an endpoint into a zone.
func Zone(zone string) Condition { return func(e *discoveryv1.Endpoint) { e.Zone = &zone } }
