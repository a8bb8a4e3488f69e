// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// owner is whose an address is: one of the two is set.
type owner struct {
	service *service
	pod     *pod
	inbound *inbound // of the pod; nil if it is not meshed
}

// owners maps the addresses of Services and of live pods. A Service has an address before a pod does.
func (r *Result) owners() map[netip.Addr]owner {
	out := make(map[netip.Addr]owner, len(r.pods)+len(r.services))
	for ip, i := range podsByAddress(r.pods) {
		out[ip] = owner{pod: r.pods[i], inbound: r.inbound[i]}
	}
	for _, s := range slices.Backward(r.services) { // so that the first by name wins
		for _, ip := range s.addresses {
			out[ip] = owner{service: s}
		}
	}
	return out
}

// Address returns the section of an address: the Service that has it, the pod that has it, or that it is none of ours,
// as are the addresses of nodes and so of pods on their network.
func (r *Result) Address(ip netip.Addr) *meshconfig.Address {
	ip = ip.Unmap().WithZone("")
	out := &meshconfig.Address{Address: ip.String()}
	switch owner := r.addresses()[ip]; {
	case owner.service != nil:
		out.Service = owner.service.key
	case owner.pod != nil:
		out.Pod = r.podAddress(ip, owner.pod, owner.inbound)
	}
	return out
}

func (r *Result) podAddress(ip netip.Addr, p *pod, in *inbound) *meshconfig.PodAddress {
	endpoint := newEndpoint(ip, p)
	endpoint.Terminating = p.terminating
	out := &meshconfig.PodAddress{Endpoint: endpoint}
	if in == nil {
		out.Ports = r.unmeshedPorts(p)
		return out
	}
	others := in.plaintext.at(0)
	out.Plaintext, out.PlaintextUntil = others.plaintext, others.until
	for _, port := range in.section.GetPorts() {
		d := in.plaintext.at(port.GetPort())
		if port.GetService() == "" && d == others {
			continue
		}
		out.Ports = append(out.Ports, &meshconfig.PodPort{
			Port: port.GetPort(), Protocol: port.GetProtocol(), Service: port.GetService(),
			Plaintext: d.plaintext, PlaintextUntil: d.until,
		})
	}
	return out
}

// unmeshedPorts are the ports that Services declare for a pod that is not in the mesh.
func (r *Result) unmeshedPorts(p *pod) []*meshconfig.PodPort {
	m := &membership{named: p.named, services: r.indexes[p.namespace].selecting(p)}
	var ports []uint32
	for _, s := range m.services {
		for i := range s.ports {
			if target := s.ports[i].targetOf(m.named); target != 0 && !slices.Contains(ports, target) {
				ports = append(ports, target)
			}
		}
	}
	slices.SortFunc(ports, cmp.Compare[uint32])
	out := make([]*meshconfig.PodPort, 0, len(ports))
	for _, port := range ports {
		svc, protocol := m.portOf(port, r.profiles)
		out = append(out, &meshconfig.PodPort{Port: port, Service: svc, Protocol: protocol})
	}
	return out
}
