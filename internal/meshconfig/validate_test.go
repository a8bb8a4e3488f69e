// SPDX-License-Identifier: Apache-2.0

package meshconfig_test

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

var (
	bindingName   = meshconfig.BindingName("u-1")
	inboundName   = meshconfig.InboundName("d1")
	routesName    = meshconfig.RoutesName("checkout.shop")
	endpointsName = meshconfig.EndpointsName("checkout.shop", 3)
	podName       = meshconfig.AddressName(netip.MustParseAddr("10.1.2.3"))
	serviceName   = meshconfig.AddressName(netip.MustParseAddr("10.96.0.7"))
)

var long = strings.Repeat("x", 601)

// refusal changes the sample of a section and says what the error must mention.
type refusal struct {
	name   meshconfig.Name
	want   string
	change func(m proto.Message)
}

// with adapts a change of one message type.
func with[M proto.Message](change func(M)) func(proto.Message) {
	return func(m proto.Message) { change(m.(M)) }
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]refusal{
		"mesh: no trust domain":       {meshconfig.MeshName, "trust domain", with(func(m *meshconfig.Mesh) { m.TrustDomain = "" })},
		"mesh: no roots":              {meshconfig.MeshName, "workload_roots", with(func(m *meshconfig.Mesh) { m.WorkloadRoots = nil })},
		"mesh: a root of garbage":     {meshconfig.MeshName, "workload_roots[0]", with(func(m *meshconfig.Mesh) { m.WorkloadRoots[0] = []byte("x") })},
		"mesh: a root that is a leaf": {meshconfig.MeshName, "not a CA", with(func(m *meshconfig.Mesh) { m.WorkloadRoots[0] = certificate(t, false) })},
		"mesh: too many roots":        {meshconfig.MeshName, "workload_roots", with(func(m *meshconfig.Mesh) { m.WorkloadRoots = make([][]byte, 65) })},
		"mesh: a huge root":           {meshconfig.MeshName, "at most", with(func(m *meshconfig.Mesh) { m.WorkloadRoots[0] = make([]byte, 1<<14) })},
		"mesh: a CIDR with host bits": {meshconfig.MeshName, "networks[0]", with(func(m *meshconfig.Mesh) { m.Networks[0] = "10.0.0.1/8" })},
		"mesh: too many networks":     {meshconfig.MeshName, "networks", with(func(m *meshconfig.Mesh) { m.Networks = make([]string, 1025) })},
		"heartbeat: no date":          {meshconfig.HeartbeatName, "at", with(func(m *meshconfig.Heartbeat) { m.At = 0 })},
		"heartbeat: before 1970":      {meshconfig.HeartbeatName, "at", with(func(m *meshconfig.Heartbeat) { m.At = -1 })},
		"binding: of another pod":     {bindingName, "pod_uid", with(func(m *meshconfig.Binding) { m.PodUid = "u-2" })},
		"binding: no namespace":       {bindingName, "pod", with(func(m *meshconfig.Binding) { m.Pod = "checkout-0" })},
		"binding: not an identity":    {bindingName, "identity", with(func(m *meshconfig.Binding) { m.Identity = "checkout" })},
		"binding: to another kind":    {bindingName, "inbound", with(func(m *meshconfig.Binding) { m.Inbound = "routes/a.b/*" })},
		"binding: a workload in two lines": {
			bindingName, "workload",
			with(func(m *meshconfig.Binding) { m.Workload = "a\nb" }),
		},
		"address: another one":     {serviceName, "address", with(func(m *meshconfig.Address) { m.Address = "10.96.0.8" })},
		"address: both":            {podName, "not both", with(func(m *meshconfig.Address) { m.Service = "a.b" })},
		"address: a bad service":   {serviceName, "service", with(func(m *meshconfig.Address) { m.Service = "a.b.c" })},
		"address: no endpoint":     {podName, "pod.endpoint", with(func(m *meshconfig.Address) { m.Pod.Endpoint = nil })},
		"address: another's":       {podName, "pod.endpoint", with(func(m *meshconfig.Address) { m.Pod.Endpoint.Address = "10.1.2.4" })},
		"address: port 0":          {podName, "pod.ports", with(func(m *meshconfig.Address) { m.Pod.Ports[0].Port = 0 })},
		"address: another service": {podName, "pod.ports.service", with(func(m *meshconfig.Address) { m.Pod.Ports[0].Service = "x" })},
		"address: a date below 0":  {podName, "plaintext_until", with(func(m *meshconfig.Address) { m.Pod.PlaintextUntil = -1 })},
		"endpoints: other service": {endpointsName, "service", with(func(m *meshconfig.Endpoints) { m.Service = "cart.shop" })},
		"endpoints: other shard":   {endpointsName, "shard", with(func(m *meshconfig.Endpoints) { m.Shard = 2 })},
		"endpoints: of 5 shards":   {endpointsName, "power of two", with(func(m *meshconfig.Endpoints) { m.Shards = 5 })},
		"endpoints: beyond shards": {endpointsName, "shard below", with(func(m *meshconfig.Endpoints) { m.Shards = 2 })},
		"endpoints: too many":      {endpointsName, "at most 4096", with(func(m *meshconfig.Endpoints) { m.Endpoints = make([]*meshconfig.Endpoint, 4097) })},
		"endpoints: no address":    {endpointsName, "address", with(func(m *meshconfig.Endpoints) { m.Endpoints[0].Address = "web" })},
		"endpoints: a zone of IPv6": {
			endpointsName, "address",
			with(func(m *meshconfig.Endpoints) { m.Endpoints[0].Address = "fe80::1%eth0" }),
		},
		"endpoints: ports unsorted": {
			endpointsName, "ascending",
			with(func(m *meshconfig.Endpoints) { m.Endpoints[0].Ports[1].ServicePort = 80 }),
		},
		"endpoints: port 65536":      {endpointsName, "65535", with(func(m *meshconfig.Endpoints) { m.Endpoints[0].Ports[0].Port = 65536 })},
		"endpoints: not an identity": {endpointsName, "SPIFFE", with(func(m *meshconfig.Endpoints) { m.Endpoints[0].Identity = "x" })},
		"endpoints: too many subsets": {
			endpointsName, "subsets: 257",
			with(func(m *meshconfig.Endpoints) { m.Endpoints[0].Subsets = make([]string, 257) }),
		},
		"endpoints: a subset of none": {
			endpointsName, "subsets[0]",
			with(func(m *meshconfig.Endpoints) { m.Endpoints[0].Subsets[0] = "" }),
		},
		"endpoints: too many hints": {
			endpointsName, "zone_hints: 65",
			with(func(m *meshconfig.Endpoints) { m.Endpoints[0].ZoneHints = make([]string, 65) }),
		},
		"endpoints: a long hint": {
			endpointsName, "zone_hints[1]",
			with(func(m *meshconfig.Endpoints) { m.Endpoints[0].ZoneHints[1] = long }),
		},
		"binding: a long zone":      {bindingName, "zone", with(func(m *meshconfig.Binding) { m.Zone = long })},
		"endpoints: a nil endpoint": {endpointsName, "address", with(func(m *meshconfig.Endpoints) { m.Endpoints[0] = nil })},
	}
	runRefusals(t, cases)
}

func TestValidateRefusesPolicies(t *testing.T) {
	t.Parallel()
	port := func(change func(*meshconfig.PortPolicy)) func(proto.Message) {
		return with(func(m *meshconfig.Inbound) { change(m.Ports[0]) })
	}
	rule := func(change func(*meshconfig.AuthorizationRule)) func(proto.Message) {
		return port(func(p *meshconfig.PortPolicy) { change(p.Rules[0]) })
	}
	runRefusals(t, map[string]refusal{
		"no default":             {inboundName, "default_policy", with(func(m *meshconfig.Inbound) { m.DefaultPolicy = nil })},
		"a default with a port":  {inboundName, "default_policy", with(func(m *meshconfig.Inbound) { m.DefaultPolicy.Port = 1 })},
		"no mode":                {inboundName, "mtls", port(func(p *meshconfig.PortPolicy) { p.Mtls = 0 })},
		"an unknown mode":        {inboundName, "mtls", port(func(p *meshconfig.PortPolicy) { p.Mtls = 9 })},
		"an unknown protocol":    {inboundName, "protocol", port(func(p *meshconfig.PortPolicy) { p.Protocol = 9 })},
		"no default action":      {inboundName, "default_action", port(func(p *meshconfig.PortPolicy) { p.DefaultAction = 0 })},
		"a port twice":           {inboundName, "ascending", with(func(m *meshconfig.Inbound) { m.Ports = append(m.Ports, m.Ports[0]) })},
		"too many rules":         {inboundName, "", port(func(p *meshconfig.PortPolicy) { p.Rules = make([]*meshconfig.AuthorizationRule, 20000) })},
		"a rule without a name":  {inboundName, "name", rule(func(r *meshconfig.AuthorizationRule) { r.Name = "" })},
		"a rule without action":  {inboundName, "action", rule(func(r *meshconfig.AuthorizationRule) { r.Action = 0 })},
		"a caller of any kind":   {inboundName, "want 1 to", rule(func(r *meshconfig.AuthorizationRule) { r.From[0].Identities = nil })},
		"a caller by pattern":    {inboundName, "SPIFFE", rule(func(r *meshconfig.AuthorizationRule) { r.From[0].Identities[1] = "spiffe://*" })},
		"a namespace by pattern": {inboundName, "namespace", rule(func(r *meshconfig.AuthorizationRule) { r.From[1].Namespaces[1] = "sh*" })},
		"an operation of none":   {inboundName, "want 1 to", rule(func(r *meshconfig.AuthorizationRule) { r.To[0] = &meshconfig.Operation{} })},
		"an operation on port 0": {inboundName, "port 0", rule(func(r *meshconfig.AuthorizationRule) { r.To[0].Ports[0] = 0 })},
		"a method with a space":  {inboundName, "method", rule(func(r *meshconfig.AuthorizationRule) { r.To[0].Methods[1] = "GET /" })},
		"a path without slash":   {inboundName, "path", rule(func(r *meshconfig.AuthorizationRule) { r.To[0].Paths[1] = "cart" })},
	})
}

func TestValidateRefusesRoutes(t *testing.T) {
	t.Parallel()
	port := func(change func(*meshconfig.ServicePort)) func(proto.Message) {
		return with(func(m *meshconfig.Routes) { change(m.Ports[0]) })
	}
	match := func(change func(*meshconfig.Match)) func(proto.Message) {
		return port(func(p *meshconfig.ServicePort) { change(p.Routes[0].Matches[0]) })
	}
	runRefusals(t, map[string]refusal{
		"of another service":   {routesName, "service", with(func(m *meshconfig.Routes) { m.Service = "cart.shop" })},
		"no backends":          {routesName, "backends", port(func(p *meshconfig.ServicePort) { p.Backends = nil })},
		"weights of 0":         {routesName, "no weight", port(func(p *meshconfig.ServicePort) { p.Backends[0].Weight, p.Backends[1].Weight = 0, 0 })},
		"a weight too high":    {routesName, "weight", port(func(p *meshconfig.ServicePort) { p.Backends[0].Weight = 1_000_001 })},
		"a backend by host":    {routesName, "service", port(func(p *meshconfig.ServicePort) { p.Backends[0].Service = "example" })},
		"a backend on port 0":  {routesName, "port 0", port(func(p *meshconfig.ServicePort) { p.Backends[0].Port = 0 })},
		"a rule of no weight":  {routesName, "rules[0]", port(func(p *meshconfig.ServicePort) { p.Rules[0].Backends = nil })},
		"a route without name": {routesName, "name", port(func(p *meshconfig.ServicePort) { p.Routes[1].Name = "" })},
		"a timeout below 0":    {routesName, "request_timeout", port(func(p *meshconfig.ServicePort) { p.Routes[0].RequestTimeout = -1 })},
		"a path of no type":    {routesName, "type", match(func(m *meshconfig.Match) { m.Path.Type = 0 })},
		"a path without slash": {routesName, "slash", match(func(m *meshconfig.Match) { m.Path.Value = "cart" })},
		"a method with spaces": {routesName, "method", match(func(m *meshconfig.Match) { m.Method = "G T" })},
		"a header in capitals": {routesName, "lower case", match(func(m *meshconfig.Match) { m.Headers[0].Name = "X-Canary" })},
		"a header of no type":  {routesName, "type", match(func(m *meshconfig.Match) { m.Headers[0].Type = 0 })},
		"a broken expression":  {routesName, "headers[1]", match(func(m *meshconfig.Match) { m.Headers[1].Value = "(" })},
		"a long expression":    {routesName, "at most", match(func(m *meshconfig.Match) { m.Headers[1].Value = strings.Repeat("a", 1025) })},
		"a growing expression": {routesName, "headers[1]", match(func(m *meshconfig.Match) { m.Headers[1].Value = "((a{100}){100}){100}" })},
	})
}

func runRefusals(t *testing.T, cases map[string]refusal) {
	t.Helper()
	for title, c := range cases {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m := samples(t)[c.name]
			c.change(m)
			err := meshconfig.Validate(c.name, m)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), string(c.name)) {
				t.Errorf("error %q: want one that names the section and says %q", err, c.want)
			}
		})
	}
}

func TestValidateRefusesAPayloadUnderAnotherKind(t *testing.T) {
	t.Parallel()
	for name := range samples(t) {
		for other, m := range samples(t) {
			if name.Kind() != other.Kind() && meshconfig.Validate(name, m) == nil {
				t.Errorf("%s took the payload of %s", name, other)
			}
		}
	}
	if meshconfig.Validate(meshconfig.MeshName, nil) == nil {
		t.Error("took nil")
	}
}
