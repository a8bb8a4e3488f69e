// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"cmp"
	"fmt"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// DefaultRule is what a decision cites when no rule matched and no policy set the default action.
const DefaultRule = "default"

// wildcard stands for everything in lists of callers, methods and paths.
const wildcard = "*"

// Op is what a caller asks for. Method and Path are read only if HTTP is set.
type Op struct {
	Port   uint16 // of the container
	HTTP   bool   // a request, as opposed to a connection
	Method string
	Path   string // as NormalizePath returned it
}

// Decision says whether a caller may go on, and the rule that says so ("namespace/policy/rule",
// "namespace/policy/defaultAction" or DefaultRule).
type Decision struct {
	Allowed bool
	Rule    string
}

// Authorizer decides who may call one port of a workload.
//
// Deny rules are read first, then Allow rules, then the default action decides. A doubt is settled on the safe side:
//   - A rule with methods or paths on a connection that is not HTTP: Allow does not match, Deny does.
//   - A path that different servers read differently: Allow compares it as it is forwarded; Deny matches too if any
//     server's reading of it matches (escapes decoded repeatedly, %2F and %5C as slashes, ";x" cut off, no slash,
//     white space or dot at the end of segments). Case counts for both.
//   - A request without a path, such as CONNECT or "OPTIONS *": no path of an Allow rule matches it, every one of a
//     Deny rule does. Methods of Deny rules match whatever their case.
type Authorizer struct {
	deny          []rule
	allow         []rule
	denyReads     bool // a Deny rule looks at paths
	defaultAction meshconfig.Action
	defaultRule   string
	mode          meshconfig.MTLSMode
	until         int64 // Unix ms; 0: no end
}

// NewAuthorizer compiles the policy of a port. It refuses what it does not know: half a policy is not enforced.
func NewAuthorizer(p *meshconfig.PortPolicy) (*Authorizer, error) {
	a := &Authorizer{defaultAction: p.GetDefaultAction(), defaultRule: cmp.Or(p.GetDefaultRule(), DefaultRule), mode: p.GetMtls(), until: p.GetPermissiveUntil()}
	switch a.defaultAction {
	case meshconfig.Action_ACTION_ALLOW, meshconfig.Action_ACTION_DENY:
	default:
		return nil, fmt.Errorf("port %d: unknown default action %d", p.GetPort(), a.defaultAction)
	}
	switch a.mode {
	case meshconfig.MTLSMode_MTLS_MODE_STRICT, meshconfig.MTLSMode_MTLS_MODE_PERMISSIVE, meshconfig.MTLSMode_MTLS_MODE_DISABLED:
	default:
		return nil, fmt.Errorf("port %d: unknown mTLS mode %d", p.GetPort(), a.mode)
	}
	for _, r := range p.GetRules() {
		compiled, err := newRule(r)
		if err != nil {
			return nil, fmt.Errorf("port %d: rule %q: %w", p.GetPort(), r.GetName(), err)
		}
		switch r.GetAction() {
		case meshconfig.Action_ACTION_ALLOW:
			a.allow = append(a.allow, compiled)
		case meshconfig.Action_ACTION_DENY:
			a.deny = append(a.deny, compiled)
			a.denyReads = a.denyReads || compiled.readsPaths()
		default:
			return nil, fmt.Errorf("port %d: rule %q: unknown action %d", p.GetPort(), r.GetName(), r.GetAction())
		}
	}
	return a, nil
}

// Mode returns the mTLS mode at a time: a mode that has an end is Strict from then on.
func (a *Authorizer) Mode(now time.Time) meshconfig.MTLSMode { return Mode(a.mode, a.until, now) }

// Mode returns the mTLS mode at a time, given when it ends in Unix milliseconds (0: never).
func Mode(mode meshconfig.MTLSMode, until int64, now time.Time) meshconfig.MTLSMode {
	if until != 0 && now.UnixMilli() >= until {
		return meshconfig.MTLSMode_MTLS_MODE_STRICT
	}
	return mode
}

// Decide says whether the caller may do op. The zero ID is a caller without an identity (plaintext); any other has been
// verified against the mesh's roots and trust domain. No rule depends on the time yet.
func (a *Authorizer) Decide(caller identity.ID, op Op, _ time.Time) Decision {
	var lenient reading
	if a.denyReads && op.HTTP {
		lenient.read(op.Path)
	}
	for i := range a.deny {
		if a.deny[i].denies(caller, op, &lenient) {
			return Decision{Allowed: false, Rule: a.deny[i].name}
		}
	}
	for i := range a.allow {
		if a.allow[i].allows(caller, op) {
			return Decision{Allowed: true, Rule: a.allow[i].name}
		}
	}
	return Decision{Allowed: a.defaultAction == meshconfig.Action_ACTION_ALLOW, Rule: a.defaultRule}
}
