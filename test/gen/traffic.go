// SPDX-License-Identifier: Apache-2.0

package gen

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// Subset adds a backend of the root's pods that have a label.
func Subset(name string, weight int32, key, value string) Option[v1alpha1.TrafficSplit] {
	return func(s *v1alpha1.TrafficSplit) {
		s.Spec.Backends = append(s.Spec.Backends, v1alpha1.SplitBackend{
			Name: name, Selector: map[string]string{key: value}, Weight: &weight,
		})
	}
}

// Active has one backend take everything.
func Active(backend string) Option[v1alpha1.TrafficSplit] {
	return func(s *v1alpha1.TrafficSplit) { s.Spec.Active = backend }
}

// Stick keeps users on one backend; name is "" for those that are known by where they come from.
func Stick(by v1alpha1.StickyBy, name string) Option[v1alpha1.TrafficSplit] {
	return func(s *v1alpha1.TrafficSplit) { s.Spec.Stickiness = &v1alpha1.Stickiness{By: by, Name: name} }
}

// Retry sets that of the last route.
func Retry(attempts int32, conditions ...v1alpha1.RetryCondition) Option[v1alpha1.ServiceProfile] {
	return func(p *v1alpha1.ServiceProfile) {
		p.Spec.Routes[len(p.Spec.Routes)-1].Retry = &v1alpha1.Retry{Attempts: &attempts, Conditions: conditions}
	}
}

// Filter sets the filters of the last route.
func Filter(filters v1alpha1.Filters) Option[v1alpha1.ServiceProfile] {
	return func(p *v1alpha1.ServiceProfile) { p.Spec.Routes[len(p.Spec.Routes)-1].Filters = &filters }
}

// SetHeader is a filter that sets a header.
func SetHeader(name, value string) *v1alpha1.HeaderFilter {
	return &v1alpha1.HeaderFilter{Set: []v1alpha1.Header{{Name: name, Value: value}}}
}

// Fault adds one that hits all tries until 2030.
func Fault(name string, abort *v1alpha1.Abort, matches ...v1alpha1.RequestMatch) Option[v1alpha1.ServiceProfile] {
	return func(p *v1alpha1.ServiceProfile) {
		delay := v1alpha1.Duration("10ms")
		p.Spec.Faults = append(p.Spec.Faults, v1alpha1.Fault{
			Name: name, Matches: matches, Percent: 100, Delay: &delay, Abort: abort, ExpiresAt: metav1.NewTime(Epoch.AddDate(4, 0, 0)),
		})
	}
}

// Check has proxies ask endpoints whether they are well, by a GET.
func Check(path string) Option[v1alpha1.ServiceProfile] {
	return func(p *v1alpha1.ServiceProfile) {
		p.Spec.HealthCheck = &v1alpha1.HealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: path}}
	}
}

// Balancing returns a way of choosing endpoints, with what ConsistentHash goes by.
func Balancing(policy v1alpha1.BalancingPolicy, keys ...v1alpha1.HashKey) *v1alpha1.LoadBalancing {
	return &v1alpha1.LoadBalancing{Policy: policy, Hash: keys}
}

// Limit adds a rate limit on what is called, or on everything.
func Limit(name string, requests int32, to ...v1alpha1.AuthorizationTarget) Option[v1alpha1.MeshPolicy] {
	return func(p *v1alpha1.MeshPolicy) {
		p.Spec.RateLimits = append(p.Spec.RateLimits, v1alpha1.RateLimit{Name: name, Requests: requests, To: to})
	}
}
