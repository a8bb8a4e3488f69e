// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Router decides what becomes of requests to one port of a service.
type Router struct {
	routes []namedRoute
	rules  []namedSplit
	split  *Split
}

type namedRoute struct {
	name     string
	matchers []*Matcher
	timeout  time.Duration
}

type namedSplit struct {
	name     string
	matchers []*Matcher
	split    *Split
}

// Choice is what becomes of a request.
type Choice struct {
	// RouteName is the route of the ServiceProfile, or "" if none matches.
	RouteName string
	// Timeout of the whole request; 0: none.
	Timeout time.Duration
	// RuleName is the rule of the TrafficSplit, or "" if none matches.
	RuleName string
	// Split is who shares such requests; never nil.
	Split *Split
}

// NewRouter compiles a port of a routes section.
func NewRouter(p *meshconfig.ServicePort) (*Router, error) {
	r := &Router{}
	var err error
	if r.split, err = newSplit(p.GetBackends()); err != nil {
		return nil, err
	}
	for _, route := range p.GetRoutes() {
		if route.GetRequestTimeout() < 0 {
			return nil, fmt.Errorf("route %q: timeout %d ms is below 0", route.GetName(), route.GetRequestTimeout())
		}
		matchers, err := newMatchers(route.GetMatches())
		if err != nil {
			return nil, fmt.Errorf("route %q: %w", route.GetName(), err)
		}
		timeout := time.Duration(route.GetRequestTimeout()) * time.Millisecond
		r.routes = append(r.routes, namedRoute{route.GetName(), matchers, timeout})
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
	choice := Choice{Split: r.split}
	for i := range r.routes {
		if matchAny(r.routes[i].matchers, request) {
			choice.RouteName, choice.Timeout = r.routes[i].name, r.routes[i].timeout
			break
		}
	}
	for i := range r.rules {
		if matchAny(r.rules[i].matchers, request) {
			choice.RuleName, choice.Split = r.rules[i].name, r.rules[i].split
			break
		}
	}
	return choice
}

// Connection decides on a connection that is not HTTP: no route and no rule reads it.
func (r *Router) Connection() Choice { return Choice{Split: r.split} }

// matchAny says whether one of the matchers takes the request; no matchers take every request.
func matchAny(matchers []*Matcher, request *Request) bool {
	for _, m := range matchers {
		if m.Match(request) {
			return true
		}
	}
	return len(matchers) == 0
}
