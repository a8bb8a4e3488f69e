// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// routes is the routes section of a service.
type routes struct {
	section *meshconfig.Routes
	tooBig  bool     // rules and routes were left out
	shapers []Origin // of its clusters
}

// compileRoutes makes the routes section of each service.
func (c *compilation) compileRoutes(owned map[string]*splitsOf) {
	for _, s := range c.services {
		made := c.routesOf(s, owned[s.key], c.profiles[s.key])
		name := meshconfig.RoutesName(s.key)
		c.result.Sections[name] = made.section
		for _, split := range splitsInForce(s, owned[s.key]) {
			c.shaped(split.origin, name)
			c.result.Effects[split.origin] = Effect{Weights: v1alpha1.FormatWeights(split.spec), Service: s.key}
			c.resolveRules(split, s)
			c.reportSize(split.origin, made.tooBig && len(split.spec.Rules) > 0, "spec.rules")
		}
		for _, origin := range made.shapers {
			c.shaped(origin, name)
		}
		if p := c.profiles[s.key]; p != nil {
			c.shaped(p.origin, name)
			c.result.Effects[p.origin] = Effect{
				Routes: countRoutes(made.section), Service: s.key, Backends: c.heirs[s.key], FaultsEnd: faultsEnd(made.section),
			}
			c.reportSize(p.origin, made.tooBig && len(p.spec.Routes)+len(p.spec.Faults) > 0, "spec.routes, spec.faults")
		}
	}
}

// countRoutes returns how many routes a section has; one that several ports have counts once.
func countRoutes(section *meshconfig.Routes) int {
	names := map[string]struct{}{}
	for _, port := range section.GetPorts() {
		for _, r := range port.GetRoutes() {
			names[r.GetName()] = struct{}{}
		}
	}
	return len(names)
}

// faultsEnd returns when each fault of a section ends, ascending.
func faultsEnd(section *meshconfig.Routes) []time.Time {
	ends := map[string]int64{}
	for _, port := range section.GetPorts() {
		for _, f := range port.GetFaults() {
			ends[f.GetName()] = f.GetExpiresAt()
		}
	}
	var out []time.Time
	for _, ms := range slices.Sorted(maps.Values(ends)) {
		out = append(out, time.UnixMilli(ms).UTC())
	}
	return out
}

func (c *compilation) reportSize(origin Origin, tooBig bool, path string) {
	if tooBig {
		c.report.unresolved(origin, v1alpha1.ReasonInvalid, "%s: the config of this Service would be larger than %d bytes, so its rules, routes and faults are not in force: use fewer, or shorter matches", path, meshconfig.MaxPayload)
	}
}

// splitsInForce are the splits that decide on a port of the service.
func splitsInForce(s *service, of *splitsOf) []*split {
	if of == nil {
		return nil
	}
	var out []*split
	for i := range s.ports {
		if split := of.at(s.ports[i].number); split != nil && !slices.Contains(out, split) {
			out = append(out, split)
		}
	}
	return out
}

func (c *compilation) routesOf(s *service, of *splitsOf, p *profile) *routes {
	in := c.inputs(c.options, s, p)
	if of != nil {
		in = append(in, of.all)
		for _, port := range slices.Sorted(maps.Keys(of.byPort)) {
			in = append(in, of.byPort[port])
		}
	}
	// What is called is only known when the section is made, so its clusters are put in by a second step.
	bare := remember(c.work, unitBareRoutes, s.key, in, func(*meshconfig.Routes) *meshconfig.Routes {
		return newRoutes(s, of, p, c.options.trustDomain)
	})
	in = c.inputs(bare)
	for _, key := range called(bare) {
		in = append(in, c.clusters[key])
	}
	return remember(c.work, UnitRoutes, s.key, in, func(before *routes) *routes {
		made := &routes{section: proto.CloneOf(bare)}
		for _, key := range called(bare) {
			if cluster := c.clusters[key]; cluster != nil {
				made.section.Clusters = append(made.section.Clusters, cluster.section)
				made.shapers = append(made.shapers, cluster.shapers...)
			}
		}
		if proto.Size(made.section) > meshconfig.MaxPayload {
			made.tooBig = true
			for _, port := range made.section.GetPorts() {
				port.Rules, port.Routes, port.Faults = nil, nil, nil
			}
		}
		if before != nil {
			made.section = same(before.section, made.section)
		}
		return made
	})
}

func newRoutes(s *service, of *splitsOf, p *profile, trustDomain string) *meshconfig.Routes {
	section := &meshconfig.Routes{Service: s.key}
	names := &naming{s.namespace, trustDomain}
	for i := range s.ports {
		port := &s.ports[i]
		made := &meshconfig.ServicePort{Port: port.number, Protocol: protocolOf(port, p)}
		reads := hasRequests(made.Protocol)
		if p != nil {
			made.Faults = newFaults(p, reads, names)
			for i := range p.spec.Routes {
				if reads {
					made.Routes = append(made.Routes, newRoute(p, &p.spec.Routes[i], port.number, names))
				}
			}
		}
		if split := of.at(port.number); split != nil {
			made.Backends = backendsOf(split, port.number)
			made.Stickiness = stickinessOf(split, reads)
			if reads {
				made.Rules = splitRules(split, made.Backends, names)
			}
		} else {
			made.Backends = []*meshconfig.WeightedBackend{{Name: s.name, Service: s.key, Port: port.number, Weight: 1}}
		}
		section.Ports = append(section.Ports, made)
	}
	if p != nil && p.spec.RetryBudget != nil {
		b := p.spec.RetryBudget
		section.RetryBudget = &meshconfig.RetryBudget{Percent: number(b.Percent, 20), MinPerSecond: number(b.MinPerSecond, 10)}
	}
	return section
}

// called are the services that a section sends requests to, sorted.
func called(section *meshconfig.Routes) []string {
	var out []string
	for _, port := range section.GetPorts() {
		for _, b := range port.GetBackends() {
			out = append(out, b.GetService())
		}
		for _, r := range port.GetRoutes() {
			if m := r.GetFilters().GetMirror(); m != nil {
				out = append(out, m.GetBackend().GetService())
			}
		}
	}
	return set(out)
}

// backendsOf are the backends of a split for one port of its root. One that does not exist is there too: its share is
// refused, and not moved to others that were not sized for it.
func backendsOf(s *split, port uint32) []*meshconfig.WeightedBackend {
	out := make([]*meshconfig.WeightedBackend, 0, len(s.spec.Backends))
	for i, b := range s.spec.Backends {
		ref := backendRef(s, i)
		backend := &meshconfig.WeightedBackend{Name: b.Name, Service: s.service(ref.Name), Port: port, Weight: uint32(weightOf(b.Weight))}
		if b.Service == nil {
			backend.Subset = subsetName(b.Selector)
		} else if ref.Port != nil {
			backend.Port = uint32(*ref.Port)
		}
		if s.spec.Active != "" { // the others stay, so that turning to one of them finds its endpoints here
			backend.Weight = 0
			if s.spec.Active == b.Name {
				backend.Weight = 1
			}
		}
		out = append(out, backend)
	}
	return out
}

var stickyKeys = map[v1alpha1.StickyBy]meshconfig.Stickiness_By{
	v1alpha1.StickyByCookie:         meshconfig.Stickiness_BY_COOKIE,
	v1alpha1.StickyByHeader:         meshconfig.Stickiness_BY_HEADER,
	v1alpha1.StickyBySourceIdentity: meshconfig.Stickiness_BY_SOURCE_IDENTITY,
	v1alpha1.StickyBySourceIP:       meshconfig.Stickiness_BY_SOURCE_IP,
}

// stickinessOf is that of a split at a port. What is in requests tells nobody apart where there are none.
func stickinessOf(s *split, hasRequests bool) *meshconfig.Stickiness {
	if spec := s.spec.Stickiness; spec != nil && (hasRequests || !sticksToRequests(spec)) {
		return newStickiness(spec)
	}
	return nil
}

// sticksToRequests says whether users are told apart by what is in requests.
func sticksToRequests(s *v1alpha1.Stickiness) bool {
	return s.By == v1alpha1.StickyByCookie || s.By == v1alpha1.StickyByHeader
}

func newStickiness(s *v1alpha1.Stickiness) *meshconfig.Stickiness {
	out := &meshconfig.Stickiness{By: stickyKeys[s.By], Name: s.Name, Ttl: milliseconds(s.TTL, 0)}
	if s.By == v1alpha1.StickyByHeader {
		out.Name = strings.ToLower(s.Name)
	}
	return out
}

func splitRules(s *split, backends []*meshconfig.WeightedBackend, names *naming) []*meshconfig.SplitRule {
	var out []*meshconfig.SplitRule
	if s.spec.Active != "" {
		return nil
	}
	for _, r := range s.spec.Rules {
		rule := &meshconfig.SplitRule{Name: r.Name, Matches: names.matches(r.Matches)}
		for _, b := range backends {
			for _, w := range r.Weights {
				if w.Backend == b.GetName() {
					rule.Backends = append(rule.Backends, &meshconfig.WeightedBackend{
						Name: b.GetName(), Service: b.GetService(), Port: b.GetPort(), Subset: b.GetSubset(), Weight: uint32(weightOf(w.Weight)),
					})
				}
			}
		}
		out = append(out, rule)
	}
	return out
}
