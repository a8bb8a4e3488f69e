// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// slice is what matters of an EndpointSlice.
type slice struct {
	service   string // key
	ipv6      bool
	ports     []slicePort
	endpoints []sliceEndpoint
}

type slicePort struct {
	name   string
	number uint32
}

type sliceEndpoint struct {
	address     netip.Addr
	ready       bool
	serving     bool
	terminating bool
	zone        string
	hints       []string // zones that it should be called from
	pod         string   // namespace/name, if the slice says that it is one
	podUID      string
}

// sliceFacts reads an EndpointSlice, or returns nil for one that belongs to no Service or holds DNS names.
func sliceFacts(w *work, s *discoveryv1.EndpointSlice) *slice {
	return remember(w, unitSlice, s.Namespace+"/"+s.Name, w.inputs(versionOf(s)), func(*slice) *slice { return readSlice(s) })
}

func readSlice(s *discoveryv1.EndpointSlice) *slice {
	name := s.Labels[discoveryv1.LabelServiceName]
	if name == "" || s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
		return nil
	}
	facts := &slice{service: serviceKey(s.Namespace, name), ipv6: s.AddressType == discoveryv1.AddressTypeIPv6}
	for _, p := range s.Ports {
		isTCP := p.Protocol == nil || *p.Protocol == "" || *p.Protocol == corev1.ProtocolTCP
		if isTCP && p.Port != nil && isPort(*p.Port) {
			facts.ports = append(facts.ports, slicePort{name: orElse(p.Name, ""), number: uint32(*p.Port)})
		}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		made := sliceEndpoint{
			ready:       orElse(e.Conditions.Ready, true),
			terminating: orElse(e.Conditions.Terminating, false),
			zone:        orElse(e.Zone, ""),
		}
		made.serving = orElse(e.Conditions.Serving, made.ready)
		if len(validation.IsValidLabelValue(made.zone)) > 0 {
			made.zone = ""
		}
		if e.Hints != nil {
			for _, z := range e.Hints.ForZones {
				if z.Name != "" && len(validation.IsValidLabelValue(z.Name)) == 0 {
					made.hints = append(made.hints, z.Name)
				}
			}
		}
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			made.pod, made.podUID = e.TargetRef.Namespace+"/"+e.TargetRef.Name, string(e.TargetRef.UID)
			if e.TargetRef.Namespace == "" {
				made.pod = s.Namespace + "/" + e.TargetRef.Name
			}
		}
		// "Clients must... use the first": the addresses of one endpoint are fungible (discovery/v1).
		if len(e.Addresses) > 0 {
			ip, err := netip.ParseAddr(e.Addresses[0])
			if made.address = ip.Unmap(); err == nil && ip.Zone() == "" && !ip.IsUnspecified() {
				facts.endpoints = append(facts.endpoints, made)
			}
		}
	}
	return facts
}

func orElse[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
