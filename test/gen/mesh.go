// SPDX-License-Identifier: Apache-2.0

package gen

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
)

// TrafficSplit builds a split of a Service. Give it backends.
func TrafficSplit(namespace, name, service string, options ...Option[v1alpha1.TrafficSplit]) *v1alpha1.TrafficSplit {
	return build(&v1alpha1.TrafficSplit{
		ObjectMeta: meta("trafficsplit", namespace, name),
		Spec:       v1alpha1.TrafficSplitSpec{Service: v1alpha1.ServicePortReference{Name: service}},
	}, options)
}

// SplitPort narrows a split to one port.
func SplitPort(port int32) Option[v1alpha1.TrafficSplit] {
	return func(s *v1alpha1.TrafficSplit) { s.Spec.Service.Port = &port }
}

// Backend adds a backend that is named as its Service.
func Backend(service string, weight int32) Option[v1alpha1.TrafficSplit] {
	return func(s *v1alpha1.TrafficSplit) {
		s.Spec.Backends = append(s.Spec.Backends, v1alpha1.SplitBackend{
			Name: service, Service: &v1alpha1.ServicePortReference{Name: service}, Weight: &weight,
		})
	}
}

// BackendPort sets the port of the last backend.
func BackendPort(port int32) Option[v1alpha1.TrafficSplit] {
	return func(s *v1alpha1.TrafficSplit) { s.Spec.Backends[len(s.Spec.Backends)-1].Service.Port = &port }
}

// Rule adds a rule that sends what matches to one backend.
func Rule(name, backend string, matches ...v1alpha1.RequestMatch) Option[v1alpha1.TrafficSplit] {
	return func(s *v1alpha1.TrafficSplit) {
		weight := int32(1)
		s.Spec.Rules = append(s.Spec.Rules, v1alpha1.SplitRule{
			Name: name, Matches: matches, Weights: []v1alpha1.SplitWeight{{Backend: backend, Weight: &weight}},
		})
	}
}

// Path matches paths.
func Path(kind v1alpha1.PathMatchType, value string) v1alpha1.RequestMatch {
	return v1alpha1.RequestMatch{Path: &v1alpha1.PathMatch{Type: kind, Value: value}}
}

// ServiceProfile builds a profile of a Service. Give it ports or routes.
func ServiceProfile(namespace, name, service string, options ...Option[v1alpha1.ServiceProfile]) *v1alpha1.ServiceProfile {
	return build(&v1alpha1.ServiceProfile{
		ObjectMeta: meta("serviceprofile", namespace, name),
		Spec:       v1alpha1.ServiceProfileSpec{Service: v1alpha1.ServiceReference{Name: service}},
	}, options)
}

// Protocol declares what a port speaks.
func Protocol(port int32, protocol v1alpha1.PortProtocol) Option[v1alpha1.ServiceProfile] {
	return func(p *v1alpha1.ServiceProfile) {
		p.Spec.Ports = append(p.Spec.Ports, v1alpha1.ProfilePort{Port: port, Protocol: protocol})
	}
}

// Route adds a route, with a timeout unless it is "".
func Route(name, timeout string, matches ...v1alpha1.RequestMatch) Option[v1alpha1.ServiceProfile] {
	return func(p *v1alpha1.ServiceProfile) {
		route := v1alpha1.ProfileRoute{Name: name, Matches: matches}
		if timeout != "" {
			request := v1alpha1.Duration(timeout)
			route.Timeouts = &v1alpha1.RouteTimeouts{Request: &request}
		}
		p.Spec.Routes = append(p.Spec.Routes, route)
	}
}

// MeshPolicy builds a policy for a namespace. Give it mTLS or authorization, or another target.
func MeshPolicy(namespace, name string, options ...Option[v1alpha1.MeshPolicy]) *v1alpha1.MeshPolicy {
	return build(&v1alpha1.MeshPolicy{
		ObjectMeta: meta("meshpolicy", namespace, name),
		Spec:       v1alpha1.MeshPolicySpec{TargetRef: v1alpha1.PolicyTarget{Kind: v1alpha1.TargetNamespace}},
	}, options)
}

// ForMesh has a policy apply to the whole mesh.
func ForMesh() Option[v1alpha1.MeshPolicy] {
	return func(p *v1alpha1.MeshPolicy) { p.Spec.TargetRef = v1alpha1.PolicyTarget{Kind: v1alpha1.TargetMesh} }
}

// ForService has a policy apply to the pods of a Service, at one port if given.
func ForService(name string, port ...int32) Option[v1alpha1.MeshPolicy] {
	return func(p *v1alpha1.MeshPolicy) {
		p.Spec.TargetRef = v1alpha1.PolicyTarget{Kind: v1alpha1.TargetService, Name: name}
		if len(port) > 0 {
			p.Spec.TargetRef.Port = &port[0]
		}
	}
}

// ForWorkload has a policy apply to the pods with a label, at one port if given.
func ForWorkload(key, value string, port ...int32) Option[v1alpha1.MeshPolicy] {
	return func(p *v1alpha1.MeshPolicy) {
		p.Spec.TargetRef = v1alpha1.PolicyTarget{
			Kind:     v1alpha1.TargetWorkload,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
		}
		if len(port) > 0 {
			p.Spec.TargetRef.Port = &port[0]
		}
	}
}

// MTLS sets the mode of a policy. Modes but Strict end in 2030.
func MTLS(mode v1alpha1.MTLSMode) Option[v1alpha1.MeshPolicy] {
	return func(p *v1alpha1.MeshPolicy) {
		p.Spec.MTLS = &v1alpha1.MTLS{Mode: mode}
		if mode != v1alpha1.MTLSStrict {
			until := metav1.NewTime(Epoch.AddDate(4, 0, 0))
			p.Spec.MTLS.Until = &until
		}
	}
}

// PortMTLS sets the mode of one port.
func PortMTLS(port int32, mode v1alpha1.MTLSMode) Option[v1alpha1.MeshPolicy] {
	return func(p *v1alpha1.MeshPolicy) {
		p.Spec.MTLS.Ports = append(p.Spec.MTLS.Ports, v1alpha1.PortMTLS{Port: port, Mode: mode})
	}
}

// Authorize sets the default action and the rules of a policy.
func Authorize(defaultAction v1alpha1.AuthorizationAction, rules ...v1alpha1.AuthorizationRule) Option[v1alpha1.MeshPolicy] {
	return func(p *v1alpha1.MeshPolicy) {
		p.Spec.Authorization = &v1alpha1.Authorization{DefaultAction: defaultAction, Rules: rules}
	}
}

// AuthRule builds a rule of a policy; nil lists do not constrain.
func AuthRule(name string, action v1alpha1.AuthorizationAction, from []v1alpha1.AuthorizationSource, to []v1alpha1.AuthorizationTarget) v1alpha1.AuthorizationRule {
	return v1alpha1.AuthorizationRule{Name: name, Action: action, From: from, To: to}
}
