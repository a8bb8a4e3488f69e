// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// splitsOf are the splits that own a service: one for all its ports, and those of single ports.
type splitsOf struct {
	all    *split
	byPort map[uint32]*split
}

func (s *splitsOf) at(port uint32) *split {
	if s == nil {
		return nil
	}
	if own := s.byPort[port]; own != nil {
		return own
	}
	return s.all
}

// splitEnd is one end of a split in force: its root, or one of its backends.
type splitEnd struct {
	split *split
	port  uint32 // 0: any
	path  string // of the field that says so
}

// splitOwnership hands services out to splits, oldest first.
type splitOwnership struct {
	owned    map[string]*splitsOf
	roots    map[string][]splitEnd // by service
	backends map[string][]splitEnd // by service; without a split's own root
	meant    map[string][]*split   // by root; those that are refused too
}

// ownSplits decides which split owns which service and port, and reports on all. The key is that of the service.
func (c *compilation) ownSplits(oldestFirst []*split) map[string]*splitsOf {
	o := &splitOwnership{
		owned: map[string]*splitsOf{}, roots: map[string][]splitEnd{}, backends: map[string][]splitEnd{}, meant: map[string][]*split{},
	}
	for _, s := range oldestFirst {
		root := s.service(s.spec.Service.Name)
		o.meant[root] = append(o.meant[root], s)
	}
	for _, s := range oldestFirst {
		c.resolveSplit(s)
		if winner := o.owner(s); winner != nil {
			c.report.conflict(s.origin, "spec.service: %s is divided by the older %s: delete one of the two, or name different ports", targetOfSplit(s), winner.origin)
		} else if problem := o.nested(s); problem != "" {
			c.report.conflict(s.origin, "%s", problem)
		} else {
			o.take(s)
		}
	}
	return o.owned
}

func targetOfSplit(s *split) string {
	if port := rootPort(s); port != 0 {
		return fmt.Sprintf("port %d of Service %q", port, s.spec.Service.Name)
	}
	return fmt.Sprintf("Service %q", s.spec.Service.Name)
}

func portNumber(p *int32) uint32 {
	if p == nil {
		return 0
	}
	return uint32(*p)
}

func rootPort(s *split) uint32 { return portNumber(s.spec.Service.Port) }

// owner returns the split that has what s wants.
func (o *splitOwnership) owner(s *split) *split {
	of := o.owned[s.service(s.spec.Service.Name)]
	if of == nil {
		return nil
	}
	if port := rootPort(s); port != 0 {
		return of.byPort[port]
	}
	return of.all
}

func (o *splitOwnership) take(s *split) {
	root := s.service(s.spec.Service.Name)
	of := o.owned[root]
	if of == nil {
		of = &splitsOf{byPort: map[uint32]*split{}}
		o.owned[root] = of
	}
	if port := rootPort(s); port != 0 {
		of.byPort[port] = s
	} else {
		of.all = s
	}
	o.roots[root] = append(o.roots[root], splitEnd{s, rootPort(s), "spec.service"})
	for i := range s.spec.Backends {
		b := backendRef(s, i)
		if key := s.service(b.Name); key != root {
			end := splitEnd{s, backendPort(s, b), fmt.Sprintf("spec.backends[%d].service", i)}
			o.backends[key] = append(o.backends[key], end)
		}
	}
}

// backendRef returns the Service of a backend, which for a subset is the root.
func backendRef(s *split, i int) *v1alpha1.ServicePortReference {
	if b := s.spec.Backends[i].Service; b != nil {
		return b
	}
	return &s.spec.Service
}

// backendPort returns the port of a backend, by default that of the root; 0 is the one that the caller used.
func backendPort(s *split, b *v1alpha1.ServicePortReference) uint32 {
	if b.Port != nil {
		return uint32(*b.Port)
	}
	return rootPort(s)
}

// nested says why s would be a split of a split, or that of one. A backend is sent to as it is, so the younger would
// not do what it says, and two could go round in a circle.
func (o *splitOwnership) nested(s *split) string {
	root := s.service(s.spec.Service.Name)
	for _, end := range o.backends[root] {
		if overlap(end.port, rootPort(s)) {
			chain := []string{end.split.spec.Service.Name, s.spec.Service.Name, backendRef(s, 0).Name}
			return o.nestedMessage(s, "spec.service", fmt.Sprintf("Service %q is a backend of", s.spec.Service.Name), end, chain)
		}
	}
	for i := range s.spec.Backends {
		b := backendRef(s, i)
		if key := s.service(b.Name); key != root {
			for _, end := range o.roots[key] {
				if overlap(end.port, backendPort(s, b)) {
					chain := []string{s.spec.Service.Name, b.Name, backendRef(end.split, 0).Name}
					return o.nestedMessage(s, fmt.Sprintf("spec.backends[%d].service", i), fmt.Sprintf("Service %q is divided by", b.Name), end, chain)
				}
			}
		}
	}
	return ""
}

// nestedMessage says what is wrong with s, and shows the circle if it closes one, else the chain.
func (o *splitOwnership) nestedMessage(s *split, path, what string, end splitEnd, chain []string) string {
	if circle := o.circle(s); circle != nil {
		chain = circle
	}
	if more := len(chain) - maxChain; more > 0 {
		chain = append(append(chain[:maxChain-1:maxChain-1], fmt.Sprintf("%d more", more)), chain[len(chain)-1])
	}
	return fmt.Sprintf("%s: %s the older %s (%s), and a split of a split is refused (%s): list the last backends in one TrafficSplit",
		path, what, end.split.origin, end.path, strings.Join(chain, " -> "))
}

// maxChain is how many Services a message names.
const maxChain = 8

// circle returns the Services by which the backends of s lead back to its root, which is the first and the last of them;
// nil if they do not. Splits that are refused are followed too, for they show what was meant.
func (o *splitOwnership) circle(s *split) []string {
	type step struct {
		at   *split
		from int // the step before
	}
	steps, seen := []step{{s, -1}}, map[*split]bool{s: true}
	for n := 0; n < len(steps); n++ {
		at := steps[n].at
		for i := range at.spec.Backends {
			b := backendRef(at, i)
			port := backendPort(at, b)
			switch {
			case b.Name == at.spec.Service.Name: // its own endpoints
			case b.Name == s.spec.Service.Name && overlap(port, rootPort(s)):
				names := []string{b.Name}
				for ; n >= 0; n = steps[n].from {
					names = append(names, steps[n].at.spec.Service.Name)
				}
				slices.Reverse(names)
				return names
			default:
				for _, next := range o.meant[at.service(b.Name)] {
					if !seen[next] && overlap(port, rootPort(next)) {
						seen[next] = true
						steps = append(steps, step{next, n})
					}
				}
			}
		}
	}
	return nil
}

func overlap(a, b uint32) bool { return a == b || a == 0 || b == 0 }

// ownProfiles decides which profile owns which service, and reports on all.
func (c *compilation) ownProfiles(oldestFirst []*profile) map[string]*profile {
	owned := map[string]*profile{}
	for _, p := range oldestFirst {
		key := p.service(p.spec.Service.Name)
		if winner := owned[key]; winner != nil {
			c.report.conflict(p.origin, "spec.service: Service %q is described by the older %s: move what is missing there into it and delete this one", p.spec.Service.Name, winner.origin)
		} else {
			owned[key] = p
		}
	}
	for _, p := range oldestFirst {
		c.resolveProfile(p, owned[p.service(p.spec.Service.Name)])
	}
	return owned
}
