// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// routes is the routes section of a service.
type routes struct {
	section *meshconfig.Routes
	tooBig  bool // rules and routes were left out
}

// compileRoutes makes the routes section of each service.
func (c *compilation) compileRoutes(owned map[string]*splitsOf) {
	for _, s := range c.services {
		made := c.routesOf(s, owned[s.key], c.profiles[s.key])
		name := meshconfig.RoutesName(s.key)
		c.result.Sections[name] = made.section
		for _, split := range splitsInForce(s, owned[s.key]) {
			c.shaped(split.origin, name)
			c.result.Effects[split.origin] = Effect{Weights: weightsText(split.spec.Backends)}
			c.resolveRules(split, s)
			c.reportSize(split.origin, made.tooBig && len(split.spec.Rules) > 0, "spec.rules")
		}
		if p := c.profiles[s.key]; p != nil {
			c.shaped(p.origin, name)
			c.result.Effects[p.origin] = Effect{Routes: len(p.spec.Routes)}
			c.reportSize(p.origin, made.tooBig && len(p.spec.Routes) > 0, "spec.routes")
		}
	}
}

func (c *compilation) reportSize(origin Origin, tooBig bool, path string) {
	if tooBig {
		c.report.unresolved(origin, v1alpha1.ReasonInvalid, "%s: the config of this Service would be larger than %d bytes, so its rules and routes are not in force: use fewer, or shorter matches", path, meshconfig.MaxPayload)
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
	in := c.inputs(s, p)
	if of != nil {
		in = append(in, of.all)
		for _, port := range slices.Sorted(maps.Keys(of.byPort)) {
			in = append(in, of.byPort[port])
		}
	}
	return remember(c.work, UnitRoutes, s.key, in, func(before *routes) *routes {
		made := &routes{section: newRoutes(s, of, p)}
		if proto.Size(made.section) > meshconfig.MaxPayload {
			made.tooBig = true
			for _, port := range made.section.GetPorts() {
				port.Rules, port.Routes = nil, nil
			}
		}
		if before != nil {
			made.section = same(before.section, made.section)
		}
		return made
	})
}

func newRoutes(s *service, of *splitsOf, p *profile) *meshconfig.Routes {
	section := &meshconfig.Routes{Service: s.key}
	for i := range s.ports {
		port := &s.ports[i]
		made := &meshconfig.ServicePort{Port: port.number, Protocol: protocolOf(port, p)}
		reads := hasRequests(made.Protocol)
		if p != nil && reads {
			made.Routes = newRouteList(p.spec.Routes)
		}
		if split := of.at(port.number); split != nil {
			made.Backends = backendsOf(split, port.number)
			if reads {
				made.Rules = splitRules(split, made.Backends)
			}
		} else {
			made.Backends = []*meshconfig.WeightedBackend{{Name: s.name, Service: s.key, Port: port.number, Weight: 1}}
		}
		section.Ports = append(section.Ports, made)
	}
	return section
}

func newRouteList(list []v1alpha1.ProfileRoute) []*meshconfig.Route {
	var out []*meshconfig.Route
	for i := range list {
		route := &meshconfig.Route{Name: list[i].Name, Matches: compileMatches(list[i].Matches)}
		if list[i].Timeouts != nil && list[i].Timeouts.Request != nil {
			if timeout, err := list[i].Timeouts.Request.Parse(); err == nil {
				route.RequestTimeout = timeout.Milliseconds()
			}
		}
		out = append(out, route)
	}
	return out
}

// backendsOf are the backends of a split for one port of its root. One that does not exist is there too: its share is
// refused, and not moved to others that were not sized for it.
func backendsOf(s *split, port uint32) []*meshconfig.WeightedBackend {
	out := make([]*meshconfig.WeightedBackend, 0, len(s.spec.Backends))
	for _, b := range s.spec.Backends {
		backend := &meshconfig.WeightedBackend{
			Name: b.Name, Service: s.service(b.Service.Name), Port: port, Weight: uint32(weightOf(b.Weight)),
		}
		if b.Service.Port != nil {
			backend.Port = uint32(*b.Service.Port)
		}
		out = append(out, backend)
	}
	return out
}

func splitRules(s *split, backends []*meshconfig.WeightedBackend) []*meshconfig.SplitRule {
	var out []*meshconfig.SplitRule
	for _, r := range s.spec.Rules {
		rule := &meshconfig.SplitRule{Name: r.Name, Matches: compileMatches(r.Matches)}
		for _, b := range backends {
			for _, w := range r.Weights {
				if w.Backend == b.GetName() {
					rule.Backends = append(rule.Backends, &meshconfig.WeightedBackend{
						Name: b.GetName(), Service: b.GetService(), Port: b.GetPort(), Weight: uint32(weightOf(w.Weight)),
					})
				}
			}
		}
		out = append(out, rule)
	}
	return out
}

// weightsText is what status shows of the weights.
func weightsText(backends []v1alpha1.SplitBackend) string {
	const shown = 4
	var out []string
	for _, b := range backends[:min(shown, len(backends))] {
		out = append(out, fmt.Sprintf("%s %d", b.Name, weightOf(b.Weight)))
	}
	return strings.Join(out, ", ")
}
