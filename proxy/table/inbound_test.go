// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func binding(inbound string) *meshconfig.Binding {
	return &meshconfig.Binding{
		PodUid: "u-1", Pod: "shop/cart-0", Identity: "spiffe://cluster.local/ns/shop/sa/cart",
		Inbound: string(meshconfig.InboundName(inbound)), Workload: "cart",
	}
}

func policy(action meshconfig.Action, ports ...*meshconfig.PortPolicy) *meshconfig.Inbound {
	return &meshconfig.Inbound{
		DefaultPolicy: &meshconfig.PortPolicy{Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: action},
		Ports:         ports,
	}
}

// denies says whether the policy in force denies by default.
func (m *mesh) denies(port uint16) bool {
	m.Helper()
	p := m.Inbound(port)
	if p == nil {
		m.Fatal("no policy")
	}
	return !p.Authorizer.Decide(identity.ID{}, evaluate.Op{Port: port}, time.Now()).Allowed
}

func TestThePolicyThatTheBindingNames(t *testing.T) {
	allow, deny := policy(meshconfig.Action_ACTION_ALLOW), policy(meshconfig.Action_ACTION_DENY)
	inBubble(t, Options{}, func(m *mesh) {
		if m.Inbound(80) != nil {
			m.Error("a policy before the first")
		}
		m.apply(meshconfig.InboundName("a"), deny)
		if m.Inbound(80) != nil {
			m.Error("a policy that no binding names")
		}
		m.apply(meshconfig.BindingName("u-1"), binding("a"))
		first := m.Policy()
		if !m.denies(80) || first.Workload != "cart" {
			m.Errorf("denies %v, workload %q", m.denies(80), first.Workload)
		}
		m.apply(meshconfig.BindingName("u-1"), binding("b"))
		m.expectWanted("inbound/a", "inbound/b")
		if m.Policy() != first {
			m.Error("the old policy did not stay until the new one came")
		}
		m.apply(meshconfig.InboundName("b"), allow)
		if m.denies(80) {
			m.Error("the new policy is not in force")
		}
		select {
		case <-first.Superseded():
		default:
			m.Error("the old policy does not know that it is superseded")
		}
		m.expectWanted("inbound/b")
		m.Remove(meshconfig.InboundName("b"))
		m.Remove(meshconfig.BindingName("u-1"))
		if m.denies(80) {
			m.Error("a tombstone took the policy away")
		}
		for i := range 100 {
			m.apply(meshconfig.InboundName(fmt.Sprint("c", i)), deny)
		}
		if len(m.policies) > maxPolicies+1 {
			m.Errorf("%d policies are kept", len(m.policies))
		}
		m.apply(meshconfig.InboundName("b"), deny)
		if !m.denies(80) {
			m.Error("an edit of the policy is not in force")
		}
		synctest.Wait()
	})
}

func TestPortsOfAPolicy(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		end := time.Now().Add(time.Hour)
		m.apply(meshconfig.BindingName("u-1"), binding("a"))
		m.apply(meshconfig.InboundName("a"), policy(meshconfig.Action_ACTION_DENY, &meshconfig.PortPolicy{
			Port: 8080, Protocol: meshconfig.Protocol_PROTOCOL_GRPC, Service: cart,
			Mtls: meshconfig.MTLSMode_MTLS_MODE_PERMISSIVE, PermissiveUntil: end.UnixMilli(),
			DefaultAction: meshconfig.Action_ACTION_ALLOW,
		}))
		if m.denies(8080) || !m.denies(9090) {
			m.Error("the port's own policy does not win")
		}
		if p := m.Inbound(8080); p.Service != cart || p.Protocol != meshconfig.Protocol_PROTOCOL_GRPC {
			m.Errorf("port of %q, %v", p.Service, p.Protocol)
		}
		if next := m.Policy().NextChange(time.Now()); next.UnixMilli() != end.UnixMilli() {
			m.Errorf("next change %v, want %v", next, end)
		}
		if next := m.Policy().NextChange(end); !next.IsZero() {
			m.Errorf("after the end: next change %v", next)
		}
		bad := policy(meshconfig.Action_ACTION_UNSPECIFIED)
		if err := m.Apply(meshconfig.InboundName("a"), bad); err == nil {
			m.Error("a policy without action was taken")
		}
		if m.denies(8080) {
			m.Error("a bad policy replaced a good one")
		}
	})
}

func TestTokensOutliveThePolicy(t *testing.T) {
	const rate = "shop/cart/slow"
	limited := func(burst uint64, action meshconfig.Action) *meshconfig.Inbound {
		limits := []*meshconfig.RateLimit{{Name: rate, Requests: 1, Interval: 3_600_000, Burst: burst}}
		p := policy(action, &meshconfig.PortPolicy{
			Port: 8080, Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: action, RateLimits: limits,
		})
		p.DefaultPolicy.RateLimits = limits
		return p
	}
	inBubble(t, Options{}, func(m *mesh) {
		allowed := func(port uint16) (n int) {
			limits, op := m.Inbound(port).RateLimits, evaluate.Op{Port: port}
			for n < 100 {
				ok, name, _ := limits.Allow(limits.Matching(identity.ID{}, op), identity.ID{}, time.Now())
				if !ok {
					if name != rate {
						m.Errorf("limit %q refuses", name)
					}
					break
				}
				n++
			}
			return n
		}
		m.apply(meshconfig.BindingName("u-1"), binding("a"))
		m.apply(meshconfig.InboundName("a"), limited(5, meshconfig.Action_ACTION_DENY))
		if got, other := allowed(8080), allowed(9090); got != 5 || other != 0 {
			m.Errorf("%d and %d are allowed, want the 5 of the pod", got, other)
		}
		m.apply(meshconfig.InboundName("a"), limited(5, meshconfig.Action_ACTION_ALLOW))
		if got := allowed(8080); got != 0 {
			m.Errorf("%d more are allowed under a new policy of the same limit", got)
		}
		m.apply(meshconfig.InboundName("b"), limited(5, meshconfig.Action_ACTION_ALLOW))
		m.apply(meshconfig.BindingName("u-1"), binding("b"))
		if got := allowed(9090); got != 0 {
			m.Errorf("%d more are allowed under another policy of the same limit", got)
		}
		bad := limited(7, meshconfig.Action_ACTION_ALLOW)
		bad.Ports[0].RateLimits = []*meshconfig.RateLimit{{Name: rate, Requests: 1, Interval: 0, Burst: 1}}
		if err := m.Apply(meshconfig.InboundName("b"), bad); err == nil || allowed(8080) != 0 {
			m.Errorf("error %v of a limit without interval, or it is in force", err)
		}
		m.apply(meshconfig.InboundName("b"), limited(7, meshconfig.Action_ACTION_ALLOW))
		if got := allowed(8080); got != 7 {
			m.Errorf("%d are allowed by a new limit, want 7", got)
		}
		m.apply(meshconfig.InboundName("b"), policy(meshconfig.Action_ACTION_ALLOW))
		if got := allowed(8080); got != 100 {
			m.Errorf("%d are allowed without a limit, want all", got)
		}
	})
}
