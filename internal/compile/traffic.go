// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// milliseconds returns a duration that is valid, or the default of one that is not set.
func milliseconds(d *v1alpha1.Duration, otherwise time.Duration) int64 {
	return orMilliseconds(d, otherwise.Milliseconds())
}

// orMilliseconds is milliseconds with a default that is in them.
func orMilliseconds(d *v1alpha1.Duration, otherwise int64) int64 {
	if d != nil {
		if parsed, err := d.Parse(); err == nil {
			return parsed.Milliseconds()
		}
	}
	return otherwise
}

// number returns a number that is set, or the default.
func number(n *int32, otherwise uint32) uint32 {
	if n == nil {
		return otherwise
	}
	return uint32(*n)
}

func numbers(list []int32) []uint32 {
	out := make([]uint32, len(list))
	for i, n := range list {
		out[i] = uint32(n)
	}
	slices.Sort(out)
	return out
}

// balancingPolicies and the empty name, which is the default.
var balancingPolicies = map[v1alpha1.BalancingPolicy]meshconfig.BalancingPolicy{
	"":                               meshconfig.BalancingPolicy_BALANCING_POLICY_LEAST_REQUEST,
	v1alpha1.BalancingLeastRequest:   meshconfig.BalancingPolicy_BALANCING_POLICY_LEAST_REQUEST,
	v1alpha1.BalancingRoundRobin:     meshconfig.BalancingPolicy_BALANCING_POLICY_ROUND_ROBIN,
	v1alpha1.BalancingPeakEWMA:       meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA,
	v1alpha1.BalancingRandom:         meshconfig.BalancingPolicy_BALANCING_POLICY_RANDOM,
	v1alpha1.BalancingConsistentHash: meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH,
}

var hashKeys = map[string]meshconfig.HashKey_By{
	"Header": meshconfig.HashKey_BY_HEADER,
	"Cookie": meshconfig.HashKey_BY_COOKIE,
	"Query":  meshconfig.HashKey_BY_QUERY,
	"Source": meshconfig.HashKey_BY_SOURCE_IP,
}

func newBalancing(b *v1alpha1.LoadBalancing) *meshconfig.Balancing {
	if b == nil {
		return nil
	}
	out := &meshconfig.Balancing{
		Policy: balancingPolicies[b.Policy], SlowStart: milliseconds(b.SlowStart, 0), IgnoreLocality: b.Locality == "Ignore",
	}
	for _, k := range b.Hash {
		out.Hash = append(out.Hash, &meshconfig.HashKey{By: hashKeys[k.By], Name: k.Name})
	}
	return out
}

// newOutlier fills in the defaults.
func newOutlier(o *v1alpha1.OutlierDetection) *meshconfig.Outlier {
	if o == nil {
		return nil
	}
	d := meshconfig.DefaultOutlier()
	ejected, base := number(o.MaxEjectedPercent, d.GetMaxEjectedPercent()), orMilliseconds(o.BaseEjection, d.GetBaseEjection())
	return &meshconfig.Outlier{
		ConsecutiveFailures:        number(o.ConsecutiveFailures, d.GetConsecutiveFailures()),
		ConsecutiveConnectFailures: number(o.ConsecutiveConnectFailures, d.GetConsecutiveConnectFailures()),
		SuccessRatePercent:         number(o.SuccessRatePercent, d.GetSuccessRatePercent()),
		Window:                     orMilliseconds(o.Window, d.GetWindow()),
		MinRequests:                number(o.MinRequests, d.GetMinRequests()),
		LatencyFactor:              100 * number(o.LatencyFactor, d.GetLatencyFactor()),
		BaseEjection:               base,
		MaxEjection:                orMilliseconds(o.MaxEjection, max(d.GetMaxEjection(), base)),
		MaxEjectedPercent:          ejected,
		PanicPercent:               number(o.PanicPercent, d.GetPanicPercent()),
		Disabled:                   ejected == 0,
	}
}

func newBreaker(b *v1alpha1.CircuitBreaker) *meshconfig.Breaker {
	if b == nil {
		return nil
	}
	out := &meshconfig.Breaker{
		MaxConnections: number(b.MaxConnections, 0), MaxPending: number(b.MaxPending, 0),
		MaxRequests: number(b.MaxRequests, 0), MaxRetries: number(b.MaxRetries, 0),
	}
	if e := b.Endpoint; e != nil {
		out.EndpointMaxConnections, out.EndpointMaxRequests = number(e.MaxConnections, 0), number(e.MaxRequests, 0)
		out.Adaptive = e.Adaptive
	}
	return out
}

func newHealthCheck(h *v1alpha1.HealthCheck, service string) *meshconfig.HealthCheck {
	if h == nil {
		return nil
	}
	out := &meshconfig.HealthCheck{
		Interval: milliseconds(h.Interval, 10*time.Second), Timeout: milliseconds(h.Timeout, time.Second),
		HealthyThreshold: number(h.HealthyThreshold, 1), UnhealthyThreshold: number(h.UnhealthyThreshold, 3),
		Host: service + ".svc", // a name that resolves whatever the cluster's domain is
	}
	switch {
	case h.HTTP != nil:
		out.Type, out.Path, out.Host = meshconfig.HealthCheck_TYPE_HTTP, h.HTTP.Path, cmp.Or(h.HTTP.Host, out.GetHost())
		out.Headers, out.Codes, out.Body = headerValues(h.HTTP.Headers), numbers(h.HTTP.Codes), h.HTTP.Body
	case h.GRPC != nil:
		out.Type, out.GrpcService = meshconfig.HealthCheck_TYPE_GRPC, h.GRPC.Service
	default:
		out.Type, out.Host = meshconfig.HealthCheck_TYPE_TCP, ""
	}
	return out
}

// healthCheckOf is the check of a service by its own profile, or nil if none of its ports is asked.
func healthCheckOf(p *profile, svc *service) *meshconfig.HealthCheck {
	if p.spec.HealthCheck == nil {
		return nil
	}
	at := map[uint32]meshconfig.Protocol{}
	for i := range svc.ports {
		if port := &svc.ports[i]; isChecked(p, port) {
			at[port.number] = protocolOf(port, p)
		}
	}
	return healthCheckAt(p, svc, at)
}

// healthCheckAt is the check of a profile for a service at these ports of it, which speak that; nil if there are none. The
// host is that of the Service that the profile describes, for a backend too: it is what callers ask for.
func healthCheckAt(p *profile, svc *service, at map[uint32]meshconfig.Protocol) *meshconfig.HealthCheck {
	if len(at) == 0 {
		return nil
	}
	check := newHealthCheck(p.spec.HealthCheck, p.service(p.spec.Service.Name))
	ports := slices.Sorted(maps.Keys(at))
	for _, port := range ports {
		if p.spec.HealthCheck.HTTP != nil && isHTTP2(at[port]) {
			check.Http2Ports = append(check.Http2Ports, port)
		}
	}
	if len(ports) < len(svc.ports) {
		check.Ports = ports
	}
	return check
}

// isChecked says whether the endpoints of a port are asked: it is one that the check names, or any if it names none, and
// it may speak what the check does.
func isChecked(p *profile, port *servicePort) bool {
	h := p.spec.HealthCheck
	return (len(h.Ports) == 0 || slices.Contains(h.Ports, int32(port.number))) && mayAnswer(h, protocolOf(port, p))
}

// mayAnswer says whether a port of a protocol may speak what a check does.
func mayAnswer(h *v1alpha1.HealthCheck, protocol meshconfig.Protocol) bool {
	switch {
	case h.HTTP != nil:
		return hasRequests(protocol)
	case h.GRPC != nil:
		return hasRequests(protocol) && protocol != meshconfig.Protocol_PROTOCOL_HTTP1
	}
	return true
}

// checkOf is the request that asks a service whether it is well; ok is false if none does.
func checkOf(p *profile) (operation *meshconfig.Operation, ok bool) {
	if p == nil || p.spec.HealthCheck == nil {
		return nil, false
	}
	switch h := p.spec.HealthCheck; {
	case h.HTTP != nil:
		path, _, _ := strings.Cut(h.HTTP.Path, "?")
		if normal, ok := evaluate.NormalizePath(path); ok {
			path = normal
		}
		return &meshconfig.Operation{Methods: []string{"GET"}, Paths: []string{path}}, true
	case h.GRPC != nil:
		return &meshconfig.Operation{Methods: []string{"POST"}, Paths: []string{"/grpc.health.v1.Health/Check"}}, true
	}
	return nil, false
}
