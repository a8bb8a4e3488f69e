// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peers

// Feature is what the pair of Heddle is told to do besides, in YAML of one line for each place. The zero value is nothing:
// then each version is a Service of its own, with one endpoint.
type Feature struct {
	Name string
	// Match is added to the match of every route, Route to every route.
	Match, Route string
	// Profile and Split are added to the specs of what is called: its ServiceProfile and its TrafficSplit.
	Profile, Split string
	// Endpoints is the spec of the ServiceProfile of those that are behind both versions, Policy that of a MeshPolicy of both.
	Endpoints, Policy string
	// Under is what it is measured under.
	Under Load
}

// Load is what a feature is about.
type Load string

// The loads.
const (
	Many    Load = ""        // as many requests at once as keep the proxies busy
	Few     Load = "few"     // no more than a bound that adapts lets in
	Content Load = "content" // many that bring content
)

// Nothing is what features are compared with. Like each of them it has two endpoints behind either version, or there would
// be nothing to balance.
var Nothing = Feature{Name: "nothing"}

// Service is the Service behind a version, "stable" or "canary".
func (f Feature) Service(track string) string {
	if f.Name == "" {
		return "web-" + track
	}
	return "all"
}

// What requests of the features' works bring, for matches and keys.
const (
	FeatureQuery  = "page=3&user=ann"
	FeatureCookie = "theme=dark; track=0123456789abcdef"
)

const (
	retries  = "retry: {attempts: 2, conditions: [ConnectFailure, RefusedStream, Reset, Timeout, GatewayError], codes: [425], backoff: {base: 50ms, max: 500ms}, idempotent: Always}"
	breakers = "maxConnections: 10000, maxPending: 10000, maxRequests: 10000, maxRetries: 100, endpoint: {maxConnections: 5000, maxRequests: 5000}"
)

// Features are all whose cost is measured.
var Features = []Feature{
	{Name: "retries: 5 conditions, a code, backoff", Route: retries},
	{Name: "retries, of requests with content", Route: retries, Under: Content},
	{Name: "retry budget", Profile: "retryBudget: {percent: 10, minPerSecond: 5}"},
	{Name: "timeout of the request", Route: "timeouts: {request: 15s}"},
	{Name: "timeout of each try", Route: "timeouts: {perTry: 5s}"},
	{Name: "timeout of silence", Route: "timeouts: {idle: 5s}"},
	{Name: "circuit breaker: all bounds", Endpoints: "circuitBreaker: {" + breakers + "}"},
	{Name: "adaptive concurrency", Endpoints: "circuitBreaker: {endpoint: {adaptive: true}}", Under: Few},
	{Name: "fault that no request matches", Profile: `faults: [{name: drill, matches: [{headers: [{name: X-Rehearsal, value: "yes"}]}], percent: 100, abort: {httpStatus: 503}, expiresAt: "2099-01-01T00:00:00Z"}]`},
	{Name: "fault: 1 % are delayed by 1 ms", Profile: `faults: [{name: drill, percent: 1, delay: 1ms, expiresAt: "2099-01-01T00:00:00Z"}]`},
	{Name: "rate limit, in total", Policy: "rateLimits: [{name: total, requests: 1000000}]"},
	{Name: "rate limits, in total and of each caller", Policy: "rateLimits: [{name: total, requests: 1000000}, {name: each, requests: 1000000, per: Caller}]"},
	{Name: "header filters: 3 of requests, 2 of answers", Route: "filters: {requestHeaders: {remove: [X-Debug], set: [{name: X-Via, value: mesh}], add: [{name: X-Tag, value: web}]}, responseHeaders: {remove: [Server], add: [{name: Vary, value: X-Tag}]}}"},
	{Name: "path rewritten", Route: "filters: {rewrite: {path: {type: Prefix, value: /v2}}}"},
	{Name: "routes match a header", Match: `, headers: [{name: X-Request-Id, value: 0123456789abcdef}]`},
	{Name: "routes match a header by expression", Match: `, headers: [{name: X-Request-Id, type: Regex, value: "[0-9a-f]{16}"}]`},
	{Name: "routes match a parameter of the query", Match: `, query: [{name: user, value: ann}]`},
	{Name: "routes match a host and a caller", Match: `, hosts: ["*.shop.svc.cluster.local"], callers: [{namespaces: [shop]}]`},
	{Name: "mirror of 1 %", Route: "filters: {mirror: {service: {name: all, port: 80}, percent: 1}}"},
	{Name: "stickiness by a cookie that the request has", Split: "stickiness: {by: Cookie, name: track}"},
	{Name: "stickiness by a cookie that the answer brings", Split: "stickiness: {by: Cookie, name: other}"},
	{Name: "LeastRequest, which is the default", Endpoints: "loadBalancing: {policy: LeastRequest}"},
	{Name: "RoundRobin", Endpoints: "loadBalancing: {policy: RoundRobin}"},
	{Name: "Random", Endpoints: "loadBalancing: {policy: Random}"},
	{Name: "PeakEWMA", Endpoints: "loadBalancing: {policy: PeakEWMA}"},
	{Name: "ConsistentHash by a header", Endpoints: "loadBalancing: {policy: ConsistentHash, hash: [{by: Header, name: X-Request-Id}]}"},
	{Name: "no outlier detection", Endpoints: "outlierDetection: {consecutiveFailures: 0, consecutiveConnectFailures: 0, successRatePercent: 0}"},
	{Name: "outlier detection: all detectors", Endpoints: "outlierDetection: {successRatePercent: 50, latencyFactor: 100, window: 1s}"},
	{Name: "active checks, every second", Endpoints: "healthCheck: {http: {path: /r00/items/1k}, interval: 1s}"},
}
