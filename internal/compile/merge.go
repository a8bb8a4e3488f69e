// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// merge puts the policies that apply to a workload together, for each port of its pods.
//
// The sections mtls and authorization are decided on apart, each as a whole by the narrowest policy that sets it:
// Workload before Service before Namespace before Mesh, within a kind one with a port before one without, then the
// older. Deny rules of all others that apply add up. Without a policy mTLS is Strict and the default action Allow.
type merge struct {
	*membership
	profiles map[string]*profile
	clusters map[string]*cluster
	policies []*activePolicy // narrowest first
	options  *options
	found    map[policyProblem]bool
	counts   map[*activePolicy]bool // those of which something is in the section
	losers   map[*activePolicy]bool // of a conflict
}

func newMerge(m *membership, c *compilation, policies []*activePolicy) *merge {
	return &merge{
		membership: m, profiles: c.profiles, clusters: c.clusters, policies: policies, options: c.options,
		found: map[policyProblem]bool{}, counts: map[*activePolicy]bool{}, losers: map[*activePolicy]bool{},
	}
}

func (m *merge) inbound() *inbound {
	made := &inbound{section: &meshconfig.Inbound{DefaultPolicy: m.policyAt(0)}}
	for _, port := range m.ports() {
		made.section.Ports = append(made.section.Ports, m.policyAt(port))
	}
	made.plaintext = plaintextOf(made.section)
	for _, p := range m.policies {
		if m.shapes(p) {
			made.origins = append(made.origins, p.origin)
		}
	}
	for found := range m.found {
		made.problems = append(made.problems, found)
	}
	slices.SortFunc(made.problems, func(a, b policyProblem) int {
		return cmp.Or(compareOrigins(a.origin, b.origin), cmp.Compare(a.message, b.message))
	})
	return made
}

// shapes says whether a policy has a part in the section. What others override has; of one that loses a conflict something
// must be left.
func (m *merge) shapes(p *activePolicy) bool {
	switch {
	case p.has.rateLimits: // they add up
		return true
	case m.losers[p]:
		return m.counts[p]
	default:
		return p.has.mtls || p.has.authorization
	}
}

// ports are the containers' ports that Services send to or policies name, ascending.
func (m *merge) ports() []uint32 {
	var ports []uint32
	for _, s := range m.services {
		for i := range s.ports {
			ports = append(ports, s.ports[i].targetOf(m.named))
		}
	}
	for _, p := range m.policies {
		ports = append(ports, m.mapped(p, portNumber(p.spec.TargetRef.Port))...)
		if p.has.mtls {
			for _, port := range p.spec.MTLS.Ports {
				ports = append(ports, m.mapped(p, uint32(port.Port))...)
			}
		}
		for _, port := range operationPorts(p) {
			ports = append(ports, m.mapped(p, uint32(port))...)
		}
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return slices.DeleteFunc(ports, func(port uint32) bool { return port == 0 })
}

// operationPorts are the ports that the operations of a policy name.
func operationPorts(p *activePolicy) []int32 {
	var ports []int32
	if p.has.authorization {
		for i := range p.spec.Authorization.Rules {
			for _, to := range p.spec.Authorization.Rules[i].To {
				ports = append(ports, to.Ports...)
			}
		}
	}
	if p.has.rateLimits {
		for i := range p.spec.RateLimits {
			for _, to := range p.spec.RateLimits[i].To {
				ports = append(ports, to.Ports...)
			}
		}
	}
	return ports
}

// mapped returns the container's port that a policy means by a port, if there is one: that behind the port of its
// Service, or the port itself.
func (m *merge) mapped(p *activePolicy, port uint32) []uint32 {
	if p.kind() != v1alpha1.TargetService {
		return []uint32{port}
	}
	for _, s := range m.services {
		if s.key != p.service(p.spec.TargetRef.Name) || s.port(port) == nil {
			continue
		}
		if target := s.port(port).targetOf(m.named); target != 0 {
			return []uint32{target}
		}
	}
	return nil
}

// reaches says whether a policy applies to a container's port; 0 is any port that is not listed.
func (m *merge) reaches(p *activePolicy, port uint32) bool {
	target := portNumber(p.spec.TargetRef.Port)
	switch {
	case target != 0:
		return slices.Contains(m.mapped(p, target), port)
	case p.kind() != v1alpha1.TargetService:
		return true
	}
	for _, s := range m.services {
		if s.key == p.service(p.spec.TargetRef.Name) {
			return port != 0 && slices.ContainsFunc(s.ports, func(sp servicePort) bool { return sp.targetOf(m.named) == port })
		}
	}
	return false
}

func (m *merge) policyAt(port uint32) *meshconfig.PortPolicy {
	out := &meshconfig.PortPolicy{
		Port: port, Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: meshconfig.Action_ACTION_ALLOW,
	}
	m.describe(out)
	if p := m.decider(port, "mtls", func(p *activePolicy) bool { return p.has.mtls }); p != nil {
		out.Mtls, out.PermissiveUntil = m.mode(p, port)
	}
	decider := m.decider(port, "authorization", func(p *activePolicy) bool { return p.has.authorization })
	if decider != nil {
		out.DefaultRule = decider.origin.Namespace + "/" + decider.origin.Name + "/defaultAction"
		if decider.spec.Authorization.DefaultAction == v1alpha1.ActionDeny {
			out.DefaultAction = meshconfig.Action_ACTION_DENY
		}
	}
	for _, p := range m.policies {
		if !p.has.authorization || !m.reaches(p, port) {
			continue
		}
		for i := range p.spec.Authorization.Rules {
			rule := &p.spec.Authorization.Rules[i]
			if p != decider && rule.Action != v1alpha1.ActionDeny {
				continue
			}
			if compiled := m.rule(p, rule, out); compiled != nil {
				m.counts[p] = true
				out.Rules = append(out.Rules, compiled)
			}
		}
	}
	m.allowChecks(out)
	slices.SortFunc(out.Rules, func(a, b *meshconfig.AuthorizationRule) int { return cmp.Compare(a.GetName(), b.GetName()) })
	out.RateLimits = m.rateLimits(out)
	return out
}

// allowChecks lets the proxies of callers ask whether a pod is well, where a profile says that they do. Deny rules hold
// for them too.
func (m *merge) allowChecks(out *meshconfig.PortPolicy) {
	if out.GetDefaultAction() != meshconfig.Action_ACTION_DENY {
		return
	}
	for _, s := range m.services {
		cluster := m.clusters[s.key]
		if cluster == nil || cluster.checker == nil {
			continue
		}
		check, ok := checkOf(cluster.checker)
		asksHere := func(sp servicePort) bool { return sp.targetOf(m.named) == out.GetPort() && cluster.asks(sp.number) }
		name := cluster.checker.origin.Namespace + "/" + cluster.checker.origin.Name + "/healthCheck"
		// A pod may be behind a Service and a backend that takes its settings: one rule is enough.
		allowed := slices.ContainsFunc(out.GetRules(), func(r *meshconfig.AuthorizationRule) bool { return r.GetName() == name })
		if ok && !allowed && hasRequests(out.GetProtocol()) && slices.ContainsFunc(s.ports, asksHere) {
			out.Rules = append(out.Rules, &meshconfig.AuthorizationRule{
				Name: name, Action: meshconfig.Action_ACTION_ALLOW,
				From: []*meshconfig.Caller{{Identities: []string{"*"}}}, To: []*meshconfig.Operation{check},
			})
		}
	}
}

// describe says what a port is: the first Service that sends to it, and the first protocol that one declares.
func (m *merge) describe(out *meshconfig.PortPolicy) {
	if out.GetPort() != 0 {
		out.Service, out.Protocol = m.portOf(out.GetPort(), m.profiles)
	}
}

func (m *membership) portOf(port uint32, profiles map[string]*profile) (svc string, protocol meshconfig.Protocol) {
	for _, s := range m.services {
		for i := range s.ports {
			if s.ports[i].targetOf(m.named) != port {
				continue
			}
			if svc == "" {
				svc = s.key
			}
			if protocol == meshconfig.Protocol_PROTOCOL_UNSPECIFIED {
				protocol = protocolOf(&s.ports[i], profiles[s.key])
			}
		}
	}
	return svc, protocol
}

// decider returns the policy that decides on a section at a port, or nil. It reports others of the same rank.
func (m *merge) decider(port uint32, section string, sets func(*activePolicy) bool) *activePolicy {
	var decider *activePolicy
	for _, p := range m.policies {
		switch {
		case !sets(p) || !m.reaches(p, port):
		case decider == nil:
			decider = p
			m.counts[p] = true
		case p.rank() == decider.rank():
			m.losers[p] = true
			m.found[policyProblem{origin: p.origin, conflict: true, problem: problem{v1alpha1.ReasonConflicted, fmt.Sprintf(
				"spec.%s: the older %s (%s) decides on workloads that both apply to: have the targets not overlap", section, decider.origin, decider.spec.TargetRef)}}] = true
		}
	}
	return decider
}

// mode returns what a policy says of mTLS at a port, and when that ends (0: never).
func (m *merge) mode(p *activePolicy, port uint32) (mode meshconfig.MTLSMode, until int64) {
	for _, exception := range p.spec.MTLS.Ports {
		// Two ports of a Service may lead to the same one of the container: the stricter mode counts.
		if slices.Contains(m.mapped(p, uint32(exception.Port)), port) && (mode == 0 || modes[exception.Mode] < mode) {
			mode = modes[exception.Mode]
		}
	}
	if mode != 0 && port != 0 {
		return mode, 0
	}
	mode = modes[p.spec.MTLS.Mode]
	if p.spec.MTLS.Until != nil {
		until = p.spec.MTLS.Until.UnixMilli()
		if until <= 0 { // past by any clock; and 0 would be no end
			return meshconfig.MTLSMode_MTLS_MODE_STRICT, 0
		}
	}
	return mode, until
}
