// SPDX-License-Identifier: Apache-2.0

package table

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
)

type nothing = observe.Nothing

// known is a destination whose only endpoint is 10.1.0.1.
func (m *mesh) known() *Destination {
	m.Helper()
	m.address(cartIP, cart)
	m.routes(cart, cart)
	m.endpoints(cart, 0, 1, "10.1.0.1")
	return m.lookup(cartIP, 80)
}

func TestATableWaitsForItsEndpoints(t *testing.T) {
	const old, blue = "10.1.0.1:8080", "blue.shop"
	cases := map[string]func(*mesh, *Destination){
		"until they come": func(m *mesh, d *Destination) {
			m.routes(cart, green)
			time.Sleep(900 * time.Millisecond)
			m.reaches(d, old)
			m.endpoints(green, 0, 1, "10.1.0.3")
			m.reaches(d, "10.1.0.3:8080")
		},
		"until all shards have come": func(m *mesh, d *Destination) {
			m.routes(cart, green)
			m.endpoints(green, 1, 2, "10.1.0.3")
			m.reaches(d, old)
			m.endpoints(green, 0, 2)
			m.reaches(d, "10.1.0.3:8080")
		},
		"not if they are empty": func(m *mesh, d *Destination) {
			m.endpoints(green, 0, 1)
			m.routes(cart, green)
			m.reaches(d)
		},
		"a second at most": func(m *mesh, d *Destination) {
			m.routes(cart, green)
			time.Sleep(999 * time.Millisecond)
			m.reaches(d, old)
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			m.reaches(d)
			m.endpoints(green, 0, 1, "10.1.0.3")
			m.reaches(d, "10.1.0.3:8080")
		},
		"unless a newer one comes": func(m *mesh, d *Destination) {
			m.routes(cart, green)
			time.Sleep(500 * time.Millisecond)
			m.routes(cart, blue)
			m.endpoints(green, 0, 1, "10.1.0.3")
			m.reaches(d, old)
			time.Sleep(600 * time.Millisecond) // the first one's second is over
			m.reaches(d, old)
			m.endpoints(blue, 0, 1, "10.1.0.4")
			m.reaches(d, "10.1.0.4:8080")
		},
		"unless the service goes": func(m *mesh, d *Destination) {
			m.routes(cart, green)
			m.Remove(meshconfig.RoutesName(cart))
			m.reaches(d)
			m.endpoints(green, 0, 1, "10.1.0.3")
			m.reaches(d)
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(m *mesh) {
				d := m.known()
				test(m, d)
				d.Release()
			})
		})
	}
}

func TestTheNumberOfShardsChanges(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.known()
		m.endpoints(cart, 0, 2, "10.1.0.2")
		m.reaches(d, "10.1.0.1:8080")
		m.endpoints(cart, 1, 2, "10.1.0.3")
		m.reaches(d, "10.1.0.2:8080", "10.1.0.3:8080")
		m.Remove(meshconfig.EndpointsName(cart, 1))
		m.reaches(d, "10.1.0.2:8080", "10.1.0.3:8080")
		m.endpoints(cart, 0, 1, "10.1.0.4")
		m.reaches(d, "10.1.0.4:8080")
		m.Remove(meshconfig.EndpointsName(cart, 0))
		m.reaches(d)
		m.Remove(meshconfig.EndpointsName("other.shop", 0))
		d.Release()
	})
}

func TestEndpointsOutliveTables(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.known()
		before := d.Port().Connection()
		b, _ := before.Backend(&evaluate.Request{}, 0)
		e := b.Cluster.Endpoints().Members()[0].Endpoint
		e.Begin()
		m.routes(cart, cart, green)
		m.endpoints(green, 0, 1)
		m.endpoints(cart, 0, 1, "10.1.0.1", "10.1.0.2")
		m.routes(cart, cart)
		after := d.Port().Connection()
		b, _ = after.Backend(&evaluate.Request{}, 0)
		if got := b.Cluster.Endpoints().Members()[0].Endpoint; got != e || got.InFlight() != 1 {
			m.Errorf("the endpoint is another one, or has %d in flight", got.InFlight())
		}
		e.End()
		m.endpoints(cart, 0, 1, "10.1.0.2")
		if n := m.upstreams.Len(); n != 1 {
			m.Errorf("%d endpoints, want 1", n)
		}
		d.Release()
	})
}

func TestABadSectionChangesNothing(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		d := m.known()
		bad := routesOf(cart, green)
		bad.Ports[0].Rules = []*meshconfig.SplitRule{{Name: "r", Backends: bad.Ports[0].Backends, Matches: []*meshconfig.Match{
			{Path: &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_REGEX, Value: "("}},
		}}}
		if err := m.Apply(meshconfig.RoutesName(cart), bad); err == nil {
			m.Error("a bad regular expression was taken")
		}
		bad = routesOf(cart, green)
		if err := m.Apply("routes/cart.shop/other", bad); err == nil {
			m.Error("another client's routes were taken")
		}
		if err := m.Apply(meshconfig.EndpointsName(cart, 0), &meshconfig.Endpoints{
			Service: cart, Shards: 1, Endpoints: []*meshconfig.Endpoint{{Address: "10.1.0.2", Identity: "nobody"}},
		}); err == nil {
			m.Error("a bad identity was taken")
		}
		m.reaches(d, "10.1.0.1:8080")
		d.Release()
	})
}

func TestChoosingDoesNotAllocate(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		section := routesOf(cart, cart, green)
		section.Ports[0].Routes = []*meshconfig.Route{{Name: "slow", RequestTimeout: 1500}}
		m.apply(meshconfig.RoutesName(cart), section)
		m.address(cartIP, cart)
		m.endpoints(cart, 0, 1, "10.1.0.1")
		m.endpoints(green, 0, 1, "10.1.0.2")
		d := m.lookup(cartIP, 80)
		request := &evaluate.Request{Method: "GET", Path: "/"}
		now := time.Now()
		var choice Choice
		var b *Backend
		if allocs := testing.AllocsPerRun(100, func() {
			choice = d.Port().Route(request)
			b, _ = choice.Backend(request, 1<<63)
			b.Series(choice.Route).Of("")
			d.Port().Fault(request, now, rand.Uint64)
			choice.MirrorTo()
		}); allocs != 0 {
			m.Errorf("%v allocations, want 0", allocs)
		}
		if choice.Route.Name != "slow" || choice.Route.RequestTimeout != 1500*time.Millisecond || b.Name != green {
			m.Errorf("choice %+v", choice)
		}
		d.Release()
	})
}
