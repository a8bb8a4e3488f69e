// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// scopes are the kinds of target, widest first; their order is that of precedence.
var scopes = []v1alpha1.TargetKind{
	v1alpha1.TargetMesh, v1alpha1.TargetNamespace, v1alpha1.TargetService, v1alpha1.TargetWorkload,
}

// activePolicy is a policy with the sections of it that no older one of the same target took.
type activePolicy struct {
	*policy
	has sections
}

// sections says which of a policy count.
type sections struct{ mtls, authorization, rateLimits, loadBalancing, outlierDetection bool }

// rank orders policies by how narrow they are.
func (p *activePolicy) rank() int {
	rank := 2 * slices.Index(scopes, p.spec.TargetRef.Kind)
	if p.spec.TargetRef.Port != nil {
		rank++
	}
	return rank
}

func (p *activePolicy) kind() v1alpha1.TargetKind { return p.spec.TargetRef.Kind }

// policyList is a list of policies that has an identity, so that it can be an input of a unit. Oldest first.
type policyList struct{ list []*activePolicy }

// scoped holds the policies by what they apply to.
type scoped struct {
	mesh       *policyList
	namespaces map[string]*policyList // kind Namespace, by namespace
	services   map[string]*policyList // kind Service, by service
	workloads  map[string]*policyList // kind Workload, by namespace
}

// scopePolicies decides which policy has which target, reports conflicts, and sorts the policies by scope.
func (c *compilation) scopePolicies(oldestFirst []*object[v1alpha1.MeshPolicySpec]) *scoped {
	type section struct{ target, name string }
	owners := map[section]*policy{}
	// take hands a section out; it reports a conflict and returns false if it is gone.
	take := func(p *policy, name string, isSet bool) bool {
		if !isSet {
			return false
		}
		key := section{p.origin.Namespace + "/" + p.spec.TargetRef.String(), name}
		if winner := owners[key]; winner != nil {
			c.report.conflict(p.origin, "spec.%s: %s is decided on by the older %s: delete one of the two, or merge them", name, p.spec.TargetRef, winner.origin)
			return false
		}
		owners[key] = p
		return true
	}
	lists := map[string][]*activePolicy{}
	for _, o := range oldestFirst {
		p := c.readPolicy(o)
		has := sections{
			mtls:             take(p, "mtls", p.spec.MTLS != nil),
			authorization:    take(p, "authorization", p.spec.Authorization != nil),
			rateLimits:       len(p.spec.RateLimits) > 0, // they add up
			loadBalancing:    take(p, "loadBalancing", p.spec.LoadBalancing != nil),
			outlierDetection: take(p, "outlierDetection", p.spec.OutlierDetection != nil),
		}
		c.resolveTarget(p)
		if has == (sections{}) {
			continue
		}
		key := fmt.Sprintf("%s/%s/%v", o.origin.Namespace, o.origin.Name, has)
		active := remember(c.work, unitPolicies, key, c.inputs(p), func(*activePolicy) *activePolicy {
			return &activePolicy{p, has}
		})
		scope := scopeOf(p)
		lists[scope] = append(lists[scope], active)
	}
	return c.collectScopes(lists)
}

// scopeOf names what a policy applies to; for kind Workload only the namespace, since labels decide on the rest.
func scopeOf(p *policy) string {
	switch p.spec.TargetRef.Kind {
	case v1alpha1.TargetMesh:
		return "mesh"
	case v1alpha1.TargetNamespace:
		return "namespace/" + p.origin.Namespace
	case v1alpha1.TargetService:
		return "service/" + p.service(p.spec.TargetRef.Name)
	default:
		return "workload/" + p.origin.Namespace
	}
}

func (c *compilation) collectScopes(lists map[string][]*activePolicy) *scoped {
	s := &scoped{namespaces: map[string]*policyList{}, services: map[string]*policyList{}, workloads: map[string]*policyList{}}
	for scope, list := range lists {
		in := c.inputs()
		for _, p := range list {
			in = append(in, p)
		}
		made := remember(c.work, unitPolicies, "list of "+scope, in, func(*policyList) *policyList { return &policyList{list} })
		first := list[0]
		switch first.kind() {
		case v1alpha1.TargetMesh:
			s.mesh = made
		case v1alpha1.TargetNamespace:
			s.namespaces[first.origin.Namespace] = made
		case v1alpha1.TargetService:
			s.services[first.service(first.spec.TargetRef.Name)] = made
		default:
			s.workloads[first.origin.Namespace] = made
		}
	}
	return s
}

func (c *compilation) readPolicy(o *object[v1alpha1.MeshPolicySpec]) *policy {
	return remember(c.work, unitPolicies, "facts/"+o.origin.Namespace+"/"+o.origin.Name, c.inputs(o), func(*policy) *policy {
		p := &policy{object: o}
		if o.spec.TargetRef.Selector != nil {
			selector, err := metav1.LabelSelectorAsSelector(o.spec.TargetRef.Selector)
			if err != nil {
				selector = labels.Nothing() // validation has refused it
			}
			p.selector = selector
		}
		return p
	})
}

// selects says whether a policy of kind Workload applies to a pod of its namespace.
func (p *policy) selects(of *pod) bool {
	if p.selector == nil {
		return of.name == p.spec.TargetRef.Name
	}
	return p.selector.Matches(labels.Set(of.labels))
}

// resolveTarget reports what a policy for a Service names and is not there. Workloads are reported once pods are known.
func (c *compilation) resolveTarget(p *policy) {
	if p.spec.TargetRef.Kind != v1alpha1.TargetService {
		return
	}
	s, problem := c.find(p.origin.Namespace, p.spec.TargetRef.Name)
	if s == nil {
		c.report.unresolved(p.origin, v1alpha1.ReasonServiceNotFound, "spec.targetRef.name: %s", problem)
		return
	}
	check := func(path string, port int32) {
		if s.port(uint32(port)) == nil {
			c.report.unresolved(p.origin, v1alpha1.ReasonPortNotFound, "%s: Service %q has no TCP port %d (%s)", path, s.name, port, portList(s))
		}
	}
	if of := c.profiles[s.key]; carriesNone(s, of) {
		c.resolveHash(p.origin, p.spec.LoadBalancing, s, of)
	}
	if port := p.spec.TargetRef.Port; port != nil {
		check("spec.targetRef.port", *port)
	}
	if p.spec.MTLS != nil {
		for i, port := range p.spec.MTLS.Ports {
			check(fmt.Sprintf("spec.mtls.ports[%d].port", i), port.Port)
		}
	}
	operations := func(path string, targets []v1alpha1.AuthorizationTarget) {
		for i, to := range targets {
			for j, port := range to.Ports {
				check(fmt.Sprintf("%s.to[%d].ports[%d]", path, i, j), port)
			}
		}
	}
	if p.spec.Authorization != nil {
		for i, rule := range p.spec.Authorization.Rules {
			operations(fmt.Sprintf("spec.authorization.rules[%d]", i), rule.To)
		}
	}
	for i, limit := range p.spec.RateLimits {
		operations(fmt.Sprintf("spec.rateLimits[%d]", i), limit.To)
	}
}

// resolveWorkloads reports policies that select no pod of the mesh.
func (c *compilation) resolveWorkloads(s *scoped, matched map[*activePolicy]bool) {
	for _, list := range s.workloads {
		for _, p := range list.list {
			if matched[p] {
				continue
			}
			path := "spec.targetRef.selector"
			if p.selector == nil {
				path = "spec.targetRef.name"
			}
			c.report.unresolved(p.origin, v1alpha1.ReasonWorkloadNotFound, "%s: no pod of the mesh in namespace %q is %s: correct it, or have the pods injected", path, p.origin.Namespace, p.spec.TargetRef)
		}
	}
}

// sortNarrowest puts the policy that decides over others first: the narrowest, of equal ones the oldest.
func sortNarrowest(policies []*activePolicy) {
	slices.SortFunc(policies, func(a, b *activePolicy) int {
		return cmp.Or(cmp.Compare(b.rank(), a.rank()), older(a.object, b.object))
	})
}
