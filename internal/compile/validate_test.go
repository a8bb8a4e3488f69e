// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/test/gen"
)

// wrong changes an object that is valid, and says what the one error must be about and hold.
type wrong[T any] struct {
	field  string
	want   string
	change func(*T)
}

func runWrong[T any](t *testing.T, valid func() *T, validate func(*T) field.ErrorList, cases map[string]wrong[T]) {
	t.Helper()
	if errs := validate(valid()); len(errs) > 0 {
		t.Fatalf("the valid object is refused: %v", errs)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := valid()
			c.change(o)
			errs := validate(o)
			if len(errs) != 1 || errs[0].Field != c.field || !strings.Contains(errs[0].Error(), c.want) {
				t.Errorf("got %v, want one error of %s that holds %q", errs, c.field, c.want)
			}
		})
	}
}

func TestValidateTrafficSplit(t *testing.T) {
	valid := func() *v1alpha1.TrafficSplit {
		s := gen.TrafficSplit("shop", "checkout", "checkout", gen.SplitPort(80), gen.Backend("v1", 90), gen.Backend("v2", 10),
			gen.Rule("testers", "v2", gen.Path(v1alpha1.PathMatchPrefix, "/cart")))
		s.Spec.Rules[0].Matches[0].Method = "GET"
		s.Spec.Rules[0].Matches[0].Headers = []v1alpha1.HeaderMatch{{Name: "x-user", Value: "ann"}}
		return s
	}
	match := func(change func(*v1alpha1.RequestMatch)) func(*v1alpha1.TrafficSplit) {
		return func(s *v1alpha1.TrafficSplit) { change(&s.Spec.Rules[0].Matches[0]) }
	}
	const at = "spec.rules[0].matches[0]"
	runWrong(t, valid, ValidateTrafficSplit, map[string]wrong[v1alpha1.TrafficSplit]{
		"a service that is no label":  {"spec.service.name", "DNS label", func(s *v1alpha1.TrafficSplit) { s.Spec.Service.Name = "checkout.shop" }},
		"a port of 0":                 {"spec.service.port", "1 to 65535", func(s *v1alpha1.TrafficSplit) { gen.SplitPort(0)(s) }},
		"no backends":                 {"spec.backends", "1 at least", func(s *v1alpha1.TrafficSplit) { s.Spec.Backends, s.Spec.Rules = nil, nil }},
		"too many backends":           {"spec.backends", "at most 16", func(s *v1alpha1.TrafficSplit) { s.Spec.Backends = many(s.Spec.Backends, 17, backendName) }},
		"a backend without a service": {"spec.backends[1]", "exactly one of", func(s *v1alpha1.TrafficSplit) { s.Spec.Backends[1].Service = nil }},
		"a backend twice":             {"spec.backends[2].name", "Duplicate", func(s *v1alpha1.TrafficSplit) { gen.Backend("v1", 1)(s) }},
		"a weight below 0":            {"spec.backends[0].weight", "0 to 1000000", func(s *v1alpha1.TrafficSplit) { *s.Spec.Backends[0].Weight = -1 }},
		"a weight above a million":    {"spec.backends[0].weight", "0 to 1000000", func(s *v1alpha1.TrafficSplit) { *s.Spec.Backends[0].Weight = 1_000_001 }},
		"weights of 0":                {"spec.backends", "above 0", func(s *v1alpha1.TrafficSplit) { *s.Spec.Backends[0].Weight, *s.Spec.Backends[1].Weight = 0, 0 }},
		"a rule for no backend":       {"spec.rules[0].weights[0].backend", "Not found", func(s *v1alpha1.TrafficSplit) { s.Spec.Rules[0].Weights[0].Backend = "v3" }},
		"a rule with a backend twice": {"spec.rules[0].weights[1].backend", "Duplicate", func(s *v1alpha1.TrafficSplit) {
			s.Spec.Rules[0].Weights = append(s.Spec.Rules[0].Weights, s.Spec.Rules[0].Weights...)
		}},
		"a rule of weights of 0":            {"spec.rules[0].weights", "above 0", func(s *v1alpha1.TrafficSplit) { *s.Spec.Rules[0].Weights[0].Weight = 0 }},
		"a rule without weights":            {"spec.rules[0].weights", "1 at least", func(s *v1alpha1.TrafficSplit) { s.Spec.Rules[0].Weights = nil }},
		"a rule without matches":            {"spec.rules[0].matches", "1 at least", func(s *v1alpha1.TrafficSplit) { s.Spec.Rules[0].Matches = nil }},
		"a rule twice":                      {"spec.rules[1].name", "Duplicate", func(s *v1alpha1.TrafficSplit) { s.Spec.Rules = append(s.Spec.Rules, s.Spec.Rules[0]) }},
		"an empty match":                    {at, "set at least one of", match(func(m *v1alpha1.RequestMatch) { *m = v1alpha1.RequestMatch{} })},
		"a path without a slash":            {at + ".path.value", "not a path", match(func(m *v1alpha1.RequestMatch) { m.Path.Value = "cart" })},
		"a path with a query":               {at + ".path.value", "not a path", match(func(m *v1alpha1.RequestMatch) { m.Path.Value = "/cart?x" })},
		"an empty path":                     {at + ".path.value", "empty", match(func(m *v1alpha1.RequestMatch) { m.Path.Value = "" })},
		"a path of another type":            {at + ".path.type", "Unsupported", match(func(m *v1alpha1.RequestMatch) { m.Path.Type = "Glob" })},
		"a path that is too long":           {at + ".path.value", "Too long", match(func(m *v1alpha1.RequestMatch) { m.Path.Value = "/" + strings.Repeat("a", 1024) })},
		"a path that escapes make too long": {at + ".path.value", "at most 4096 bytes", match(func(m *v1alpha1.RequestMatch) { m.Path.Value = "/" + strings.Repeat("道", 456) })},
		"an expression that is broken": {at + ".path.value", "RE2", match(func(m *v1alpha1.RequestMatch) {
			*m.Path = v1alpha1.PathMatch{Type: v1alpha1.PathMatchRegex, Value: "(a"}
		})},
		"an expression that is too long": {at + ".path.value", "Too long", match(func(m *v1alpha1.RequestMatch) {
			*m.Path = v1alpha1.PathMatch{Type: v1alpha1.PathMatchRegex, Value: strings.Repeat("a", 257)}
		})},
		"an expression that is too big": {at + ".path.value", "too large", match(func(m *v1alpha1.RequestMatch) {
			*m.Path = v1alpha1.PathMatch{Type: v1alpha1.PathMatchRegex, Value: "(abc{30}){30}"}
		})},
		"a method in lower case":    {at + ".method", "capitals", match(func(m *v1alpha1.RequestMatch) { m.Method = "get" })},
		"a header that is no token": {at + ".headers[0].name", "name of a header", match(func(m *v1alpha1.RequestMatch) { m.Headers[0].Name = "x user" })},
		"a header twice": {at + ".headers[1].name", "Duplicate", match(func(m *v1alpha1.RequestMatch) {
			m.Headers = append(m.Headers, v1alpha1.HeaderMatch{Name: "X-User", Value: "b"})
		})},
		"a header of another type":      {at + ".headers[0].type", "Unsupported", match(func(m *v1alpha1.RequestMatch) { m.Headers[0].Type = "Prefix" })},
		"a header with a line feed":     {at + ".headers[0].value", "control characters", match(func(m *v1alpha1.RequestMatch) { m.Headers[0].Value = "a\nb" })},
		"a header that is not UTF-8":    {at + ".headers[0].value", "UTF-8", match(func(m *v1alpha1.RequestMatch) { m.Headers[0].Value = "\xff" })},
		"a header without a value":      {at + ".headers[0].value", "empty", match(func(m *v1alpha1.RequestMatch) { m.Headers[0].Value = "" })},
		"a header expression is broken": {at + ".headers[0].value", "RE2", match(func(m *v1alpha1.RequestMatch) { m.Headers[0].Type, m.Headers[0].Value = v1alpha1.HeaderMatchRegex, "[" })},
	})
}

func backendName(b *v1alpha1.SplitBackend, name string) { b.Name = name }

// many returns n copies of the first of the list, each with a name of its own; the others stay.
func many[T any](list []T, n int, name func(*T, string)) []T {
	for i := len(list); i < n; i++ {
		next := list[0]
		name(&next, strings.Repeat("x", i+1))
		list = append(list, next)
	}
	return list
}

func TestValidateServiceProfile(t *testing.T) {
	valid := func() *v1alpha1.ServiceProfile {
		return gen.ServiceProfile("shop", "web", "web", gen.Protocol(80, v1alpha1.ProtocolHTTP1),
			gen.Route("pay", "15s", gen.Path(v1alpha1.PathMatchExact, "/pay")), gen.Route("rest", ""))
	}
	timeout := func(d v1alpha1.Duration) func(*v1alpha1.ServiceProfile) {
		return func(p *v1alpha1.ServiceProfile) { p.Spec.Routes[0].Timeouts.Request = &d }
	}
	const request = "spec.routes[0].timeouts.request"
	runWrong(t, valid, ValidateServiceProfile, map[string]wrong[v1alpha1.ServiceProfile]{
		"a service that is no label":  {"spec.service.name", "DNS label", func(p *v1alpha1.ServiceProfile) { p.Spec.Service.Name = "" }},
		"nothing":                     {"spec", "say something", func(p *v1alpha1.ServiceProfile) { p.Spec.Ports, p.Spec.Routes = nil, nil }},
		"a port out of range":         {"spec.ports[0].port", "1 to 65535", func(p *v1alpha1.ServiceProfile) { p.Spec.Ports[0].Port = 70000 }},
		"a port twice":                {"spec.ports[1].port", "Duplicate", func(p *v1alpha1.ServiceProfile) { p.Spec.Ports = append(p.Spec.Ports, p.Spec.Ports...) }},
		"an unknown protocol":         {"spec.ports[0].protocol", "supported values", func(p *v1alpha1.ServiceProfile) { p.Spec.Ports[0].Protocol = "HTTP" }},
		"a route twice":               {"spec.routes[1].name", "Duplicate", func(p *v1alpha1.ServiceProfile) { p.Spec.Routes[1].Name = "pay" }},
		"a route for all before last": {"spec.routes[0].matches", "only the last", func(p *v1alpha1.ServiceProfile) { p.Spec.Routes[0].Matches = nil }},
		"a timeout that is none":      {request, "must be a duration", timeout("soon")},
		"a timeout of 0":              {request, "1ms or more", timeout("0s")},
		"a timeout below 0":           {request, "1ms or more", timeout("-1s")},
		"a timeout of microseconds":   {request, "1ms or more", timeout("10us")},
		"too many routes": {"spec.routes", "at most 64", func(p *v1alpha1.ServiceProfile) {
			p.Spec.Routes = many(p.Spec.Routes[:1], 65, func(r *v1alpha1.ProfileRoute, n string) {
				r.Name = n[:len(n)%50] + "a" + strings.Repeat("b", len(n)/50)
			})
		}},
	})
}

func TestValidateMeshPolicy(t *testing.T) {
	valid := func() *v1alpha1.MeshPolicy {
		return gen.MeshPolicy("shop", "web", gen.ForService("web"), gen.MTLS(v1alpha1.MTLSPermissive), gen.PortMTLS(8443, v1alpha1.MTLSDisabled),
			gen.Authorize(v1alpha1.ActionDeny, gen.AuthRule("callers", v1alpha1.ActionAllow,
				[]v1alpha1.AuthorizationSource{{ServiceAccounts: []string{"web", "bank/web", "*"}}, {Namespaces: []string{"*"}}, {Identities: []string{"spiffe://cluster.local/ns/a/sa/b"}}},
				[]v1alpha1.AuthorizationTarget{{Ports: []int32{80}, Methods: []string{"GET", "*"}, Paths: []string{"/", "/a/*", "*", "/*"}}})))
	}
	rule := func(change func(*v1alpha1.AuthorizationRule)) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { change(&p.Spec.Authorization.Rules[0]) }
	}
	to := func(change func(*v1alpha1.AuthorizationTarget)) func(*v1alpha1.MeshPolicy) {
		return rule(func(r *v1alpha1.AuthorizationRule) { change(&r.To[0]) })
	}
	target := func(of v1alpha1.PolicyTarget) func(*v1alpha1.MeshPolicy) {
		return func(p *v1alpha1.MeshPolicy) { p.Spec.TargetRef = of }
	}
	port, until := int32(80), metav1.NewTime(time.Unix(0, 0))
	const rules = "spec.authorization.rules[0]"
	validate := func(p *v1alpha1.MeshPolicy) field.ErrorList { return ValidateMeshPolicy(p, "heddle-system") }
	runWrong(t, valid, validate, map[string]wrong[v1alpha1.MeshPolicy]{
		"for the mesh, elsewhere":            {"spec.targetRef.kind", `only in namespace "heddle-system"`, target(v1alpha1.PolicyTarget{Kind: v1alpha1.TargetMesh})},
		"of no kind":                         {"spec.targetRef.kind", "supported values", target(v1alpha1.PolicyTarget{})},
		"a namespace by name":                {"spec.targetRef.name", "left out", target(v1alpha1.PolicyTarget{Kind: v1alpha1.TargetNamespace, Name: "shop"})},
		"a service without a name":           {"spec.targetRef.name", "DNS label", target(v1alpha1.PolicyTarget{Kind: v1alpha1.TargetService})},
		"a workload of nothing":              {"spec.targetRef", "exactly one of name and selector", target(v1alpha1.PolicyTarget{Kind: v1alpha1.TargetWorkload})},
		"a workload by an empty selector":    {"spec.targetRef.selector", "matchLabels", target(v1alpha1.PolicyTarget{Kind: v1alpha1.TargetWorkload, Selector: &metav1.LabelSelector{}})},
		"a workload by a broken selector":    {"spec.targetRef.selector", "not a valid label selector operator", target(v1alpha1.PolicyTarget{Kind: v1alpha1.TargetWorkload, Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}})},
		"a service by selector":              {"spec.targetRef.selector", "unless kind is Workload", target(v1alpha1.PolicyTarget{Kind: v1alpha1.TargetService, Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}})},
		"of nothing":                         {"spec", "at least one of", func(p *v1alpha1.MeshPolicy) { p.Spec.MTLS, p.Spec.Authorization = nil, nil }},
		"Permissive without an end":          {"spec.mtls.until", "Required", func(p *v1alpha1.MeshPolicy) { p.Spec.MTLS.Until = nil }},
		"Strict with an end":                 {"spec.mtls.until", "left out", func(p *v1alpha1.MeshPolicy) { p.Spec.MTLS.Mode, p.Spec.MTLS.Until = v1alpha1.MTLSStrict, &until }},
		"an unknown mode":                    {"spec.mtls.mode", "supported values", func(p *v1alpha1.MeshPolicy) { p.Spec.MTLS.Mode = "Off" }},
		"a port of another mode":             {"spec.mtls.ports[0].mode", "supported values", func(p *v1alpha1.MeshPolicy) { p.Spec.MTLS.Ports[0].Mode = "" }},
		"a port twice":                       {"spec.mtls.ports[1].port", "Duplicate", func(p *v1alpha1.MeshPolicy) { gen.PortMTLS(8443, v1alpha1.MTLSStrict)(p) }},
		"an unknown default action":          {"spec.authorization.defaultAction", "supported values", func(p *v1alpha1.MeshPolicy) { p.Spec.Authorization.DefaultAction = "Audit" }},
		"an unknown action":                  {rules + ".action", "supported values", rule(func(r *v1alpha1.AuthorizationRule) { r.Action = "" })},
		"a rule without a name":              {rules + ".name", "DNS label", rule(func(r *v1alpha1.AuthorizationRule) { r.Name = "" })},
		"an empty caller":                    {rules + ".from[0]", "exactly one", rule(func(r *v1alpha1.AuthorizationRule) { r.From[0] = v1alpha1.AuthorizationSource{} })},
		"a caller of two lists":              {rules + ".from[0]", "exactly one", rule(func(r *v1alpha1.AuthorizationRule) { r.From[0].Namespaces = []string{"a"} })},
		"a service account that is a glob":   {rules + ".from[0].serviceAccounts[0]", "namespace/name", rule(func(r *v1alpha1.AuthorizationRule) { r.From[0].ServiceAccounts[0] = "shop/*" })},
		"a namespace that is a glob":         {rules + ".from[1].namespaces[0]", "name of a namespace", rule(func(r *v1alpha1.AuthorizationRule) { r.From[1].Namespaces[0] = "sh*" })},
		"an identity that is none":           {rules + ".from[2].identities[0]", "SPIFFE ID", rule(func(r *v1alpha1.AuthorizationRule) { r.From[2].Identities[0] = "spiffe://cluster.local/web" })},
		"an operation of nothing":            {rules + ".to[0]", "at least one of", rule(func(r *v1alpha1.AuthorizationRule) { r.To[0] = v1alpha1.AuthorizationTarget{} })},
		"an operation on port 0":             {rules + ".to[0].ports[0]", "1 to 65535", to(func(o *v1alpha1.AuthorizationTarget) { o.Ports[0] = 0 })},
		"a method in lower case":             {rules + ".to[0].methods[0]", "capitals", to(func(o *v1alpha1.AuthorizationTarget) { o.Methods[0] = "get" })},
		"a star within a path":               {rules + ".to[0].paths[0]", "stands alone", to(func(o *v1alpha1.AuthorizationTarget) { o.Paths[0] = "/a*" })},
		"a path without a slash":             {rules + ".to[0].paths[0]", "not a path", to(func(o *v1alpha1.AuthorizationTarget) { o.Paths[0] = "a" })},
		"a path that climbs":                 {rules + ".to[0].paths[0]", "not a path", to(func(o *v1alpha1.AuthorizationTarget) { o.Paths[0] = "/../a" })},
		"two ways to choose a port, in mtls": {"spec.mtls.ports", "targetRef.port", func(p *v1alpha1.MeshPolicy) { p.Spec.TargetRef.Port, p.Spec.Authorization = &port, nil }},
		"two ways to choose a port, in to":   {rules + ".to[0].ports", "targetRef.port", func(p *v1alpha1.MeshPolicy) { p.Spec.TargetRef.Port, p.Spec.MTLS = &port, nil }},
		"a port where none can be chosen": {"spec.targetRef.port", "left out", func(p *v1alpha1.MeshPolicy) {
			*p = *gen.MeshPolicy("shop", "x", gen.MTLS(v1alpha1.MTLSStrict))
			p.Spec.TargetRef.Port = &port
		}},
	})
	if errs := validate(gen.MeshPolicy("heddle-system", "all", gen.ForMesh(), gen.MTLS(v1alpha1.MTLSStrict))); len(errs) != 0 {
		t.Errorf("a policy for the mesh in the operator's namespace is refused: %v", errs)
	}
}
