// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/identity"
)

func TestMeshPolicyAccepts(t *testing.T) {
	accepts(t, v1alpha1.KindMeshPolicy, map[string]string{
		"strict mTLS for the mesh": `
targetRef: {kind: Mesh}
mtls: {mode: Strict}`,
		"permissive mTLS with an end, in UTC": `
targetRef: {kind: Namespace}
mtls: {mode: Permissive, until: "2026-03-31T18:00:00Z"}`,
		"permissive mTLS with an end, with an offset and a fraction": `
targetRef: {kind: Namespace}
mtls: {mode: Permissive, until: "2026-03-31T18:00:00.5+02:00"}`,
		"disabled mTLS with an end": `
targetRef: {kind: Namespace}
mtls: {mode: Disabled, until: "2026-03-31T18:00:00Z"}`,
		"a permissive port without an end": `
targetRef: {kind: Service, name: ingress}
mtls: {mode: Strict, ports: [{port: 8443, mode: Permissive}, {port: 9090, mode: Disabled}]}`,
		"mTLS for one port of a Service": `
targetRef: {kind: Service, name: ingress, port: 443}
mtls: {mode: Disabled}`,
		"a workload by its labels": `
targetRef: {kind: Workload, port: 8080, selector: {matchLabels: {app: web}}}
mtls: {mode: Strict}`,
		"a workload by an expression": `
targetRef: {kind: Workload, selector: {matchExpressions: [{key: app, operator: In, values: [web]}]}}
mtls: {mode: Strict}`,
		"a workload by its name": `
targetRef: {kind: Workload, name: db-0}
mtls: {mode: Strict}`,
		"deny all": `
targetRef: {kind: Namespace}
authorization: {defaultAction: Deny}`,
		"rules with every kind of caller and of request": `
targetRef: {kind: Service, name: checkout}
authorization:
  defaultAction: Deny
  rules:
  - name: callers
    action: Allow
    from:
    - serviceAccounts: [web, shop/web, shop/web.v2, "*"]
    - namespaces: [shop, "*"]
    - identities: ["spiffe://cluster.local/ns/shop/sa/web", "*"]
    to:
    - {ports: [80, 443], methods: [GET, "*"], paths: [/healthz, "/cart/*", "/*", "*"]}
    - {ports: [9090]}
  - {name: nobody, action: Deny, to: [{paths: ["/admin/*"]}]}`,
	})
}

func withTarget(target string) string {
	return "targetRef: {" + target + "}\nmtls: {mode: Strict}"
}

func TestMeshPolicyRefusesBadTargets(t *testing.T) {
	refuses(t, v1alpha1.KindMeshPolicy, meshPolicyBadTargets)
}

var meshPolicyBadTargets = map[string]refusal{
	"no target": {
		`mtls: {mode: Strict}`,
		"spec.targetRef", "Required value",
	},
	"neither mtls nor authorization": {
		`targetRef: {kind: Mesh}`,
		"spec", "spec must set at least one of mtls, authorization, rateLimits, loadBalancing and outlierDetection",
	},
	"a kind that does not exist": {
		withTarget(`kind: Deployment, name: web`),
		"spec.targetRef.kind", `supported values: "Mesh", "Namespace", "Service", "Workload"`,
	},
	"a mesh with a name": {
		withTarget(`kind: Mesh, name: default`),
		"spec.targetRef.name", "must be left out for kind Mesh and Namespace",
	},
	"a namespace with a name": {
		withTarget(`kind: Namespace, name: other`),
		"spec.targetRef.name", "must be left out for kind Mesh and Namespace",
	},
	"a namespace with a port": {
		withTarget(`kind: Namespace, port: 80`),
		"spec.targetRef.port", "targetRef.port must be left out for kind Mesh and Namespace",
	},
	"a Service without a name": {
		withTarget(`kind: Service`),
		"spec.targetRef.name", "targetRef.name must be set for kind Service",
	},
	"a Service with a selector": {
		withTarget(`kind: Service, name: a, selector: {matchLabels: {a: b}}`),
		"spec.targetRef.selector", "must be left out unless kind is Workload",
	},
	"a workload with neither name nor selector": {
		withTarget(`kind: Workload`),
		"spec.targetRef", "must set exactly one of name and selector",
	},
	"a workload with name and selector": {
		withTarget(`kind: Workload, name: a, selector: {matchLabels: {a: b}}`),
		"spec.targetRef", "must set exactly one of name and selector",
	},
	"a selector that selects everything": {
		withTarget(`kind: Workload, selector: {}`),
		"spec.targetRef.selector", "use kind Namespace for all pods",
	},
	"a selector with empty labels": {
		withTarget(`kind: Workload, selector: {matchLabels: {}}`),
		"spec.targetRef.selector", "use kind Namespace for all pods",
	},
	"a name in capitals": {
		withTarget(`kind: Service, name: Web`),
		"spec.targetRef.name", "should match",
	},
	"a port of 0": {
		withTarget(`kind: Service, name: web, port: 0`),
		"spec.targetRef.port", "greater than or equal to 1",
	},
}

func withMTLS(mtls string) string {
	return "targetRef: {kind: Service, name: web}\nmtls: {" + mtls + "}"
}

func TestMeshPolicyRefusesBadMTLS(t *testing.T) {
	refuses(t, v1alpha1.KindMeshPolicy, meshPolicyBadMTLS)
}

var meshPolicyBadMTLS = map[string]refusal{
	"no mode": {
		withMTLS(`ports: [{port: 80, mode: Strict}]`),
		"spec.mtls.mode", "Required value",
	},
	"a mode that does not exist": {
		withMTLS(`mode: STRICT`),
		"spec.mtls.mode", `supported values: "Strict", "Permissive", "Disabled"`,
	},
	"Permissive without an end": {
		withMTLS(`mode: Permissive`),
		"spec.mtls.until", "mtls.until must be set for mode Permissive",
	},
	"Strict with an end": {
		withMTLS(`mode: Strict, until: "2026-03-31T18:00:00Z"`),
		"spec.mtls.until", "mtls.until must be left out for mode Strict",
	},
	"an end that is a day": {
		withMTLS(`mode: Permissive, until: "2026-03-31"`),
		"spec.mtls.until", "must be of type date-time",
	},
	"an end without a time zone": {
		withMTLS(`mode: Permissive, until: "2026-03-31T18:00:00"`),
		"spec.mtls.until", "should match",
	},
	// The server's own date-time format takes the next ones, and then no Go
	// client could decode a list that holds the object.
	"an end in small letters": {
		withMTLS(`mode: Permissive, until: "2026-03-31t18:00:00z"`),
		"spec.mtls.until", "should match",
	},
	"an end with something after it": {
		withMTLS(`mode: Permissive, until: "2026-03-31T18:00:00ZT"`),
		"spec.mtls.until", "should match",
	},
	"an end with an impossible offset": {
		withMTLS(`mode: Permissive, until: "2026-03-31T18:00:00+99:00"`),
		"spec.mtls.until", "should match",
	},
	"an empty list of ports": {
		withMTLS(`mode: Strict, ports: []`),
		"spec.mtls.ports", "at least 1 items",
	},
	"a port that is listed twice": {
		withMTLS(`mode: Strict, ports: [{port: 80, mode: Strict}, {port: 80, mode: Disabled}]`),
		"spec.mtls.ports[1]", "Duplicate value",
	},
	"a port without a mode": {
		withMTLS(`mode: Strict, ports: [{port: 80}]`),
		"spec.mtls.ports[0].mode", "Required value",
	},
	"ports beside the port of the target": {
		`
targetRef: {kind: Service, name: web, port: 80}
mtls: {mode: Strict, ports: [{port: 80, mode: Permissive}]}`,
		"spec.mtls.ports", "mtls.ports cannot be set beside targetRef.port",
	},
}

// withRules is a policy that authorizes by rules.
func withRules(rules string) string {
	return "targetRef: {kind: Service, name: web}\nauthorization: {defaultAction: Deny, rules: [" + rules + "]}"
}

func from(source string) string {
	return withRules(`{name: r, action: Allow, from: [{` + source + `}]}`)
}

func TestMeshPolicyRefusesBadRulesAndCallers(t *testing.T) {
	refuses(t, v1alpha1.KindMeshPolicy, meshPolicyBadRulesAndCallers)
}

var meshPolicyBadRulesAndCallers = map[string]refusal{
	"no default action": {
		"targetRef: {kind: Mesh}\nauthorization: {}",
		"spec.authorization.defaultAction", "Required value",
	},
	"an action that does not exist": {
		withRules(`{name: r, action: Audit}`),
		"spec.authorization.rules[0].action", `supported values: "Allow", "Deny"`,
	},
	"an empty list of rules": {
		withRules(``),
		"spec.authorization.rules", "at least 1 items",
	},
	"a rule without a name": {
		withRules(`{action: Deny}`),
		"spec.authorization.rules[0].name", "Required value",
	},
	"two rules of one name": {
		withRules(`{name: r, action: Deny}, {name: r, action: Allow}`),
		"spec.authorization.rules[1]", "Duplicate value",
	},
	"an empty list of callers": {
		withRules(`{name: r, action: Deny, from: []}`),
		"spec.authorization.rules[0].from", "at least 1 items",
	},
	"a caller that is nobody": {
		from(``),
		"spec.authorization.rules[0].from[0]", "must set exactly one of serviceAccounts, namespaces and identities",
	},
	"a caller that is described twice": {
		from(`serviceAccounts: [web], namespaces: [shop]`),
		"spec.authorization.rules[0].from[0]", "must set exactly one of serviceAccounts, namespaces and identities",
	},
	"an empty list of service accounts": {
		from(`serviceAccounts: []`),
		"spec.authorization.rules[0].from[0].serviceAccounts", "at least 1 items",
	},
	"a service account of every namespace": {
		from(`serviceAccounts: ["*/web"]`),
		"spec.authorization.rules[0].from[0].serviceAccounts[0]", "should match",
	},
	"a service account with two slashes": {
		from(`serviceAccounts: [a/b/c]`),
		"spec.authorization.rules[0].from[0].serviceAccounts[0]", "should match",
	},
	"a service account that is listed twice": {
		from(`serviceAccounts: [a, a]`),
		"spec.authorization.rules[0].from[0].serviceAccounts[1]", "Duplicate value",
	},
	"a namespace with a wildcard in it": {
		from(`namespaces: ["shop-*"]`),
		"spec.authorization.rules[0].from[0].namespaces[0]", "should match",
	},
	"an identity of another scheme": {
		from(`identities: ["https://example.com/ns/a/sa/b"]`),
		"spec.authorization.rules[0].from[0].identities[0]", "should match",
	},
	"an identity without a service account": {
		from(`identities: ["spiffe://cluster.local/ns/shop"]`),
		"spec.authorization.rules[0].from[0].identities[0]", "should match",
	},
	"an identity with a wildcard in it": {
		from(`identities: ["spiffe://cluster.local/ns/shop/sa/*"]`),
		"spec.authorization.rules[0].from[0].identities[0]", "should match",
	},
}

func to(target string) string { return withRules(`{name: r, action: Allow, to: [{` + target + `}]}`) }

func TestMeshPolicyRefusesBadAuthorizationTargets(t *testing.T) {
	refuses(t, v1alpha1.KindMeshPolicy, meshPolicyBadAuthorizationTargets)
}

var meshPolicyBadAuthorizationTargets = map[string]refusal{
	"a target that is nothing": {
		to(``),
		"spec.authorization.rules[0].to[0]", "must set at least one of ports, methods and paths",
	},
	"a port above 65535": {
		to(`ports: [70000]`),
		"spec.authorization.rules[0].to[0].ports[0]", "less than or equal to 65535",
	},
	"an empty list of ports": {
		to(`ports: []`),
		"spec.authorization.rules[0].to[0].ports", "at least 1 items",
	},
	"a method in small letters": {
		to(`methods: [get]`),
		"spec.authorization.rules[0].to[0].methods[0]", "should match",
	},
	"a path that does not start with a slash": {
		to(`paths: [admin]`),
		"spec.authorization.rules[0].to[0].paths[0]", "should match",
	},
	"a path with a wildcard within": {
		to(`paths: ["/a/*/b"]`),
		"spec.authorization.rules[0].to[0].paths[0]", "should match",
	},
	"a path whose wildcard is not a whole element": {
		to(`paths: ["/adm*"]`),
		"spec.authorization.rules[0].to[0].paths[0]", "should match",
	},
	"a path with a query": {
		to(`paths: ["/a?b"]`),
		"spec.authorization.rules[0].to[0].paths[0]", "should match",
	},
	"a path with a space": {
		to(`paths: ["/a b"]`),
		"spec.authorization.rules[0].to[0].paths[0]", "should match",
	},
	"ports beside the port of the target": {
		`
targetRef: {kind: Service, name: web, port: 80}
authorization: {defaultAction: Deny, rules: [{name: r, action: Allow, to: [{ports: [80]}]}]}`,
		"spec.authorization.rules", "to[].ports cannot be set beside targetRef.port",
	},
}

// The schema and the proxies read SPIFFE IDs by code of their own. What one takes
// and the other refuses would be a policy that cannot be enforced.
func TestTheSchemaTakesTheIdentitiesThatProxiesParse(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, id := range []string{
		"spiffe://cluster.local/ns/shop/sa/web",
		"spiffe://a/ns/b/sa/c",
		"spiffe://a_b.c-d/ns/b-1/sa/c.d-e",
		"spiffe://a-/ns/b/sa/c", "spiffe://.a/ns/b/sa/c", "spiffe://A/ns/b/sa/c", "spiffe:///ns/b/sa/c",
		"spiffe://a:80/ns/b/sa/c", "spiffe://u@a/ns/b/sa/c", "SPIFFE://a/ns/b/sa/c",
		"spiffe://a/ns/b.c/sa/d", "spiffe://a/ns/-b/sa/c", "spiffe://a/ns/" + long + "/sa/c", "spiffe://a/ns//sa/c",
		"spiffe://a/ns/b/sa/C", "spiffe://a/ns/b/sa/c.", "spiffe://a/ns/b/sa/", "spiffe://a/ns/b/sa/c/", "spiffe://a/ns/b/sa/c?d",
		"spiffe://a/ns/b/sa/" + strings.Repeat(long, 4), "spiffe://" + strings.Repeat(long, 4) + "/ns/b/sa/c",
		"spiffe://a/ns/b/sa/c\n", "spiffe://a/ns/b/sa/%63",
	} {
		spec := fmt.Sprintf(`{targetRef: {kind: Mesh}, authorization: {defaultAction: Deny,
			rules: [{name: r, action: Allow, from: [{identities: [%q]}]}]}}`, id)
		schemaErr := tryCreate(t, object(t, v1alpha1.KindMeshPolicy, "case", spec))
		_, parseErr := identity.Parse(id)
		if (schemaErr == nil) != (parseErr == nil) {
			t.Errorf("%s: the schema says %v, the proxy %v", id, schemaErr, parseErr)
		}
	}
}
