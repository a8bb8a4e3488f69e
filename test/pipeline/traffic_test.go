// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/test/gen"
)

// exchange asks once, follows no redirect, and returns the head of the answer beside it.
func (c *client) exchange(url string, headers ...string) (answer, http.Header) {
	m := c.from.mesh
	m.Helper()
	r, err := http.NewRequestWithContext(m.Context(), http.MethodGet, url, http.NoBody)
	check(m, err)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	bare := *c.http
	bare.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := bare.Do(r)
	check(m, err)
	defer response.Body.Close()
	head := response.Header
	return answer{status: response.StatusCode, by: head.Get(headerBy)}, head
}

// user is somebody with a cookie.
type user struct{ by, cookie string }

// A canary of labels alone: users stay where they are, but those whom the weights take along.
func TestACanaryKeepsItsUsers(t *testing.T) {
	t.Parallel()
	const users = 40
	m := start(t)
	m.apply(service("cart", 1))
	version := func(v string) gen.Option[corev1.Pod] { return gen.Labels[corev1.Pod]("version", v) }
	m.run(pod("web", 1, 1), pod("cart", 2, 1, version("v1")), pod("cart", 2, 2, version("v2")))
	canary := func(v1, v2 int32) {
		m.apply(gen.TrafficSplit(namespace, "cart", "cart", gen.Subset("v1", v1, "version", "v1"), gen.Subset("v2", v2, "version", "v2"),
			gen.Stick(v1alpha1.StickyByCookie, "cart-version")))
		m.settle()
	}
	canary(1, 1)
	c := m.workload("shop/web-1").client()
	var all []user
	served := map[string]int{}
	for range users {
		a, head := c.exchange("http://cart.shop/")
		cookie, _, _ := strings.Cut(head.Get("Set-Cookie"), ";")
		if !strings.HasPrefix(cookie, "cart-version=") {
			t.Fatalf("a new user got %v and the cookie %q", a, cookie)
		}
		all = append(all, user{a.by, cookie})
		served[a.by]++
	}
	if served["cart-1"] == 0 || served["cart-2"] == 0 {
		t.Errorf("of %d users: %v", users, served)
	}
	for _, u := range all {
		a, head := c.exchange("http://cart.shop/", "Cookie", "a=b; "+u.cookie)
		if a.by != u.by || head.Get("Set-Cookie") != "" {
			t.Errorf("a user of %s came to %s, and got the cookie %q", u.by, a.by, head.Get("Set-Cookie"))
		}
	}
	canary(1, 3)
	for _, u := range all {
		if a, _ := c.exchange("http://cart.shop/", "Cookie", u.cookie); u.by == "cart-2" && a.by != u.by {
			t.Errorf("a user of the canary came back to %s while its share grew", a.by)
		}
	}
	canary(0, 1)
	for _, u := range all {
		if a, head := c.exchange("http://cart.shop/", "Cookie", u.cookie); a.by != "cart-2" || head.Get("Set-Cookie") != "" {
			t.Errorf("after the switch a user came to %s", a.by)
		}
	}
}

func TestOneFieldTurnsBlueToGreen(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	c := m.workload("shop/web-1").client()
	for _, active := range []string{"cart-v2", "cart", "cart-v2"} {
		m.apply(gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart", 1), gen.Backend("cart-v2", 0), gen.Active(active),
			gen.Rule("all", "cart", gen.Path(v1alpha1.PathMatchPrefix, "/"))))
		m.settle()
		for range 20 {
			if a := c.get("http://cart.shop/"); !servedBy(active + "-1")(a) {
				t.Fatalf("%s is active: got %v", active, a)
			}
		}
	}
}

// Faults act per try, so that retries hide them, and are not held against the endpoint.
func TestRetriesHideFaults(t *testing.T) {
	t.Parallel()
	const calls = 200
	m := shop(t, settings{})
	status, all, floor := int32(http.StatusServiceUnavailable), int32(100), int32(1000)
	profile := gen.ServiceProfile(namespace, "cart", "cart",
		gen.Route("hidden", "", gen.Path(v1alpha1.PathMatchPrefix, "/hidden")), gen.Retry(10),
		gen.Route("bare", "", gen.Path(v1alpha1.PathMatchPrefix, "/bare")), gen.Retry(0),
		gen.Fault("some", &v1alpha1.Abort{HTTPStatus: &status}, gen.Path(v1alpha1.PathMatchPrefix, "/hidden"), gen.Path(v1alpha1.PathMatchPrefix, "/bare")),
		gen.Fault("always", &v1alpha1.Abort{HTTPStatus: &status}, gen.Path(v1alpha1.PathMatchPrefix, "/broken")))
	profile.Spec.RetryBudget = &v1alpha1.RetryBudget{Percent: &all, MinPerSecond: &floor}
	profile.Spec.Faults[0].Percent, profile.Spec.Faults[0].Delay = 20, nil
	m.apply(profile)
	m.settle()
	c := m.workload("shop/web-1").client()
	failed := func(url string) (n int) {
		for range calls {
			if a := c.get(url); a.status == http.StatusServiceUnavailable {
				n++
			} else if a.served() != nil {
				t.Errorf("%s: %v", url, a)
			}
		}
		return n
	}
	if n := failed("http://cart.shop/bare"); !within(n, calls, 0.2) {
		t.Errorf("%d of %d calls failed, of a fifth", n, calls)
	}
	if n := failed("http://cart.shop/hidden"); n != 0 {
		t.Errorf("%d of %d calls failed in spite of retries", n, calls)
	}
	for range 20 {
		if a := c.get("http://cart.shop/broken"); a.status != http.StatusServiceUnavailable {
			t.Errorf("got %v, want what is injected", a)
		}
		if a := c.get("http://cart.shop/"); a.served() != nil {
			t.Errorf("the endpoint is out for what was injected: %v", a)
		}
	}
}

func TestFiltersChangeWhatIsAskedAndAnswered(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	prefix := func(value string) *v1alpha1.PathRewrite {
		return &v1alpha1.PathRewrite{Type: v1alpha1.PathRewritePrefix, Value: value}
	}
	m.apply(gen.ServiceProfile(namespace, "cart", "cart",
		gen.Route("old", "", gen.Path(v1alpha1.PathMatchPrefix, "/old")),
		gen.Filter(v1alpha1.Filters{Redirect: &v1alpha1.Redirect{Scheme: "https", Host: "new.example.com", Path: prefix("/new"), Status: 308}}),
		gen.Route("api", "", gen.Path(v1alpha1.PathMatchPrefix, "/api")),
		gen.Filter(v1alpha1.Filters{
			Rewrite: &v1alpha1.Rewrite{Path: prefix("/v2")}, ResponseHeaders: gen.SetHeader("X-Added", "by the mesh"),
			Mirror: &v1alpha1.Mirror{Service: v1alpha1.ServicePortReference{Name: "cart-v2"}},
		})))
	m.settle()
	for name, c := range map[string]*client{"HTTP/1.1": m.workload("shop/web-1").client(), "HTTP/2": m.workload("shop/web-1").client2()} {
		t.Run(name, func(t *testing.T) {
			a, head := c.exchange("http://cart.shop/old/page?q=1")
			if a.status != http.StatusPermanentRedirect || head.Get("Location") != "https://new.example.com/new/page?q=1" {
				t.Errorf("redirected with %d to %q", a.status, head.Get("Location"))
			}
			if a := c.get("http://cart.shop/api/users"); a.served() != nil || a.body != "/v2/users" {
				t.Errorf("the server was asked for %q: %v", a.body, a)
			}
			if _, head := c.exchange("http://cart.shop/api"); head.Get("X-Added") != "by the mesh" {
				t.Errorf("answered with %v", head)
			}
		})
	}
	await(t, "the copies arrive", func() bool {
		return m.workload("shop/cart-v2-1").sidecar().metric("heddle_requests_total", "direction=inbound") > 0
	})
}

func TestALimitIsForEachPod(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	hour := v1alpha1.Duration("1h")
	policy := gen.MeshPolicy(namespace, "limits", gen.ForService("cart"), gen.Limit("few", 3, v1alpha1.AuthorizationTarget{Paths: []string{"/few/*"}}))
	policy.Spec.RateLimits[0].Interval = &hour
	m.apply(policy)
	m.settle()
	c := m.workload("shop/web-1").client()
	var statuses []int
	for range 5 {
		a, head := c.exchange("http://cart.shop/few/x")
		statuses = append(statuses, a.status)
		if a.status == http.StatusTooManyRequests && head.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	if got := fmt.Sprint(statuses); got != "[200 200 200 429 429]" {
		t.Errorf("answered %s", got)
	}
	if a := c.get("http://cart.shop/much"); a.served() != nil {
		t.Errorf("what no limit is about: %v", a)
	}
}

// Checks come with the caller's own identity, which a policy refuses everywhere but on the path that the profile declares.
func TestChecksPassPolicies(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	second, one := v1alpha1.Duration("1s"), int32(1)
	profile := gen.ServiceProfile(namespace, "cart", "cart", gen.Check("/healthz"))
	profile.Spec.HealthCheck.Interval, profile.Spec.HealthCheck.UnhealthyThreshold = &second, &one
	m.apply(profile, gen.MeshPolicy(namespace, "closed", gen.ForService("cart"), gen.Authorize(v1alpha1.ActionDeny)))
	m.settle()
	web := m.workload("shop/web-1")
	checks := func(result string) float64 {
		return web.sidecar().metric("heddle_health_checks_total", "result="+result, "service=cart.shop")
	}
	c := web.client()
	await(t, "checks are made", func() bool {
		if a := c.get("http://cart.shop/"); !refusedFor("denied")(a) {
			t.Errorf("got %v in spite of the policy", a)
		}
		return checks("passed")+checks("failed") >= 2
	})
	if n := checks("failed"); n != 0 {
		t.Errorf("%v checks failed", n)
	}
}

// What is said of a Service holds for the backend that takes its requests, in the proxies of callers and of the backend.
func TestASplitTurnsNothingOfAProfileOff(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.apply(service("cart", 1), service("cart-v2", 2))
	m.run(pod("web", 1, 1), pod("cart", 2, 1), pod("cart-v2", 3, 1), pod("cart-v2", 3, 2), pod("cart-v2", 3, 3))
	second, one := v1alpha1.Duration("1s"), int32(1)
	profile := gen.ServiceProfile(namespace, "cart", "cart", gen.Check("/healthz"))
	profile.Spec.HealthCheck.Interval, profile.Spec.HealthCheck.UnhealthyThreshold = &second, &one
	profile.Spec.LoadBalancing = gen.Balancing(v1alpha1.BalancingConsistentHash, v1alpha1.HashKey{By: "Header", Name: "X-User"})
	m.apply(profile, gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart-v2", 1)))
	m.settle()
	web := m.workload("shop/web-1")
	c := web.client()
	for user := range 10 {
		var by []string
		for range 5 {
			a, _ := c.exchange("http://cart.shop/", "X-User", fmt.Sprint(user))
			by = append(by, a.by)
		}
		if by = slices.Compact(by); len(by) != 1 || !strings.HasPrefix(by[0], "cart-v2-") {
			t.Errorf("user %d was served by %v, want one pod of the backend", user, by)
		}
	}
	m.apply(gen.MeshPolicy(namespace, "closed", gen.ForService("cart-v2"), gen.Authorize(v1alpha1.ActionDeny)))
	m.settle()
	checks := func(result string) float64 {
		return web.sidecar().metric("heddle_health_checks_total", "result="+result, "service=cart-v2.shop")
	}
	before := checks("passed")
	await(t, "checks are made of the backend", func() bool {
		if a := c.get("http://cart.shop/"); !refusedFor("denied")(a) {
			t.Errorf("got %v in spite of the policy", a)
		}
		return checks("passed") >= before+2 || checks("failed") > 0
	})
	if n := checks("failed"); n != 0 {
		t.Errorf("%v checks failed", n)
	}
}

// Of a connection no more is known than who makes it: a fault of one caller breaks its connections, and nobody else's.
func TestAFaultOfACallerHitsItsConnections(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	m.run(pod("other", 4, 1))
	yes := true
	m.apply(gen.ServiceProfile(namespace, "cart", "cart", gen.Fault("broken", &v1alpha1.Abort{Reset: &yes},
		v1alpha1.RequestMatch{Callers: []v1alpha1.CallerMatch{{ServiceAccounts: []string{"web"}}}})))
	m.settle()
	if _, err := m.workload("shop/other-1").lines("cart.shop:70"); err != nil {
		t.Errorf("a caller that the fault is not about: %v", err)
	}
	if l, err := m.workload("shop/web-1").lines("cart.shop:70"); err == nil {
		t.Errorf("the caller of the fault was greeted by %s", l.by)
	}
}
