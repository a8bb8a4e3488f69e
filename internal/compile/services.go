// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// service is what matters of a Service that can have endpoints.
type service struct {
	key             string // name.namespace
	namespace       string
	name            string
	addresses       []netip.Addr // ClusterIPs; none if headless
	ipv6            bool         // the first address family
	families        int          // how many address families are declared
	publishNotReady bool
	selector        map[string]string
	ports           []servicePort // TCP, ascending
}

type servicePort struct {
	number   uint32
	name     string // what EndpointSlices call it
	target   intstr.IntOrString
	declared meshconfig.Protocol // by the Service itself
}

func serviceKey(namespace, name string) string { return name + "." + namespace }

// port returns the port of a number, or nil.
func (s *service) port(number uint32) *servicePort {
	i, ok := slices.BinarySearchFunc(s.ports, number, func(p servicePort, n uint32) int { return cmp.Compare(p.number, n) })
	if !ok {
		return nil
	}
	return &s.ports[i]
}

// serviceFacts reads a Service, or returns nil for one that has no endpoints: an alias of a DNS name.
func serviceFacts(w *work, s *corev1.Service) *service {
	name := s.Namespace + "/" + s.Name
	return remember(w, unitService, name, w.inputs(versionOf(s)), func(before *service) *service {
		facts := readService(s)
		if before != nil && facts != nil && reflect.DeepEqual(before, facts) {
			return before
		}
		return facts
	})
}

func readService(s *corev1.Service) *service {
	if isAlias(s) || len(validation.IsDNS1123Label(s.Name)) > 0 || len(validation.IsDNS1123Label(s.Namespace)) > 0 {
		return nil
	}
	facts := &service{
		key: serviceKey(s.Namespace, s.Name), namespace: s.Namespace, name: s.Name,
		addresses:       clusterIPs(&s.Spec),
		families:        len(s.Spec.IPFamilies),
		publishNotReady: s.Spec.PublishNotReadyAddresses,
		selector:        s.Spec.Selector,
	}
	if facts.families > 0 {
		facts.ipv6 = s.Spec.IPFamilies[0] == corev1.IPv6Protocol
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP || !isPort(p.Port) {
			continue
		}
		target := p.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(p.Port)
		}
		facts.ports = append(facts.ports, servicePort{uint32(p.Port), p.Name, target, declaredProtocol(p)})
	}
	slices.SortStableFunc(facts.ports, func(a, b servicePort) int { return cmp.Compare(a.number, b.number) })
	facts.ports = slices.CompactFunc(facts.ports, func(a, b servicePort) bool { return a.number == b.number })
	return facts
}

func isAlias(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeExternalName }

func clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	var out []netip.Addr
	for _, s := range append([]string{spec.ClusterIP}, spec.ClusterIPs...) {
		ip, err := netip.ParseAddr(s)
		if ip = ip.Unmap(); err == nil && ip.Zone() == "" && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// targetOf returns the container's port behind a port of the service at a pod with these named ports, or 0.
func (p *servicePort) targetOf(named map[string]uint32) uint32 {
	if p.target.Type == intstr.String {
		return named[p.target.StrVal]
	}
	if !isPort(p.target.IntVal) {
		return 0
	}
	return uint32(p.target.IntVal)
}

// selectorIndex finds the services of one namespace that select a pod, without trying each of them.
type selectorIndex struct {
	byLabel map[[2]string][]*service // by one pair of the selector, the one that the fewest services share
}

// indexServices makes the index of each namespace.
func (c *compilation) indexServices() map[string]*selectorIndex {
	byNamespace := map[string][]*service{}
	for _, s := range c.services {
		byNamespace[s.namespace] = append(byNamespace[s.namespace], s)
	}
	indexes := make(map[string]*selectorIndex, len(byNamespace))
	for namespace, services := range byNamespace {
		indexes[namespace] = indexSelectors(c.work, namespace, services)
	}
	return indexes
}

func indexSelectors(w *work, namespace string, services []*service) *selectorIndex {
	in := w.inputs()
	for _, s := range services {
		in = append(in, s)
	}
	return remember(w, unitIndex, namespace, in, func(*selectorIndex) *selectorIndex {
		shared := map[[2]string]int{}
		for _, s := range services {
			for k, v := range s.selector {
				shared[[2]string{k, v}]++
			}
		}
		index := &selectorIndex{byLabel: map[[2]string][]*service{}}
		for _, s := range services {
			var rarest [2]string
			for _, k := range slices.Sorted(maps.Keys(s.selector)) {
				pair := [2]string{k, s.selector[k]}
				if rarest == ([2]string{}) || shared[pair] < shared[rarest] {
					rarest = pair
				}
			}
			if len(s.selector) > 0 {
				index.byLabel[rarest] = append(index.byLabel[rarest], s)
			}
		}
		return index
	})
}

// selecting returns the services that select a pod, by name.
func (x *selectorIndex) selecting(p *pod) []*service {
	if x == nil {
		return nil
	}
	var out []*service
	for k, v := range p.labels {
		for _, s := range x.byLabel[[2]string{k, v}] {
			if containsAll(p.labels, s.selector) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b *service) int { return cmp.Compare(a.name, b.name) })
	return out
}

func containsAll(labels, selector map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
