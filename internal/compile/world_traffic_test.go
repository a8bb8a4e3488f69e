// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/test/gen"
)

// What the world says of traffic. Some of it is wrong, so that last good specs matter.

// splitTraffic may add subsets, an active backend and stickiness to a split.
func (w *world) splitTraffic(s *v1alpha1.TrafficSplit) {
	if w.r.IntN(3) == 0 {
		gen.Subset("sub", 1, "tier", pick(w, "back", "front", "nowhere"))(s)
	}
	if w.r.IntN(6) == 0 {
		gen.Active(pick(w, "b0", "sub", "b9"))(s)
	}
	switch w.r.IntN(6) {
	case 0:
		gen.Stick(v1alpha1.StickyByCookie, pick(w, "user", "__Host-user"))(s)
	case 1:
		gen.Stick(v1alpha1.StickyBySourceIP, "")(s)
	}
}

// routeTraffic may add a retry and filters to the last route of a profile.
func (w *world) routeTraffic(p *v1alpha1.ServiceProfile) {
	if w.r.IntN(2) == 0 {
		gen.Retry(int32(w.r.IntN(4)), []v1alpha1.RetryCondition{v1alpha1.RetryReset, v1alpha1.RetryServerError}[:w.r.IntN(3)]...)(p)
	}
	port := pick[int32](w, 80, 81)
	mirror := &v1alpha1.Mirror{Service: v1alpha1.ServicePortReference{Name: pick(w, apps...), Port: []*int32{nil, &port}[w.r.IntN(2)]}}
	switch w.r.IntN(5) {
	case 0:
		gen.Filter(v1alpha1.Filters{Mirror: mirror})(p)
	case 1:
		gen.Filter(v1alpha1.Filters{RequestHeaders: gen.SetHeader(pick(w, "x-user", "host"), "ann")})(p)
	case 2:
		path := &v1alpha1.PathRewrite{Type: pick(w, v1alpha1.PathRewriteFull, v1alpha1.PathRewritePrefix), Value: "/new"}
		gen.Filter(v1alpha1.Filters{Rewrite: &v1alpha1.Rewrite{Path: path}})(p)
	}
}

// callTraffic may say how the endpoints of a profile's service are called, and which faults are injected.
func (w *world) callTraffic(p *v1alpha1.ServiceProfile) {
	yes, status := true, int32(503)
	if w.r.IntN(3) == 0 {
		gen.Fault("broken", &v1alpha1.Abort{Reset: &yes})(p)
	}
	if w.r.IntN(3) == 0 {
		gen.Fault("errors", &v1alpha1.Abort{HTTPStatus: &status}, gen.Path(v1alpha1.PathMatchExact, pick(w, "/a", "a")))(p)
	}
	if w.r.IntN(3) == 0 {
		gen.Check(pick(w, "/healthz", "/a b"))(p)
		p.Spec.HealthCheck.Ports = []int32{80, 81}[w.r.IntN(3):]
	}
	if w.r.IntN(3) == 0 {
		p.Spec.LoadBalancing = gen.Balancing(pick(w, v1alpha1.BalancingRoundRobin, v1alpha1.BalancingConsistentHash), v1alpha1.HashKey{By: "Source"})
	}
	if w.r.IntN(3) == 0 {
		p.Spec.CircuitBreaker = &v1alpha1.CircuitBreaker{MaxRequests: &status}
	}
	if w.r.IntN(4) == 0 {
		p.Spec.RetryBudget = &v1alpha1.RetryBudget{Percent: &status}
	}
}

// policyTraffic may add limits, and defaults of how endpoints are called.
func (w *world) policyTraffic(p *v1alpha1.MeshPolicy) {
	if w.r.IntN(3) == 0 {
		gen.Limit("some", pick[int32](w, 1, 10), v1alpha1.AuthorizationTarget{Ports: []int32{pick[int32](w, 80, 8080, 7070)}, Methods: []string{"GET"}})(p)
		gen.Limit("all", 100)(p)
	}
	if w.r.IntN(3) == 0 {
		p.Spec.LoadBalancing = gen.Balancing(pick(w, v1alpha1.BalancingPeakEWMA, v1alpha1.BalancingRandom))
	}
	if w.r.IntN(3) == 0 {
		percent := int32(w.r.IntN(100))
		p.Spec.OutlierDetection = &v1alpha1.OutlierDetection{MaxEjectedPercent: &percent}
	}
}
