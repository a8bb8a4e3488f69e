// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"fmt"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// MaxRateLimits is how many rate limits a port may have.
const MaxRateLimits = 64

// RateLimit is a token bucket, or one for each caller's identity. Nobody changes one.
type RateLimit struct {
	// Name is "namespace/policy/limit": what a refusal cites.
	Name string
	// Requests come back per Interval, at most until Burst are there.
	Requests, Burst uint64
	Interval        time.Duration
	PerCaller       bool
}

// RateLimits are those of one port of a workload.
type RateLimits struct {
	Limits []RateLimit

	rules []rule // by limit
	reads bool   // one looks at paths
}

// NewRateLimits compiles the limits of a port.
func NewRateLimits(p *meshconfig.PortPolicy) (*RateLimits, error) {
	if n := len(p.GetRateLimits()); n > MaxRateLimits {
		return nil, fmt.Errorf("port %d: %d rate limits: at most %d", p.GetPort(), n, MaxRateLimits)
	}
	l := &RateLimits{}
	for _, m := range p.GetRateLimits() {
		fail := func(err error) (*RateLimits, error) {
			return nil, fmt.Errorf("port %d: rate limit %q: %w", p.GetPort(), m.GetName(), err)
		}
		interval, err := milliseconds("interval", m.GetInterval())
		if err != nil {
			return fail(err)
		}
		if m.GetRequests() == 0 || interval == 0 || m.GetBurst() == 0 {
			return fail(fmt.Errorf("requests %d, interval %v, burst %d: want each above 0", m.GetRequests(), interval, m.GetBurst()))
		}
		rule, err := compileRule(m.GetName(), m.GetFrom(), m.GetTo())
		if err != nil {
			return fail(err)
		}
		l.Limits = append(l.Limits, RateLimit{m.GetName(), m.GetRequests(), m.GetBurst(), interval, m.GetPerCaller()})
		l.rules = append(l.rules, rule)
		l.reads = l.reads || rule.readsPaths()
	}
	return l, nil
}

// Matching returns which limits count what a caller asks for: bit i is that of Limits[i]. A doubt counts, as it does for a
// Deny rule (see Authorizer), so that no spelling of a path gets past a limit.
func (l *RateLimits) Matching(caller identity.ID, op Op) (limits uint64) {
	if len(l.rules) == 0 {
		return 0
	}
	var lenient reading
	if l.reads && op.HTTP {
		lenient.read(op.Path)
	}
	for i := range l.rules {
		if l.rules[i].denies(caller, op, &lenient) {
			limits |= 1 << i
		}
	}
	return limits
}
