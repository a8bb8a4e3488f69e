// SPDX-License-Identifier: Apache-2.0

package meshconfig

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

func validateRoutes(name Name, m *Routes) error {
	if err := kindIs(name, KindRoutes); err != nil {
		return err
	}
	if m.GetService() != name.Subject() {
		return fmt.Errorf("service %.80q: want that of the name", m.GetService())
	}
	if err := checkService("service", m.GetService()); err != nil {
		return err
	}
	ports := ascending{what: "ports"}
	for _, p := range m.GetPorts() {
		if err := ports.next(p.GetPort()); err != nil {
			return err
		}
		if err := validateServicePort(p); err != nil {
			return fmt.Errorf("port %d: %w", p.GetPort(), err)
		}
	}
	if err := atMost("ports", len(m.GetPorts()), maxPorts); err != nil {
		return err
	}
	return validateClusters(m.GetClusters())
}

func validateServicePort(p *ServicePort) error {
	if err := checkProtocol(p.GetProtocol()); err != nil {
		return err
	}
	if err := atMost("routes", len(p.GetRoutes()), maxRoutes); err != nil {
		return err
	}
	for i, r := range p.GetRoutes() {
		if err := validateRoute(r); err != nil {
			return fmt.Errorf("routes[%d]: %w", i, err)
		}
	}
	if err := atMost("rules", len(p.GetRules()), maxSplitRules); err != nil {
		return err
	}
	for i, r := range p.GetRules() {
		if err := checkText("name", r.GetName()); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
		if err := validateMatches(r.GetMatches()); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
		if err := validateBackends(r.GetBackends()); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
	}
	if err := validateStickiness(p.GetStickiness()); err != nil {
		return err
	}
	if err := validateFaults(p.GetFaults()); err != nil {
		return err
	}
	return validateBackends(p.GetBackends())
}

func validateRoute(r *Route) error {
	if err := checkText("name", r.GetName()); err != nil {
		return err
	}
	if err := checkTimes(
		field[int64]{"request_timeout", r.GetRequestTimeout()}, field[int64]{"try_timeout", r.GetTryTimeout()},
		field[int64]{"idle_timeout", r.GetIdleTimeout()},
	); err != nil {
		return err
	}
	if err := validateRetry(r.GetRetry()); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	if err := validateFilters(r.GetFilters()); err != nil {
		return fmt.Errorf("filters: %w", err)
	}
	return validateMatches(r.GetMatches())
}

func validateBackends(backends []*WeightedBackend) error {
	if n := len(backends); n == 0 || n > maxBackends {
		return fmt.Errorf("backends: %d: want 1 to %d", n, maxBackends)
	}
	sum := uint64(0)
	for i, b := range backends {
		if err := validateBackend(b); err != nil {
			return fmt.Errorf("backends[%d]: %w", i, err)
		}
		sum += uint64(b.GetWeight())
	}
	if sum == 0 {
		return errors.New("backends: no weight is above 0")
	}
	return nil
}

func validateBackend(b *WeightedBackend) error {
	if err := checkText("name", b.GetName()); err != nil {
		return err
	}
	if err := checkService("service", b.GetService()); err != nil {
		return err
	}
	if err := checkPort(b.GetPort()); err != nil {
		return err
	}
	if b.GetWeight() > MaxWeight {
		return fmt.Errorf("weight %d: at most %d", b.GetWeight(), MaxWeight)
	}
	return checkLengths(maxWord, field[string]{"subset", b.GetSubset()})
}

func validateMatches(matches []*Match) error {
	if err := atMost("matches", len(matches), maxMatches); err != nil {
		return err
	}
	for i, m := range matches {
		if err := validateMatch(m); err != nil {
			return fmt.Errorf("matches[%d]: %w", i, err)
		}
	}
	return nil
}

func validateMatch(m *Match) error {
	if p := m.GetPath(); p != nil {
		if err := validatePath(p); err != nil {
			return fmt.Errorf("path: %w", err)
		}
	}
	if m.GetMethod() != "" && !isToken(m.GetMethod()) {
		return fmt.Errorf("method %.80q: want a token", m.GetMethod())
	}
	if err := atMost("headers", len(m.GetHeaders()), maxHeaders); err != nil {
		return err
	}
	for i, h := range m.GetHeaders() {
		if !isToken(h.GetName()) || strings.ToLower(h.GetName()) != h.GetName() {
			return fmt.Errorf("headers[%d]: name %.80q: want a token in lower case", i, h.GetName())
		}
		if err := validateValue(h); err != nil {
			return fmt.Errorf("headers[%d]: %w", i, err)
		}
	}
	if err := atMost("query", len(m.GetQuery()), maxHeaders); err != nil {
		return err
	}
	for i, q := range m.GetQuery() {
		if q.GetName() == "" || len(q.GetName()) > maxWord {
			return fmt.Errorf("query[%d]: name of %d bytes: want 1 to %d", i, len(q.GetName()), maxWord)
		}
		if err := validateValue(q); err != nil {
			return fmt.Errorf("query[%d]: %w", i, err)
		}
	}
	return validateWho(m)
}

// validateWho validates the parts of a match that say who asks whom.
func validateWho(m *Match) error {
	if err := atMost("hosts", len(m.GetHosts()), maxHosts); err != nil {
		return err
	}
	for i, h := range m.GetHosts() {
		if h == "" || len(h) > maxWord {
			return fmt.Errorf("hosts[%d] of %d bytes: want 1 to %d", i, len(h), maxWord)
		}
	}
	if err := atMost("callers", len(m.GetCallers()), maxMatches); err != nil {
		return err
	}
	for i, c := range m.GetCallers() {
		if err := validateCaller(c); err != nil {
			return fmt.Errorf("callers[%d]: %w", i, err)
		}
	}
	return nil
}

// validateValue validates what a header or query parameter is compared with.
func validateValue(h *HeaderMatch) error {
	switch h.GetType() {
	case HeaderMatch_TYPE_EXACT:
		return checkLengths(MaxValue, field[string]{"value", h.GetValue()})
	case HeaderMatch_TYPE_REGEX:
		return checkRegex(h.GetValue())
	default:
		return fmt.Errorf("type %d is unknown", h.GetType())
	}
}

func validatePath(p *PathMatch) error {
	switch p.GetType() {
	case PathMatch_TYPE_EXACT, PathMatch_TYPE_PREFIX:
		if !strings.HasPrefix(p.GetValue(), "/") || len(p.GetValue()) > MaxValue {
			return fmt.Errorf("value %.80q: want a path that starts with a slash, of at most %d bytes", p.GetValue(), MaxValue)
		}
		return nil
	case PathMatch_TYPE_REGEX:
		return checkRegex(p.GetValue())
	default:
		return fmt.Errorf("type %d is unknown", p.GetType())
	}
}

// checkRegex bounds the length before it compiles; package regexp bounds what a short expression can grow to.
func checkRegex(s string) error {
	if len(s) > maxRegex {
		return fmt.Errorf("regular expression of %d bytes: at most %d", len(s), maxRegex)
	}
	_, err := regexp.Compile(s)
	return err
}
