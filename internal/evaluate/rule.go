// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// rule is a compiled authorization rule. Empty lists do not constrain.
type rule struct {
	name string
	from []source
	to   []operation
}

type source struct {
	identities    map[identity.ID]struct{} // nil: not constrained
	namespaces    map[string]struct{}
	authenticated bool // "*": whoever has an identity
}

type operation struct {
	ports   []uint16
	l7      bool // methods or paths were given, "*" too
	methods []string
	paths   []pathRule
}

// pathRule is an exact path or, if below is set, a path and all that is below it.
type pathRule struct {
	value   string
	below   bool
	lenient string // value as the most lenient server reads it
}

func newRule(r *meshconfig.AuthorizationRule) (rule, error) {
	return compileRule(r.GetName(), r.GetFrom(), r.GetTo())
}

func compileRule(name string, from []*meshconfig.Caller, to []*meshconfig.Operation) (rule, error) {
	compiled := rule{name: name}
	var err error
	if compiled.from, err = newSources(from); err != nil {
		return rule{}, fmt.Errorf("from%w", err)
	}
	for i, o := range to {
		op, err := newOperation(o)
		if err != nil {
			return rule{}, fmt.Errorf("to[%d]: %w", i, err)
		}
		compiled.to = append(compiled.to, op)
	}
	return compiled, nil
}

// newSources compiles a list of callers. An error starts with the index.
func newSources(callers []*meshconfig.Caller) ([]source, error) {
	var sources []source
	for i, c := range callers {
		s, err := newSource(c)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		sources = append(sources, s)
	}
	return sources, nil
}

func newSource(c *meshconfig.Caller) (source, error) {
	var s source
	if len(c.GetIdentities()) == 0 && len(c.GetNamespaces()) == 0 {
		return s, fmt.Errorf("neither identities nor namespaces are given")
	}
	if slices.Contains(c.GetIdentities(), wildcard) {
		s.authenticated = true
	} else if len(c.GetIdentities()) > 0 {
		s.identities = make(map[identity.ID]struct{}, len(c.GetIdentities()))
		for _, text := range c.GetIdentities() {
			id, err := identity.Parse(text)
			if err != nil {
				return s, err
			}
			s.identities[id] = struct{}{}
		}
	}
	if slices.Contains(c.GetNamespaces(), wildcard) {
		s.authenticated = true
	} else if len(c.GetNamespaces()) > 0 {
		s.namespaces = make(map[string]struct{}, len(c.GetNamespaces()))
		for _, n := range c.GetNamespaces() {
			s.namespaces[n] = struct{}{}
		}
	}
	return s, nil
}

func newOperation(o *meshconfig.Operation) (operation, error) {
	op := operation{l7: len(o.GetMethods())+len(o.GetPaths()) > 0}
	for _, p := range o.GetPorts() {
		if p == 0 || p > 65535 {
			return op, fmt.Errorf("port %d: want 1 to 65535", p)
		}
		op.ports = append(op.ports, uint16(p))
	}
	if !slices.Contains(o.GetMethods(), wildcard) {
		op.methods = o.GetMethods()
	}
	if slices.Contains(o.GetPaths(), wildcard) {
		return op, nil
	}
	for _, p := range o.GetPaths() {
		path, err := newPathRule(p)
		if err != nil {
			return op, fmt.Errorf("path %.80q: %w", p, err)
		}
		op.paths = append(op.paths, path)
	}
	return op, nil
}

// CheckRulePath says why a path cannot stand in an authorization rule: "*", an exact path, or one that ends in "/*".
func CheckRulePath(path string) error {
	if path == wildcard {
		return nil
	}
	_, err := newPathRule(path)
	return err
}

func newPathRule(path string) (pathRule, error) {
	var r pathRule
	value, star := strings.CutSuffix(path, "*")
	if star && !strings.HasSuffix(value, "/") || strings.Contains(value, "*") {
		return r, errors.New(`"*" stands alone or after the last "/"`)
	}
	normal, err := normalizeValue(value)
	if err != nil {
		return r, err
	}
	r.value, r.below = normal, star
	if r.below {
		r.value = strings.TrimSuffix(normal, "/")
	}
	var lenient reading
	lenient.read(r.value)
	if lenient.cut {
		return r, fmt.Errorf("%d bytes: at most %d", len(path), maxReading)
	}
	r.lenient = string(lenient.bytes())
	return r, nil
}

// allows reads the rule strictly: every doubt is a no.
func (r *rule) allows(caller identity.ID, op Op) bool {
	if !matchSources(r.from, caller) {
		return false
	}
	for i := range r.to {
		o := &r.to[i]
		if o.matchesPort(op.Port) && (!o.l7 || op.HTTP && o.allowsRequest(op)) {
			return true
		}
	}
	return len(r.to) == 0
}

// denies reads the rule leniently: every doubt is a yes.
func (r *rule) denies(caller identity.ID, op Op, lenient *reading) bool {
	if !matchSources(r.from, caller) {
		return false
	}
	for i := range r.to {
		o := &r.to[i]
		if o.matchesPort(op.Port) && (!o.l7 || !op.HTTP || o.deniesRequest(op, lenient)) {
			return true
		}
	}
	return len(r.to) == 0
}

func (r *rule) readsPaths() bool {
	return slices.ContainsFunc(r.to, func(o operation) bool { return len(o.paths) > 0 })
}

// matchSources says whether one of the sources is the caller; no sources take everyone.
func matchSources(sources []source, caller identity.ID) bool {
	for i := range sources {
		if sources[i].matches(caller) {
			return true
		}
	}
	return len(sources) == 0
}

func (s *source) matches(caller identity.ID) bool {
	if caller == (identity.ID{}) {
		return false
	}
	if s.identities != nil {
		if _, ok := s.identities[caller]; !ok {
			return false
		}
	}
	if s.namespaces != nil {
		if _, ok := s.namespaces[caller.Namespace]; !ok {
			return false
		}
	}
	return true
}

func (o *operation) matchesPort(port uint16) bool {
	return len(o.ports) == 0 || slices.Contains(o.ports, port)
}

func (o *operation) allowsRequest(op Op) bool {
	if len(o.methods) > 0 && !slices.Contains(o.methods, op.Method) {
		return false
	}
	for i := range o.paths {
		p := &o.paths[i]
		if op.Path == p.value || p.below && hasPathPrefix(op.Path, p.value) {
			return true
		}
	}
	return len(o.paths) == 0
}

// hasPathPrefix is hasSegmentPrefix for what may be no path at all.
func hasPathPrefix(path, prefix string) bool {
	return strings.HasPrefix(path, "/") && hasSegmentPrefix(path, prefix)
}

func (o *operation) deniesRequest(op Op, lenient *reading) bool {
	if len(o.methods) > 0 && !containsFold(o.methods, op.Method) {
		return false
	}
	if !strings.HasPrefix(op.Path, "/") {
		return true
	}
	for i := range o.paths {
		if o.paths[i].denies(op.Path, lenient) {
			return true
		}
	}
	return len(o.paths) == 0
}

func (p *pathRule) denies(path string, lenient *reading) bool {
	if path == p.value || p.below && hasSegmentPrefix(path, p.value) {
		return true
	}
	read := lenient.bytes()
	if len(read) < len(p.lenient) || string(read[:len(p.lenient)]) != p.lenient {
		return false
	}
	return len(read) == len(p.lenient) || p.below && read[len(p.lenient)] == '/'
}

func containsFold(list []string, s string) bool {
	for _, l := range list {
		if strings.EqualFold(l, s) {
			return true
		}
	}
	return false
}
