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

// splitEnd is one end of a split: its root, or one of its backends.
type splitEnd struct {
	split   *split
	backend int    // its index, or -1: the root
	name    string // of the Service
	port    uint32 // 0: any
}

func (e *splitEnd) isRoot() bool { return e.backend < 0 }

// path is the field that names the end.
func (e *splitEnd) path() string {
	if e.isRoot() {
		return "spec.service"
	}
	return fmt.Sprintf("spec.backends[%d].service", e.backend)
}

// endsOf are the ends of a split, its root first. A backend that is the root is none: its own endpoints are no split.
func endsOf(s *split) []splitEnd {
	ends := append(make([]splitEnd, 0, 1+len(s.spec.Backends)), splitEnd{s, -1, s.spec.Service.Name, rootPort(s)})
	for i := range s.spec.Backends {
		if b := backendRef(s, i); b.Name != s.spec.Service.Name {
			ends = append(ends, splitEnd{s, i, b.Name, backendPort(s, b)})
		}
	}
	return ends
}

// splitOwnership hands services out to splits.
type splitOwnership struct {
	owned map[string]*splitsOf
	held  map[string]*heldEnds // by service
	meant map[string][]*split  // by root; those that are refused too
}

// heldEnds are ends at one service that nobody else can have. One may be there twice.
type heldEnds struct{ roots, backends []splitEnd }

// ownSplits decides which split owns which service and port, and reports on all. The key is that of the service.
//
// What is in force stays so: a split holds what its last good spec has, as long as its live one wants that too. The rest
// goes to the oldest first. A changed split that does not get all that it wants falls back to its last good spec, of
// which it then holds all, and the others are asked again. So a split that was not changed loses nothing to one that was,
// and one mistake does not hold up the changes of others.
func (c *compilation) ownSplits(oldestFirst []*choice[v1alpha1.TrafficSplitSpec]) map[string]*splitsOf {
	for _, x := range oldestFirst {
		c.feed(x)
	}
	for {
		owned, problems := c.placeSplits(oldestFirst)
		if fallBack(oldestFirst, problems) {
			continue // at most once for each
		}
		for _, x := range oldestFirst {
			c.resolveSplit(x.chosen)
			conclude(c, x, problems[x.chosen])
		}
		return owned
	}
}

// placeSplits gives each split what its chosen spec wants, or says why it cannot.
func (c *compilation) placeSplits(oldestFirst []*choice[v1alpha1.TrafficSplitSpec]) (owned map[string]*splitsOf, problems map[*split]string) {
	o := &splitOwnership{owned: map[string]*splitsOf{}, held: map[string]*heldEnds{}, meant: map[string][]*split{}}
	problems = map[*split]string{}
	for _, x := range oldestFirst {
		root := x.chosen.service(x.chosen.spec.Service.Name)
		o.meant[root] = append(o.meant[root], x.chosen)
		o.reserve(x.chosen, x.good)
	}
	for _, x := range oldestFirst {
		if problem := o.problem(x.chosen); problem != "" {
			problems[x.chosen] = problem
		} else {
			o.take(x.chosen)
		}
	}
	for _, s := range c.services {
		o.leaveCovered(s, problems)
	}
	return o.owned, problems
}

// reserve holds for a split what both its chosen and its last good spec have; good is nil if there is none.
func (o *splitOwnership) reserve(chosen, good *split) {
	if good == nil {
		return
	}
	kept := endsOf(chosen)
	if chosen != good {
		had := endsOf(good)
		kept = slices.DeleteFunc(kept, func(e splitEnd) bool {
			return !slices.ContainsFunc(had, func(h splitEnd) bool {
				return h.isRoot() == e.isRoot() && h.name == e.name && h.port == e.port
			})
		})
	}
	if !slices.ContainsFunc(kept, func(e splitEnd) bool { return o.rival(&e) != nil }) {
		o.hold(kept)
	}
}

func (o *splitOwnership) hold(ends []splitEnd) {
	for _, e := range ends {
		held := o.heldOf(&e)
		*held = append(*held, e)
	}
}

// heldOf is where an end is among those that are held.
func (o *splitOwnership) heldOf(e *splitEnd) *[]splitEnd {
	key := e.split.service(e.name)
	if o.held[key] == nil {
		o.held[key] = &heldEnds{}
	}
	if e.isRoot() {
		return &o.held[key].roots
	}
	return &o.held[key].backends
}

// rival returns an end of another split that this one cannot be beside, or nil: the root where this is one, else the
// other end of a split of a split. A backend is sent to as it is, so one of the two would not do what it says, and they
// could go round in a circle.
func (o *splitOwnership) rival(e *splitEnd) *splitEnd {
	held := o.held[e.split.service(e.name)]
	if held == nil {
		return nil
	}
	nested := held.roots
	if e.isRoot() {
		nested = held.backends
		for i := range held.roots {
			if other := &held.roots[i]; other.split != e.split && other.port == e.port {
				return other
			}
		}
	}
	for i := range nested {
		if other := &nested[i]; other.split != e.split && overlap(other.port, e.port) {
			return other
		}
	}
	return nil
}

// problem says why a split cannot have what it wants; empty if it can.
func (o *splitOwnership) problem(s *split) string {
	for _, e := range endsOf(s) {
		rival := o.rival(&e)
		switch {
		case rival == nil:
		case rival.isRoot() && e.isRoot():
			return fmt.Sprintf("spec.service: %s is divided by %s: delete one of the two, or name different ports", targetOfSplit(s), nameRival(s, rival.split))
		case e.isRoot():
			chain := []string{rival.split.spec.Service.Name, e.name, backendRef(s, 0).Name}
			return o.nestedMessage(e, "is a backend of", rival, chain)
		default:
			chain := []string{s.spec.Service.Name, e.name, backendRef(rival.split, 0).Name}
			return o.nestedMessage(e, "is divided by", rival, chain)
		}
	}
	return ""
}

// nameRival says who has what an object wants, and by what right.
func nameRival[S any](o, rival *object[S]) string {
	if older(rival, o) < 0 {
		return "the older " + rival.origin.String()
	}
	return rival.origin.String() + ", which had it first"
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
	o.hold(endsOf(s))
}

// leaveCovered takes a service from a split of all its ports if each of them has a split of its own.
func (o *splitOwnership) leaveCovered(s *service, problems map[*split]string) {
	of := o.owned[s.key]
	if of == nil || of.all == nil || len(s.ports) == 0 {
		return
	}
	names := make([]string, len(s.ports))
	for i, p := range s.ports {
		own := of.byPort[p.number]
		if own == nil {
			return
		}
		names[i] = fmt.Sprintf("%d by %s", p.number, own.origin)
	}
	problems[of.all] = fmt.Sprintf("spec.service: each port of Service %q is divided by a split of its own (%s): delete this one, or one of those",
		s.name, strings.Join(shorten(names), ", "))
	of.all = nil
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

// nestedMessage says what is wrong with an end of a split, and shows the circle if it closes one, else the chain.
func (o *splitOwnership) nestedMessage(e splitEnd, what string, rival *splitEnd, chain []string) string {
	if circle := o.circle(e.split); circle != nil {
		chain = circle
	}
	return fmt.Sprintf("%s: Service %q %s %s (%s), and a split of a split is refused (%s): list the last backends in one TrafficSplit",
		e.path(), e.name, what, nameRival(e.split, rival.split), rival.path(), strings.Join(shorten(chain), " -> "))
}

// shorten leaves as many names as a message shows, the last among them.
func shorten(names []string) []string {
	const shown = 8
	more := len(names) - shown
	if more <= 0 {
		return names
	}
	return append(append(names[:shown-1:shown-1], fmt.Sprintf("%d more", more)), names[len(names)-1])
}

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

// ownProfiles decides which profile owns which service, and reports on all, by the rules of ownSplits.
func (c *compilation) ownProfiles(oldestFirst []*choice[v1alpha1.ServiceProfileSpec]) map[string]*profile {
	for {
		owned, problems := placeProfiles(oldestFirst)
		if fallBack(oldestFirst, problems) {
			continue
		}
		for _, x := range oldestFirst {
			c.resolveProfile(x.chosen, owned[x.chosen.service(x.chosen.spec.Service.Name)])
			conclude(c, x, problems[x.chosen])
		}
		return owned
	}
}

// placeProfiles gives each profile the service of its chosen spec, or says why it cannot.
func placeProfiles(oldestFirst []*choice[v1alpha1.ServiceProfileSpec]) (owned map[string]*profile, problems map[*profile]string) {
	owned, problems = map[string]*profile{}, map[*profile]string{}
	for _, x := range oldestFirst {
		name := x.chosen.spec.Service.Name
		if key := x.chosen.service(name); x.good != nil && x.good.spec.Service.Name == name && owned[key] == nil {
			owned[key] = x.chosen
		}
	}
	for _, x := range oldestFirst {
		p := x.chosen
		switch key := p.service(p.spec.Service.Name); owned[key] {
		case nil:
			owned[key] = p
		case p:
		default:
			problems[p] = fmt.Sprintf("spec.service: Service %q is described by %s: move what is missing there into it and delete this one", p.spec.Service.Name, nameRival(p, owned[key]))
		}
	}
	return owned, problems
}
