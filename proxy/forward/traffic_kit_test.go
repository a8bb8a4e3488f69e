// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
)

// traffic puts a section about the service in force: port 80 with one backend for each weight, and what change makes of it.
func (p *proxy) traffic(protocol meshconfig.Protocol, change func(*meshconfig.Routes), weights ...uint32) {
	p.Helper()
	section := &meshconfig.Routes{Service: cart}
	p.service(protocol, func(port *meshconfig.ServicePort) { section.Ports = []*meshconfig.ServicePort{port} }, weights...)
	change(section)
	p.apply(meshconfig.RoutesName(cart), section)
}

// route puts one route, of all requests, in force.
func (p *proxy) route(protocol meshconfig.Protocol, route *meshconfig.Route) {
	p.Helper()
	p.traffic(protocol, func(r *meshconfig.Routes) {
		route.Name = "all"
		r.Ports[0].Routes = []*meshconfig.Route{route}
	}, 1)
}

// fault injects one fault, and has a route of all requests.
func (p *proxy) fault(protocol meshconfig.Protocol, route *meshconfig.Route, fault *meshconfig.Fault) {
	p.Helper()
	p.traffic(protocol, func(r *meshconfig.Routes) {
		if route != nil {
			route.Name = "all"
			r.Ports[0].Routes = []*meshconfig.Route{route}
		}
		fault.Name = "shop/cart/drill"
		if fault.GetExpiresAt() == 0 {
			fault.ExpiresAt = time.Now().Add(time.Hour).UnixMilli()
		}
		r.Ports[0].Faults = []*meshconfig.Fault{fault}
		r.RetryBudget = &meshconfig.RetryBudget{Percent: 100, MinPerSecond: 1000}
	}, 1)
}

// newClient runs the caller's proxy alone, in front of servers outside the mesh; it returns where the service is found.
func newClient(t *testing.T, protocol meshconfig.Protocol, apps ...netip.AddrPort) (p *proxy, at netip.AddrPort) {
	t.Helper()
	ca := testpki.NewAuthority(t)
	p = start(t, ca, web, false, settings{})
	p.apply(meshconfig.InboundName("web"), &meshconfig.Inbound{DefaultPolicy: &meshconfig.PortPolicy{Mtls: permissive, DefaultAction: allow}})
	p.apply(meshconfig.BindingName("u-2"), &meshconfig.Binding{
		PodUid: "u-2", Pod: "shop/web-0", Identity: web.String(), Inbound: "inbound/web", Workload: "web",
	})
	p.service(protocol, nil, 1)
	p.endpoints(cart, identity.ID{}, apps...)
	return p, p.listen(netip.AddrPortFrom(cartIP, 80))
}

// retry is a policy of so many tries beyond the first, without waits.
func retry(attempts uint32, change func(*meshconfig.Retry)) *meshconfig.Retry {
	r := &meshconfig.Retry{Attempts: attempts, On: []meshconfig.RetryCondition{
		meshconfig.RetryCondition_RETRY_CONDITION_CONNECT_FAILURE, meshconfig.RetryCondition_RETRY_CONDITION_REFUSED_STREAM,
		meshconfig.RetryCondition_RETRY_CONDITION_RESET,
	}}
	if change != nil {
		change(r)
	}
	return r
}
