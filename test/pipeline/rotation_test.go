// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pki"
)

// The CA of workloads is replaced by another, with both trusted for a while, and no request fails.
func TestTheWorkloadCAIsReplaced(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	client := m.workload("shop/web-1").client()
	client.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	stop := m.load(2, func() error { return client.get("http://cart.shop/").served() })
	old, next := m.authorities.workload, pki.NewCA(t, "the next workload CA")
	trust := func(cas ...*pki.CA) {
		t.Helper()
		m.cluster.trust(cas...)
		m.changed()
		m.settle()
	}
	trust(old, next)
	m.identities.ca.Store(next)
	// What the proxies have lasts an hour, but does not chain to what is trusted from now on.
	m.cluster.trust(next)
	m.changed()
	await(t, "all certificates are of the next CA", func() bool {
		for _, p := range m.proxies() {
			if p.agent.Identity().Certificate().Leaf.CheckSignatureFrom(next.Certificate) != nil {
				return false
			}
		}
		return true
	})
	m.settle()
	if n := stop(); n == 0 {
		t.Error("no call under load")
	}
	if a := m.workload("shop/web-1").client().get("http://cart-v2.shop/"); a.served() != nil {
		t.Errorf("a new connection: %v", a)
	}
}

// The config signer is renewed: nothing is sent again, what was kept stays good, and what is new is taken.
func TestTheConfigSignerIsRenewed(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	web := m.workload("shop/web-1")
	client := web.client()
	client.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	m.settle()
	before := m.tally()
	check(t, m.leader().publisher.SetSigner(m.config.Signer(t, time.Time{}, time.Time{})))
	m.apply(split(0, 1))
	client.becomes("the new signer's word counts", "http://cart.shop/", servedBy("cart-v2-1"))
	m.settle()
	for _, s := range arrived(before, m.tally()) {
		if !strings.Contains(s, "cart") {
			t.Errorf("sent again: %s", s)
		}
	}
	web.door.lead("")
	web.sidecar().stop()
	p := web.startProxy()
	if a := client.firstAnswer("http://cart.shop/"); !servedBy("cart-v2-1")(a) || len(p.agent.Rejected()) > 0 {
		t.Errorf("after a restart: %v, refused %v", a, p.agent.Rejected())
	}
}

// After a restore from a backup the leader's term is lower than what proxies hold: they take nothing of it until the
// epoch is raised.
func TestARestoreFromABackup(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{replicas: 3})
	web := m.workload("shop/web-1")
	client := web.client()
	everywhere := func(r *replica) {
		for _, name := range []string{"shop/web-1", "shop/cart-1", "shop/cart-v2-1"} {
			m.workload(name).door.lead(r.address)
		}
	}
	m.lead(m.replicas[1], 5)
	everywhere(m.replicas[1])
	m.apply(split(1, 0))
	client.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	m.settle()
	routes := meshconfig.RoutesName("cart.shop")
	held := web.sidecar().held()[routes].Serial
	if !strings.HasPrefix(held, "0.5.") {
		t.Fatalf("serial %s: want one of term 5", held)
	}

	restored := m.replicas[0]
	m.replicas[1].stop()
	m.takeOverAt(restored, 0, 2)
	everywhere(restored)
	m.apply(split(0, 1))
	await(t, "the leader sees that proxies are ahead", func() bool { return restored.Counters().Ahead > 0 })
	await(t, "the edit is published", func() bool {
		published, _, _ := m.leader().state()
		return published == m.cluster.now() && web.sidecar().agent.Connected()
	})
	if a := client.get("http://cart.shop/"); !servedBy("cart-1")(a) || web.sidecar().held()[routes].Serial != held {
		t.Errorf("a leader of a lower term counts: %v, %s", a, web.sidecar().held()[routes].Serial)
	}

	m.leader().stop()
	m.takeOverAt(m.replicas[2], 1, 3)
	everywhere(m.replicas[2])
	client.becomes("the raised epoch counts", "http://cart.shop/", servedBy("cart-v2-1"))
	m.settle()
}
