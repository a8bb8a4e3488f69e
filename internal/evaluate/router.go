// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Router decides what becomes of requests to one port of a service.
type Router struct {
	routes     []*Route
	rules      []namedSplit
	split      *Split
	stickiness *Stickiness // nil: none
	faults     []*Fault
}

type namedSplit struct {
	name     string
	matchers []*Matcher
	split    *Split
}

// Choice is what becomes of a request or connection.
type Choice struct {
	// Route is that of the ServiceProfile, or Unrouted if none matches; never nil.
	Route *Route
	// Prefix is what the match that led to the route takes from the start of the path, without a slash at its end.
	Prefix string
	// RuleName is the rule of the TrafficSplit, or "" if none matches.
	RuleName string
	// Split is who shares such requests; never nil.
	Split *Split
	// Stickiness is what keeps a user on one backend; nil: nothing.
	Stickiness *Stickiness
}

// NewRouter compiles a port of a routes section. It refuses what it does not know, and names it.
func NewRouter(p *meshconfig.ServicePort) (*Router, error) {
	r := &Router{}
	var err error
	if r.split, err = newSplit(p.GetBackends()); err != nil {
		return nil, err
	}
	if r.stickiness, err = newStickiness(p.GetStickiness()); err != nil {
		return nil, fmt.Errorf("stickiness: %w", err)
	}
	for i, m := range p.GetRoutes() {
		route, err := newRoute(m)
		if err != nil {
			return nil, fmt.Errorf("route %q: %w", m.GetName(), err)
		}
		route.Index = i + 1
		r.routes = append(r.routes, route)
	}
	for _, rule := range p.GetRules() {
		matchers, err := newMatchers(rule.GetMatches())
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", rule.GetName(), err)
		}
		split, err := newSplit(rule.GetBackends())
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", rule.GetName(), err)
		}
		r.rules = append(r.rules, namedSplit{rule.GetName(), matchers, split})
	}
	for _, m := range p.GetFaults() {
		fault, err := newFault(m)
		if err != nil {
			return nil, fmt.Errorf("fault %q: %w", m.GetName(), err)
		}
		r.faults = append(r.faults, fault)
	}
	return r, nil
}

func newMatchers(matches []*meshconfig.Match) ([]*Matcher, error) {
	matchers := make([]*Matcher, 0, len(matches))
	for i, m := range matches {
		matcher, err := NewMatcher(m)
		if err != nil {
			return nil, fmt.Errorf("matches[%d].%w", i, err)
		}
		matchers = append(matchers, matcher)
	}
	return matchers, nil
}

// Route decides on an HTTP request. The first route and the first rule that match win.
func (r *Router) Route(request *Request) Choice {
	choice := Choice{Route: unrouted, Split: r.split, Stickiness: r.stickiness}
	for _, route := range r.routes {
		if m, ok := firstMatch(route.matchers, request); ok {
			choice.Route, choice.Prefix = route, m.prefix()
			break
		}
	}
	for i := range r.rules {
		if _, ok := firstMatch(r.rules[i].matchers, request); ok {
			choice.RuleName, choice.Split = r.rules[i].name, r.rules[i].split
			break
		}
	}
	return choice
}

// HasFaults says whether there are any, whoever they are for.
func (r *Router) HasFaults() bool { return len(r.faults) > 0 }

// Connection decides on a connection that is not HTTP: no route and no rule reads it, and only where it comes from can
// make it stick.
func (r *Router) Connection() Choice {
	choice := Choice{Route: unrouted, Split: r.split}
	if r.stickiness != nil && r.stickiness.key.ofSource() {
		choice.Stickiness = r.stickiness
	}
	return choice
}

// firstMatch returns the first matcher that takes the request; no matchers take every request, which is nil.
func firstMatch(matchers []*Matcher, request *Request) (*Matcher, bool) {
	for _, m := range matchers {
		if m.Match(request) {
			return m, true
		}
	}
	return nil, len(matchers) == 0
}
