// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// newRoute makes a route of a profile. port is the one of the service that it is for.
func newRoute(p *profile, r *v1alpha1.ProfileRoute, port uint32, names *naming) *meshconfig.Route {
	route := &meshconfig.Route{
		Name: r.Name, Matches: names.matches(r.Matches), Retry: newRetry(r.Retry), Filters: newFilters(p, r.Filters, port),
	}
	if t := r.Timeouts; t != nil {
		route.RequestTimeout, route.TryTimeout = milliseconds(t.Request, 0), milliseconds(t.PerTry, 0)
		route.IdleTimeout = milliseconds(t.Idle, 0)
	}
	return route
}

var idempotencies = map[v1alpha1.Idempotency]meshconfig.Idempotency{
	"":                         meshconfig.Idempotency_IDEMPOTENCY_UNSPECIFIED,
	v1alpha1.IdempotencyAuto:   meshconfig.Idempotency_IDEMPOTENCY_UNSPECIFIED,
	v1alpha1.IdempotencyAlways: meshconfig.Idempotency_IDEMPOTENCY_ALWAYS,
	v1alpha1.IdempotencyNever:  meshconfig.Idempotency_IDEMPOTENCY_NEVER,
}

// retried is what a condition of the API stands for.
type retried struct {
	condition meshconfig.RetryCondition
	codes     []uint32
	grpc      []uint32
}

var retryConditions = map[v1alpha1.RetryCondition]retried{
	v1alpha1.RetryConnectFailure: {condition: meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE},
	v1alpha1.RetryRefusedStream:  {condition: meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM},
	v1alpha1.RetryReset:          {condition: meshconfig.RetryCondition_RETRY_CONDITION_RESET},
	v1alpha1.RetryTimeout:        {condition: meshconfig.RetryCondition_RETRY_CONDITION_TIMEOUT},
	v1alpha1.RetryGatewayError:   {codes: []uint32{502, 503, 504}, grpc: []uint32{14}},
	v1alpha1.RetryServerError:    {codes: serverErrors(), grpc: []uint32{2, 13, 14, 15}},
	v1alpha1.RetryThrottled:      {codes: []uint32{429}, grpc: []uint32{8}},
}

// serverErrors are the codes 5xx (RFC 9110, section 15.6) but 501, which another try does not mend.
func serverErrors() []uint32 {
	codes := []uint32{500}
	for code := uint32(502); code < 600; code++ {
		codes = append(codes, code)
	}
	return codes
}

// defaultConditions are those of a retry that names none.
var defaultConditions = []v1alpha1.RetryCondition{
	v1alpha1.RetryConnectFailure, v1alpha1.RetryRefusedStream, v1alpha1.RetryReset, v1alpha1.RetryTimeout, v1alpha1.RetryGatewayError,
}

func newRetry(r *v1alpha1.Retry) *meshconfig.Retry {
	if r == nil {
		return nil
	}
	out := &meshconfig.Retry{
		Attempts: number(r.Attempts, 1), Idempotency: idempotencies[r.Idempotent],
		Codes: numbers(r.Codes), GrpcCodes: numbers(r.GRPCCodes),
	}
	var backoff v1alpha1.Backoff
	if r.Backoff != nil {
		backoff = *r.Backoff
	}
	out.BackoffMax = milliseconds(backoff.Max, defaultBackoffMax)
	out.BackoffBase = milliseconds(backoff.Base, min(defaultBackoffBase, time.Duration(out.GetBackoffMax())*time.Millisecond))
	if backoff.Max == nil {
		out.BackoffMax = max(out.GetBackoffBase(), out.GetBackoffMax())
	}
	conditions := r.Conditions
	if len(conditions) == 0 {
		conditions = defaultConditions
	}
	for _, name := range conditions {
		what := retryConditions[name]
		if what.condition != 0 {
			out.On = append(out.On, what.condition)
		}
		out.Codes, out.GrpcCodes = append(out.Codes, what.codes...), append(out.GrpcCodes, what.grpc...)
	}
	out.On, out.Codes, out.GrpcCodes = set(out.GetOn()), set(out.GetCodes()), set(out.GetGrpcCodes())
	return out
}

const (
	defaultBackoffBase = 25 * time.Millisecond
	defaultBackoffMax  = 250 * time.Millisecond
)

// set sorts a list and takes out what is there twice.
func set[T cmp.Ordered](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}

func newFilters(p *profile, f *v1alpha1.Filters, port uint32) *meshconfig.Filters {
	if f == nil {
		return nil
	}
	out := &meshconfig.Filters{RequestHeaders: newHeaderFilter(f.RequestHeaders), ResponseHeaders: newHeaderFilter(f.ResponseHeaders)}
	if f.Rewrite != nil {
		out.RewriteHost, out.RewritePath = f.Rewrite.Host, newPathRewrite(f.Rewrite.Path)
	}
	if r := f.Redirect; r != nil {
		out.Redirect = &meshconfig.Redirect{
			Scheme: r.Scheme, Host: r.Host, Port: number(r.Port, 0), Path: newPathRewrite(r.Path), Status: uint32(cmp.Or(r.Status, 302)),
		}
	}
	if m := f.Mirror; m != nil {
		out.Mirror = &meshconfig.Mirror{Percent: number(m.Percent, 100), Backend: &meshconfig.WeightedBackend{
			Name: m.Service.Name, Service: p.service(m.Service.Name), Port: number(m.Service.Port, port), Weight: 1,
		}}
	}
	return out
}

func newHeaderFilter(f *v1alpha1.HeaderFilter) *meshconfig.HeaderFilter {
	if f == nil {
		return nil
	}
	out := &meshconfig.HeaderFilter{Set: headerValues(f.Set), Add: headerValues(f.Add)}
	for _, name := range f.Remove {
		out.Remove = append(out.Remove, strings.ToLower(name))
	}
	return out
}

func headerValues(list []v1alpha1.Header) []*meshconfig.HeaderValue {
	var out []*meshconfig.HeaderValue
	for _, h := range list {
		out = append(out, &meshconfig.HeaderValue{Name: h.Name, Value: h.Value})
	}
	return out
}

func newPathRewrite(r *v1alpha1.PathRewrite) *meshconfig.PathRewrite {
	if r == nil {
		return nil
	}
	return &meshconfig.PathRewrite{Prefix: r.Type == v1alpha1.PathRewritePrefix, Value: r.Value}
}

// newFaults makes those of a profile. Of connections no more is known than who makes them: what reads requests, or answers
// them, is left out where there are none.
func newFaults(p *profile, hasRequests bool, names *naming) []*meshconfig.Fault {
	var out []*meshconfig.Fault
	for i := range p.spec.Faults {
		f := &p.spec.Faults[i]
		matches, hits := ofConnections(f)
		switch {
		case hasRequests:
			out = append(out, newFault(p, f, f.Matches, names))
		case hits:
			out = append(out, newFault(p, f, matches, names))
		}
	}
	return out
}

// ofConnections returns the matches of a fault that connections can have, since they ask for callers alone, and whether it
// hits connections at all: not if it answers requests, or chooses among them.
func ofConnections(f *v1alpha1.Fault) (matches []v1alpha1.RequestMatch, hits bool) {
	if f.Abort != nil && f.Abort.Reset == nil {
		return nil, false
	}
	for _, m := range f.Matches {
		if m.Path == nil && m.Method == "" && m.GRPC == nil && len(m.Headers)+len(m.Query)+len(m.Hosts) == 0 {
			matches = append(matches, m)
		}
	}
	return matches, len(matches) > 0 || len(f.Matches) == 0
}

func newFault(p *profile, f *v1alpha1.Fault, matches []v1alpha1.RequestMatch, names *naming) *meshconfig.Fault {
	fault := &meshconfig.Fault{
		Name: p.origin.Namespace + "/" + p.origin.Name + "/" + f.Name, Matches: names.matches(matches), Percent: uint32(f.Percent),
		Delay: milliseconds(f.Delay, 0), ExpiresAt: max(1, f.ExpiresAt.UnixMilli()),
	}
	if a := f.Abort; a != nil {
		fault.HttpStatus, fault.GrpcStatus, fault.Cut = number(a.HTTPStatus, 0), number(a.GRPCStatus, 0), a.Reset != nil
	}
	return fault
}
