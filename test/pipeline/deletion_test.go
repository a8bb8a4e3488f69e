// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/test/gen"
	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

// deny denies service account web what the targets name.
func deny(name string, to []v1alpha1.AuthorizationTarget, options ...gen.Option[v1alpha1.MeshPolicy]) object {
	rule := gen.AuthRule("no-web", v1alpha1.ActionDeny, []v1alpha1.AuthorizationSource{{ServiceAccounts: []string{"web"}}}, to)
	return gen.MeshPolicy(namespace, name, append(options, gen.Authorize(v1alpha1.ActionAllow, rule))...)
}

// becomes waits until a URL is answered so.
func (c *client) becomes(what, url string, so func(answer) bool) {
	m := c.from.mesh
	m.Helper()
	var last answer
	if !comes(func() bool { last = c.get(url); return so(last) }) {
		m.Fatalf("in vain: %s: %v", what, last)
	}
}

func servedBy(name string) func(answer) bool {
	return func(a answer) bool { return a.served() == nil && a.by == name }
}

func refusedFor(reason string) func(answer) bool {
	return func(a answer) bool { return a.reason == reason }
}

// Each object that is deleted leaves the defaults, and no request fails on the way there or back.
func TestDeletedObjectsLeaveTheDefaults(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	client, caller := m.workload("shop/web-1").client(), m.workload("shop/web-1").sidecar()
	stop := m.load(4, func() error { return client.get("http://cart.shop/ok").served() })

	secret := []v1alpha1.AuthorizationTarget{{Paths: []string{"/secret"}}}
	inRoute := func() float64 { return caller.metric("heddle_requests_total", "route=named") }
	for what, c := range map[string]struct {
		object       object
		force, after func(answer) bool // at /secret
	}{
		"a split to one backend": {split(0, 1), servedBy("cart-v2-1"), servedBy("cart-1")},
		"a split with a rule": {
			gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart", 1), gen.Backend("cart-v2", 0),
				gen.Rule("secret", "cart-v2", gen.Path(v1alpha1.PathMatchExact, "/secret"))),
			servedBy("cart-v2-1"), servedBy("cart-1"),
		},
		"a split with a backend that does not exist": {
			gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart", 1), gen.Backend("ghost", 0),
				gen.Rule("secret", "ghost", gen.Path(v1alpha1.PathMatchExact, "/secret"))),
			refusedFor("no_endpoints"), servedBy("cart-1"),
		},
		"a profile": {
			gen.ServiceProfile(namespace, "cart", "cart", gen.Route("named", "20s", gen.Path(v1alpha1.PathMatchPrefix, "/"))),
			func(answer) bool { return inRoute() > 0 },
			func(answer) bool {
				before := inRoute()
				return client.get("http://cart.shop/secret").served() == nil && inRoute() == before
			},
		},
		"a policy of the Service":   {deny("service", secret, gen.ForService("cart")), refusedFor("denied"), servedBy("cart-1")},
		"a policy of the workload":  {deny("workload", secret, gen.ForWorkload("app", "cart")), refusedFor("denied"), servedBy("cart-1")},
		"a policy of the namespace": {deny("namespace", secret), refusedFor("denied"), servedBy("cart-1")},
	} {
		for range 2 {
			m.apply(c.object)
			client.becomes(what+" is in force", "http://cart.shop/secret", c.force)
			m.delete(c.object)
			client.becomes(what+" is deleted", "http://cart.shop/secret", c.after)
		}
	}
	m.settle()
	if n := stop(); n < 100 {
		t.Errorf("only %d calls under load", n)
	}
	if n := m.replicas[0].Counters().Tombstones; n == 0 {
		t.Error("nothing was tombstoned")
	}
	for name, s := range caller.held() {
		if s.Tombstone != (name.Subject() == "ghost.shop") {
			t.Errorf("%s: tombstone %t", name, s.Tombstone)
		}
	}
}

// A policy that denies cuts the connections that it denies, and no others; one that allows cuts none.
func TestAPolicyCutsWhatItDenies(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	m.run(pod("other", 6, 1))
	connect := func(from string) *lines {
		t.Helper()
		l, err := m.workload(from).lines("cart.shop:70")
		check(t, err)
		check(t, l.ask("hello"))
		return l
	}
	denied, other := connect("shop/web-1"), connect("shop/other-1")
	stream := m.workload("shop/web-1").client2().payments("cart.shop:90").Watch(t.Context())
	check(t, stream.Send(&paymentsapi.ChargeRequest{}))
	_, err := stream.Receive()
	check(t, err)

	policy := deny("tcp", nil, gen.ForService("cart", 70))
	m.apply(policy)
	if line, err := denied.read(); err == nil {
		t.Errorf("the connection that is denied goes on: %q", line)
	}
	server := m.workload("shop/cart-1").sidecar()
	await(t, "the cut is counted", func() bool {
		return server.metric("heddle_refused_total", "direction=inbound", "reason=policy_changed") == 1
	})
	m.settle()
	check(t, other.ask("still here"))
	if _, err := m.workload("shop/web-1").lines("cart.shop:70"); err == nil {
		t.Error("a new connection is let through")
	}

	m.delete(policy)
	m.settle()
	again := connect("shop/web-1")
	allow := gen.AuthRule("yes", v1alpha1.ActionAllow, []v1alpha1.AuthorizationSource{{ServiceAccounts: []string{"web", "other"}}}, nil)
	m.apply(gen.MeshPolicy(namespace, "allow", gen.ForService("cart"), gen.Authorize(v1alpha1.ActionDeny, allow)))
	m.settle()
	for _, l := range []*lines{again, other} {
		check(t, l.ask("allowed"))
	}
	check(t, stream.Send(&paymentsapi.ChargeRequest{}))
	_, err = stream.Receive()
	check(t, err)
	check(t, stream.CloseRequest())
	check(t, stream.CloseResponse())

	m.apply(deny("all", nil))
	for _, l := range []*lines{again} {
		if line, err := l.read(); err == nil {
			t.Errorf("the connection that is denied in the end goes on: %q", line)
		}
	}
	check(t, other.ask("still here"))
}

// A backend that does not exist has its share refused; the rest is served, and all of it once the backend is there.
func TestAMissingBackendHasItsShareRefused(t *testing.T) {
	t.Parallel()
	const calls = 1000
	m := shop(t, settings{})
	m.apply(gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart", 3), gen.Backend("ghost", 1)))
	m.settle()
	client := m.workload("shop/web-1").client()
	client.becomes("the split is in force", "http://cart.shop/", refusedFor("no_endpoints"))
	got := make(map[string]int)
	for range calls {
		a := client.get("http://cart.shop/")
		got[fmt.Sprint(a.status, " ", a.reason, a.by)]++
	}
	refused := got["503 no_endpoints"]
	if refused+got["200 cart-1"] != calls || !within(refused, calls, 0.25) {
		t.Errorf("got %v of %d", got, calls)
	}
	m.apply(service("ghost", 8))
	m.run(pod("ghost", 8, 1))
	client.becomes("the backend serves", "http://cart.shop/", servedBy("ghost-1"))
	m.settle()
	for range calls / 10 {
		if a := client.get("http://cart.shop/"); a.status != http.StatusOK {
			t.Fatalf("once the backend is there: %v", a)
		}
	}
}
