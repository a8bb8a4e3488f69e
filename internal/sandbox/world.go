// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heddle-mesh/heddle/internal/issue"
)

// What the injector and users write on pods.
const (
	annotationInject = "heddle.io/inject"
	injectDisabled   = "disabled"
	proxyContainer   = "heddle-proxy"
	// labelService is the selector of Services that have none: only what a Service selects has the protocols of its ports.
	labelService = "sandbox.heddle.io/service"
)

// serviceNetwork is where Services without an address get one. It is nobody's (RFC 2544).
const serviceNetwork = "198.18.0.0/15"

// world adds to the objects of the files what a cluster would: addresses of Services, and the pods behind endpoints.
// What it made once stays, so that an endpoint which leaves and returns is the same.
type world struct {
	addresses map[string]string             // of Services, by name.namespace
	made      map[types.NamespacedName]bool // pods
	behind    map[string]types.NamespacedName
	pods      map[types.NamespacedName]*corev1.Pod
}

// endpoint is one address and port behind a Service.
type endpoint struct {
	address netip.AddrPort
	service string // name.namespace
	pod     *corev1.Pod
}

func newWorld() *world {
	return &world{
		addresses: make(map[string]string), made: make(map[types.NamespacedName]bool),
		behind: make(map[string]types.NamespacedName), pods: make(map[types.NamespacedName]*corev1.Pod),
	}
}

// completed is the files' objects with all that a cluster adds.
type completed struct {
	services  map[string]*corev1.Service // by name.namespace
	pods      map[types.NamespacedName]*corev1.Pod
	endpoints []endpoint // sorted by service and address
	others    []client.Object
	slices    []*discoveryv1.EndpointSlice
	notes     []string // what is most likely a mistake
}

// objects returns all of them.
func (c *completed) objects() []client.Object {
	out := slices.Clone(c.others)
	for _, s := range c.services {
		out = append(out, s)
	}
	for _, s := range c.slices {
		out = append(out, s)
	}
	for _, p := range c.pods {
		out = append(out, p)
	}
	return out
}

// complete leaves the objects as they are and returns copies.
func (w *world) complete(objects []client.Object) *completed {
	c := &completed{services: make(map[string]*corev1.Service), pods: make(map[types.NamespacedName]*corev1.Pod)}
	for _, o := range objects {
		switch o := o.DeepCopyObject().(type) {
		case *corev1.Service:
			c.services[o.Name+"."+o.Namespace] = o
		case *discoveryv1.EndpointSlice:
			c.slices = append(c.slices, o)
		case *corev1.Pod:
			inject(o)
			c.pods[client.ObjectKeyFromObject(o)] = o
		case client.Object:
			c.others = append(c.others, o)
		}
	}
	for _, key := range sortedKeys(c.services) {
		w.completeService(c.services[key], key)
	}
	slices.SortFunc(c.slices, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range c.slices {
		w.completeSlice(c, s)
	}
	for key := range w.made {
		if c.pods[key] == nil && w.pods[key] != nil {
			c.pods[key] = w.pods[key]
		}
	}
	slices.SortFunc(c.endpoints, func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(a.service, b.service), a.address.Compare(b.address))
	})
	return c
}

// inject marks a pod as the injector does, unless it wants to stay out of the mesh.
func inject(p *corev1.Pod) {
	p.Spec.ServiceAccountName = cmp.Or(p.Spec.ServiceAccountName, "default")
	p.Status.Phase = cmp.Or(p.Status.Phase, corev1.PodRunning)
	if p.Annotations[annotationInject] == injectDisabled || p.Labels[annotationInject] == injectDisabled {
		return
	}
	if p.Annotations == nil {
		p.Annotations = make(map[string]string)
	}
	p.Annotations[issue.AnnotationInjected] = "true"
	if !slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == proxyContainer }) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: proxyContainer})
	}
}

func isMeshed(p *corev1.Pod) bool { return p.Annotations[issue.AnnotationInjected] == "true" }

func (w *world) completeService(s *corev1.Service, key string) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	s.Spec.Type = cmp.Or(s.Spec.Type, corev1.ServiceTypeClusterIP)
	if s.Spec.ClusterIP == "" {
		if w.addresses[key] == "" {
			w.addresses[key] = nthAddress(len(w.addresses) + 1)
		}
		s.Spec.ClusterIP = w.addresses[key]
	}
	if s.Spec.ClusterIP != corev1.ClusterIPNone && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	if len(s.Spec.Selector) == 0 {
		s.Spec.Selector = map[string]string{labelService: s.Name}
	}
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].Protocol = cmp.Or(s.Spec.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}

// nthAddress is an address of serviceNetwork.
func nthAddress(n int) string {
	first := netip.MustParsePrefix(serviceNetwork).Addr().As4()
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], binary.BigEndian.Uint32(first[:])+uint32(n)) //nolint:gosec // there aren't as many Services
	return netip.AddrFrom4(ip).String()
}

// completeSlice finds or makes the pod of each endpoint.
func (w *world) completeSlice(c *completed, s *discoveryv1.EndpointSlice) {
	name := s.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		c.note(s, "metadata.labels: it belongs to no Service: add %s: NAME", discoveryv1.LabelServiceName)
		return
	}
	key := name + "." + s.Namespace
	service := c.services[key]
	if service == nil {
		c.note(s, "metadata.labels[%s]: there is no Service %s/%s", discoveryv1.LabelServiceName, s.Namespace, name)
	}
	for i := range s.Ports {
		setTarget(service, &s.Ports[i])
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		ip, err := netip.ParseAddr(e.Addresses[0])
		if err != nil {
			continue // checkEndpoints has refused it
		}
		if s.AddressType == "" {
			s.AddressType = discoveryv1.AddressTypeIPv4
			if ip.Is6() {
				s.AddressType = discoveryv1.AddressTypeIPv6
			}
		}
		pod := w.podOf(c, s, e, service, ip)
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}
		for _, port := range s.Ports {
			if port.Port != nil {
				c.add(s, endpoint{netip.AddrPortFrom(ip, uint16(*port.Port)), key, pod}) //nolint:gosec // checkEndpoints has judged it
			}
		}
	}
}

func (c *completed) note(o client.Object, format string, args ...any) {
	c.notes = append(c.notes, describe(o)+": "+fmt.Sprintf(format, args...))
}

// add adds an endpoint, unless it is a second port where the mesh can only have one.
func (c *completed) add(s *discoveryv1.EndpointSlice, e endpoint) {
	for _, other := range c.endpoints {
		if other.service != e.service || other.address.Addr() != e.address.Addr() {
			continue
		}
		if other.address == e.address {
			return
		}
		if !slices.ContainsFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return p.Port != nil && *p.Port == int32(other.address.Port()) }) {
			c.note(s, "endpoints: %v is an endpoint of %s already, with port %d: an address is one endpoint, so give each its own of 127.0.0.0/8",
				e.address.Addr(), e.service, other.address.Port())
			return
		}
	}
	c.endpoints = append(c.endpoints, e)
}

// setTarget says, of a Service's port that does not say it, which port it leads to.
func setTarget(s *corev1.Service, of *discoveryv1.EndpointPort) {
	if s == nil || of.Port == nil {
		return
	}
	name := ""
	if of.Name != nil {
		name = *of.Name
	}
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.Name == name && p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(*of.Port)
		}
	}
}

// podOf returns the pod of an endpoint: the one that it names, the one that another Service has there, or a new one. The
// service account of a new one is named as the Service.
func (w *world) podOf(c *completed, s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, service *corev1.Service, ip netip.Addr) *corev1.Pod {
	name := s.Labels[discoveryv1.LabelServiceName]
	key := types.NamespacedName{Namespace: s.Namespace, Name: name + "-" + strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())}
	if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" && ref.Name != "" {
		key = types.NamespacedName{Namespace: cmp.Or(ref.Namespace, s.Namespace), Name: ref.Name}
	} else if known, ok := w.behind[places(s, ip)]; ok {
		key = known
	}
	for _, place := range placesOf(s, ip) {
		if _, ok := w.behind[place]; !ok {
			w.behind[place] = key
		}
	}
	pod := c.pods[key]
	if pod == nil {
		pod = &corev1.Pod{}
		pod.Namespace, pod.Name = key.Namespace, key.Name
		pod.Spec.ServiceAccountName = name
		if before := w.pods[key]; before != nil {
			pod.Spec.ServiceAccountName = before.Spec.ServiceAccountName
		}
		inject(pod)
		pod.Labels = make(map[string]string)
		c.pods[key], w.pods[key], w.made[key] = pod, pod, true
	}
	if w.made[key] && service != nil {
		maps.Copy(pod.Labels, service.Spec.Selector)
	} else if service != nil && service.Spec.Selector[labelService] != "" {
		if pod.Labels == nil {
			pod.Labels = make(map[string]string)
		}
		pod.Labels[labelService] = service.Name
	}
	return pod
}

// places names an address with the first port, and placesOf with each port of a slice.
func places(s *discoveryv1.EndpointSlice, ip netip.Addr) string {
	if all := placesOf(s, ip); len(all) > 0 {
		return all[0]
	}
	return ""
}

func placesOf(s *discoveryv1.EndpointSlice, ip netip.Addr) []string {
	var out []string
	for _, port := range s.Ports {
		if port.Port != nil {
			out = append(out, fmt.Sprintf("%s %s %d", s.Namespace, ip, *port.Port))
		}
	}
	return out
}

// checkEndpoints refuses endpoints that are not on this machine.
func checkEndpoints(o client.Object) error {
	s, ok := o.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil
	}
	var errs field.ErrorList
	for i := range s.Endpoints {
		for j, address := range s.Endpoints[i].Addresses {
			at := field.NewPath("endpoints").Index(i).Child("addresses").Index(j)
			if ip, err := netip.ParseAddr(address); err != nil || !ip.IsLoopback() {
				errs = append(errs, field.Invalid(at, address, "want a loopback address, such as 127.0.0.11: the sandbox calls nothing outside this machine"))
			}
		}
	}
	for i, port := range s.Ports {
		if port.Port == nil || *port.Port < 1 || *port.Port > 65535 {
			errs = append(errs, field.Required(field.NewPath("ports").Index(i).Child("port"), "1 to 65535"))
		}
	}
	return errs.ToAggregate()
}
