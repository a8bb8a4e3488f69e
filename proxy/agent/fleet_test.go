// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// counted returns what was signed and sent of all kinds but heartbeats.
func counted(operators ...*operator) (signed, sent uint64) {
	for _, o := range operators {
		c := o.Counters()
		for kind, n := range c.Signed {
			if kind != meshconfig.KindHeartbeat {
				signed += n
			}
		}
		for kind, n := range c.Sent {
			if kind != meshconfig.KindHeartbeat {
				sent += n
			}
		}
	}
	return signed, sent
}

// A weight edit is signed once and sent once to each of fifty proxies; an endpoint change likewise.
func TestAnEditIsSignedOnceForFiftyProxies(t *testing.T) {
	const proxies = 50
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	uids := make([]string, proxies)
	for i := range uids {
		uids[i] = podUID(i)
	}
	shop := w.shop(uids...)
	check(t, publisher.Publish(shop))
	for _, uid := range uids {
		p := start(t, w.files(t, uid, o.address))
		p.Want(routesName, meshconfig.AllEndpoints(checkout))
	}
	endpointsName := meshconfig.EndpointsName(checkout, 0)
	all := func() bool {
		n := o.Programmed([]meshconfig.Name{meshconfig.MeshName, inboundName, routesName, endpointsName})
		return n.Subscribed == proxies && n.Acked == proxies
	}
	await(t, "all proxies hold all", all)
	for _, edit := range []struct {
		what string
		do   func()
	}{
		{"a weight", func() { shop[routesName] = routes(checkout, 2) }},
		{"an endpoint", func() {
			shop[endpointsName] = &meshconfig.Endpoints{Service: checkout, Shards: 1, Endpoints: []*meshconfig.Endpoint{{Address: "10.0.0.1"}}}
		}},
	} {
		signedBefore, sentBefore := counted(o)
		edit.do()
		begun := time.Now()
		check(t, publisher.Publish(shop))
		await(t, edit.what+" is in force everywhere", all)
		took := time.Since(begun)
		signed, sent := counted(o)
		if signed-signedBefore != 1 || sent-sentBefore != proxies {
			t.Errorf("%s: signed %d, sent %d: want 1 and %d", edit.what, signed-signedBefore, sent-sentBefore, proxies)
		}
		t.Logf("%s: in force on %d proxies after %s", edit.what, proxies, took.Round(time.Millisecond))
	}
}

// Proxies of a relay get what the leader signs, and the leader counts them.
func TestProxiesOfARelayCountAtTheLeader(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.operator(t), w.operator(t)
	publisher := w.lead(leader, 1)
	shop := w.shop("near", "far")
	check(t, publisher.Publish(shop))
	near, far := start(t, w.files(t, "near", leader.address)), start(t, w.files(t, "far", relay.address))
	near.Want(routesName)
	far.Want(routesName, meshconfig.RoutesName("none.shop"))
	names := []meshconfig.Name{meshconfig.MeshName, inboundName, routesName}
	await(t, "both hold all, and the leader knows", func() bool {
		n := leader.Programmed(names)
		return n.Subscribed == 2 && n.Acked == 2 && near.ready() && far.ready()
	})
	far.mu.Lock()
	far.refuse[routesName] = true
	far.mu.Unlock()
	shop[routesName] = routes(checkout, 2)
	check(t, publisher.Publish(shop))
	await(t, "the leader knows who refused", func() bool {
		n := leader.Programmed(names)
		return n.Acked == 1 && len(n.Nacks) == 1 && n.Nacks[0].PodUID == "far"
	})
	if near.weight() != 2 || far.weight() != 1 {
		t.Errorf("weights %d and %d: want 2, and 1 where it was refused", near.weight(), far.weight())
	}
}

// The leader dies; its proxies go to the next one, which turns nobody back and sends only what changed.
func TestProxiesOutliveTheirLeader(t *testing.T) {
	w := newWorld(t)
	old, next := w.operator(t), w.operator(t)
	publisher := w.lead(old, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	service := newDoor(t, old.address)
	p := start(t, w.files(t, "pod", service.address()))
	p.Want(routesName, "address/10.1.2.3")
	await(t, "the proxy holds all", func() bool { return p.ready() && p.weight() == 1 && p.in("address/10.1.2.3") != nil })
	serial := p.Serial()

	old.stop()
	service.lead(next.address)
	await(t, "the proxy is at the replica that is left", func() bool { n, _ := next.Streams(); return n == 1 })
	publisher = w.lead(next, 2)
	check(t, publisher.Publish(shop))
	await(t, "the new leader's heartbeat arrives", func() bool { return p.Serial().Term == 2 })
	if _, sent := counted(next); sent != 0 {
		t.Errorf("the new leader sent %d sections again that were held", sent)
	}
	shop[routesName] = routes(checkout, 2)
	check(t, publisher.Publish(shop))
	await(t, "an edit arrives", func() bool { return p.weight() == 2 })

	// The old leader comes back and does not know: it turns nobody back.
	back := w.operator(t)
	stale := w.lead(back, 1)
	w.leader.Store(&next.address)
	shop[routesName] = routes(checkout, 666)
	check(t, stale.Publish(sections{meshconfig.MeshName: w.mesh(), routesName: shop[routesName]}))
	service.lead(back.address)
	await(t, "the old leader sees that its time is over", func() bool { return back.Counters().Ahead > 0 })
	service.lead(next.address)
	shop[routesName] = routes(checkout, 3)
	check(t, publisher.Publish(shop))
	await(t, "the next edit arrives", func() bool { return p.weight() == 3 })
	if got := p.Serial(); got.Compare(serial) <= 0 || len(p.Rejected()) > 0 {
		t.Errorf("serial %s after %s, refused %v", got, serial, p.Rejected())
	}
}

func TestAReconnectSendsNothingThatIsHeld(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	service := newDoor(t, o.address)
	p := start(t, w.files(t, "pod", service.address()))
	p.Want(routesName, meshconfig.AllEndpoints(checkout), "address/10.1.2.3", meshconfig.RoutesName("none.shop"))
	await(t, "the proxy holds all", func() bool {
		return p.ready() && len(p.all()) == 7 && len(p.Dump().Unheld) == 0
	})
	_, before := counted(o)
	service.lead(o.address)
	await(t, "the proxy is back", func() bool { return service.connections() >= 3 && p.Connected() })
	shop[routesName] = routes(checkout, 2)
	check(t, publisher.Publish(shop))
	await(t, "an edit arrives", func() bool { return p.weight() == 2 })
	if _, after := counted(o); after-before != 1 {
		t.Errorf("sent %d sections: want the edit alone", after-before)
	}
}

// A peer that is dead without a word is noticed, and left for another.
func TestADeadPeerIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	service := newDoor(t, o.address)
	p := start(t, w.files(t, "pod", service.address()))
	await(t, "the proxy is ready", p.ready)
	service.deafen()
	begun := time.Now()
	await(t, "the proxy notices", func() bool { return !p.Connected() })
	if took := time.Since(begun); took > 12*time.Second {
		t.Errorf("noticed after %s", took)
	}
	if !p.ready() {
		t.Errorf("not ready: %v", p.Ready())
	}
	service.hear()
	await(t, "the proxy is back", p.Connected)
}

// With the operator away from the start a proxy runs on what its volume kept, and says since when.
func TestAProxyStartsFromWhatItKept(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	opts := w.files(t, "pod", o.address)
	p := start(t, opts)
	p.Want(routesName, meshconfig.AllEndpoints(checkout), "address/10.1.2.3")
	await(t, "the proxy holds all", func() bool { return p.ready() && len(p.all()) == 7 })
	held, heartbeat, leaf := p.all(), p.Heartbeat(), p.Identity().Certificate().Leaf
	o.stop()
	p.stop()

	// Envelopes and their signer expire meanwhile; the certificate does not.
	issued := w.identities.issued.Load()
	opts.Clock = func() time.Time { return time.Now().Add(30 * time.Minute) }
	begun := time.Now()
	p = start(t, opts)
	await(t, "the proxy is ready", p.ready)
	t.Logf("ready after %s", time.Since(begun).Round(time.Millisecond))
	if len(p.all()) != len(held) || !p.Heartbeat().Equal(heartbeat) || !p.Identity().Certificate().Leaf.Equal(leaf) {
		t.Errorf("holds %d sections, heartbeat %s: want %d, %s and the certificate", len(p.all()), p.Heartbeat(), len(held), heartbeat)
	}
	if p.Connected() || w.identities.issued.Load() != issued || len(p.Rejected()) > 0 {
		t.Errorf("connected %t, refused %v", p.Connected(), p.Rejected())
	}
	p.stop()

	opts.Clock = func() time.Time { return time.Now().Add(2 * time.Hour) }
	p = start(t, opts)
	await(t, "config is in force though all of it has expired", func() bool { return len(p.all()) == len(held) })
	if err := p.Ready(); err == nil {
		t.Error("ready with a certificate that has expired")
	}
	if got := p.Rejected(); len(got) > 0 {
		t.Errorf("refused %v: want expiry not to matter", got)
	}
}
