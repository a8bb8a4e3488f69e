// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// rule returns a rule of a policy as it applies to one port, or nil if it does not.
func (m *merge) rule(p *activePolicy, r *v1alpha1.AuthorizationRule, at *meshconfig.PortPolicy) *meshconfig.AuthorizationRule {
	out := &meshconfig.AuthorizationRule{
		Name:   p.origin.Namespace + "/" + p.origin.Name + "/" + r.Name,
		Action: meshconfig.Action_ACTION_ALLOW,
	}
	if r.Action == v1alpha1.ActionDeny {
		out.Action = meshconfig.Action_ACTION_DENY
	}
	for i := range r.From {
		out.From = append(out.From, m.caller(p, &r.From[i]))
	}
	var reached bool
	if out.To, reached = m.operations(p, r.To, at.GetPort()); !reached {
		return nil
	}
	if len(out.GetTo()) > 0 && !hasRequests(at.GetProtocol()) {
		effect := "it allows nothing there"
		if r.Action == v1alpha1.ActionDeny {
			effect = "it denies every connection there"
		}
		m.reportL7(p, fmt.Sprintf("spec.authorization.rules[name=%s].to: the rule", r.Name), effect, at)
	}
	return out
}

// operations are those of a rule or limit at one port: none if it is about everything there. reached is false if it is
// about nothing there.
func (m *merge) operations(p *activePolicy, targets []v1alpha1.AuthorizationTarget, port uint32) (out []*meshconfig.Operation, reached bool) {
	for i := range targets {
		to := &targets[i]
		if !m.meansPort(p, to.Ports, port) {
			continue
		}
		if len(to.Methods)+len(to.Paths) == 0 {
			return nil, true // what is left of the entry is the port, which is this one
		}
		out = append(out, &meshconfig.Operation{Methods: sortedCopy(to.Methods), Paths: rulePaths(to.Paths)})
	}
	return out, len(out) > 0 || len(targets) == 0
}

// rateLimits are those that apply to a port, of all policies, by name. Of too many those of the narrowest policies count.
func (m *merge) rateLimits(at *meshconfig.PortPolicy) []*meshconfig.RateLimit {
	var out []*meshconfig.RateLimit
	for _, p := range m.policies {
		if !p.has.rateLimits || !m.reaches(p, at.GetPort()) {
			continue
		}
		for i := range p.spec.RateLimits {
			l := &p.spec.RateLimits[i]
			to, reached := m.operations(p, l.To, at.GetPort())
			if !reached {
				continue
			}
			if len(to) > 0 && !hasRequests(at.GetProtocol()) {
				m.reportL7(p, fmt.Sprintf("spec.rateLimits[name=%s].to: the limit", l.Name), "it counts every connection there", at)
			}
			limit := &meshconfig.RateLimit{
				Name: p.origin.Namespace + "/" + p.origin.Name + "/" + l.Name, Requests: uint64(l.Requests),
				Interval: milliseconds(l.Interval, time.Second), Burst: uint64(number(l.Burst, uint32(l.Requests))),
				PerCaller: l.Per == "Caller", To: to,
			}
			for j := range l.From {
				limit.From = append(limit.From, m.caller(p, &l.From[j]))
			}
			if len(out) == evaluate.MaxRateLimits {
				m.reportLimits(p, at)
				break
			}
			out = append(out, limit)
		}
	}
	slices.SortFunc(out, func(a, b *meshconfig.RateLimit) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out
}

// meansPort says whether ports that a rule names hold a container's port. No ports hold all.
func (m *merge) meansPort(p *activePolicy, ports []int32, port uint32) bool {
	return len(ports) == 0 || port != 0 && slices.ContainsFunc(ports, func(named int32) bool {
		return slices.Contains(m.mapped(p, uint32(named)), port)
	})
}

func (m *merge) reportLimits(p *activePolicy, at *meshconfig.PortPolicy) {
	where := "ports that no Service declares"
	if at.GetPort() != 0 {
		where = fmt.Sprintf("port %d of pods", at.GetPort())
	}
	m.found[policyProblem{origin: p.origin, problem: problem{v1alpha1.ReasonInvalid, fmt.Sprintf(
		"spec.rateLimits: more than %d limits of all policies apply to %s, so that not all of these are in force there: use fewer",
		evaluate.MaxRateLimits, where)}}] = true
}

// reportL7 reports methods or paths at a port without requests. what is the field and what it belongs to.
func (m *merge) reportL7(p *activePolicy, what, effect string, at *meshconfig.PortPolicy) {
	m.found[policyProblem{origin: p.origin, problem: problem{v1alpha1.ReasonProtocolMismatch, fmt.Sprintf(
		"%s has methods or paths, and port %d of the pods of Service %q carries no requests (%s), so %s: name the ports with requests in to[].ports",
		what, at.GetPort(), at.GetService(), protocolLabel(at.GetProtocol()), effect)}}] = true
}

func (m *merge) caller(p *activePolicy, s *v1alpha1.AuthorizationSource) *meshconfig.Caller {
	out := &meshconfig.Caller{Namespaces: sortedCopy(s.Namespaces), Identities: sortedCopy(s.Identities)}
	for _, account := range s.ServiceAccounts {
		if account == "*" {
			out.Identities = append(out.Identities, account)
			continue
		}
		out.Identities = append(out.Identities, serviceAccountID(account, p.origin.Namespace, m.options.trustDomain).String())
	}
	slices.Sort(out.Identities)
	out.Identities = slices.Compact(out.Identities)
	return out
}

// rulePaths brings paths to the form that requests have.
func rulePaths(paths []string) []string {
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		path, star := strings.CutSuffix(p, "*")
		if normal, ok := evaluate.NormalizePath(path); ok {
			path = normal
		}
		if star {
			path += "*"
		}
		out = append(out, path)
	}
	return sortedCopy(out)
}

func sortedCopy(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// plaintext are the ports that callers of the mesh dial in plaintext, because mTLS is Disabled there. A nil one is none.
type plaintext struct {
	ports  map[uint32]deadline // listed ports of any mode
	others deadline
}

// deadline says whether plaintext is used, and when that ends in Unix milliseconds (0: never).
type deadline struct {
	plaintext bool
	until     int64
}

func plaintextOf(section *meshconfig.Inbound) *plaintext {
	read := func(p *meshconfig.PortPolicy) deadline {
		if p.GetMtls() != meshconfig.MTLSMode_MTLS_MODE_DISABLED {
			return deadline{}
		}
		return deadline{true, p.GetPermissiveUntil()}
	}
	out := &plaintext{ports: map[uint32]deadline{}, others: read(section.GetDefaultPolicy())}
	found := out.others.plaintext
	for _, p := range section.GetPorts() {
		out.ports[p.GetPort()] = read(p)
		found = found || out.ports[p.GetPort()].plaintext
	}
	if !found {
		return nil
	}
	return out
}

func (p *plaintext) at(port uint32) deadline {
	if p == nil {
		return deadline{}
	}
	if d, ok := p.ports[port]; ok {
		return d
	}
	return p.others
}

// samePlaintext returns before if it is equal to now, so that it stays the same pointer.
func samePlaintext(before, now *plaintext) *plaintext {
	if before != nil && now != nil && before.others == now.others && maps.Equal(before.ports, now.ports) {
		return before
	}
	return now
}
