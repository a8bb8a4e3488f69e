// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// compileEndpoints makes the endpoints sections of each service, and of each backend that a split in force or a mirror
// names: one that does not exist has a section without endpoints, so that nobody waits for it.
func (c *compilation) compileEndpoints(owned map[string]*splitsOf) {
	for _, s := range c.services {
		c.addEndpoints(s.key, s, c.slices[s.key], splitsInForce(s, owned[s.key]))
	}
	absent := func(key string) {
		if c.serviceByKey[key] == nil {
			c.addEndpoints(key, nil, nil, nil)
		}
	}
	for _, of := range owned {
		splits := slices.Collect(maps.Values(of.byPort))
		if of.all != nil {
			splits = append(splits, of.all)
		}
		for _, s := range splits {
			for i := range s.spec.Backends {
				absent(s.service(backendRef(s, i).Name))
			}
		}
	}
	for _, p := range c.profiles {
		for i := range p.spec.Routes {
			if f := p.spec.Routes[i].Filters; f != nil && f.Mirror != nil {
				absent(p.service(f.Mirror.Service.Name))
			}
		}
	}
}

// addEndpoints makes the sections of one service; nil stands for one that does not exist.
func (c *compilation) addEndpoints(key string, s *service, of []*slice, splits []*split) {
	if _, done := c.result.Sections[meshconfig.EndpointsName(key, 0)]; done {
		return
	}
	made := c.endpointsOf(key, s, of, splits)
	for _, shard := range made.shards {
		c.result.Sections[meshconfig.EndpointsName(key, shard.GetShard())] = shard
	}
	for i, split := range splits {
		if len(subsetsOf(splits[i:i+1])) > 0 {
			c.shaped(split.origin, meshconfig.EndpointsName(key, 0))
		}
		c.resolveSubsets(split, made.subsets)
	}
}

// endpoints are the sections of one service.
type endpoints struct {
	shards  []*meshconfig.Endpoints
	subsets map[string]bool // those that have an endpoint
}

func (c *compilation) endpointsOf(key string, s *service, of []*slice, splits []*split) *endpoints {
	of = ofFamily(s, of)
	subsets := subsetsOf(splits)
	in := c.inputs(s, namesOf(subsets))
	for _, slice := range of {
		in = append(in, slice)
		for i := range slice.endpoints {
			p, plain := c.podOf(&slice.endpoints[i])
			in = append(in, p, plain)
		}
	}
	return remember(c.work, UnitEndpoints, key, in, func(before *endpoints) *endpoints {
		gathered, listed := c.gather(s, of, subsets)
		made := &endpoints{shards: newShards(key, gathered, listed), subsets: map[string]bool{}}
		for _, e := range gathered {
			for _, name := range e.GetSubsets() {
				made.subsets[name] = true
			}
		}
		for i := range made.shards {
			if before != nil && i < len(before.shards) {
				made.shards[i] = same(before.shards[i], made.shards[i])
			}
		}
		return made
	})
}

// ofFamily leaves the slices of the service's first address family, if there are any, so that a pod with two addresses
// counts once.
func ofFamily(s *service, of []*slice) []*slice {
	if s == nil || s.families < 2 {
		return of
	}
	isFirst := func(x *slice) bool { return x.ipv6 == s.ipv6 }
	if !slices.ContainsFunc(of, func(x *slice) bool { return isFirst(x) && len(x.endpoints) > 0 }) {
		return of
	}
	return slices.DeleteFunc(slices.Clone(of), func(x *slice) bool { return !isFirst(x) })
}

// podOf returns the pod of an endpoint, and its ports that are dialled in plaintext: the pod that the slice names, or
// the one that has the address. nil is none.
func (c *compilation) podOf(e *sliceEndpoint) (*pod, *plaintext) {
	i, ok := c.new.podByKey[e.pod]
	if e.pod == "" {
		if c.podByIP == nil {
			c.podByIP = podsByAddress(c.pods)
		}
		i, ok = c.podByIP[e.address]
	}
	if !ok {
		return nil, nil
	}
	if in := c.inboundAt[i]; in != nil {
		return c.pods[i], in.plaintext
	}
	return c.pods[i], nil
}

// podsByAddress maps the addresses of live pods to their index; the newest pod has an address that several report.
func podsByAddress(pods []*pod) map[netip.Addr]int {
	out := make(map[netip.Addr]int, len(pods))
	for i, p := range pods {
		if !p.live {
			continue
		}
		for _, ip := range p.addresses {
			if other, taken := out[ip]; !taken || newer(p, pods[other]) {
				out[ip] = i
			}
		}
	}
	return out
}

func newer(a, b *pod) bool {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.key, b.key), cmp.Compare(a.uid, b.uid)) > 0
}

// gather makes the endpoints of a service, by address, and counts those that are listed, ready or not: the number of
// shards follows the latter, so that it does not move with readiness.
func (c *compilation) gather(s *service, of []*slice, subsets []subset) (endpoints map[netip.Addr]*meshconfig.Endpoint, listed int) {
	endpoints = map[netip.Addr]*meshconfig.Endpoint{}
	addresses := map[netip.Addr]bool{}
	for _, x := range of {
		for i := range x.endpoints {
			e := &x.endpoints[i]
			addresses[e.address] = true
			p, plain := c.podOf(e)
			if !usable(s, e, p) {
				continue
			}
			made := endpoints[e.address]
			if made == nil {
				made = newEndpoint(e.address, p)
				made.Terminating, made.Subsets = true, subsetsWith(subsets, p)
				endpoints[e.address] = made
			}
			// An address may be in two slices, while it moves from one to the other.
			made.Terminating = made.GetTerminating() && e.terminating
			made.Zone = cmp.Or(made.GetZone(), e.zone)
			made.ZoneHints = set(append(made.GetZoneHints(), e.hints...))
			addPorts(made, s, x, plain)
		}
	}
	return endpoints, len(addresses)
}

// usable says whether an endpoint may get requests. An endpoint whose pod is not known, or is another one by now, is
// left out: it is not known whether it is meshed, and it must not be dialled in plaintext by mistake.
func usable(s *service, e *sliceEndpoint, p *pod) bool {
	if leaving := e.serving && e.terminating; !e.ready && !leaving && !s.publishNotReady {
		return false
	}
	if e.pod != "" && (p == nil || e.podUID != "" && e.podUID != p.uid) {
		return false
	}
	return p == nil || p.live
}

func newEndpoint(ip netip.Addr, p *pod) *meshconfig.Endpoint {
	e := &meshconfig.Endpoint{Address: ip.String()}
	if p != nil {
		e.Identity, e.Pod, e.Workload = p.identity, p.key, p.workload
	}
	return e
}

// addPorts adds the ports of a slice to an endpoint.
func addPorts(e *meshconfig.Endpoint, s *service, x *slice, plain *plaintext) {
	for _, port := range x.ports {
		for i := range s.ports {
			number := s.ports[i].number
			if s.ports[i].name != port.name || slices.ContainsFunc(e.GetPorts(), func(have *meshconfig.EndpointPort) bool { return have.GetServicePort() == number }) {
				continue
			}
			d := plain.at(port.number)
			e.Ports = append(e.Ports, &meshconfig.EndpointPort{
				ServicePort: number, Port: port.number, Plaintext: d.plaintext, PlaintextUntil: d.until,
			})
		}
	}
	slices.SortFunc(e.GetPorts(), func(a, b *meshconfig.EndpointPort) int { return cmp.Compare(a.GetServicePort(), b.GetServicePort()) })
}
