// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/test/gen"
)

func duration(d v1alpha1.Duration) *v1alpha1.Duration { return &d }

func TestValidateBackendsAndStickiness(t *testing.T) {
	valid := func() *v1alpha1.TrafficSplit {
		s := gen.TrafficSplit("shop", "web", "web", gen.Subset("v1", 9, "version", "v1"), gen.Subset("v2", 1, "version", "v2"),
			gen.Active("v2"), gen.Stick(v1alpha1.StickyByCookie, "version"))
		s.Spec.Stickiness.TTL = duration("1h")
		return s
	}
	stick := func(change func(*v1alpha1.Stickiness)) func(*v1alpha1.TrafficSplit) {
		return func(s *v1alpha1.TrafficSplit) { change(s.Spec.Stickiness) }
	}
	runWrong(t, valid, ValidateTrafficSplit, map[string]wrong[v1alpha1.TrafficSplit]{
		"a backend of a service and a selector": {"spec.backends[0]", "exactly one of", func(s *v1alpha1.TrafficSplit) {
			s.Spec.Backends[0].Service = &v1alpha1.ServicePortReference{Name: "web"}
		}},
		"a selector of what is no label": {"spec.backends[0].selector", "labels of pods", func(s *v1alpha1.TrafficSplit) { s.Spec.Backends[0].Selector["a b"] = "c" }},
		"a selector of too many labels": {"spec.backends[0].selector", "at most 8", func(s *v1alpha1.TrafficSplit) {
			for i := range 8 {
				s.Spec.Backends[0].Selector[fmt.Sprint("l", i)] = "x"
			}
		}},
		"an active backend that is none": {"spec.active", "Not found", func(s *v1alpha1.TrafficSplit) { s.Spec.Active = "v3" }},
		"stickiness by something else":   {"spec.stickiness.by", "supported values", stick(func(s *v1alpha1.Stickiness) { s.By = "Session" })},
		"stickiness without a name":      {"spec.stickiness.name", "name of the cookie or header", stick(func(s *v1alpha1.Stickiness) { s.Name = "" })},
		"a cookie that is no token":      {"spec.stickiness.name", "name of the cookie or header", stick(func(s *v1alpha1.Stickiness) { s.Name = "a;b" })},
		"a cookie that needs Secure":     {"spec.stickiness.name", "Secure", stick(func(s *v1alpha1.Stickiness) { s.Name = "__Host-version" })},
		"an age of 0":                    {"spec.stickiness.ttl", "1ms or more", stick(func(s *v1alpha1.Stickiness) { s.TTL = duration("0s") })},
		"an age of a header":             {"spec.stickiness.ttl", "age of a cookie", stick(func(s *v1alpha1.Stickiness) { s.By = v1alpha1.StickyByHeader })},
		"a name of the source": {"spec.stickiness.name", "leave it out", stick(func(s *v1alpha1.Stickiness) {
			s.By, s.TTL = v1alpha1.StickyBySourceIP, nil
		})},
	})
}

func TestValidateMatchesOfRequests(t *testing.T) {
	valid := func() *v1alpha1.ServiceProfile {
		return gen.ServiceProfile("shop", "web", "web", gen.Route("all", "", v1alpha1.RequestMatch{
			Query:   []v1alpha1.QueryMatch{{Name: "q"}, {Name: "page", Type: v1alpha1.HeaderMatchRegex, Value: "[0-9]*"}},
			Hosts:   []string{"www.example.com", "*.example.com"},
			GRPC:    &v1alpha1.GRPCMatch{Service: "shop.Payments", Method: "Charge"},
			Callers: []v1alpha1.CallerMatch{{ServiceAccounts: []string{"web", "bank/web"}, Namespaces: []string{"shop"}}},
		}))
	}
	match := func(change func(*v1alpha1.RequestMatch)) func(*v1alpha1.ServiceProfile) {
		return func(p *v1alpha1.ServiceProfile) { change(&p.Spec.Routes[0].Matches[0]) }
	}
	const at = "spec.routes[0].matches[0]"
	runWrong(t, valid, ValidateServiceProfile, map[string]wrong[v1alpha1.ServiceProfile]{
		"a parameter without a name":   {at + ".query[0].name", "1 to 128", match(func(m *v1alpha1.RequestMatch) { m.Query[0].Name = "" })},
		"a parameter twice":            {at + ".query[1].name", "Duplicate", match(func(m *v1alpha1.RequestMatch) { m.Query[1].Name = "q" })},
		"a parameter of another type":  {at + ".query[0].type", "supported values", match(func(m *v1alpha1.RequestMatch) { m.Query[0].Type = "Prefix" })},
		"a parameter that is broken":   {at + ".query[1].value", "RE2", match(func(m *v1alpha1.RequestMatch) { m.Query[1].Value = "(" })},
		"a parameter that is too long": {at + ".query[0].value", "Too long", match(func(m *v1alpha1.RequestMatch) { m.Query[0].Value = strings.Repeat("a", 1025) })},
		"a host with a port":           {at + ".hosts[0]", "without port", match(func(m *v1alpha1.RequestMatch) { m.Hosts[0] = "web:80" })},
		"a host in capitals":           {at + ".hosts[1]", "lower case", match(func(m *v1alpha1.RequestMatch) { m.Hosts[1] = "*.Example.com" })},
		"too many hosts":               {at + ".hosts", "at most 8", match(func(m *v1alpha1.RequestMatch) { m.Hosts = many(m.Hosts, 9, func(s *string, n string) { *s = n }) })},
		"a method of gRPC and a path":  {at + ".grpc", "path or method", match(func(m *v1alpha1.RequestMatch) { m.Method = "POST" })},
		"a service of gRPC that is none": {at + ".grpc.service", "with its package", match(func(m *v1alpha1.RequestMatch) {
			m.GRPC.Service = "shop/Payments"
		})},
		"a method of gRPC that is none": {at + ".grpc.method", "name of a method", match(func(m *v1alpha1.RequestMatch) { m.GRPC.Method = "a.b" })},
		"a caller that is nobody":       {at + ".callers[0]", "at least one of", match(func(m *v1alpha1.RequestMatch) { m.Callers[0] = v1alpha1.CallerMatch{} })},
		"a caller that is a glob":       {at + ".callers[0].serviceAccounts[0]", "namespace/name", match(func(m *v1alpha1.RequestMatch) { m.Callers[0].ServiceAccounts[0] = "*" })},
		"a caller of no namespace":      {at + ".callers[0].namespaces[0]", "DNS label", match(func(m *v1alpha1.RequestMatch) { m.Callers[0].Namespaces[0] = "a.b" })},
	})
}

func TestValidateRetries(t *testing.T) {
	valid := func() *v1alpha1.ServiceProfile {
		p := gen.ServiceProfile("shop", "web", "web", gen.Route("all", "1s"), gen.Retry(3, v1alpha1.RetryReset))
		r := p.Spec.Routes[0].Retry
		r.Codes, r.GRPCCodes, r.Idempotent = []int32{503}, []int32{14}, v1alpha1.IdempotencyAlways
		r.Backoff = &v1alpha1.Backoff{Base: duration("50ms"), Max: duration("1s")}
		p.Spec.Routes[0].Timeouts.PerTry, p.Spec.Routes[0].Timeouts.Idle = duration("100ms"), duration("1m")
		return p
	}
	retry := func(change func(*v1alpha1.Retry)) func(*v1alpha1.ServiceProfile) {
		return func(p *v1alpha1.ServiceProfile) { change(p.Spec.Routes[0].Retry) }
	}
	const at = "spec.routes[0].retry"
	eleven := int32(11)
	runWrong(t, valid, ValidateServiceProfile, map[string]wrong[v1alpha1.ServiceProfile]{
		"too many attempts":         {at + ".attempts", "0 to 10", retry(func(r *v1alpha1.Retry) { r.Attempts = &eleven })},
		"a condition that is none":  {at + ".conditions[0]", "supported values", retry(func(r *v1alpha1.Retry) { r.Conditions[0] = "Always" })},
		"a code that is no failure": {at + ".codes[0]", "400 to 599", retry(func(r *v1alpha1.Retry) { r.Codes[0] = 302 })},
		"a code of gRPC of success": {at + ".grpcCodes[0]", "1 to 16", retry(func(r *v1alpha1.Retry) { r.GRPCCodes[0] = 0 })},
		"a base that is too long":   {at + ".backoff.base", "1m0s or less", retry(func(r *v1alpha1.Retry) { r.Backoff.Base = duration("2m") })},
		"a maximum below the base":  {at + ".backoff.max", "at least base", retry(func(r *v1alpha1.Retry) { r.Backoff.Max = duration("20ms") })},
		"a maximum that is none":    {at + ".backoff.max", "must be a duration", retry(func(r *v1alpha1.Retry) { r.Backoff.Max = duration("x") })},
		"idempotent as it likes":    {at + ".idempotent", "supported values", retry(func(r *v1alpha1.Retry) { r.Idempotent = "Maybe" })},
		"a try of no time": {"spec.routes[0].timeouts.perTry", "1ms or more", func(p *v1alpha1.ServiceProfile) {
			p.Spec.Routes[0].Timeouts.PerTry = duration("0s")
		}},
		"an idle time that is none": {"spec.routes[0].timeouts.idle", "must be a duration", func(p *v1alpha1.ServiceProfile) {
			p.Spec.Routes[0].Timeouts.Idle = duration("")
		}},
	})
}

func TestValidateFilters(t *testing.T) {
	valid := func() *v1alpha1.ServiceProfile {
		percent := int32(10)
		return gen.ServiceProfile("shop", "web", "web",
			gen.Route("cart", "", gen.Path(v1alpha1.PathMatchPrefix, "/cart")), gen.Filter(v1alpha1.Filters{
				RequestHeaders: &v1alpha1.HeaderFilter{
					Set: []v1alpha1.Header{{Name: "X-Via", Value: "mesh"}}, Add: []v1alpha1.Header{{Name: "X-Tag"}}, Remove: []string{"X-Debug"},
				},
				ResponseHeaders: gen.SetHeader("Cache-Control", "no-store"),
				Rewrite:         &v1alpha1.Rewrite{Host: "basket.shop:8080", Path: &v1alpha1.PathRewrite{Type: v1alpha1.PathRewritePrefix, Value: "/basket"}},
				Mirror:          &v1alpha1.Mirror{Service: v1alpha1.ServicePortReference{Name: "shadow"}, Percent: &percent},
			}),
			gen.Route("old", "", gen.Path(v1alpha1.PathMatchPrefix, "/old")), gen.Filter(v1alpha1.Filters{
				Redirect: &v1alpha1.Redirect{Scheme: "https", Host: "example.com", Path: &v1alpha1.PathRewrite{Type: v1alpha1.PathRewriteFull, Value: "/"}, Status: 308},
			}))
	}
	filters := func(change func(*v1alpha1.Filters)) func(*v1alpha1.ServiceProfile) {
		return func(p *v1alpha1.ServiceProfile) { change(p.Spec.Routes[0].Filters) }
	}
	redirect := func(change func(*v1alpha1.Redirect)) func(*v1alpha1.ServiceProfile) {
		return func(p *v1alpha1.ServiceProfile) { change(p.Spec.Routes[1].Filters.Redirect) }
	}
	const at, to = "spec.routes[0].filters", "spec.routes[1].filters.redirect"
	none, port := int32(0), int32(70000)
	runWrong(t, valid, ValidateServiceProfile, map[string]wrong[v1alpha1.ServiceProfile]{
		"headers of nothing":          {at + ".responseHeaders", "at least one of", filters(func(f *v1alpha1.Filters) { f.ResponseHeaders = &v1alpha1.HeaderFilter{} })},
		"a header that is no token":   {at + ".requestHeaders.set[0].name", "name of a header", filters(func(f *v1alpha1.Filters) { f.RequestHeaders.Set[0].Name = "a b" })},
		"the host as a header":        {at + ".requestHeaders.set[0].name", "filter of its own", filters(func(f *v1alpha1.Filters) { f.RequestHeaders.Set[0].Name = "HOST" })},
		"what frames the message":     {at + ".requestHeaders.remove[0]", "frames the message", filters(func(f *v1alpha1.Filters) { f.RequestHeaders.Remove[0] = "Content-Length" })},
		"a header of the mesh's own":  {at + ".requestHeaders.add[0].name", "mesh's own", filters(func(f *v1alpha1.Filters) { f.RequestHeaders.Add[0].Name = "Heddle_Undelivered" })},
		"the caller's certificate":    {at + ".responseHeaders.set[0].name", "mesh's own", filters(func(f *v1alpha1.Filters) { f.ResponseHeaders.Set[0].Name = "x-forwarded-client-cert" })},
		"a value with a line feed":    {at + ".requestHeaders.set[0].value", "control characters", filters(func(f *v1alpha1.Filters) { f.RequestHeaders.Set[0].Value = "a\nb" })},
		"a value with space around":   {at + ".requestHeaders.set[0].value", "white space", filters(func(f *v1alpha1.Filters) { f.RequestHeaders.Set[0].Value = "a " })},
		"a rewrite of nothing":        {at + ".rewrite", "at least one of", filters(func(f *v1alpha1.Filters) { f.Rewrite = &v1alpha1.Rewrite{} })},
		"a host that is none":         {at + ".rewrite.host", "DNS name", filters(func(f *v1alpha1.Filters) { f.Rewrite.Host = "a_b" })},
		"a host with port 0":          {at + ".rewrite.host", "1 to 65535", filters(func(f *v1alpha1.Filters) { f.Rewrite.Host = "a:0" })},
		"a path that is none":         {at + ".rewrite.path.value", "must be a path", filters(func(f *v1alpha1.Filters) { f.Rewrite.Path.Value = "basket" })},
		"a path of another type":      {at + ".rewrite.path.type", "supported values", filters(func(f *v1alpha1.Filters) { f.Rewrite.Path.Type = "Suffix" })},
		"a mirror to nobody":          {at + ".mirror.service.name", "DNS label", filters(func(f *v1alpha1.Filters) { f.Mirror.Service.Name = "" })},
		"a mirror of no request":      {at + ".mirror.percent", "1 to 100", filters(func(f *v1alpha1.Filters) { f.Mirror.Percent = &none })},
		"a redirect to nowhere":       {to, "at least one of", redirect(func(r *v1alpha1.Redirect) { *r = v1alpha1.Redirect{} })},
		"a redirect to FTP":           {to + ".scheme", "supported values", redirect(func(r *v1alpha1.Redirect) { r.Scheme = "ftp" })},
		"a redirect to no host":       {to + ".host", "DNS name", redirect(func(r *v1alpha1.Redirect) { r.Host = "a b" })},
		"a redirect to no port":       {to + ".port", "1 to 65535", redirect(func(r *v1alpha1.Redirect) { r.Port = &port })},
		"a redirect that is an error": {to + ".status", "must be 301", redirect(func(r *v1alpha1.Redirect) { r.Status = 404 })},
		"a redirect to what is no path": {to + ".path.value", "must be a path", redirect(func(r *v1alpha1.Redirect) {
			r.Path.Value = "/a?b"
		})},
		"a rewrite that no proxy would take": {"spec.routes[0]", "rewrite_path of 5000 bytes", filters(func(f *v1alpha1.Filters) {
			f.Rewrite.Path.Value = "/" + strings.Repeat("a", 4999)
		})},
		"a redirect of what is rewritten": {at + ".redirect", "goes nowhere", filters(func(f *v1alpha1.Filters) { f.Redirect = &v1alpha1.Redirect{Scheme: "https"} })},
		"a prefix where none is matched": {at + ".rewrite.path.type", "type Prefix in each match", func(p *v1alpha1.ServiceProfile) {
			p.Spec.Routes[0].Matches[0].Path.Type = v1alpha1.PathMatchExact
		}},
	})
}

func TestValidateFaults(t *testing.T) {
	status, yes, no := int32(503), true, false
	valid := func() *v1alpha1.ServiceProfile {
		return gen.ServiceProfile("shop", "web", "web",
			gen.Fault("errors", &v1alpha1.Abort{HTTPStatus: &status}, gen.Path(v1alpha1.PathMatchPrefix, "/")), gen.Fault("slow", nil),
			gen.Fault("broken", &v1alpha1.Abort{Reset: &yes}))
	}
	fault := func(change func(*v1alpha1.Fault)) func(*v1alpha1.ServiceProfile) {
		return func(p *v1alpha1.ServiceProfile) { change(&p.Spec.Faults[0]) }
	}
	const at = "spec.faults[0]"
	low := int32(200)
	runWrong(t, valid, ValidateServiceProfile, map[string]wrong[v1alpha1.ServiceProfile]{
		"a fault without a name":   {at + ".name", "DNS label", fault(func(f *v1alpha1.Fault) { f.Name = "" })},
		"a fault twice":            {"spec.faults[1].name", "Duplicate", fault(func(f *v1alpha1.Fault) { f.Name = "slow" })},
		"a fault without an end":   {at + ".expiresAt", "say when", fault(func(f *v1alpha1.Fault) { f.ExpiresAt = metav1.Time{} })},
		"a fault of no request":    {at + ".percent", "1 to 100", fault(func(f *v1alpha1.Fault) { f.Percent = 0 })},
		"a fault of nothing":       {at, "at least one of delay and abort", fault(func(f *v1alpha1.Fault) { f.Delay, f.Abort = nil, nil })},
		"a delay that is too long": {at + ".delay", "5m0s or less", fault(func(f *v1alpha1.Fault) { f.Delay = duration("6m") })},
		"an abort of nothing":      {at + ".abort", "exactly one of", fault(func(f *v1alpha1.Fault) { f.Abort = &v1alpha1.Abort{} })},
		"an abort of two kinds":    {at + ".abort", "exactly one of", fault(func(f *v1alpha1.Fault) { f.Abort.Reset = &yes })},
		"an abort that is not":     {at + ".abort", "exactly one of", fault(func(f *v1alpha1.Fault) { f.Abort = &v1alpha1.Abort{Reset: &no} })},
		"an abort with a success":  {at + ".abort.httpStatus", "400 to 599", fault(func(f *v1alpha1.Fault) { f.Abort.HTTPStatus = &low })},
		"a match that is wrong":    {at + ".matches[0].path.value", "not a path", fault(func(f *v1alpha1.Fault) { f.Matches[0].Path.Value = "a" })},
	})
}

func TestValidateHowEndpointsAreCalled(t *testing.T) {
	valid := func() *v1alpha1.ServiceProfile {
		bound := int32(100)
		p := gen.ServiceProfile("shop", "web", "web", gen.Check("/healthz?full=1"))
		p.Spec.ConnectTimeout, p.Spec.RetryBudget = duration("1s"), &v1alpha1.RetryBudget{Percent: &bound, MinPerSecond: &bound}
		p.Spec.LoadBalancing = gen.Balancing(v1alpha1.BalancingConsistentHash, v1alpha1.HashKey{By: "Cookie", Name: "user"}, v1alpha1.HashKey{By: "Source"})
		p.Spec.LoadBalancing.Locality, p.Spec.LoadBalancing.SlowStart = "Ignore", duration("30s")
		p.Spec.OutlierDetection = &v1alpha1.OutlierDetection{BaseEjection: duration("2m")}
		p.Spec.CircuitBreaker = &v1alpha1.CircuitBreaker{MaxRequests: &bound, Endpoint: &v1alpha1.EndpointBreaker{MaxRequests: &bound}}
		check := p.Spec.HealthCheck
		check.Ports = []int32{80, 8080}
		check.HTTP.Codes, check.HTTP.Body, check.HTTP.Host = []int32{200}, "ok", "web"
		check.HTTP.Headers = []v1alpha1.Header{{Name: "X-Check", Value: "1"}}
		return p
	}
	low, high, one := int32(-1), int32(2_000_000), int32(1)
	spec := func(change func(*v1alpha1.ServiceProfileSpec)) func(*v1alpha1.ServiceProfile) {
		return func(p *v1alpha1.ServiceProfile) { change(&p.Spec) }
	}
	runWrong(t, valid, ValidateServiceProfile, map[string]wrong[v1alpha1.ServiceProfile]{
		"a connect timeout that is too long": {"spec.connectTimeout", "1m0s or less", spec(func(s *v1alpha1.ServiceProfileSpec) { s.ConnectTimeout = duration("2m") })},
		"a budget above all":                 {"spec.retryBudget.percent", "0 to 100", spec(func(s *v1alpha1.ServiceProfileSpec) { s.RetryBudget.Percent = &high })},
		"a budget below 0":                   {"spec.retryBudget.minPerSecond", "0 to 1000", spec(func(s *v1alpha1.ServiceProfileSpec) { s.RetryBudget.MinPerSecond = &low })},
		"an unknown policy": {"spec.loadBalancing.policy", "supported values", spec(func(s *v1alpha1.ServiceProfileSpec) {
			s.LoadBalancing.Policy, s.LoadBalancing.Hash = "Best", nil
		})},
		"hashing by nothing":           {"spec.loadBalancing.hash", "must be set", spec(func(s *v1alpha1.ServiceProfileSpec) { s.LoadBalancing.Hash = nil })},
		"hashing by something":         {"spec.loadBalancing.hash[0].by", "supported values", spec(func(s *v1alpha1.ServiceProfileSpec) { s.LoadBalancing.Hash[0].By = "Body" })},
		"hashing by a nameless cookie": {"spec.loadBalancing.hash[0].name", "must be the name", spec(func(s *v1alpha1.ServiceProfileSpec) { s.LoadBalancing.Hash[0].Name = "" })},
		"hashing by a named source":    {"spec.loadBalancing.hash[1].name", "left out", spec(func(s *v1alpha1.ServiceProfileSpec) { s.LoadBalancing.Hash[1].Name = "x" })},
		"another locality":             {"spec.loadBalancing.locality", "supported values", spec(func(s *v1alpha1.ServiceProfileSpec) { s.LoadBalancing.Locality = "Region" })},
		"a start that is too slow":     {"spec.loadBalancing.slowStart", "15m0s or less", spec(func(s *v1alpha1.ServiceProfileSpec) { s.LoadBalancing.SlowStart = duration("1h") })},
		"failures below 0":             {"spec.outlierDetection.consecutiveFailures", "0 to 1000", spec(func(s *v1alpha1.ServiceProfileSpec) { s.OutlierDetection.ConsecutiveFailures = &low })},
		"ejection at equal latency":    {"spec.outlierDetection.latencyFactor", "2 and more", spec(func(s *v1alpha1.ServiceProfileSpec) { s.OutlierDetection.LatencyFactor = &one })},
		"a window that is too short":   {"spec.outlierDetection.window", "1s or more", spec(func(s *v1alpha1.ServiceProfileSpec) { s.OutlierDetection.Window = duration("10ms") })},
		"ejection for a week":          {"spec.outlierDetection.baseEjection", "24h0m0s or less", spec(func(s *v1alpha1.ServiceProfileSpec) { s.OutlierDetection.BaseEjection = duration("168h") })},
		"the longest below the first":  {"spec.outlierDetection.maxEjection", "at least baseEjection", spec(func(s *v1alpha1.ServiceProfileSpec) { s.OutlierDetection.MaxEjection = duration("1m") })},
		"a bound of 0":                 {"spec.circuitBreaker.maxPending", "1 to 1000000", spec(func(s *v1alpha1.ServiceProfileSpec) { s.CircuitBreaker.MaxPending = new(int32) })},
		"a bound beyond all":           {"spec.circuitBreaker.endpoint.maxConnections", "1 to 1000000", spec(func(s *v1alpha1.ServiceProfileSpec) { s.CircuitBreaker.Endpoint.MaxConnections = &high })},
		"a check of two kinds":         {"spec.healthCheck", "exactly one of", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.TCP = &v1alpha1.TCPHealthCheck{} })},
		"a check too often":            {"spec.healthCheck.interval", "1s or more", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.Interval = duration("10ms") })},
		"a check that overlaps itself": {"spec.healthCheck.timeout", "at most the interval", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.Timeout = duration("11s") })},
		"a check that always fails":    {"spec.healthCheck.unhealthyThreshold", "1 to 10", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.UnhealthyThreshold = &high })},
		"a check at port 0":            {"spec.healthCheck.ports[1]", "1 to 65535", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.Ports[1] = 0 })},
		"a check of no path":           {"spec.healthCheck.http.path", "must be a path", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.HTTP.Path = "healthz" })},
		"a check beyond ASCII":         {"spec.healthCheck.http.path", "escape", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.HTTP.Path = "/café" })},
		"a check of no host":           {"spec.healthCheck.http.host", "DNS name", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.HTTP.Host = "web:80" })},
		"a check with a length":        {"spec.healthCheck.http.headers[0].name", "frames the message", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.HTTP.Headers[0].Name = "content-length" })},
		"a check with an interim code": {"spec.healthCheck.http.codes[0]", "200 to 599", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.HTTP.Codes[0] = 100 })},
		"a check of a broken body":     {"spec.healthCheck.http.body", "RE2", spec(func(s *v1alpha1.ServiceProfileSpec) { s.HealthCheck.HTTP.Body = "(" })},
		"a check of no gRPC service": {"spec.healthCheck.grpc.service", "with its package", spec(func(s *v1alpha1.ServiceProfileSpec) {
			s.HealthCheck = &v1alpha1.HealthCheck{GRPC: &v1alpha1.GRPCHealthCheck{Service: "a/b"}}
		})},
	})
}

func TestValidateRateLimitsAndDefaults(t *testing.T) {
	valid := func() *v1alpha1.MeshPolicy {
		percent := int32(10)
		p := gen.MeshPolicy("shop", "web", gen.ForService("web"), gen.Limit("all", 100), gen.Limit("search", 5, v1alpha1.AuthorizationTarget{Methods: []string{"GET"}}))
		p.Spec.RateLimits[1].From, p.Spec.RateLimits[1].Per = []v1alpha1.AuthorizationSource{{Namespaces: []string{"*"}}}, "Caller"
		p.Spec.LoadBalancing = gen.Balancing(v1alpha1.BalancingPeakEWMA)
		p.Spec.OutlierDetection = &v1alpha1.OutlierDetection{MaxEjectedPercent: &percent}
		return p
	}
	limit := func(change func(*v1alpha1.RateLimit)) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { change(&p.Spec.RateLimits[1]) }
	}
	validate := func(p *v1alpha1.MeshPolicy) field.ErrorList { return ValidateMeshPolicy(p, "heddle-system") }
	const at = "spec.rateLimits[1]"
	port := int32(80)
	runWrong(t, valid, validate, map[string]wrong[v1alpha1.MeshPolicy]{
		"a limit twice":                {at + ".name", "Duplicate", limit(func(l *v1alpha1.RateLimit) { l.Name = "all" })},
		"a limit of 0":                 {at + ".requests", "1 to 1000000", limit(func(l *v1alpha1.RateLimit) { l.Requests = 0 })},
		"a burst of 0":                 {at + ".burst", "1 to 1000000", limit(func(l *v1alpha1.RateLimit) { l.Burst = new(int32) })},
		"an interval that is too long": {at + ".interval", "1h0m0s or less", limit(func(l *v1alpha1.RateLimit) { l.Interval = duration("2h") })},
		"a limit of each node":         {at + ".per", "supported values", limit(func(l *v1alpha1.RateLimit) { l.Per = "Node" })},
		"a limit of nobody":            {at + ".from[0]", "exactly one", limit(func(l *v1alpha1.RateLimit) { l.From[0] = v1alpha1.AuthorizationSource{} })},
		"a limit of nothing":           {at + ".to[0]", "at least one of", limit(func(l *v1alpha1.RateLimit) { l.To[0] = v1alpha1.AuthorizationTarget{} })},
		"a policy that is none":        {"spec.loadBalancing.policy", "supported values", func(p *v1alpha1.MeshPolicy) { p.Spec.LoadBalancing.Policy = "Best" }},
		"ejecting more than all": {"spec.outlierDetection.maxEjectedPercent", "0 to 100", func(p *v1alpha1.MeshPolicy) {
			more := int32(101)
			p.Spec.OutlierDetection.MaxEjectedPercent = &more
		}},
		"defaults for one port": {"spec.targetRef", "without a port", func(p *v1alpha1.MeshPolicy) { p.Spec.TargetRef.Port = &port }},
		"defaults for a pod": {"spec.targetRef", "kind Mesh, Namespace or Service", func(p *v1alpha1.MeshPolicy) {
			p.Spec.TargetRef = v1alpha1.PolicyTarget{Kind: v1alpha1.TargetWorkload, Name: "web-0"}
		}},
	})
}
