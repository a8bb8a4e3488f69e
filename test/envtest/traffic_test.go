// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"testing"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// The fields of traffic management. The samples show what is accepted; this is what is refused, and by which words.

func TestTrafficSplitRefusesTraffic(t *testing.T) {
	with := func(more string) string {
		return "\nservice: {name: cart}\nbackends: [{name: v1, selector: {version: v1}}, {name: v2, service: {name: cart-v2}}]\n" + more
	}
	refuses(t, v1alpha1.KindTrafficSplit, map[string]refusal{
		"a backend of a service and labels": {
			"\nservice: {name: cart}\nbackends: [{name: v1, selector: {version: v1}, service: {name: cart}}]",
			"spec.backends[0]", "exactly one of service and selector",
		},
		"a backend of nothing":           {"\nservice: {name: cart}\nbackends: [{name: v1}]", "spec.backends[0]", "exactly one of service and selector"},
		"an active backend that is none": {with("active: v3"), "spec.active", "the name of one of spec.backends"},
		"stickiness without a name":      {with("stickiness: {by: Cookie}"), "spec.stickiness.name", "must be set for Cookie and Header"},
		"stickiness with a needless name": {
			with("stickiness: {by: SourceIP, name: x}"), "spec.stickiness.name", "must be set for Cookie and Header, and for no other",
		},
		"a header that ages":         {with("stickiness: {by: Header, name: X-User, ttl: 1h}"), "spec.stickiness.ttl", "age of a cookie"},
		"stickiness by the session":  {with("stickiness: {by: Session}"), "spec.stickiness.by", "supported values"},
		"a cookie with a semicolon":  {with("stickiness: {by: Cookie, name: \"a;b\"}"), "spec.stickiness.name", "should match"},
		"a match of gRPC and a path": {with("rules: [{name: r, matches: [{method: POST, grpc: {service: a.B}}], weights: [{backend: v1}]}]"), "spec.rules[0].matches[0].grpc", "must not set grpc beside path or method"},
		"a parameter that is broken": {with("rules: [{name: r, matches: [{query: [{name: q, type: Regex, value: \"(\"}]}], weights: [{backend: v1}]}]"), "spec.rules[0].matches[0].query[0]", "must be an RE2 regular expression"},
		"a host with a port":         {with("rules: [{name: r, matches: [{hosts: [\"a:80\"]}], weights: [{backend: v1}]}]"), "spec.rules[0].matches[0].hosts[0]", "should match"},
		"a caller that is nobody":    {with("rules: [{name: r, matches: [{callers: [{}]}], weights: [{backend: v1}]}]"), "spec.rules[0].matches[0].callers[0]", "at least one of serviceAccounts and namespaces"},
	})
}

func TestServiceProfileRefusesRoutes(t *testing.T) {
	route := func(more string) string {
		return withRoute("{name: a, matches: [{path: {value: /a}}], " + more + "}")
	}
	const at = "spec.routes[0]"
	refuses(t, v1alpha1.KindServiceProfile, map[string]refusal{
		"too many attempts":          {route("retry: {attempts: 11}"), at + ".retry.attempts", "less than or equal to 10"},
		"a condition that is none":   {route("retry: {conditions: [Always]}"), at + ".retry.conditions[0]", "supported values"},
		"a code that is no failure":  {route("retry: {codes: [302]}"), at + ".retry.codes[0]", "greater than or equal to 400"},
		"a maximum below the base":   {route("retry: {backoff: {base: 1s, max: 100ms}}"), at + ".retry.backoff.max", "at least backoff.base"},
		"a backoff of minutes":       {route("retry: {backoff: {base: 2m}}"), at + ".retry.backoff.base", "at most 1m"},
		"timeouts of nothing":        {route("timeouts: {}"), at + ".timeouts", "at least 1 properties"},
		"headers of nothing":         {route("filters: {requestHeaders: {}}"), at + ".filters.requestHeaders", "at least one of set, add and remove"},
		"a header that is no token":  {route("filters: {requestHeaders: {remove: [\"a b\"]}}"), at + ".filters.requestHeaders.remove[0]", "should match"},
		"a rewrite of nothing":       {route("filters: {rewrite: {}}"), at + ".filters.rewrite", "at least one of host and path"},
		"a path without a slash":     {route("filters: {rewrite: {path: {type: Full, value: a}}}"), at + ".filters.rewrite.path.value", "should match"},
		"a redirect to nowhere":      {route("filters: {redirect: {status: 301}}"), at + ".filters.redirect", "at least one of scheme, host, port and path"},
		"a redirect that is copied":  {route("filters: {redirect: {scheme: https}, mirror: {service: {name: b}}}"), at + ".filters.redirect", "a redirected request goes nowhere"},
		"a redirect that is none":    {route("filters: {redirect: {scheme: https, status: 200}}"), at + ".filters.redirect.status", "supported values"},
		"a mirror of more than all":  {route("filters: {mirror: {service: {name: b}, percent: 101}}"), at + ".filters.mirror.percent", "less than or equal to 100"},
		"a mirror without a service": {route("filters: {mirror: {percent: 1}}"), at + ".filters.mirror.service", "Required value"},
	})
}

func TestServiceProfileRefusesFaults(t *testing.T) {
	fault := func(more string) string {
		return "\nservice: {name: checkout}\nfaults: [{name: f, percent: 10, " + more + "}]"
	}
	const end = `, expiresAt: "2027-06-30T18:00:00Z"`
	refuses(t, v1alpha1.KindServiceProfile, map[string]refusal{
		"a fault without an end":      {fault("delay: 1s"), "spec.faults[0].expiresAt", "Required value"},
		"a fault of nothing":          {fault(`expiresAt: "2027-06-30T18:00:00Z"`), "spec.faults[0]", "at least one of delay and abort"},
		"a fault of a local time":     {fault(`delay: 1s, expiresAt: "2027-06-30T18:00:00"`), "spec.faults[0].expiresAt", "should match"},
		"an abort of two kinds":       {fault("abort: {httpStatus: 503, reset: true}" + end), "spec.faults[0].abort", "exactly one of httpStatus, grpcStatus and reset"},
		"an abort that does not":      {fault("abort: {reset: false}" + end), "spec.faults[0].abort.reset", "supported values"},
		"an abort with a success":     {fault("abort: {httpStatus: 200}" + end), "spec.faults[0].abort.httpStatus", "greater than or equal to 400"},
		"a delay that is too long":    {fault("delay: 10m" + end), "spec.faults[0].delay", "at most 5m"},
		"a fault of more than all":    {"\nservice: {name: checkout}\nfaults: [{name: f, percent: 101, delay: 1s" + end + "}]", "spec.faults[0].percent", "less than or equal to 100"},
		"two faults of the same name": {"\nservice: {name: checkout}\nfaults: [{name: f, percent: 1, delay: 1s" + end + "}, {name: f, percent: 1, delay: 1s" + end + "}]", "spec.faults[1]", "Duplicate value"},
	})
}

func TestServiceProfileRefusesHowEndpointsAreCalled(t *testing.T) {
	with := func(more string) string { return "\nservice: {name: checkout}\n" + more }
	refuses(t, v1alpha1.KindServiceProfile, map[string]refusal{
		"hashing by nothing":          {with("loadBalancing: {policy: ConsistentHash}"), "spec.loadBalancing.hash", "for policy ConsistentHash, and for no other"},
		"a hash of another policy":    {with("loadBalancing: {policy: Random, hash: [{by: Source}]}"), "spec.loadBalancing.hash", "for policy ConsistentHash, and for no other"},
		"a key without a name":        {with("loadBalancing: {policy: ConsistentHash, hash: [{by: Header}]}"), "spec.loadBalancing.hash[0]", "must be set for Header, Cookie and Query"},
		"a policy that is none":       {with("loadBalancing: {policy: Best}"), "spec.loadBalancing.policy", "supported values"},
		"a start that is too slow":    {with("loadBalancing: {slowStart: 1h}"), "spec.loadBalancing.slowStart", "at most 15m"},
		"ejection at equal latency":   {with("outlierDetection: {latencyFactor: 1}"), "spec.outlierDetection.latencyFactor", "0 or at least 2"},
		"a window that is too short":  {with("outlierDetection: {window: 10ms}"), "spec.outlierDetection.window", "1s to 10m"},
		"the longest below the first": {with("outlierDetection: {maxEjection: 1s}"), "spec.outlierDetection.maxEjection", "at least baseEjection"},
		"ejection for a week":         {with("outlierDetection: {baseEjection: 168h}"), "spec.outlierDetection.baseEjection", "at most 24h"},
		"a bound of 0":                {with("circuitBreaker: {maxRequests: 0}"), "spec.circuitBreaker.maxRequests", "greater than or equal to 1"},
		"a budget of more than all":   {with("retryBudget: {percent: 101}"), "spec.retryBudget.percent", "less than or equal to 100"},
		"to connect for an hour":      {with("connectTimeout: 1h"), "spec.connectTimeout", "at most 1m"},
		"a check of nothing":          {with("healthCheck: {interval: 1s}"), "spec.healthCheck", "exactly one of http, grpc and tcp"},
		"a check of two kinds":        {with("healthCheck: {tcp: {}, grpc: {}}"), "spec.healthCheck", "exactly one of http, grpc and tcp"},
		"a check too often":           {with("healthCheck: {tcp: {}, interval: 100ms}"), "spec.healthCheck.interval", "1s to 1h"},
		"a check that overlaps":       {with("healthCheck: {tcp: {}, timeout: 11s}"), "spec.healthCheck.timeout", "at most healthCheck.interval"},
		"a check of a broken body":    {with("healthCheck: {http: {path: /, body: \"(\"}}"), "spec.healthCheck.http.body", "must be an RE2 regular expression"},
		"a check without a path":      {with("healthCheck: {http: {}}"), "spec.healthCheck.http.path", "Required value"},
		"an interim code":             {with("healthCheck: {http: {path: /, codes: [100]}}"), "spec.healthCheck.http.codes[0]", "greater than or equal to 200"},
	})
}

func TestMeshPolicyRefusesTraffic(t *testing.T) {
	with := func(target, more string) string { return "\ntargetRef: " + target + "\n" + more }
	const web = "{kind: Service, name: web}"
	refuses(t, v1alpha1.KindMeshPolicy, map[string]refusal{
		"a limit without a number":   {with(web, "rateLimits: [{name: l}]"), "spec.rateLimits[0].requests", "Required value"},
		"a limit of 0":               {with(web, "rateLimits: [{name: l, requests: 0}]"), "spec.rateLimits[0].requests", "greater than or equal to 1"},
		"a limit of each node":       {with(web, "rateLimits: [{name: l, requests: 1, per: Node}]"), "spec.rateLimits[0].per", "supported values"},
		"a limit of a day":           {with(web, "rateLimits: [{name: l, requests: 1, interval: 24h}]"), "spec.rateLimits[0].interval", "100ms to 1h"},
		"two limits of one name":     {with(web, "rateLimits: [{name: l, requests: 1}, {name: l, requests: 2}]"), "spec.rateLimits[1]", "Duplicate value"},
		"a limit of nothing":         {with(web, "rateLimits: [{name: l, requests: 1, to: [{}]}]"), "spec.rateLimits[0].to[0]", "at least one of ports, methods and paths"},
		"ports of a limit at a port": {with("{kind: Service, name: web, port: 80}", "rateLimits: [{name: l, requests: 1, to: [{ports: [80]}]}]"), "spec.rateLimits", "cannot be set beside targetRef.port"},
		"balancing for a pod":        {with("{kind: Workload, name: web-0}", "loadBalancing: {policy: Random}"), "spec", "use kind Mesh, Namespace or Service, without a port"},
		"ejection at a port":         {with("{kind: Service, name: web, port: 80}", "outlierDetection: {}"), "spec", "use kind Mesh, Namespace or Service, without a port"},
	})
}
