// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// membership is what applies to a pod. Pods with equal ones share an inbound section.
type membership struct {
	pod      *pod
	name     meshconfig.Name // of the inbound section
	own      meshconfig.Name // of the binding
	services []*service      // that select the pod, by name
	policies []*activePolicy // of kind Workload, oldest first
	named    map[string]uint32
	binding  *meshconfig.Binding
}

// inbound is an inbound section and what was found on the way.
type inbound struct {
	section   *meshconfig.Inbound
	plaintext *plaintext
	origins   []Origin // of the policies that had a part in it
	problems  []policyProblem
}

type policyProblem struct {
	origin   Origin
	conflict bool
	problem
}

// compileInbound makes the binding of each pod of the mesh and the inbound sections that they share.
func (c *compilation) compileInbound(s *scoped) {
	sections := map[meshconfig.Name]*inbound{}
	matched := map[*activePolicy]bool{}
	var index *selectorIndex
	var workloads *policyList
	for i, p := range c.pods {
		if i == 0 || p.namespace != c.pods[i-1].namespace {
			index, workloads = c.result.indexes[p.namespace], s.workloads[p.namespace]
		}
		if !p.meshed {
			continue
		}
		m := c.membershipOf(&c.new.pods[i], index, workloads)
		for _, policy := range m.policies {
			matched[policy] = true
		}
		made := sections[m.name]
		if made == nil {
			made = c.inboundOf(p.namespace, m, s)
			sections[m.name] = made
			c.addInbound(m, made)
		}
		c.result.Sections[m.own] = m.binding
		c.inboundAt[i] = made
	}
	c.resolveWorkloads(s, matched)
}

// addInbound puts an inbound section and what was found with it into the result.
func (c *compilation) addInbound(m *membership, made *inbound) {
	c.result.Sections[m.name] = made.section
	for _, origin := range made.origins {
		c.shaped(origin, m.name)
	}
	for _, svc := range m.services {
		p := c.profiles[svc.key]
		if p != nil && (len(p.spec.Ports) > 0 || p.spec.HealthCheck != nil) {
			c.shaped(p.origin, m.name)
		}
		if cluster := c.clusters[svc.key]; cluster != nil && cluster.checker != nil && cluster.checker != p {
			c.shaped(cluster.checker.origin, m.name)
		}
	}
	for _, found := range made.problems {
		if found.conflict {
			c.report.conflict(found.origin, "%s", found.message)
		} else {
			c.report.unresolved(found.origin, found.reason, "%s", found.message)
		}
	}
}

// membershipOf returns what applies to a pod of the mesh, which is what the memo has if its inputs are the same.
func (c *compilation) membershipOf(memo *podMemo, index *selectorIndex, policies *policyList) *membership {
	p, before, zone := memo.facts, memo.member, c.zones[memo.facts.node]
	if before != nil && before.pod == p && before.binding.GetZone() == zone && memo.index == index && memo.policies == policies {
		return before
	}
	m := newMembership(p, zone, index, policies)
	if before != nil {
		m.binding = same(before.binding, m.binding)
	}
	memo.index, memo.policies, memo.member = index, policies, m
	c.new.computed[unitBinding]++
	return m
}

func newMembership(p *pod, zone string, index *selectorIndex, policies *policyList) *membership {
	m := &membership{pod: p, services: index.selecting(p), named: map[string]uint32{}}
	if policies != nil {
		for _, policy := range policies.list {
			if policy.selects(p) {
				m.policies = append(m.policies, policy)
			}
		}
	}
	for _, s := range m.services {
		for _, port := range s.ports {
			if number := p.named[port.target.StrVal]; port.target.Type == intstr.String && number != 0 {
				m.named[port.target.StrVal] = number
			}
		}
	}
	m.name, m.own = meshconfig.InboundName(m.digest(p.namespace)), meshconfig.BindingName(p.uid)
	m.binding = &meshconfig.Binding{
		PodUid: p.uid, Pod: p.key, Identity: p.identity, Inbound: string(m.name), Workload: p.workload, Zone: zone,
	}
	return m
}

// digest names the inputs of an inbound section: which they are, not what they say. So an edit of a policy or a Service
// changes one section, and the bindings only if it applies to other pods. Policies for the mesh, the namespace or a
// Service need no mention: the namespace and the Services imply them.
func (m *membership) digest(namespace string) string {
	h := sha256.New()
	add := func(parts ...string) {
		for _, s := range parts {
			_ = binary.Write(h, binary.BigEndian, uint32(len(s))) // a hash takes all that it is given
			h.Write([]byte(s))
		}
	}
	add("namespace", namespace)
	for _, s := range m.services {
		add("service", s.key)
	}
	for _, name := range slices.Sorted(maps.Keys(m.named)) {
		add("port", name, string(binary.BigEndian.AppendUint32(nil, m.named[name])))
	}
	for _, p := range m.policies {
		add("policy", p.origin.Name)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (c *compilation) inboundOf(namespace string, m *membership, s *scoped) *inbound {
	in := c.inputs(c.options, s.mesh, s.namespaces[namespace])
	policies := slices.Clone(m.policies)
	for _, list := range []*policyList{s.mesh, s.namespaces[namespace]} {
		if list != nil {
			policies = append(policies, list.list...)
		}
	}
	for _, p := range m.policies {
		in = append(in, p)
	}
	for _, svc := range m.services {
		in = append(in, svc, c.profiles[svc.key], c.clusters[svc.key], s.services[svc.key])
		if list := s.services[svc.key]; list != nil {
			policies = append(policies, list.list...)
		}
	}
	return remember(c.work, UnitInbound, string(m.name), in, func(before *inbound) *inbound {
		sortNarrowest(policies)
		made := newMerge(m, c, policies).inbound()
		if proto.Size(made.section) > meshconfig.MaxPayload {
			made.close()
		}
		if before != nil {
			made.section = same(before.section, made.section)
			made.plaintext = samePlaintext(before.plaintext, made.plaintext)
		}
		return made
	})
}

// close replaces a section that is too large to send by one that refuses everything, since half a policy is not
// enforced.
func (in *inbound) close() {
	refuse := func(p *meshconfig.PortPolicy) {
		p.DefaultAction, p.DefaultRule, p.Rules, p.RateLimits = meshconfig.Action_ACTION_DENY, "", nil, nil
		p.Mtls, p.PermissiveUntil = meshconfig.MTLSMode_MTLS_MODE_STRICT, 0
	}
	refuse(in.section.GetDefaultPolicy())
	for _, p := range in.section.GetPorts() {
		refuse(p)
	}
	in.plaintext = nil
	tooBig := problem{v1alpha1.ReasonInvalid, "spec.authorization: the rules of all policies that apply to some of its workloads are too large together, so that everything is denied there: use fewer or shorter rules"}
	for _, origin := range in.origins {
		in.problems = append(in.problems, policyProblem{origin: origin, problem: tooBig})
	}
}
