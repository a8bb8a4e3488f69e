// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// object writes an object of the shop with the spec given in YAML flow style.
func object(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: mesh.heddle.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: shop}\nspec: %s\n", kind, name, spec)
}

// What the API server refuses at once, by CEL or by the webhook: the error names the field and the fix.
var refused = map[string]struct{ kind, spec, field, fix string }{
	"a split without a service":            {"TrafficSplit", `{backends: [{name: a, service: {name: web}}]}`, "spec.service", "Required"},
	"a split without backends":             {"TrafficSplit", `{service: {name: web}}`, "spec.backends", "Required"},
	"a backend without a service":          {"TrafficSplit", `{service: {name: web}, backends: [{name: a}]}`, "spec.backends[0]", "exactly one of service and selector"},
	"two backends of one name":             {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}}, {name: a, service: {name: web}}]}`, "spec.backends[1]", "Duplicate"},
	"weights of 0 alone":                   {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}, weight: 0}]}`, "spec.backends", "at least one weight above 0"},
	"a weight over a million":              {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}, weight: 1000001}]}`, "weight", "less than or equal to 1000000"},
	"a weight with a fraction":             {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}, weight: 0.5}]}`, "weight", "int32"},
	"a rule for a backend that is not":     {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}}], rules: [{name: r, matches: [{method: GET}], weights: [{backend: b}]}]}`, "spec.rules", "backend"},
	"a rule without a name":                {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}}], rules: [{matches: [{method: GET}], weights: [{backend: a}]}]}`, "spec.rules[0].name", "Required"},
	"a path without its slash":             {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}}], rules: [{name: r, matches: [{path: {value: buy}}], weights: [{backend: a}]}]}`, "path", "/"},
	"a regex that does not compile":        {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}}], rules: [{name: r, matches: [{path: {type: Regex, value: "/("}}], weights: [{backend: a}]}]}`, "path", "RE2"},
	"an unknown match type":                {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}}], rules: [{name: r, matches: [{path: {type: Glob, value: /a}}], weights: [{backend: a}]}]}`, "path.type", "supported values"},
	"a regex that is too large":            {"TrafficSplit", `{service: {name: web}, backends: [{name: a, service: {name: web}}], rules: [{name: r, matches: [{path: {type: Regex, value: "/a{900}b{900}"}}], weights: [{backend: a}]}]}`, "path.value", "too large"},
	"an active backend that is not":        {"TrafficSplit", `{service: {name: web}, active: b, backends: [{name: a, service: {name: web}}]}`, "spec.active", "the name of one of spec.backends"},
	"stickiness by an unknown thing":       {"TrafficSplit", `{service: {name: web}, stickiness: {by: Session}, backends: [{name: a, service: {name: web}}]}`, "stickiness.by", "supported values"},
	"port 70000":                           {"TrafficSplit", `{service: {name: web, port: 70000}, backends: [{name: a, service: {name: web}}]}`, "port", "65535"},
	"a profile of nothing":                 {"ServiceProfile", `{service: {name: web}}`, "spec", "must say something about the Service: set ports, routes"},
	"an unknown protocol":                  {"ServiceProfile", `{service: {name: web}, ports: [{port: 80, protocol: HTTP}]}`, "protocol", "supported values"},
	"one port twice":                       {"ServiceProfile", `{service: {name: web}, ports: [{port: 80, protocol: TCP}, {port: 80, protocol: TCP}]}`, "spec.ports[1]", "Duplicate"},
	"a timeout of 0s":                      {"ServiceProfile", `{service: {name: web}, routes: [{name: a, timeouts: {request: 0s}}]}`, "timeouts.request", "above 0s"},
	"a timeout without a unit":             {"ServiceProfile", `{service: {name: web}, routes: [{name: a, timeouts: {request: "5"}}]}`, "timeouts.request", "chars long"},
	"a catch-all route before others":      {"ServiceProfile", `{service: {name: web}, routes: [{name: all}, {name: a, matches: [{method: GET}]}]}`, "spec.routes", "only the last route"},
	"a match of nothing":                   {"ServiceProfile", `{service: {name: web}, routes: [{name: a, matches: [{}]}]}`, "matches[0]", "must set at least one of path, method, headers"},
	"a fault without an end":               {"ServiceProfile", `{service: {name: web}, faults: [{name: a, percent: 10, delay: 1s}]}`, "faults[0].expiresAt", "Required"},
	"a fault of nothing":                   {"ServiceProfile", `{service: {name: web}, faults: [{name: a, percent: 10, expiresAt: "2027-01-31T00:00:00Z"}]}`, "faults[0]", "at least one of delay and abort"},
	"an unknown policy of balancing":       {"ServiceProfile", `{service: {name: web}, loadBalancing: {policy: Best}}`, "loadBalancing.policy", "supported values"},
	"a filter of a header of the proxy's":  {"ServiceProfile", `{service: {name: web}, routes: [{name: a, filters: {requestHeaders: {remove: [Host]}}}]}`, "requestHeaders.remove[0]", "has a filter of its own"},
	"a policy without a target":            {"MeshPolicy", `{mtls: {mode: Strict}}`, "spec.targetRef", "Required"},
	"a policy of nothing":                  {"MeshPolicy", `{targetRef: {kind: Namespace}}`, "spec", "must set at least one of mtls, authorization"},
	"a target of an unknown kind":          {"MeshPolicy", `{targetRef: {kind: Deployment, name: web}, mtls: {mode: Strict}}`, "targetRef.kind", "supported values"},
	"a Service target without a name":      {"MeshPolicy", `{targetRef: {kind: Service}, mtls: {mode: Strict}}`, "targetRef.name", "must be set"},
	"a workload by name and selector":      {"MeshPolicy", `{targetRef: {kind: Workload, name: a, selector: {matchLabels: {a: b}}}, mtls: {mode: Strict}}`, "targetRef", "exactly one of name and selector"},
	"Permissive without an end":            {"MeshPolicy", `{targetRef: {kind: Namespace}, mtls: {mode: Permissive}}`, "mtls.until", "must be set"},
	"Strict with an end":                   {"MeshPolicy", `{targetRef: {kind: Namespace}, mtls: {mode: Strict, until: "2027-01-31T00:00:00Z"}}`, "mtls.until", "left out"},
	"an unknown mode":                      {"MeshPolicy", `{targetRef: {kind: Namespace}, mtls: {mode: On}}`, "mtls.mode", "supported values"},
	"authorization without a default":      {"MeshPolicy", `{targetRef: {kind: Namespace}, authorization: {}}`, "defaultAction", "Required"},
	"an identity that is no SPIFFE ID":     {"MeshPolicy", `{targetRef: {kind: Namespace}, authorization: {defaultAction: Deny, rules: [{name: r, action: Allow, from: [{identities: [bob]}]}]}}`, "identities", "spiffe"},
	"a rate limit of 0":                    {"MeshPolicy", `{targetRef: {kind: Namespace}, rateLimits: [{name: l, requests: 0}]}`, "rateLimits[0].requests", "greater than or equal to 1"},
	"a mesh policy outside the operator's": {"MeshPolicy", `{targetRef: {kind: Mesh}, mtls: {mode: Strict}}`, "spec.targetRef.kind", "heddle-system"},
}

func TestWrongObjectsAreRefusedWithFieldAndFix(t *testing.T) {
	for what, c := range refused {
		_, err := kubectlIn(t.Context(), object(c.kind, "wrong", c.spec), "apply", "-f", "-", "--dry-run=server")
		if err == nil {
			t.Errorf("%s: accepted", what)
			continue
		}
		for _, want := range []string{c.field, c.fix, "wrong"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", what, want, err)
			}
		}
	}
}

// What may only be known later gets a condition that names the object, the field and the fix.
var conditioned = map[string]struct{ kind, spec, condition, status, want string }{
	"a service that is not":          {"TrafficSplit", `{service: {name: nowhere}, backends: [{name: a, service: {name: web}}]}`, "ResolvedRefs", "False", "nowhere"},
	"a backend that is not":          {"TrafficSplit", `{service: {name: tills}, backends: [{name: a, service: {name: tills}}, {name: b, service: {name: nowhere}}]}`, "ResolvedRefs", "False", "nowhere"},
	"labels that no pod has":         {"TrafficSplit", `{service: {name: tills}, backends: [{name: a, service: {name: tills}}, {name: b, selector: {version: none}, weight: 0}]}`, "ResolvedRefs", "False", "version=none"},
	"a second split of one service":  {"TrafficSplit", `{service: {name: checkout}, backends: [{name: a, service: {name: checkout-v2}}]}`, "Conflicted", "True", "checkout"},
	"a second profile":               {"ServiceProfile", `{service: {name: checkout}, ports: [{port: 80, protocol: TCP}]}`, "Conflicted", "True", "checkout"},
	"a profile of a service not":     {"ServiceProfile", `{service: {name: nowhere}, ports: [{port: 80, protocol: TCP}]}`, "ResolvedRefs", "False", "nowhere"},
	"a policy of a service not":      {"MeshPolicy", `{targetRef: {kind: Service, name: nowhere}, mtls: {mode: Strict}}`, "ResolvedRefs", "False", "nowhere"},
	"a second policy of one service": {"MeshPolicy", `{targetRef: {kind: Service, name: payments}, authorization: {defaultAction: Allow}}`, "Conflicted", "True", "payments"},
}

func TestWhatIsWrongOnlyInTheClusterIsACondition(t *testing.T) {
	for what, c := range conditioned {
		yaml := object(c.kind, "wrong", c.spec)
		apply(t, yaml)
		eventually(t, 20*time.Second, what, func(ctx context.Context) error {
			status, reason, message, err := condition(ctx, "shop", c.kind+"/wrong", c.condition)
			if err != nil {
				return err
			}
			if status != c.status || !strings.Contains(message, c.want) {
				return fmt.Errorf("%s, %s: %s", status, reason, message)
			}
			return nil
		})
		if _, err := kubectlIn(t.Context(), yaml, "delete", "-f", "-"); err != nil {
			t.Error(err)
		}
	}
	if a := get(t, "http://web/buy"); a.Status != 200 {
		t.Errorf("afterwards: %v", a)
	}
}

// An object that turned bad while nobody validated keeps serving its last good version, also from a new operator.
func TestTheLastGoodVersionServesOnOverARestartOfTheOperator(t *testing.T) {
	awaitCondition(t, "shop", "meshpolicy/payments", "Ready", "True")
	denied := func() error {
		if a := get(t, "-method", "POST", "http://payments:9090/shop.payments.v1.Payments/Charge"); a.Status != 403 {
			return fmt.Errorf("the last good policy is not in force: %v", a)
		}
		return nil
	}
	scale(t, "heddle-system", 0)
	back := func() { scale(t, "heddle-system", -1) }
	t.Cleanup(back)
	// The webhook, which is away, would refuse a path that climbs above the root; CEL does not see it.
	must(t, "-n", "shop", "patch", "meshpolicy", "payments", "--type=merge", "-p",
		`{"spec":{"authorization":{"defaultAction":"Allow","rules":[{"name":"charge","action":"Allow","to":[{"paths":["/shop/../../Charge"]}]}]}}}`)
	t.Cleanup(func() { lines(t, "apply -f test/shop/manifests/mesh.yaml") })
	back()
	for range 2 {
		eventually(t, time.Minute, "Accepted=False", func(ctx context.Context) error {
			status, reason, message, err := condition(ctx, "shop", "meshpolicy/payments", "Accepted")
			if err != nil {
				return err
			}
			if status != "False" || !strings.Contains(message, "spec.authorization.rules[0].to[0].paths[0]") {
				return fmt.Errorf("%s, %s: %s", status, reason, message)
			}
			return denied()
		})
		lines(t, "-n heddle-system rollout restart deployment/heddle-operator", "-n heddle-system rollout status deployment/heddle-operator --timeout=120s")
	}
	if err := denied(); err != nil {
		t.Error(err)
	}
}
