// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"testing"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

func TestServiceProfileAccepts(t *testing.T) {
	accepts(t, v1alpha1.KindServiceProfile, map[string]string{
		"ports of every protocol": `
service: {name: checkout}
ports:
- {port: 80, protocol: HTTP1}
- {port: 81, protocol: HTTP2}
- {port: 82, protocol: GRPC}
- {port: 83, protocol: TCP}
- {port: 443, protocol: TLS}
- {port: 65535, protocol: Opaque}`,
		"routes alone": `
service: {name: checkout}
routes: [{name: all, timeouts: {request: 15s}}]`,
		"a route without timeouts, which names metrics": `
service: {name: checkout}
routes: [{name: cart, matches: [{path: {value: /cart}}]}]`,
		"durations in every form": `
service: {name: checkout}
routes:
- {name: a, matches: [{method: GET}], timeouts: {request: 250ms}}
- {name: b, matches: [{method: PUT}], timeouts: {request: 60s}}
- {name: c, matches: [{method: POST}], timeouts: {request: 1m30s}}
- {name: d, matches: [{method: PATCH}], timeouts: {request: 1.5h}}`,
		"a last route that takes every request": `
service: {name: checkout}
routes:
- {name: cart, matches: [{path: {value: /cart}}], timeouts: {request: 1s}}
- {name: rest, timeouts: {request: 15s}}`,
	})
}

// withRoute is a profile with one route.
func withRoute(route string) string {
	return `
service: {name: checkout}
routes: [` + route + `]`
}

func TestServiceProfileRefuses(t *testing.T) {
	refuses(t, v1alpha1.KindServiceProfile, badServiceProfiles)
}

var badServiceProfiles = map[string]refusal{
	"no service": {
		`
ports: [{port: 80, protocol: HTTP1}]`,
		"spec.service", "Required value",
	},
	"neither ports nor routes": {
		`
service: {name: checkout}`,
		"spec", "spec must say something about the Service",
	},
	"an empty list of ports": {
		`
service: {name: checkout}
ports: []`,
		"spec.ports", "at least 1 items",
	},
	"a port that is listed twice": {
		`
service: {name: checkout}
ports: [{port: 80, protocol: HTTP1}, {port: 80, protocol: GRPC}]`,
		"spec.ports[1]", "Duplicate value",
	},
	"a port without a protocol": {
		`
service: {name: checkout}
ports: [{port: 80}]`,
		"spec.ports[0].protocol", "Required value",
	},
	"a protocol that does not exist": {
		`
service: {name: checkout}
ports: [{port: 80, protocol: HTTP}]`,
		"spec.ports[0].protocol", `supported values: "HTTP1", "HTTP2", "GRPC", "TCP", "TLS", "Opaque"`,
	},
	"a port above 65535": {
		`
service: {name: checkout}
ports: [{port: 65536, protocol: TCP}]`,
		"spec.ports[0].port", "less than or equal to 65535",
	},
	"a route without a name": {
		withRoute(`{timeouts: {request: 15s}}`),
		"spec.routes[0].name", "Required value",
	},
	"two routes of one name": {
		withRoute(`{name: a, matches: [{method: GET}]}, {name: a, matches: [{method: PUT}]}`),
		"spec.routes[1]", "Duplicate value",
	},
	"a route that takes every request before others": {
		withRoute(`{name: all}, {name: cart, matches: [{path: {value: /cart}}]}`),
		"spec.routes", "only the last route may leave out matches",
	},
	"two routes that take every request": {
		withRoute(`{name: all}, {name: rest}`),
		"spec.routes", "only the last route may leave out matches",
	},
	"a match of nothing": {
		withRoute(`{name: a, matches: [{}]}`),
		"spec.routes[0].matches[0]", "must set at least one of path, method, headers, query, hosts, grpc and callers",
	},
	"a path regex that does not compile": {
		withRoute(`{name: a, matches: [{path: {type: Regex, value: "*"}}]}`),
		"spec.routes[0].matches[0].path", "must be an RE2 regular expression",
	},
	"timeouts that set nothing": {
		withRoute(`{name: a, timeouts: {}}`),
		"spec.routes[0].timeouts", "at least 1 properties",
	},
	"a timeout of 0": {
		withRoute(`{name: a, timeouts: {request: 0s}}`),
		"spec.routes[0].timeouts.request", "a duration must be above 0s: leave the field out for no limit",
	},
	"a negative timeout": {
		withRoute(`{name: a, timeouts: {request: -1s}}`),
		"spec.routes[0].timeouts.request", "should match",
	},
	"a timeout without a unit": {
		withRoute(`{name: a, timeouts: {request: "15"}}`),
		"spec.routes[0].timeouts.request", "should match",
	},
	"a timeout as a number": {
		withRoute(`{name: a, timeouts: {request: 15}}`),
		"spec.routes[0].timeouts.request", "must be of type string",
	},
	"a timeout in days": {
		withRoute(`{name: a, timeouts: {request: 1d}}`),
		"spec.routes[0].timeouts.request", "should match",
	},
	"a timeout beyond what a duration holds": {
		withRoute(`{name: a, timeouts: {request: 99999999999h}}`),
		"spec.routes[0].timeouts.request", "must be above 0s",
	},
}
