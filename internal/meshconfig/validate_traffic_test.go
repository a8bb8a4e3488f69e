// SPDX-License-Identifier: Apache-2.0

package meshconfig_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func TestValidateRefusesRoutesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("/", 4097)
	port := func(change func(*meshconfig.ServicePort)) func(proto.Message) {
		return with(func(m *meshconfig.Routes) { change(m.Ports[0]) })
	}
	match := func(change func(*meshconfig.Match)) func(proto.Message) {
		return port(func(p *meshconfig.ServicePort) { change(p.Routes[0].Matches[0]) })
	}
	retry := func(change func(*meshconfig.Retry)) func(proto.Message) {
		return port(func(p *meshconfig.ServicePort) { change(p.Routes[0].Retry) })
	}
	filters := func(change func(*meshconfig.Filters)) func(proto.Message) {
		return port(func(p *meshconfig.ServicePort) { change(p.Routes[0].Filters) })
	}
	redirect := func(change func(*meshconfig.Redirect)) func(proto.Message) {
		return port(func(p *meshconfig.ServicePort) { change(p.Routes[1].Filters.Redirect) })
	}
	fault := func(change func(*meshconfig.Fault)) func(proto.Message) {
		return port(func(p *meshconfig.ServicePort) { change(p.Faults[0]) })
	}
	runRefusals(t, map[string]refusal{
		"too many parameters":         {routesName, "query: 33", match(func(m *meshconfig.Match) { m.Query = make([]*meshconfig.HeaderMatch, 33) })},
		"a parameter without name":    {routesName, "query[0]", match(func(m *meshconfig.Match) { m.Query[0].Name = "" })},
		"a parameter of no type":      {routesName, "query[0]: type", match(func(m *meshconfig.Match) { m.Query[0].Type = 0 })},
		"a parameter of a long value": {routesName, "query[0]: value", match(func(m *meshconfig.Match) { m.Query[0].Value = huge })},
		"too many hosts":              {routesName, "hosts: 65", match(func(m *meshconfig.Match) { m.Hosts = make([]string, 65) })},
		"a host of none":              {routesName, "hosts[0]", match(func(m *meshconfig.Match) { m.Hosts[0] = "" })},
		"too many callers":            {routesName, "callers: 65", match(func(m *meshconfig.Match) { m.Callers = make([]*meshconfig.Caller, 65) })},
		"a caller of no kind":         {routesName, "callers[0]", match(func(m *meshconfig.Match) { m.Callers[0].Identities = nil })},
		"a try below 0":               {routesName, "try_timeout", port(func(p *meshconfig.ServicePort) { p.Routes[0].TryTimeout = -1 })},
		"a silence below 0":           {routesName, "idle_timeout", port(func(p *meshconfig.ServicePort) { p.Routes[0].IdleTimeout = -1 })},
		"too many conditions":         {routesName, "retry: on", retry(func(r *meshconfig.Retry) { r.On = make([]meshconfig.RetryCondition, 9) })},
		"too many codes":              {routesName, "retry: codes", retry(func(r *meshconfig.Retry) { r.Codes = make([]uint32, 201) })},
		"too many codes of gRPC":      {routesName, "retry: grpc_codes", retry(func(r *meshconfig.Retry) { r.GrpcCodes = make([]uint32, 201) })},
		"a backoff below 0":           {routesName, "backoff_base", retry(func(r *meshconfig.Retry) { r.BackoffBase = -1 })},
		"too many headers to remove": {
			routesName, "request_headers: remove: 33",
			filters(func(f *meshconfig.Filters) { f.RequestHeaders.Remove = make([]string, 33) }),
		},
		"a header to remove that is none": {
			routesName, "response_headers: remove[0]",
			filters(func(f *meshconfig.Filters) { f.ResponseHeaders.Remove[0] = "a b" }),
		},
		"too many headers to set": {
			routesName, "set: 33",
			filters(func(f *meshconfig.Filters) { f.RequestHeaders.Set = make([]*meshconfig.HeaderValue, 33) }),
		},
		"a header to set that is none": {
			routesName, "set[0]: name",
			filters(func(f *meshconfig.Filters) { f.RequestHeaders.Set[0].Name = "" }),
		},
		"a long header to add": {
			routesName, "add[0]: value",
			filters(func(f *meshconfig.Filters) { f.RequestHeaders.Add[0].Value = huge }),
		},
		"a long host":         {routesName, "rewrite_host", filters(func(f *meshconfig.Filters) { f.RewriteHost = long })},
		"a long path":         {routesName, "rewrite_path", filters(func(f *meshconfig.Filters) { f.RewritePath.Value = huge })},
		"a mirror to nobody":  {routesName, "mirror.backend", filters(func(f *meshconfig.Filters) { f.Mirror.Backend = nil })},
		"a long redirect":     {routesName, "redirect.host", redirect(func(r *meshconfig.Redirect) { r.Host = long })},
		"a long new path":     {routesName, "redirect.path", redirect(func(r *meshconfig.Redirect) { r.Path.Value = huge })},
		"a subset of a story": {routesName, "subset", port(func(p *meshconfig.ServicePort) { p.Backends[1].Subset = long })},
		"a long cookie":       {routesName, "stickiness.name", port(func(p *meshconfig.ServicePort) { p.Stickiness.Name = long })},
		"a cookie below 0":    {routesName, "stickiness.ttl", port(func(p *meshconfig.ServicePort) { p.Stickiness.Ttl = -1 })},
		"too many faults":     {routesName, "faults: 65", port(func(p *meshconfig.ServicePort) { p.Faults = make([]*meshconfig.Fault, 65) })},
		"a nameless fault":    {routesName, "faults[0]: name", fault(func(f *meshconfig.Fault) { f.Name = "" })},
		"a delay below 0":     {routesName, "faults[0]: delay", fault(func(f *meshconfig.Fault) { f.Delay = -1 })},
		"a fault of matches":  {routesName, "faults[0]: matches", fault(func(f *meshconfig.Fault) { f.Matches = make([]*meshconfig.Match, 65) })},
	})
}

func TestValidateRefusesClusters(t *testing.T) {
	t.Parallel()
	cluster := func(change func(*meshconfig.Cluster)) func(proto.Message) {
		return with(func(m *meshconfig.Routes) { change(m.Clusters[1]) })
	}
	runRefusals(t, map[string]refusal{
		"too many":                  {routesName, "clusters: 4097", with(func(m *meshconfig.Routes) { m.Clusters = make([]*meshconfig.Cluster, 4097) })},
		"one twice":                 {routesName, "ascending", cluster(func(c *meshconfig.Cluster) { c.Service = "checkout-v1.shop" })},
		"of no service":             {routesName, "clusters[1]: service", cluster(func(c *meshconfig.Cluster) { c.Service = "" })},
		"a connect timeout below 0": {routesName, "connect_timeout", cluster(func(c *meshconfig.Cluster) { c.ConnectTimeout = -1 })},
		"a slow start below 0":      {routesName, "slow_start", cluster(func(c *meshconfig.Cluster) { c.Balancing.SlowStart = -1 })},
		"too many keys":             {routesName, "balancing.hash: 17", cluster(func(c *meshconfig.Cluster) { c.Balancing.Hash = make([]*meshconfig.HashKey, 17) })},
		"a long key":                {routesName, "balancing.hash[0]", cluster(func(c *meshconfig.Cluster) { c.Balancing.Hash[0].Name = long })},
		"a window below 0":          {routesName, "outlier.window", cluster(func(c *meshconfig.Cluster) { c.Outlier.Window = -1 })},
		"an ejection below 0":       {routesName, "outlier.base_ejection", cluster(func(c *meshconfig.Cluster) { c.Outlier.BaseEjection = -1 })},
		"a check's interval":        {routesName, "health_check: interval", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Interval = -1 })},
		"a check's long path":       {routesName, "health_check: path", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Path = strings.Repeat("/", 4097) })},
		"a check's long host":       {routesName, "health_check: host", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Host = long })},
		"a check's many codes":      {routesName, "health_check: codes", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Codes = make([]uint32, 201) })},
		"a check's many ports":      {routesName, "health_check: ports", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Ports = make([]uint32, 4097) })},
		"a check's many of HTTP/2":  {routesName, "health_check: http2_ports", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Http2Ports = make([]uint32, 4097) })},
		"a check's many headers":    {routesName, "health_check: headers", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Headers = make([]*meshconfig.HeaderValue, 33) })},
		"a check's broken body":     {routesName, "health_check: body", cluster(func(c *meshconfig.Cluster) { c.HealthCheck.Body = "(" })},
	})
}

func TestValidateRefusesRateLimits(t *testing.T) {
	t.Parallel()
	limit := func(change func(*meshconfig.RateLimit)) func(proto.Message) {
		return with(func(m *meshconfig.Inbound) { change(m.Ports[0].RateLimits[0]) })
	}
	runRefusals(t, map[string]refusal{
		"too many": {
			inboundName, "rate_limits: 65",
			with(func(m *meshconfig.Inbound) { m.Ports[0].RateLimits = make([]*meshconfig.RateLimit, 65) }),
		},
		"without name":         {inboundName, "name", limit(func(l *meshconfig.RateLimit) { l.Name = "" })},
		"an interval below 0":  {inboundName, "interval", limit(func(l *meshconfig.RateLimit) { l.Interval = -1 })},
		"too many callers":     {inboundName, "from: 4097", limit(func(l *meshconfig.RateLimit) { l.From = make([]*meshconfig.Caller, 4097) })},
		"a caller of no kind":  {inboundName, "from[0]", limit(func(l *meshconfig.RateLimit) { l.From[0] = &meshconfig.Caller{} })},
		"too many operations":  {inboundName, "to: 4097", limit(func(l *meshconfig.RateLimit) { l.To = make([]*meshconfig.Operation, 4097) })},
		"an operation of none": {inboundName, "to[0]", limit(func(l *meshconfig.RateLimit) { l.To[0] = &meshconfig.Operation{} })},
	})
}
