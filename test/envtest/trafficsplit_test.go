// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

func TestTrafficSplitAccepts(t *testing.T) {
	accepts(t, v1alpha1.KindTrafficSplit, map[string]string{
		"one backend with nothing but its service": `
service: {name: checkout}
backends: [{name: v1, service: {name: checkout-v1}}]`,
		"a backend that is the root service itself": `
service: {name: checkout, port: 80}
backends:
- {name: checkout, service: {name: checkout}, weight: 90}
- {name: v2, service: {name: checkout-v2, port: 8080}, weight: 10}`,
		"a backend of weight 0 beside one that takes all": `
service: {name: checkout}
backends:
- {name: v1, service: {name: checkout-v1}, weight: 1000000}
- {name: v2, service: {name: checkout-v2}, weight: 0}`,
		"rules by path, method and headers": `
service: {name: checkout}
backends:
- {name: v1, service: {name: checkout-v1}}
- {name: v2, service: {name: checkout-v2}, weight: 0}
rules:
- name: testers
  matches:
  - headers: [{name: X-Tester, value: "yes"}, {name: user-agent, type: Regex, value: 'curl/.*'}]
  - {path: {value: /beta}, method: GET}
  weights: [{backend: v2}]
- name: by-regex
  matches: [{path: {type: Regex, value: '/users/[0-9]+(/.*)?'}}]
  weights: [{backend: v1, weight: 1}, {backend: v2, weight: 0}]
- name: grpc
  matches: [{path: {type: Exact, value: /shop.Cart/Add}, method: POST}]
  weights: [{backend: v2, weight: 5}]`,
		"path elements that begin with a dot": `
service: {name: checkout}
backends: [{name: v1, service: {name: checkout-v1}}]
rules:
- {name: r, matches: [{path: {value: /.well-known/.../caf%C3%A9}}], weights: [{backend: v1}]}`,
		"as many backends, rules and matches as the limits allow": largestSplit(16),
	})
}

// largestSplit is a split with n backends and n rules of 8 matches with 8 headers
// each. It shows that the CEL rules stay within the server's cost limit at run
// time, which is apart from the estimate at registration.
func largestSplit(n int) string {
	var backends, weights, rules, headers strings.Builder
	for i := range n {
		fmt.Fprintf(&backends, "- {name: b%d, service: {name: s%d}}\n", i, i)
		fmt.Fprintf(&weights, "{backend: b%d},", i)
	}
	for i := range 8 {
		fmt.Fprintf(&headers, "{name: X-Header-%d, type: Regex, value: '%s'},", i, strings.Repeat("a?", 128))
	}
	match := fmt.Sprintf("{path: {value: /%s}, headers: [%s]},", strings.Repeat("p", 1000), &headers)
	for i := range n {
		fmt.Fprintf(&rules, "- {name: r%d, matches: [%s], weights: [%s]}\n", i, strings.Repeat(match, 8), &weights)
	}
	return "service: {name: checkout}\nbackends:\n" + backends.String() + "rules:\n" + rules.String()
}

func TestTrafficSplitRefusesBadServicesAndBackends(t *testing.T) {
	refuses(t, v1alpha1.KindTrafficSplit, trafficSplitBadServicesAndBackends)
}

var trafficSplitBadServicesAndBackends = map[string]refusal{
	"no service": {
		`
backends: [{name: v1, service: {name: checkout-v1}}]`,
		"spec.service", "Required value",
	},
	"a service name with a domain": {
		`
service: {name: checkout.shop.svc}
backends: [{name: v1, service: {name: checkout-v1}}]`,
		"spec.service.name", "should match",
	},
	"a service port of 0": {
		`
service: {name: checkout, port: 0}
backends: [{name: v1, service: {name: checkout-v1}}]`,
		"spec.service.port", "greater than or equal to 1",
	},
	"no backends": {
		`
service: {name: checkout}`,
		"spec.backends", "Required value",
	},
	"an empty list of backends": {
		`
service: {name: checkout}
backends: []`,
		"spec.backends", "at least 1 items",
	},
	"a backend without a service": {
		`
service: {name: checkout}
backends: [{name: v1}]`,
		"spec.backends[0]", "backends[] must set exactly one of service and selector",
	},
	"a backend without a name": {
		`
service: {name: checkout}
backends: [{service: {name: checkout-v1}}]`,
		"spec.backends[0].name", "Required value",
	},
	"a backend name in capitals": {
		`
service: {name: checkout}
backends: [{name: V1, service: {name: checkout-v1}}]`,
		"spec.backends[0].name", "should match",
	},
	"two backends of one name": {
		`
service: {name: checkout}
backends: [{name: v1, service: {name: a}}, {name: v1, service: {name: b}}]`,
		"spec.backends[1]", "Duplicate value",
	},
	"a backend port above 65535": {
		`
service: {name: checkout}
backends: [{name: v1, service: {name: checkout-v1, port: 65536}}]`,
		"spec.backends[0].service.port", "less than or equal to 65535",
	},
	"a negative weight": {
		`
service: {name: checkout}
backends: [{name: v1, service: {name: checkout-v1}, weight: -1}]`,
		"spec.backends[0].weight", "greater than or equal to 0",
	},
	"a weight above a million": {
		`
service: {name: checkout}
backends: [{name: v1, service: {name: checkout-v1}, weight: 1000001}]`,
		"spec.backends[0].weight", "less than or equal to 1000000",
	},
	"a weight with a fraction": {
		`
service: {name: checkout}
backends: [{name: v1, service: {name: checkout-v1}, weight: 0.5}]`,
		"spec.backends[0].weight", "must be of type int32",
	},
	"weights that are all 0": {
		`
service: {name: checkout}
backends: [{name: v1, service: {name: a}, weight: 0}, {name: v2, service: {name: b}, weight: 0}]`,
		"spec.backends", "backends must hold at least one weight above 0",
	},
}

// withRule is a split with backends v1 and v2 and one rule.
func withRule(rule string) string {
	return `
service: {name: checkout}
backends: [{name: v1, service: {name: checkout-v1}}, {name: v2, service: {name: checkout-v2}}]
rules: [` + rule + `]`
}

// withMatch is a split with a rule that has one match.
func withMatch(match string) string {
	return withRule(`{name: r, matches: [` + match + `], weights: [{backend: v2}]}`)
}

func TestTrafficSplitRefusesBadRules(t *testing.T) {
	refuses(t, v1alpha1.KindTrafficSplit, trafficSplitBadRules)
}

// restOfRule is what a rule needs beside its name.
const restOfRule = `matches: [{method: GET}], weights: [{backend: v2}]`

var trafficSplitBadRules = map[string]refusal{
	"a rule without a name": {
		withRule(`{` + restOfRule + `}`),
		"spec.rules[0].name", "Required value",
	},
	"a rule name that is no DNS label": {
		withRule(`{name: my_rule, ` + restOfRule + `}`),
		"spec.rules[0].name", "should match",
	},
	"two rules of one name": {
		withRule(`{name: r, ` + restOfRule + `}, {name: r, ` + restOfRule + `}`),
		"spec.rules[1]", "Duplicate value",
	},
	"a rule without matches": {
		withRule(`{name: r, weights: [{backend: v2}]}`),
		"spec.rules[0].matches", "Required value",
	},
	"a rule without weights": {
		withRule(`{name: r, matches: [{method: GET}]}`),
		"spec.rules[0].weights", "Required value",
	},
	"an empty list of rules": {
		withRule(``),
		"spec.rules", "at least 1 items",
	},
	"a weight for a backend that is not declared": {
		withRule(`{name: r, matches: [{method: GET}], weights: [{backend: v3}]}`),
		"spec.rules", "rules[].weights[].backend must be the name of one of spec.backends",
	},
	"a backend that is named twice in one rule": {
		withRule(`{name: r, matches: [{method: GET}], weights: [{backend: v1}, {backend: v1}]}`),
		"spec.rules[0].weights[1]", "Duplicate value",
	},
	"a rule whose weights are all 0": {
		withRule(`{name: r, matches: [{method: GET}], weights: [{backend: v1, weight: 0}]}`),
		"spec.rules[0].weights", "weights must hold at least one weight above 0",
	},
}

func TestTrafficSplitRefusesBadMatches(t *testing.T) {
	refuses(t, v1alpha1.KindTrafficSplit, trafficSplitBadMatches)
}

var trafficSplitBadMatches = map[string]refusal{
	"a match of nothing": {
		withMatch(`{}`),
		"spec.rules[0].matches[0]", "must set at least one of path, method, headers, query, hosts, grpc and callers",
	},
	"a path type that does not exist": {
		withMatch(`{path: {type: Glob, value: /a}}`),
		"spec.rules[0].matches[0].path.type", `supported values: "Exact", "Prefix", "Regex"`,
	},
	"a path without a value": {
		withMatch(`{path: {type: Prefix}}`),
		"spec.rules[0].matches[0].path.value", "Required value",
	},
	"a prefix that does not start with a slash": {
		withMatch(`{path: {value: cart}}`),
		"spec.rules[0].matches[0].path.value", `path.value must start with "/"`,
	},
	"an exact path that does not start with a slash": {
		withMatch(`{path: {type: Exact, value: cart}}`),
		"spec.rules[0].matches[0].path.value", `path.value must start with "/"`,
	},
	"a path with a query": {
		withMatch(`{path: {value: "/cart?id=1"}}`),
		"spec.rules[0].matches[0].path.value", "take out ?, #, backslashes",
	},
	"a path with a space": {
		withMatch(`{path: {value: "/a b"}}`),
		"spec.rules[0].matches[0].path.value", "take out ?, #, backslashes",
	},
	"a path with a backslash": {
		withMatch(`{path: {value: '/a\b'}}`),
		"spec.rules[0].matches[0].path.value", "take out ?, #, backslashes",
	},
	"a path with a broken escape": {
		withMatch(`{path: {value: "/a%2"}}`),
		"spec.rules[0].matches[0].path.value", "broken % escapes",
	},
	"a path that normalisation would change": {
		withMatch(`{path: {value: /a/../b}}`),
		"spec.rules[0].matches[0].path.value", "take out ?, #, backslashes",
	},
	"a path that ends in a dot segment": {
		withMatch(`{path: {value: /a/..}}`),
		"spec.rules[0].matches[0].path.value", "take out ?, #, backslashes",
	},
	"a path regex that does not compile": {
		withMatch(`{path: {type: Regex, value: "/(a"}}`),
		"spec.rules[0].matches[0].path", "must be an RE2 regular expression",
	},
	"a path regex that RE2 does not know": {
		withMatch(`{path: {type: Regex, value: '/(?=a)'}}`),
		"spec.rules[0].matches[0].path", "must be an RE2 regular expression",
	},
	"a path regex that is too long": {
		withMatch(`{path: {type: Regex, value: "/` + strings.Repeat("a", 256) + `"}}`),
		"spec.rules[0].matches[0].path.value", "at most 256 characters",
	},
	"a path that is too long": {
		withMatch(`{path: {value: "/` + strings.Repeat("a", 1024) + `"}}`),
		"spec.rules[0].matches[0].path.value", "may not be more than 1024",
	},
	"a method in small letters": {
		withMatch(`{method: get}`),
		"spec.rules[0].matches[0].method", "should match",
	},
	"an empty list of headers": {
		withMatch(`{headers: []}`),
		"spec.rules[0].matches[0].headers", "at least 1 items",
	},
	"a header name with a colon": {
		withMatch(`{headers: [{name: ":path", value: x}]}`),
		"spec.rules[0].matches[0].headers[0].name", "should match",
	},
	"a header without a value": {
		withMatch(`{headers: [{name: a}]}`),
		"spec.rules[0].matches[0].headers[0].value", "Required value",
	},
	"a header value with a line break": {
		withMatch(`{headers: [{name: a, value: "x\ny"}]}`),
		"spec.rules[0].matches[0].headers[0].value", "should match",
	},
	"a header of type Prefix": {
		withMatch(`{headers: [{name: a, type: Prefix, value: x}]}`),
		"spec.rules[0].matches[0].headers[0].type", `supported values: "Exact", "Regex"`,
	},
	"a header regex that does not compile": {
		withMatch(`{headers: [{name: a, type: Regex, value: "["}]}`),
		"spec.rules[0].matches[0].headers[0]", "must be an RE2 regular expression",
	},
	"a header regex that is too long": {
		withMatch(`{headers: [{name: a, type: Regex, value: "` + strings.Repeat("a", 257) + `"}]}`),
		"spec.rules[0].matches[0].headers[0].value", "at most 256 characters",
	},
	"a header that is named twice": {
		withMatch(`{headers: [{name: a, value: b}, {name: a, value: c}]}`),
		"spec.rules[0].matches[0].headers[1]", "Duplicate value",
	},
	"a header that is named twice but for its case": {
		withMatch(`{headers: [{name: x-a, value: b}, {name: X-A, value: c}]}`),
		"spec.rules[0].matches[0].headers", "must name each header once",
	},
}
