// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
	"github.com/heddle-mesh/heddle/test/gen"
)

// Another replica leads: what it signs anew is resent to no proxy, what it changes goes everywhere, and what the old
// leader still says counts nowhere.
func TestAnotherLeader(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{replicas: 3})
	a, b, c := m.replicas[0], m.replicas[1], m.replicas[2]
	m.run(pod("web", 1, 2))
	web, second := m.workload("shop/web-1"), m.workload("shop/web-2")
	for _, name := range []string{"shop/web-1", "shop/cart-1", "shop/cart-v2-1"} {
		m.workload(name).door.lead(b.address)
	}
	second.door.lead(c.address)
	caller := web.client()
	for _, c := range []*client{caller, second.client()} {
		c.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	}
	m.settle()
	routes := meshconfig.RoutesName("cart.shop")
	replayed := a.Hub().Get(routes).Envelope
	old := m.leader()
	before := m.tally()
	stop := m.load(2, func() error { return caller.get("http://cart.shop/").served() })

	m.takeOver(b, 2)
	m.settle()
	await(t, "the other relay has the new term's envelopes", func() bool {
		e := c.Hub().Get(routes)
		return e != nil && e.Serial.Term == 2
	})
	if got := arrived(before, m.tally()); len(got) > 0 {
		t.Errorf("sent again though nothing changed: %v", got)
	}
	m.apply(split(0, 1))
	caller.becomes("the new leader's word counts", "http://cart.shop/", servedBy("cart-v2-1"))
	m.settle()
	newest := web.sidecar().held()[routes]
	if !strings.HasPrefix(newest.Serial, "0.2.") {
		t.Errorf("serial %s: want one of term 2", newest.Serial)
	}

	// The old leader has not heard of it, and goes on.
	sections := maps.Clone(old.result.Load().Sections)
	sections[routes] = stolen()
	check(t, old.publisher.Publish(sections))
	outdated := a.Hub().Get(routes)
	if outdated.Serial.Term != 1 || outdated.Digest == b.Hub().Get(routes).Digest {
		t.Fatalf("the old leader published %s", outdated.Serial)
	}
	// A proxy and a relay that come to it are sent nothing that is older, and it sees that they are ahead.
	web.door.lead(a.address)
	await(t, "the old leader sees a proxy that is ahead", func() bool { return a.Counters().Ahead > 0 })
	m.address.Store(&a.address)
	await(t, "the old leader sees a relay", func() bool { _, replicas := a.Streams(); return replicas > 0 })
	// What is sent to them all the same, they refuse.
	e := m.evil()
	web.door.lead(e.address)
	m.address.Store(&e.address)
	proxy, relay := e.connected(string(web.pod.UID)), e.connected("")
	for i, envelope := range [][]byte{outdated.Envelope, replayed} {
		stale := c.Counters().Stale
		proxy.send <- envelope
		if nack := proxy.nack(m); nack.GetName() != string(routes) || web.sidecar().rejected(signedconfig.ReasonSerial) != i+1 {
			t.Errorf("nack %v, counted %d", nack, web.sidecar().rejected(signedconfig.ReasonSerial))
		}
		relay.send <- envelope
		await(t, "the relay counts it as stale", func() bool { return c.Counters().Stale == stale+1 })
	}
	if got := web.sidecar().held()[routes]; got.Serial != newest.Serial {
		t.Errorf("went back to %s", got.Serial)
	}
	a.SetRelay()
	if err := old.publisher.Publish(sections); !errors.Is(err, distribute.ErrNotLeader) {
		t.Errorf("the old leader publishes after it was told: %v", err)
	}
	stop()
}

// Proxies of a relay go on while there is no leader, and follow the next one, which counts them.
func TestARelayOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{replicas: 2})
	first, relay := m.replicas[0], m.replicas[1]
	web := m.workload("shop/web-1")
	for _, name := range []string{"shop/web-1", "shop/cart-1", "shop/cart-v2-1"} {
		m.workload(name).door.lead(relay.address)
	}
	client := web.client()
	client.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	m.settle()
	stop := m.load(2, func() error { return client.get("http://cart.shop/").served() })

	first.stop()
	m.apply(split(0, 1))
	await(t, "the leader is gone", func() bool { _, replicas := first.Streams(); return replicas == 0 })
	for _, p := range m.proxies() {
		if !p.agent.Connected() {
			t.Errorf("%s lost its stream with the leader", p.pod.Name)
		}
	}
	if a := client.get("http://cart.shop/"); !servedBy("cart-1")(a) {
		t.Errorf("without a leader: %v", a)
	}

	next := m.lead(m.replica(), 2)
	client.becomes("the next leader's word counts", "http://cart.shop/", servedBy("cart-v2-1"))
	m.settle()
	var names []meshconfig.Name
	for origin, shaped := range next.result.Load().Shaped {
		if origin.Kind == v1alpha1.KindTrafficSplit {
			names = shaped
		}
	}
	programmed := func(names []meshconfig.Name, acked, subscribed int) {
		t.Helper()
		await(t, "the leader counts who holds what", func() bool {
			n := next.replica.Programmed(names)
			return n.Acked == acked && n.Subscribed == subscribed && len(n.Nacks) == 0
		})
	}
	programmed(names, 1, 1) // only the caller uses what the split shaped
	programmed([]meshconfig.Name{meshconfig.MeshName}, 3, 3)
	stop()
	m.workload("shop/cart-1").sidecar().stop()
	programmed([]meshconfig.Name{meshconfig.MeshName}, 2, 2)
}

// An object that is wrong leaves its last good version in force, under the next leader too.
func TestAWrongObjectLeavesTheLastGoodOneInForce(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{replicas: 2})
	client := m.workload("shop/web-1").client()
	m.apply(split(0, 1))
	client.becomes("the split is in force", "http://cart.shop/", servedBy("cart-v2-1"))
	m.settle()
	before := m.tally()
	stop := m.load(2, func() error {
		if a := client.get("http://cart.shop/"); !servedBy("cart-v2-1")(a) {
			return errors.New(a.String())
		}
		return nil
	})
	m.apply(split(0, 0))
	m.settle()
	m.lead(m.replicas[1], 2)
	m.settle()
	m.apply(gen.TrafficSplit(namespace, "cart", "cart")) // without any backend
	m.settle()
	if got := arrived(before, m.tally()); len(got) > 0 {
		t.Errorf("sent: %v", got)
	}
	stop()
	m.delete(split(0, 0))
	client.becomes("the split is deleted", "http://cart.shop/", servedBy("cart-1"))
}
