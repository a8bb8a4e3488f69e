// SPDX-License-Identifier: Apache-2.0

package meshconfig

import (
	"errors"
	"fmt"
	"strings"

	"github.com/heddle-mesh/heddle/internal/identity"
)

func validateInbound(name Name, m *Inbound) error {
	if err := kindIs(name, KindInbound); err != nil {
		return err
	}
	if m.GetDefaultPolicy() == nil || m.GetDefaultPolicy().GetPort() != 0 {
		return errors.New("default_policy: want one, with port 0")
	}
	if err := validatePortPolicy(m.GetDefaultPolicy()); err != nil {
		return fmt.Errorf("default_policy: %w", err)
	}
	ports := ascending{what: "ports"}
	for _, p := range m.GetPorts() {
		if err := ports.next(p.GetPort()); err != nil {
			return err
		}
		if err := validatePortPolicy(p); err != nil {
			return fmt.Errorf("port %d: %w", p.GetPort(), err)
		}
	}
	return atMost("ports", len(m.GetPorts()), maxPorts)
}

func validatePortPolicy(p *PortPolicy) error {
	if err := checkProtocol(p.GetProtocol()); err != nil {
		return err
	}
	if err := checkServiceOrNone("service", p.GetService()); err != nil {
		return err
	}
	switch p.GetMtls() {
	case MTLSMode_MTLS_MODE_STRICT, MTLSMode_MTLS_MODE_PERMISSIVE, MTLSMode_MTLS_MODE_DISABLED:
	default:
		return fmt.Errorf("mtls %d: not a mode", p.GetMtls())
	}
	if err := checkMilliseconds("permissive_until", p.GetPermissiveUntil()); err != nil {
		return err
	}
	if err := checkAction("default_action", p.GetDefaultAction()); err != nil {
		return err
	}
	if p.GetDefaultRule() != "" {
		if err := checkText("default_rule", p.GetDefaultRule()); err != nil {
			return err
		}
	}
	for i, r := range p.GetRules() {
		if err := validateRule(r); err != nil {
			return fmt.Errorf("rules[%d] %.80q: %w", i, r.GetName(), err)
		}
	}
	if err := atMost("rules", len(p.GetRules()), maxRules); err != nil {
		return err
	}
	return validateRateLimits(p.GetRateLimits())
}

func validateRule(r *AuthorizationRule) error {
	if err := checkText("name", r.GetName()); err != nil {
		return err
	}
	if err := checkAction("action", r.GetAction()); err != nil {
		return err
	}
	return validateFromTo(r.GetFrom(), r.GetTo())
}

// validateFromTo validates what a rule or limit is about.
func validateFromTo(from []*Caller, to []*Operation) error {
	if err := atMost("from", len(from), maxListed); err != nil {
		return err
	}
	for i, c := range from {
		if err := validateCaller(c); err != nil {
			return fmt.Errorf("from[%d]: %w", i, err)
		}
	}
	if err := atMost("to", len(to), maxListed); err != nil {
		return err
	}
	for i, o := range to {
		if err := validateOperation(o); err != nil {
			return fmt.Errorf("to[%d]: %w", i, err)
		}
	}
	return nil
}

// validateCaller refuses an entry without fields too: it would match every caller, where the author meant some.
func validateCaller(c *Caller) error {
	if n := len(c.GetIdentities()) + len(c.GetNamespaces()); n == 0 || n > maxListed {
		return fmt.Errorf("%d identities and namespaces: want 1 to %d", n, maxListed)
	}
	for _, s := range c.GetIdentities() {
		if _, err := identity.Parse(s); s != "*" && err != nil {
			return err
		}
	}
	for _, s := range c.GetNamespaces() {
		if s != "*" && !isLabel(s) {
			return fmt.Errorf("namespace %.80q: want a DNS label or *", s)
		}
	}
	return nil
}

func validateOperation(o *Operation) error {
	if n := len(o.GetPorts()) + len(o.GetMethods()) + len(o.GetPaths()); n == 0 || n > maxListed {
		return fmt.Errorf("%d ports, methods and paths: want 1 to %d", n, maxListed)
	}
	for _, p := range o.GetPorts() {
		if err := checkPort(p); err != nil {
			return err
		}
	}
	for _, m := range o.GetMethods() {
		if m != "*" && !isToken(m) {
			return fmt.Errorf("method %.80q: want a token or *", m)
		}
	}
	for _, p := range o.GetPaths() {
		if p != "*" && !strings.HasPrefix(p, "/") || len(p) > MaxValue {
			return fmt.Errorf("path %.80q: want * or a path that starts with a slash, of at most %d bytes", p, MaxValue)
		}
	}
	return nil
}

func checkAction(what string, a Action) error {
	if a != Action_ACTION_ALLOW && a != Action_ACTION_DENY {
		return fmt.Errorf("%s %d: want allow or deny", what, a)
	}
	return nil
}
