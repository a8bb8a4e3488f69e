// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Matcher says whether a request is of a described sort: all that the description holds must match.
type Matcher struct {
	path    pathMatcher
	method  string
	headers []headerMatcher
	query   []queryMatcher
	hosts   []hostMatcher
	callers []source
}

// NewMatcher compiles a description. It refuses what could never match or what it does not know.
func NewMatcher(m *meshconfig.Match) (*Matcher, error) {
	matcher := &Matcher{method: m.GetMethod()}
	if m.GetPath() != nil {
		var err error
		if matcher.path, err = newPathMatcher(m.GetPath()); err != nil {
			return nil, fmt.Errorf("path %q: %w", m.GetPath().GetValue(), err)
		}
	}
	for i, h := range m.GetHeaders() {
		header, err := newHeaderMatcher(h)
		if err != nil {
			return nil, fmt.Errorf("headers[%d]: %w", i, err)
		}
		matcher.headers = append(matcher.headers, header)
	}
	for i, p := range m.GetQuery() {
		parameter, err := newQueryMatcher(p)
		if err != nil {
			return nil, fmt.Errorf("query[%d]: %w", i, err)
		}
		matcher.query = append(matcher.query, parameter)
	}
	for i, h := range m.GetHosts() {
		host, err := newHostMatcher(h)
		if err != nil {
			return nil, fmt.Errorf("hosts[%d] %.80q: %w", i, h, err)
		}
		matcher.hosts = append(matcher.hosts, host)
	}
	var err error
	if matcher.callers, err = newSources(m.GetCallers()); err != nil {
		return nil, fmt.Errorf("callers%w", err)
	}
	return matcher, nil
}

// Match says whether the request matches.
func (m *Matcher) Match(r *Request) bool {
	if m.method != "" && m.method != r.Method || !m.path.match(r.Path) {
		return false
	}
	for i := range m.headers {
		if !m.headers[i].match(r) {
			return false
		}
	}
	for i := range m.query {
		if !m.query[i].match(r.Query) {
			return false
		}
	}
	return (len(m.hosts) == 0 || matchHosts(m.hosts, r.Authority)) &&
		(len(m.callers) == 0 || r.Caller != nil && matchSources(m.callers, *r.Caller))
}

// prefix returns what the matcher takes from the start of a path, without a slash at its end; a nil one takes nothing.
func (m *Matcher) prefix() string {
	if m == nil || m.path.kind != meshconfig.PathMatch_TYPE_PREFIX {
		return ""
	}
	return m.path.value
}

// CheckPath says why NewMatcher would refuse a description of paths.
func CheckPath(p *meshconfig.PathMatch) error {
	_, err := newPathMatcher(p)
	return err
}

// CheckHeader says why NewMatcher would refuse a description of a header.
func CheckHeader(h *meshconfig.HeaderMatch) error {
	_, err := newHeaderMatcher(h)
	return err
}

// pathMatcher compares normalised paths; the zero value takes all.
type pathMatcher struct {
	kind  meshconfig.PathMatch_Type
	value string // of a prefix: without the slash at its end, so "" is the root
	regex *regexp.Regexp
}

func newPathMatcher(p *meshconfig.PathMatch) (pathMatcher, error) {
	m := pathMatcher{kind: p.GetType()}
	var err error
	switch m.kind {
	case meshconfig.PathMatch_TYPE_EXACT:
		m.value, err = normalizeValue(p.GetValue())
	case meshconfig.PathMatch_TYPE_PREFIX:
		m.value, err = normalizeValue(p.GetValue())
		m.value = strings.TrimSuffix(m.value, "/")
	case meshconfig.PathMatch_TYPE_REGEX:
		m.regex, err = compileRegex(p.GetValue())
	default:
		err = fmt.Errorf("unknown type %d", m.kind)
	}
	return m, err
}

// normalizeValue brings the path of a rule to the form that requests have.
func normalizeValue(value string) (string, error) {
	normal, ok := NormalizePath(value)
	if !ok {
		return "", errors.New(`not a path: start it with "/", and escape spaces, control characters, "\", "?" and "#" as %XX`)
	}
	return normal, nil
}

func (m *pathMatcher) match(path string) bool {
	switch m.kind {
	case meshconfig.PathMatch_TYPE_EXACT:
		return path == m.value
	case meshconfig.PathMatch_TYPE_PREFIX:
		return hasSegmentPrefix(path, m.value)
	case meshconfig.PathMatch_TYPE_REGEX:
		return m.regex.MatchString(path)
	default:
		return true
	}
}

// hasSegmentPrefix says whether path is prefix or below it: /cart/items is below /cart, /cartoon is not.
func hasSegmentPrefix(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// headerMatcher compares the lines of one header; any of them may match.
type headerMatcher struct {
	name  string
	value string
	regex *regexp.Regexp // nil: exact
}

func newHeaderMatcher(h *meshconfig.HeaderMatch) (headerMatcher, error) {
	m := headerMatcher{name: strings.ToLower(h.GetName()), value: h.GetValue()}
	if m.name == "" {
		return m, fmt.Errorf("name is empty")
	}
	var err error
	switch h.GetType() {
	case meshconfig.HeaderMatch_TYPE_EXACT:
	case meshconfig.HeaderMatch_TYPE_REGEX:
		m.regex, err = compileRegex(m.value)
	default:
		err = fmt.Errorf("unknown type %d", h.GetType())
	}
	return m, err
}

func (m *headerMatcher) match(r *Request) bool {
	if m.name == "host" || m.name == ":authority" {
		return m.matchValue(r.Authority)
	}
	if r.Headers == nil {
		return false
	}
	for i := 0; ; i++ {
		value, ok := r.Headers.Value(m.name, i)
		if !ok {
			return false
		}
		if m.matchValue(value) {
			return true
		}
	}
}

func (m *headerMatcher) matchValue(value string) bool {
	if m.regex == nil {
		return value == m.value
	}
	return m.regex.MatchString(value)
}
