// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// find returns a Service that an object names, or why there is none that can have endpoints.
func (c *compilation) find(namespace, name string) (*service, string) {
	s, exists := c.serviceByKey[serviceKey(namespace, name)]
	switch {
	case s != nil:
		return s, ""
	case exists:
		return nil, fmt.Sprintf("Service %q in namespace %q is of type ExternalName, which has no endpoints: name a Service with pods", name, namespace)
	default:
		return nil, fmt.Sprintf("there is no Service %q in namespace %q: create it, or correct the name", name, namespace)
	}
}

// protocolOf returns what a port speaks: what its profile says, else its Service.
func protocolOf(p *servicePort, of *profile) meshconfig.Protocol {
	if of != nil {
		for _, declared := range of.spec.Ports {
			if uint32(declared.Port) == p.number {
				return protocols[declared.Protocol]
			}
		}
	}
	return p.declared
}

func portList(s *service) string {
	if len(s.ports) == 0 {
		return "it has no TCP port"
	}
	numbers := make([]string, len(s.ports))
	for i, p := range s.ports {
		numbers[i] = fmt.Sprint(p.number)
	}
	return "it has " + strings.Join(numbers, ", ")
}

// resolveSplit reports what a split names and is not there.
func (c *compilation) resolveSplit(s *split) {
	root, problem := c.find(s.origin.Namespace, s.spec.Service.Name)
	if root == nil {
		c.report.unresolved(s.origin, v1alpha1.ReasonServiceNotFound, "spec.service.name: %s", problem)
	} else if port := rootPort(s); port != 0 && root.port(port) == nil {
		c.report.unresolved(s.origin, v1alpha1.ReasonPortNotFound, "spec.service.port: Service %q has no TCP port %d (%s)", root.name, port, portList(root))
		root = nil
	}
	for i, b := range s.spec.Backends {
		if b.Service == nil {
			continue // a subset of the root; whether it has pods is seen when its endpoints are gathered
		}
		path := fmt.Sprintf("spec.backends[%d].service", i)
		backend, problem := c.find(s.origin.Namespace, b.Service.Name)
		if backend == nil {
			c.report.unresolved(s.origin, v1alpha1.ReasonBackendNotFound, "%s.name: %s; until then the share of backend %q is refused", path, problem, b.Name)
			continue
		}
		for _, port := range backendPorts(s, root, b.Service) {
			if backend.port(port) == nil {
				c.report.unresolved(s.origin, v1alpha1.ReasonPortNotFound, "%s.port: Service %q has no TCP port %d (%s): set the port of backend %q; until then its share is refused",
					path, backend.name, port, portList(backend), b.Name)
			}
		}
	}
}

// backendPorts are the ports of a backend that are sent to.
func backendPorts(s *split, root *service, b *v1alpha1.ServicePortReference) []uint32 {
	if port := backendPort(s, b); port != 0 {
		return []uint32{port}
	}
	var ports []uint32
	if root != nil {
		for _, p := range root.ports {
			ports = append(ports, p.number)
		}
	}
	return ports
}

// resolveProfile reports what a profile names and is not there; owner is the profile that is in force for its service.
func (c *compilation) resolveProfile(p, owner *profile) {
	s, problem := c.find(p.origin.Namespace, p.spec.Service.Name)
	if s == nil {
		c.report.unresolved(p.origin, v1alpha1.ReasonServiceNotFound, "spec.service.name: %s", problem)
		return
	}
	for i, declared := range p.spec.Ports {
		if s.port(uint32(declared.Port)) == nil {
			c.report.unresolved(p.origin, v1alpha1.ReasonPortNotFound, "spec.ports[%d].port: Service %q has no TCP port %d (%s)", i, s.name, declared.Port, portList(s))
		}
	}
	c.resolveMirrors(p, s)
	c.resolveFaults(p, owner, s)
	c.resolveCheck(p, s)
	if !carriesNone(s, owner) {
		return
	}
	c.resolveHash(p.origin, p.spec.LoadBalancing, s, owner)
	if bounds := boundsOfRequests(p.spec.CircuitBreaker); len(bounds) > 0 {
		c.report.unresolved(p.origin, v1alpha1.ReasonProtocolMismatch, "spec.circuitBreaker: no port of Service %q carries requests (%s), so that nothing is bounded by %s: use maxConnections or endpoint.maxConnections, or declare a port as HTTP1, HTTP2 or GRPC",
			s.name, protocolList(s, owner), strings.Join(bounds, ", "))
	}
	if len(p.spec.Routes) > 0 {
		c.report.unresolved(p.origin, v1alpha1.ReasonProtocolMismatch, "spec.routes: no port of Service %q carries requests (%s): declare one as HTTP1, HTTP2 or GRPC, or remove the routes",
			s.name, protocolList(s, owner))
	}
}

// carriesNone says whether a Service has ports, of which none carries requests.
func carriesNone(s *service, of *profile) bool {
	return len(s.ports) > 0 && !slices.ContainsFunc(s.ports, func(port servicePort) bool { return hasRequests(protocolOf(&port, of)) })
}

// resolveHash reports keys of a profile or a policy that are in requests, for a Service that carries none.
func (c *compilation) resolveHash(origin Origin, b *v1alpha1.LoadBalancing, s *service, of *profile) {
	if b == nil {
		return
	}
	for i, key := range b.Hash {
		if hashKeys[key.By] != meshconfig.HashKey_BY_SOURCE_IP {
			c.report.unresolved(origin, v1alpha1.ReasonProtocolMismatch, "spec.loadBalancing.hash[%d].by: no port of Service %q carries requests (%s), so that there are no headers, cookies and queries: use Source, or declare a port as HTTP1, HTTP2 or GRPC",
				i, s.name, protocolList(s, of))
		}
	}
}

// boundsOfRequests are the fields of a breaker that bound requests, and not connections.
func boundsOfRequests(b *v1alpha1.CircuitBreaker) []string {
	if b == nil {
		return nil
	}
	var out []string
	add := func(name string, set bool) {
		if set {
			out = append(out, name)
		}
	}
	add("maxPending", b.MaxPending != nil)
	add("maxRequests", b.MaxRequests != nil)
	add("maxRetries", b.MaxRetries != nil)
	if b.Endpoint != nil {
		add("endpoint.maxRequests", b.Endpoint.MaxRequests != nil)
		add("endpoint.adaptive", b.Endpoint.Adaptive)
	}
	return out
}

// resolveFaults reports faults of a profile that nothing can be injected by, since no port carries requests.
func (c *compilation) resolveFaults(p, owner *profile, s *service) {
	if !carriesNone(s, owner) {
		return
	}
	for i := range p.spec.Faults {
		if _, hits := ofConnections(&p.spec.Faults[i]); !hits {
			c.report.unresolved(p.origin, v1alpha1.ReasonProtocolMismatch, "spec.faults[%d]: it chooses among requests or answers them, and no port of Service %q carries requests (%s): use delay or abort.reset, with no matches but callers, or declare a port as HTTP1, HTTP2 or GRPC",
				i, s.name, protocolList(s, owner))
		}
	}
}

// resolveCheck reports a check of ports that are not there, and one that fits no port.
func (c *compilation) resolveCheck(p *profile, s *service) {
	h := p.spec.HealthCheck
	if h == nil || len(s.ports) == 0 {
		return
	}
	for i, port := range h.Ports {
		if s.port(uint32(port)) == nil {
			c.report.unresolved(p.origin, v1alpha1.ReasonPortNotFound, "spec.healthCheck.ports[%d]: Service %q has no TCP port %d (%s)", i, s.name, port, portList(s))
		}
	}
	if !slices.ContainsFunc(s.ports, func(port servicePort) bool { return isChecked(p, &port) }) {
		c.report.unresolved(p.origin, v1alpha1.ReasonProtocolMismatch, "spec.healthCheck: nothing is asked, because no port that it is about speaks HTTP, or for grpc HTTP/2 (%s): use tcp, correct ports, or declare a port as HTTP1, HTTP2 or GRPC",
			protocolList(s, p))
	}
}

// resolveMirrors reports mirrors of a profile to what is not there. Without a port one goes to each port that requests
// come to, so one of them at least must exist there.
func (c *compilation) resolveMirrors(p *profile, s *service) {
	for i := range p.spec.Routes {
		f := p.spec.Routes[i].Filters
		if f == nil || f.Mirror == nil {
			continue
		}
		path := fmt.Sprintf("spec.routes[%d].filters.mirror.service", i)
		target, problem := c.find(p.origin.Namespace, f.Mirror.Service.Name)
		if target == nil {
			c.report.unresolved(p.origin, v1alpha1.ReasonBackendNotFound, "%s.name: %s; until then nothing is mirrored", path, problem)
			continue
		}
		has := func(port servicePort) bool { return target.port(port.number) != nil }
		if port := portNumber(f.Mirror.Service.Port); port != 0 {
			if target.port(port) == nil {
				c.report.unresolved(p.origin, v1alpha1.ReasonPortNotFound, "%s.port: Service %q has no TCP port %d (%s)", path, target.name, port, portList(target))
			}
		} else if !slices.ContainsFunc(s.ports, has) {
			c.report.unresolved(p.origin, v1alpha1.ReasonPortNotFound, "%s.port: Service %q has none of the ports of Service %q (%s): set the port", path, target.name, s.name, portList(target))
		}
	}
}

// resolveRules reports rules and stickiness of a split at ports that carry no requests: at the port that it names, or at
// all of them.
func (c *compilation) resolveRules(s *split, root *service) {
	sticks := s.spec.Stickiness != nil && sticksToRequests(s.spec.Stickiness)
	if len(s.spec.Rules) == 0 && !sticks {
		return
	}
	of := c.profiles[root.key]
	ports := root.ports
	if port := root.port(rootPort(s)); port != nil {
		ports = []servicePort{*port}
	}
	if len(ports) == 0 || slices.ContainsFunc(ports, func(p servicePort) bool { return hasRequests(protocolOf(&p, of)) }) {
		return
	}
	if sticks {
		c.report.unresolved(s.origin, v1alpha1.ReasonProtocolMismatch, "spec.stickiness.by: no port of Service %q that this divides carries requests (%s), so that there are no cookies and headers: use SourceIdentity or SourceIP",
			root.name, protocolList(root, of))
	}
	if len(s.spec.Rules) > 0 {
		c.report.unresolved(s.origin, v1alpha1.ReasonProtocolMismatch, "spec.rules: no port of Service %q that this divides carries requests (%s), so the rules are not in force there: declare the port as HTTP1, HTTP2 or GRPC in a ServiceProfile, or remove the rules",
			root.name, protocolList(root, of))
	}
}

func protocolList(s *service, of *profile) string {
	ports := make([]string, len(s.ports))
	for i := range s.ports {
		ports[i] = fmt.Sprintf("%d is %s", s.ports[i].number, protocolLabel(protocolOf(&s.ports[i], of)))
	}
	return strings.Join(ports, ", ")
}
