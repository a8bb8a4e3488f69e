// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/compile"
	"github.com/heddle-mesh/heddle/test/gen"
)

// finding is what the leader says of a condition of an object.
func (m *mesh) finding(o object, condition string) compile.Finding {
	m.Helper()
	key := keyOf(o)
	for _, f := range m.leader().result.Load().Findings {
		if f.Origin.Kind == key.Kind && f.Origin.Name == key.Name && f.Condition == condition {
			return f
		}
	}
	m.Fatalf("nothing is said of %s of %v", condition, key)
	return compile.Finding{}
}

// says checks that a condition names the object, the field and the fix.
func (m *mesh) says(t *testing.T, o object, condition string, status metav1.ConditionStatus, field, fix string) {
	t.Helper()
	key, f := keyOf(o), m.finding(o, condition)
	if f.Status != status {
		t.Errorf("%s is %s: want %s", condition, f.Status, status)
	}
	for _, want := range []string{key.Kind + " " + key.Namespace + "/" + key.Name, field, fix} {
		if !strings.Contains(f.Message, want) {
			t.Errorf("%s does not say %q: %s", condition, want, f.Message)
		}
	}
}

// The objects that are in force before something goes wrong.

func rightSplit(change func(*v1alpha1.TrafficSplitSpec)) object {
	s := gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart", 0), gen.Backend("cart-v2", 1),
		gen.Rule("r", "cart", gen.Path(v1alpha1.PathMatchPrefix, "/old")), gen.Stick(v1alpha1.StickyByCookie, "user"))
	change(&s.Spec)
	return s
}

func rightProfile(change func(*v1alpha1.ServiceProfileSpec)) object {
	p := gen.ServiceProfile(namespace, "cart", "cart", gen.Route("r", "20s", gen.Path(v1alpha1.PathMatchPrefix, "/a")), gen.Retry(2),
		gen.Fault("f", nil, gen.Path(v1alpha1.PathMatchPrefix, "/slow")))
	p.Spec.LoadBalancing = gen.Balancing(v1alpha1.BalancingPeakEWMA)
	change(&p.Spec)
	return p
}

func rightPolicy(change func(*v1alpha1.MeshPolicySpec)) object {
	p := gen.MeshPolicy(namespace, "cart", gen.ForService("cart-v2"), gen.Limit("l", 100_000))
	change(&p.Spec)
	return p
}

// What breaks a rule changes nothing, and says which: no proxy is sent anything.
func TestWhatIsWrongLeavesTheOldConfigInForce(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	right := []object{
		rightSplit(func(*v1alpha1.TrafficSplitSpec) {}), rightProfile(func(*v1alpha1.ServiceProfileSpec) {}),
		rightPolicy(func(*v1alpha1.MeshPolicySpec) {}),
	}
	m.apply(right...)
	m.settle()
	c := m.workload("shop/web-1").client()
	if a := c.get("http://cart.shop/a"); !servedBy("cart-v2-1")(a) {
		t.Fatalf("before anything is wrong: %v", a)
	}
	large := &v1alpha1.PathMatch{Type: v1alpha1.PathMatchRegex, Value: "/a{900}b{900}"} // short, and large for who runs it
	for what, tc := range map[string]struct {
		wrong      object
		field, fix string
	}{
		"weights of 0": {
			rightSplit(func(s *v1alpha1.TrafficSplitSpec) { s.Backends[1].Weight = s.Backends[0].Weight }),
			"spec.backends", "one weight at least must be above 0",
		},
		"weights of 0 of a rule": {
			rightSplit(func(s *v1alpha1.TrafficSplitSpec) { s.Rules[0].Weights[0].Weight = s.Backends[0].Weight }),
			"spec.rules[0].weights", "one weight at least must be above 0",
		},
		"an unknown way to stick": {
			rightSplit(func(s *v1alpha1.TrafficSplitSpec) { s.Stickiness.By = "Session" }),
			"spec.stickiness.by", `supported values: "Cookie"`,
		},
		"an active backend that is none": {
			rightSplit(func(s *v1alpha1.TrafficSplitSpec) { s.Active = "v3" }), "spec.active", "v3",
		},
		"a large regular expression": {
			rightSplit(func(s *v1alpha1.TrafficSplitSpec) { s.Rules[0].Matches[0].Path = large }),
			"spec.rules[0].matches[0].path.value", "too large: repetitions make it",
		},
		"a selector that is none": {
			rightSplit(func(s *v1alpha1.TrafficSplitSpec) {
				s.Backends[0].Service, s.Backends[0].Selector = nil, map[string]string{"a b": "c"}
			}),
			"spec.backends[0].selector", "must be labels of pods",
		},
		"a fault without an end": {
			rightProfile(func(s *v1alpha1.ServiceProfileSpec) { s.Faults[0].ExpiresAt = metav1.Time{} }),
			"spec.faults[0].expiresAt", "say when the fault ends",
		},
		"an unknown policy of balancing": {
			rightProfile(func(s *v1alpha1.ServiceProfileSpec) { s.LoadBalancing.Policy = "Best" }),
			"spec.loadBalancing.policy", `supported values: "LeastRequest"`,
		},
		"an unknown condition of retries": {
			rightProfile(func(s *v1alpha1.ServiceProfileSpec) {
				s.Routes[0].Retry.Conditions = []v1alpha1.RetryCondition{"Always"}
			}),
			"spec.routes[0].retry.conditions[0]", `supported values: "ConnectFailure"`,
		},
		"a large regular expression of a fault": {
			rightProfile(func(s *v1alpha1.ServiceProfileSpec) { s.Faults[0].Matches[0].Path = large }),
			"spec.faults[0].matches[0].path.value", "too large: repetitions make it",
		},
		"a limit of 0": {
			rightPolicy(func(s *v1alpha1.MeshPolicySpec) { s.RateLimits[0].Requests = 0 }),
			"spec.rateLimits[0].requests", "must be 1 to 1000000",
		},
		"a limit for each node": {
			rightPolicy(func(s *v1alpha1.MeshPolicySpec) { s.RateLimits[0].Per = "Node" }),
			"spec.rateLimits[0].per", `supported values: "Pod"`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			m.settle()
			before := m.tally()
			m.apply(tc.wrong)
			m.settle()
			m.says(t, tc.wrong, v1alpha1.ConditionAccepted, metav1.ConditionFalse, tc.field, tc.fix)
			m.says(t, tc.wrong, v1alpha1.ConditionAccepted, metav1.ConditionFalse, "The last good spec", "stays in force")
			if got := arrived(before, m.tally()); len(got) > 0 {
				t.Errorf("sent: %v", got)
			}
		})
	}
	if a := c.get("http://cart.shop/a"); !servedBy("cart-v2-1")(a) {
		t.Errorf("after all that was wrong: %v", a)
	}
	m.apply(right...)
	m.settle()
	if f := m.finding(right[0], v1alpha1.ConditionAccepted); f.Status != metav1.ConditionTrue {
		t.Errorf("when all is right: %s", f.Message)
	}
}

// What is wrong beside other objects is not in force, and says beside which; they are.
func TestWhatConflictsLeavesTheOldConfigInForce(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	m.apply(split(0, 1), rightProfile(func(*v1alpha1.ServiceProfileSpec) {}))
	m.settle()
	c := m.workload("shop/web-1").client()
	if a := c.get("http://cart.shop/"); !servedBy("cart-v2-1")(a) {
		t.Fatalf("before anything is wrong: %v", a)
	}
	m.settle()
	before := m.tally()
	younger := gen.Age[v1alpha1.TrafficSplit](-time.Hour)
	second := gen.TrafficSplit(namespace, "second", "cart", gen.Backend("cart", 1), younger)
	circle := gen.TrafficSplit(namespace, "circle", "cart-v2", gen.Backend("cart", 1), younger)
	profile := gen.ServiceProfile(namespace, "second", "cart", gen.Route("all", "1s"), gen.Age[v1alpha1.ServiceProfile](-time.Hour))
	m.apply(second, circle, profile)
	m.settle()
	m.says(t, second, v1alpha1.ConditionConflicted, metav1.ConditionTrue, "spec.service", "older TrafficSplit shop/cart: delete one of the two")
	m.says(t, circle, v1alpha1.ConditionConflicted, metav1.ConditionTrue, "spec.service", "(cart-v2 -> cart -> cart-v2): list the last backends")
	m.says(t, profile, v1alpha1.ConditionConflicted, metav1.ConditionTrue, "spec.service", "older ServiceProfile shop/cart: move what is missing there")
	if got := arrived(before, m.tally()); len(got) > 0 {
		t.Errorf("sent: %v", got)
	}
	if a := c.get("http://cart.shop/"); !servedBy("cart-v2-1")(a) {
		t.Errorf("after all that was wrong: %v", a)
	}
}

// Labels that no pod has cost the share of that backend alone, until such a pod is there.
func TestASelectorThatMatchesNothing(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	canary := gen.TrafficSplit(namespace, "cart", "cart", gen.Subset("stable", 1, "app", "cart"), gen.Subset("canary", 0, "version", "v2"),
		gen.Rule("testers", "canary", gen.Path(v1alpha1.PathMatchPrefix, "/new")))
	m.apply(canary)
	m.settle()
	m.says(t, canary, v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, "spec.backends[1].selector", "has the labels version=v2: correct them, or start such pods")
	c := m.workload("shop/web-1").client()
	if a := c.get("http://cart.shop/"); !servedBy("cart-1")(a) {
		t.Errorf("the other backend: %v", a)
	}
	if a := c.get("http://cart.shop/new"); a.status != 503 {
		t.Errorf("got %v from a backend without pods, want 503", a)
	}
	m.apply(pod("cart", 2, 1, gen.Labels[corev1.Pod]("version", "v2")))
	c.becomes("the pod has the labels", "http://cart.shop/new", servedBy("cart-1"))
	m.settle()
	if f := m.finding(canary, v1alpha1.ConditionResolvedRefs); f.Status != metav1.ConditionTrue {
		t.Errorf("when all is right: %s", f.Message)
	}
}

// A change that conflicts with what others have leaves what was in force of all of them, whoever is older.
func TestAChangeThatConflictsLeavesTheOldConfigInForce(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	m.apply(service("pay", 3))
	older, younger := gen.Age[v1alpha1.TrafficSplit](2*time.Hour), gen.Age[v1alpha1.TrafficSplit](time.Hour)
	cart := gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart-v2", 1), older)
	pay := gen.TrafficSplit(namespace, "pay", "pay", gen.Backend("cart-v2", 1), younger)
	oldProfile := gen.ServiceProfile(namespace, "cart", "cart", gen.Route("all", "9s"), gen.Age[v1alpha1.ServiceProfile](2*time.Hour))
	profile := gen.ServiceProfile(namespace, "pay", "pay", gen.Route("all", "8s"), gen.Age[v1alpha1.ServiceProfile](time.Hour))
	right := []object{cart, pay, oldProfile, profile}
	m.apply(right...)
	m.settle()
	c := m.workload("shop/web-1").client()
	serves := func(when string) {
		t.Helper()
		for _, url := range []string{"http://cart.shop/", "http://pay.shop/"} {
			if a := c.get(url); !servedBy("cart-v2-1")(a) {
				t.Errorf("%s: %s: %v", when, url, a)
			}
		}
	}
	serves("before anything is wrong")
	for what, tc := range map[string]struct {
		wrong     object
		field     string
		had       string
		untouched object
	}{
		"the older closes a chain": {
			gen.TrafficSplit(namespace, "cart", "cart", gen.Backend("cart", 1), gen.Backend("pay", 0), older),
			"spec.backends[1].service", "TrafficSplit shop/pay, which had it first", pay,
		},
		"the younger closes a chain": {
			gen.TrafficSplit(namespace, "pay", "pay", gen.Backend("pay", 1), gen.Backend("cart", 0), younger),
			"spec.backends[1].service", "the older TrafficSplit shop/cart", cart,
		},
		"the older wants the younger one's Service": {
			gen.TrafficSplit(namespace, "cart", "pay", gen.Backend("cart", 1), older),
			"spec.service", "TrafficSplit shop/pay, which had it first", pay,
		},
		"the older profile wants the younger one's Service": {
			gen.ServiceProfile(namespace, "cart", "pay", gen.Route("all", "1s"), gen.Age[v1alpha1.ServiceProfile](2*time.Hour)),
			"spec.service", "ServiceProfile shop/pay, which had it first", profile,
		},
	} {
		t.Run(what, func(t *testing.T) {
			m.apply(right...)
			m.settle()
			before := m.tally()
			m.apply(tc.wrong)
			m.settle()
			m.says(t, tc.wrong, v1alpha1.ConditionConflicted, metav1.ConditionTrue, tc.field, tc.had)
			m.says(t, tc.wrong, v1alpha1.ConditionConflicted, metav1.ConditionTrue, "The last good spec", "stays in force")
			if f := m.finding(tc.untouched, v1alpha1.ConditionConflicted); f.Status != metav1.ConditionFalse {
				t.Errorf("the one that did not change: %s", f.Message)
			}
			if got := arrived(before, m.tally()); len(got) > 0 {
				t.Errorf("sent: %v", got)
			}
			serves("after the change")
			m.apply(tc.untouched) // a change of that one comes in force beside the one that waits
			m.settle()
			if f := m.finding(tc.untouched, v1alpha1.ConditionConflicted); f.Status != metav1.ConditionFalse {
				t.Errorf("the other one, once it changed: %s", f.Message)
			}
		})
	}
}

// A split that has what it divides by port leaves nothing to one of all ports, which says so.
func TestASplitOfAllPortsThatHasNoneSaysSo(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	all := gen.TrafficSplit(namespace, "all", "cart", gen.Backend("cart", 1), gen.Age[v1alpha1.TrafficSplit](time.Hour))
	atPort := func(name string, port int32) object {
		return gen.TrafficSplit(namespace, name, "cart", gen.SplitPort(port), gen.Backend("cart-v2", 1))
	}
	own := atPort("own", 80)
	m.apply(all, own, atPort("grpc", 90))
	m.settle()
	if f := m.finding(all, v1alpha1.ConditionConflicted); f.Status != metav1.ConditionFalse {
		t.Errorf("with one port left: %s", f.Message)
	}
	m.apply(atPort("tcp", 70))
	m.settle()
	m.says(t, all, v1alpha1.ConditionConflicted, metav1.ConditionTrue, "spec.service", "(70 by TrafficSplit shop/tcp, 80 by TrafficSplit shop/own, 90 by TrafficSplit shop/grpc): delete this one")
	if f := m.finding(own, v1alpha1.ConditionConflicted); f.Status != metav1.ConditionFalse {
		t.Errorf("the one with a port: %s", f.Message)
	}
	c := m.workload("shop/web-1").client()
	if a := c.get("http://cart.shop/"); !servedBy("cart-v2-1")(a) {
		t.Errorf("the one with a port is not in force: %v", a)
	}
	m.delete(own)
	c.becomes("the one with a port is gone", "http://cart.shop/", servedBy("cart-1"))
	m.settle()
	if f := m.finding(all, v1alpha1.ConditionConflicted); f.Status != metav1.ConditionFalse {
		t.Errorf("when the port is free: %s", f.Message)
	}
}

// Turning to labels that no pod has waits for such a pod, and what was turned from answers until then.
func TestAChangeToASelectorThatMatchesNothingWaits(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	turned := func(to string) object {
		return gen.TrafficSplit(namespace, "cart", "cart", gen.Subset("blue", 1, "app", "cart"), gen.Subset("green", 0, "version", "v2"),
			gen.Subset("red", 0, "version", "v3"), gen.Active(to))
	}
	c := m.workload("shop/web-1").client()
	m.apply(turned("blue"))
	m.settle()
	before := m.tally()
	m.apply(turned("green"))
	m.settle()
	m.says(t, turned("green"), v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, "spec.backends[1].selector", "or start such pods; until then the last good spec, of generation 1, stays in force")
	if got := arrived(before, m.tally()); len(got) > 0 {
		t.Errorf("sent: %v", got)
	}
	if a := c.get("http://cart.shop/"); !servedBy("cart-1")(a) {
		t.Errorf("what was turned from: %v", a)
	}
	m.run(pod("cart", 4, 2, gen.Labels[corev1.Pod]("version", "v2")))
	c.becomes("a pod has the labels", "http://cart.shop/", servedBy("cart-2"))
	m.settle()
	for range 20 { // and nothing but it
		if a := c.get("http://cart.shop/"); !servedBy("cart-2")(a) {
			t.Errorf("the new one is not in force: %v", a)
		}
	}
	m.apply(turned("red"))
	m.settle()
	m.says(t, turned("red"), v1alpha1.ConditionResolvedRefs, metav1.ConditionFalse, "spec.backends[2].selector", "of generation 2, stays in force")
	if a := c.get("http://cart.shop/"); !servedBy("cart-2")(a) {
		t.Errorf("the new one was not kept: %v", a)
	}
}
