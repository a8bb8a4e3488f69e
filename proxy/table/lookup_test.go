// SPDX-License-Identifier: Apache-2.0

package table

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func TestALookupAsksForWhatItNeeds(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		var d *Destination
		var wg sync.WaitGroup
		wg.Go(func() { d = m.lookup(cartIP, 80) })
		m.expectWanted("address/10.96.0.1")
		m.address(cartIP, cart)
		m.expectWanted("address/10.96.0.1", "endpoints/cart.shop/*", "routes/cart.shop/*")
		m.routes(cart, cart, green)
		m.expectWanted("address/10.96.0.1", "endpoints/cart.shop/*", "endpoints/green.shop/*", "routes/cart.shop/*")
		m.endpoints(cart, 0, 1, "10.1.0.1", "10.1.0.2")
		synctest.Wait()
		if d != nil {
			m.Error("did not wait for the second backend")
		}
		m.endpoints(green, 0, 1, "10.1.0.3")
		wg.Wait()
		m.reaches(d, "10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080")
		d.Release()
		m.refused(cartIP, 81, refusal.UnknownDestination)
	})
}

func (m *mesh) expectWanted(names ...meshconfig.Name) {
	m.Helper()
	synctest.Wait()
	if got := m.wants.wanted(); !slices.Equal(got, names) {
		m.Errorf("subscribed to %v, want %v", got, names)
	}
}

func TestAnAddressOfWhichNothingIsHeard(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		if took := m.refused(cartIP, 80, refusal.UnknownDestination); took != time.Second {
			m.Errorf("held for %v, want 1 s", took)
		}
		if took := m.refused(cartIP, 80, refusal.UnknownDestination); took != 0 {
			m.Errorf("held a second time, for %v", took)
		}
		start := time.Now()
		d := m.lookup(netip.MustParseAddr("192.0.2.1"), 443)
		if took := time.Since(start); took != time.Second || !d.Port().Foreign {
			m.Errorf("outside the mesh's networks: held for %v, foreign %v", took, d.Port().Foreign)
		}
		m.reaches(d, "192.0.2.1:443")
		d.Release()
		start = time.Now()
		m.lookup(netip.MustParseAddr("169.254.169.254"), 80).Release()
		if took := time.Since(start); took != 0 {
			m.Errorf("link-local: held for %v", took)
		}
		m.address(cartIP, cart)
		m.routes(cart, cart)
		m.endpoints(cart, 0, 1)
		m.lookup(cartIP, 80).Release() // heard at last
	})
}

func TestWhatIsKnownToBeNoneOfOurs(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		outside := netip.MustParseAddr("192.0.2.1")
		m.address(outside, "")
		m.address(podIP, "")
		if d := m.lookup(outside, 80); !d.Port().Foreign {
			m.Error("outside the mesh's networks: not foreign")
		}
		if took := m.refused(podIP, 80, refusal.UnknownDestination); took != 0 {
			m.Errorf("inside: held for %v", took)
		}
	})
}

func TestWithoutAMeshSectionNothingPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mesh{T: t, Store: New(Options{Observer: nothing{}})}
		m.refused(netip.MustParseAddr("192.0.2.1"), 80, refusal.NotReady)
	})
}

func TestTheCallerOfALookupGoesAway(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		ctx, cancel := context.WithTimeout(m.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := m.Lookup(ctx, netip.AddrPortFrom(cartIP, 80))
		var refused *refusal.Error
		if !errors.As(err, &refused) || refused.Reason != refusal.CallerGone {
			m.Errorf("error %v, want caller_gone", err)
		}
	})
}

func pod(ip netip.Addr, ports ...*meshconfig.PodPort) *meshconfig.Address {
	return &meshconfig.Address{Address: ip.String(), Pod: &meshconfig.PodAddress{
		Endpoint: &meshconfig.Endpoint{
			Address: ip.String(), Identity: "spiffe://cluster.local/ns/shop/sa/store", Pod: "shop/store-0", Workload: "store",
		},
		Ports: ports,
	}}
}

func TestAPodThatIsDialledItself(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		m.apply(meshconfig.AddressName(podIP), pod(podIP,
			&meshconfig.PodPort{Port: 6379, Protocol: meshconfig.Protocol_PROTOCOL_TCP, Service: "store.shop"},
			&meshconfig.PodPort{Port: 8080, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Plaintext: true}))
		declared, plain, other := m.lookup(podIP, 6379), m.lookup(podIP, 8080), m.lookup(podIP, 9)
		if p := declared.Port(); p.Protocol != meshconfig.Protocol_PROTOCOL_TCP || p.Service != "store.shop" {
			m.Errorf("declared port: %v of %q", p.Protocol, p.Service)
		}
		if p := other.Port(); p.Protocol != meshconfig.Protocol_PROTOCOL_UNSPECIFIED || p.Service != "" {
			m.Errorf("undeclared port: %v of %q", p.Protocol, p.Service)
		}
		for d, mtls := range map[*Destination]bool{declared: true, plain: false, other: true} {
			if e := d.Port().only.Cluster.Endpoints().Members()[0].Endpoint; e.MTLS() != mtls || e.Pod != "shop/store-0" {
				m.Errorf("%v: mTLS %v to pod %q", d.Address, e.MTLS(), e.Pod)
			}
		}
		m.reaches(declared, "10.1.0.9:6379")

		m.address(podIP, "") // the pod is gone
		if declared.Port() != nil {
			m.Error("the pod is gone and its port is still there")
		}
		if n := m.upstreams.Len(); n != 0 {
			m.Errorf("the pod is gone and %d endpoints are left", n)
		}
		m.apply(meshconfig.AddressName(podIP), pod(podIP))
		m.reaches(declared, "10.1.0.9:6379")
		m.Remove(meshconfig.AddressName(podIP))
		m.reaches(declared)
		for _, d := range []*Destination{declared, plain, other} {
			d.Release()
		}
	})
}

func TestManyPortsOfAPod(t *testing.T) {
	inBubble(t, Options{}, func(m *mesh) {
		m.apply(meshconfig.AddressName(podIP), pod(podIP))
		held := m.lookup(podIP, 1)
		for port := range uint16(1000) {
			m.lookup(podIP, port+2).Release()
		}
		if n := m.upstreams.Len(); n > maxDirect+1 {
			m.Errorf("%d endpoints are kept, want at most %d", n, maxDirect+1)
		}
		m.reaches(held, "10.1.0.9:1")
		held.Release()
	})
}

func TestWhatIsNotUsedIsForgotten(t *testing.T) {
	inBubble(t, Options{MaxServices: 2, MaxAddresses: 3}, func(m *mesh) {
		ip := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}) }
		meet := func(i int) *Destination {
			service := fmt.Sprintf("s%d.shop", i)
			m.address(ip(i), service)
			m.routes(service, service)
			m.endpoints(service, 0, 1, fmt.Sprintf("10.1.1.%d", i))
			time.Sleep(time.Millisecond) // of the bubble: so that uses have an order
			return m.lookup(ip(i), 80)
		}
		held := meet(1)
		meet(2).Release()
		meet(3).Release()
		synctest.Wait()
		if got := m.wants.wanted(); slices.Contains(got, meshconfig.RoutesName("s2.shop")) ||
			!slices.Contains(got, meshconfig.RoutesName("s1.shop")) || !slices.Contains(got, meshconfig.RoutesName("s3.shop")) {
			m.Errorf("subscribed to %v: want the least recently used, unused one gone", got)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		m.expectWanted("address/10.96.1.1", "endpoints/s1.shop/*", "routes/s1.shop/*")
		m.reaches(held, "10.1.1.1:8080")
		held.Release()
		time.Sleep(20 * time.Minute)
		m.expectWanted()
		if n := m.upstreams.Len(); n != 0 {
			m.Errorf("%d endpoints are left", n)
		}
	})
}

func TestTooManyInUse(t *testing.T) {
	inBubble(t, Options{MaxServices: 1, MaxAddresses: 2}, func(m *mesh) {
		for i := range byte(4) {
			outside := netip.AddrFrom4([4]byte{192, 0, 2, i})
			m.address(outside, "")
			m.lookup(outside, 80)
		}
		m.refused(netip.MustParseAddr("192.0.2.99"), 80, refusal.Overloaded)
	})
}
