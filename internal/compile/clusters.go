// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// cluster is how the endpoints of a service are called, and the objects that say so.
type cluster struct {
	section *meshconfig.Cluster
	checker *profile // that says how they are asked whether they are well; nil: none
	shapers []Origin
}

// asks says whether endpoints are asked at a port of the service.
func (c *cluster) asks(port uint32) bool {
	ports := c.section.GetHealthCheck().GetPorts()
	return c.checker != nil && (len(ports) == 0 || slices.Contains(ports, port))
}

// root is the Service of which another is a backend, with what is said of it. Whoever calls it meets the backend, so what
// was said of the root before it was divided goes on to hold for those who take its place.
type root struct {
	*service
	splits   *splitsOf
	profile  *profile
	policies *policyList // of kind Service
}

// compileClusters finds out how the endpoints of each service are called that somebody says something about.
func (c *compilation) compileClusters(s *scoped, owned map[string]*splitsOf) {
	c.clusters, c.heirs = map[string]*cluster{}, map[string][]string{}
	roots := c.rootsOf(owned)
	for _, svc := range c.services {
		p, own, namespace := c.profiles[svc.key], s.services[svc.key], s.namespaces[svc.namespace]
		silent := p == nil && own == nil && namespace == nil && s.mesh == nil
		in := c.inputs(svc, p, own, namespace, s.mesh)
		var from *root
		if of := roots[svc.key]; of != nil {
			c.heirs[of.key] = append(c.heirs[of.key], svc.key)
			from = &root{of, owned[of.key], c.profiles[of.key], s.services[of.key]}
			silent = silent && from.profile == nil && from.policies == nil
			in = append(in, of, from.profile, from.policies)
			for _, split := range splitsInForce(of, from.splits) {
				in = append(in, split)
			}
		}
		if silent {
			continue
		}
		c.clusters[svc.key] = remember(c.work, unitCluster, svc.key, in, func(before *cluster) *cluster {
			words := profileWords(svc, p, own, from)
			return newCluster(svc, append(append(words, policyWords(namespace)...), policyWords(s.mesh)...), before)
		})
	}
}

// rootsOf returns, for each Service that splits in force send to, the root of the oldest of them. A mirror's Service is no
// backend.
func (c *compilation) rootsOf(owned map[string]*splitsOf) map[string]*service {
	roots, oldest := map[string]*service{}, map[string]*split{}
	for _, s := range c.services {
		for _, split := range splitsInForce(s, owned[s.key]) {
			for i := range split.spec.Backends {
				key := split.service(backendRef(split, i).Name)
				if key != s.key && (oldest[key] == nil || older(split, oldest[key]) < 0) {
					roots[key], oldest[key] = s, split
				}
			}
		}
	}
	return roots
}

// word is what one object says of how endpoints are called.
type word struct {
	origin    Origin
	profile   *profile // that says it, or nil
	connect   *v1alpha1.Duration
	balancing *v1alpha1.LoadBalancing
	outlier   *v1alpha1.OutlierDetection
	breaker   *v1alpha1.CircuitBreaker
	check     *meshconfig.HealthCheck
}

func profileWord(p *profile) word {
	return word{
		origin: p.origin, profile: p, connect: p.spec.ConnectTimeout, balancing: p.spec.LoadBalancing,
		outlier: p.spec.OutlierDetection, breaker: p.spec.CircuitBreaker,
	}
}

// profileWords is what is said of a service by name, first to last: by its own profile and policies, then by those of the
// service that it is a backend of.
func profileWords(svc *service, p *profile, own *policyList, from *root) []word {
	var words []word
	if p != nil {
		said := profileWord(p)
		said.check = healthCheckOf(p, svc)
		words = append(words, said)
	}
	words = append(words, policyWords(own)...)
	if from == nil {
		return words
	}
	if from.profile != nil {
		said := profileWord(from.profile)
		if p == nil || p.spec.HealthCheck == nil {
			said.check = from.healthCheckOf(svc, p)
		}
		words = append(words, said)
	}
	return append(words, policyWords(from.policies)...)
}

func policyWords(list *policyList) []word {
	var words []word
	if list == nil {
		return nil
	}
	for _, policy := range list.list {
		said := word{origin: policy.origin}
		if policy.has.loadBalancing {
			said.balancing = policy.spec.LoadBalancing
		}
		if policy.has.outlierDetection {
			said.outlier = policy.spec.OutlierDetection
		}
		words = append(words, said)
	}
	return words
}

// newCluster makes that of a service: of each field the first word counts. It is nil if nobody says anything, and the one
// before if that is equal.
func newCluster(svc *service, words []word, before *cluster) *cluster {
	var all word
	out := &cluster{}
	for _, said := range words {
		takes := []bool{
			take(&all.connect, said.connect), take(&all.balancing, said.balancing), take(&all.outlier, said.outlier),
			take(&all.breaker, said.breaker),
		}
		if take(&all.check, said.check) {
			out.checker = said.profile
			takes = append(takes, true)
		}
		if slices.Contains(takes, true) {
			out.shapers = append(out.shapers, said.origin)
		}
	}
	if len(out.shapers) == 0 {
		return nil
	}
	out.section = &meshconfig.Cluster{
		Service: svc.key, ConnectTimeout: milliseconds(all.connect, 0), Balancing: newBalancing(all.balancing),
		Outlier: newOutlier(all.outlier), Breaker: newBreaker(all.breaker), HealthCheck: all.check,
	}
	if before != nil && before.checker == out.checker && slices.Equal(before.shapers, out.shapers) && proto.Equal(before.section, out.section) {
		return before
	}
	return out
}

// take takes what was said of what nobody has said anything of before.
func take[V any](into **V, said *V) bool {
	if *into != nil || said == nil {
		return false
	}
	*into = said
	return true
}

// healthCheckOf is the check of the root's profile, which is about ports of the root, for a backend: at the ports that
// requests to those are sent to. It is nil if none of them is there and may speak what the check does.
func (r *root) healthCheckOf(svc *service, own *profile) *meshconfig.HealthCheck {
	if r.profile.spec.HealthCheck == nil {
		return nil
	}
	at := map[uint32]meshconfig.Protocol{}
	for i := range r.ports {
		number := r.ports[i].number
		split := r.splits.at(number)
		if split == nil || !isChecked(r.profile, &r.ports[i]) {
			continue
		}
		for _, b := range backendsOf(split, number) {
			to := svc.port(b.GetPort())
			if b.GetService() != svc.key || to == nil {
				continue
			}
			// Where nobody says what the backend speaks, it is asked as it is called: by what the root's port is declared as.
			speaks := cmp.Or(protocolOf(to, own), protocolOf(&r.ports[i], r.profile))
			if mayAnswer(r.profile.spec.HealthCheck, speaks) {
				at[to.number] = speaks
			}
		}
	}
	return healthCheckAt(r.profile, svc, at)
}
