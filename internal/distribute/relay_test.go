// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

var shopNames = []meshconfig.Name{meshconfig.MeshName, meshconfig.RoutesName(checkout)}

// subscribeAll subscribes to mesh and routes, and acks them.
func (f *far) subscribeAll() {
	f.t.Helper()
	f.subscribe(shopNames...)
	for _, e := range f.envelopes(shopNames...) {
		f.ack(e)
	}
}

func (r *replica) counts(names []meshconfig.Name, acked, subscribed int) func() bool {
	return func() bool {
		p := r.Programmed(names)
		return p.Acked == acked && p.Subscribed == subscribed
	}
}

func TestARelayServesWhatTheLeaderSigns(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.replica(t), w.replica(t)
	p := w.lead(leader, 1)
	shop := w.shop()
	check(t, p.Publish(shop))
	near, far := w.proxy(t, leader, "near"), w.proxy(t, relay, "far")
	near.subscribeAll()
	far.subscribeAll()
	await(t, "the leader counts the relay's pods too", leader.counts(shopNames, 2, 2))

	shop[meshconfig.RoutesName(checkout)] = routes(checkout, 7)
	check(t, p.Publish(shop))
	near.ack(near.envelope(meshconfig.RoutesName(checkout)))
	changed := far.envelope(meshconfig.RoutesName(checkout))
	await(t, "one of two has acked", leader.counts(shopNames, 1, 2))
	far.nack(changed, "table: no")
	await(t, "the leader hears of the nack", func() bool {
		n := leader.Programmed(shopNames).Nacks
		return len(n) == 1 && n[0].PodUID == "far" && n[0].Reason == "table: no"
	})
	far.ack(changed)
	await(t, "both have acked", leader.counts(shopNames, 2, 2))
	if n := leader.Counters().Sent[meshconfig.KindRoutes]; n != 4 {
		t.Errorf("the leader sent routes %d times: want 4, twice to its proxy and twice to the relay", n)
	}
	far.send(unsubscribeOf(string(meshconfig.RoutesName(checkout))))
	await(t, "the leader hears of the end of a subscription", leader.counts(shopNames[1:], 1, 1))
	far.close()
	await(t, "the leader hears of the end of a stream", leader.counts(shopNames, 1, 1))
}

func TestARelayAsksForWhatItsProxiesHold(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.replica(t), w.replica(t)
	p := w.lead(leader, 1)
	shop := w.shop()
	check(t, p.Publish(shop))
	first := w.proxy(t, leader, "first")
	first.subscribe(meshconfig.AllEndpoints(checkout))
	shards := first.envelopes(meshconfig.EndpointsName(checkout, 0), meshconfig.EndpointsName(checkout, 1))
	first.close()
	await(t, "the leader's stream ends", func() bool { n, _ := leader.Streams(); return n == 0 })
	shop[meshconfig.EndpointsName(checkout, 0)] = endpoints(checkout, 0, 1)
	delete(shop, meshconfig.EndpointsName(checkout, 1))
	check(t, p.Publish(shop))

	f := w.proxy(t, relay, "first")
	f.subscribe(meshconfig.RoutesName("none.shop"), meshconfig.Name("address/10.9.9.9"), meshconfig.HeartbeatName)
	f.subscribeHolding(meshconfig.AllEndpoints(checkout), shards...)
	want := map[meshconfig.Name]bool{ // whether it is a tombstone
		meshconfig.RoutesName("none.shop"):    true,
		"address/10.9.9.9":                    false,
		meshconfig.HeartbeatName:              false,
		meshconfig.EndpointsName(checkout, 0): false,
		meshconfig.EndpointsName(checkout, 1): true,
	}
	for len(want) > 0 {
		e, err := signedconfig.Decode(f.receive().GetEnvelope())
		check(t, err)
		tombstone, ok := want[meshconfig.Name(e.Section)]
		if !ok || tombstone != e.Tombstone {
			t.Errorf("got %s, tombstone %t", e.Section, e.Tombstone)
		}
		delete(want, meshconfig.Name(e.Section))
	}
}

func TestARelayServesOnWhileTheLeaderIsAway(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.replica(t), w.replica(t)
	p := w.lead(leader, 1)
	shop := w.shop()
	check(t, p.Publish(shop))
	first := w.proxy(t, relay, "first")
	first.subscribeAll()
	leader.stop()
	second := w.proxy(t, relay, "second")
	second.subscribeAll()
	first.close()
	third := w.proxy(t, relay, "third")
	third.subscribeAll()

	// A new leader of the same content: nothing is sent to who holds it, and the next edit goes everywhere.
	next := w.replica(t)
	p = w.lead(next, 2)
	check(t, p.Publish(shop))
	await(t, "the new leader hears of the relay's pods", next.counts(shopNames, 2, 2))
	shop[meshconfig.RoutesName(checkout)] = routes(checkout, 7)
	check(t, p.Publish(shop))
	for _, f := range []*far{second, third} {
		if e := f.envelope(meshconfig.RoutesName(checkout)); e.Serial.Term != 2 {
			t.Errorf("serial %s: want one of term 2", e.Serial)
		}
	}
	// What the relay hands out from now on is of the new term, though its content is the old one.
	await(t, "the relay has the new term's envelope", func() bool { return relay.Hub().Get(meshconfig.MeshName).Serial.Term == 2 })
}

// What is signed again reaches relays, so that they never hand out what has expired, and no proxy that holds it.
func TestWhatIsSignedAgainReachesRelaysAlone(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.replica(t), w.replica(t)
	p := w.lead(leader, 1)
	check(t, p.Publish(w.shop()))
	f := w.proxy(t, relay, "mine")
	f.subscribeAll()
	first := relay.Hub().Get(meshconfig.MeshName)
	check(t, p.SetSigner(w.config.Signer(t, time.Now(), time.Now().Add(2*time.Hour))))
	await(t, "the relay has it", func() bool { return relay.Hub().Get(meshconfig.MeshName).Serial.Compare(first.Serial) > 0 })
	if n := relay.Counters().Sent[meshconfig.KindMesh]; n != 1 {
		t.Errorf("the proxy was sent it %d times", n)
	}
}

// A replica that no longer leads keeps what its proxies watch and nothing else: nobody would tell it the news of the rest.
func TestAReplicaThatNoLongerLeadsKeepsWhatIsWatched(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	check(t, w.lead(r, 1).Publish(w.shop()))
	w.proxy(t, r, "mine").subscribeAll()
	w.leader.Store(nil)
	r.SetRelay()
	if r.Hub().Get(meshconfig.MeshName) == nil || r.Hub().Get(meshconfig.InboundName("aaaa")) != nil {
		t.Error("want the watched mesh section and not the inbound section that nobody watches")
	}
}

// Streams of proxies outlive both switches of their replica's role.
func TestStreamsOutliveASwitchOfRoles(t *testing.T) {
	w := newWorld(t)
	a, b := w.replica(t), w.replica(t)
	p := w.lead(a, 1)
	shop := w.shop()
	check(t, p.Publish(shop))
	onA, onB := w.proxy(t, a, "on-a"), w.proxy(t, b, "on-b")
	onA.subscribeAll()
	onB.subscribeAll()

	a.SetRelay()
	p = w.lead(b, 2)
	if err := p.Publish(shop); err != nil {
		t.Fatal(err)
	}
	await(t, "b counts both", b.counts(shopNames, 2, 2))
	for i, weight := range []uint32{5, 6} {
		shop[meshconfig.RoutesName(checkout)] = routes(checkout, weight)
		check(t, p.Publish(shop))
		for _, f := range []*far{onA, onB} {
			f.ack(f.envelope(meshconfig.RoutesName(checkout)))
		}
		await(t, "both have acked", b.counts(shopNames, 2, 2))
		if i == 0 {
			for _, r := range []*replica{a, b} {
				if n := r.Counters().Sent[meshconfig.KindMesh]; n > 2 {
					t.Errorf("the mesh section was sent %d times", n)
				}
			}
		}
	}
	b.SetRelay()
	p = w.lead(a, 3)
	delete(shop, meshconfig.RoutesName(checkout))
	check(t, p.Publish(shop))
	for _, f := range []*far{onA, onB} {
		if e := f.envelope(meshconfig.RoutesName(checkout)); !e.Tombstone || e.Serial.Term != 3 {
			t.Errorf("routes of serial %s, tombstone %t: want a tombstone of term 3", e.Serial, e.Tombstone)
		}
	}
}

// An old leader that does not know it yet turns back neither relays nor proxies.
func TestAnOldLeaderTurnsNobodyBack(t *testing.T) {
	w := newWorld(t)
	old, relay := w.replica(t), w.replica(t)
	oldPublisher := w.lead(old, 1)
	shop := w.shop()
	check(t, oldPublisher.Publish(shop))
	f := w.proxy(t, relay, "mine")
	f.subscribeAll()
	current := w.replica(t)
	p := w.lead(current, 2)
	shop[meshconfig.RoutesName(checkout)] = routes(checkout, 2)
	check(t, p.Publish(shop))
	if e := f.envelope(meshconfig.RoutesName(checkout)); e.Serial.Term != 2 {
		t.Fatalf("serial %s: want one of term 2", e.Serial)
	}
	w.leader.Store(&old.address)
	current.server.endReplicas()
	await(t, "the relay is back at the old leader", func() bool { _, n := old.Streams(); return n == 1 })
	shop[meshconfig.RoutesName(checkout)] = routes(checkout, 3)
	check(t, oldPublisher.Publish(shop))
	f.subscribe(meshconfig.RoutesName("none.shop")) // what comes after shows that nothing came before
	f.envelope(meshconfig.RoutesName("none.shop"))
	if e := relay.Hub().Get(meshconfig.RoutesName(checkout)); e.Serial.Term != 2 {
		t.Errorf("the relay went back to %s", e.Serial)
	}
	await(t, "the old leader sees that it was overtaken", func() bool {
		g := w.proxy(t, old, "mine")
		e := relay.Hub().Get(meshconfig.RoutesName(checkout))
		decoded, err := signedconfig.Decode(e.Envelope)
		check(t, err)
		g.subscribeHolding(meshconfig.RoutesName(checkout), decoded)
		g.subscribe(meshconfig.MeshName)
		g.envelope(meshconfig.MeshName)
		return old.Counters().Ahead > 0
	})
}

func TestARelayStoresOnlyEnvelopesOfItsMesh(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	for what, data := range map[string][]byte{
		"garbage":       []byte("garbage"),
		"another mesh":  sign(t, w, &signedconfig.Statement{Section: "mesh", MeshID: "another"}),
		"no known name": sign(t, w, &signedconfig.Statement{Section: "secrets", MeshID: meshID}),
	} {
		before := r.Counters().Invalid
		r.relay.store(data)
		if r.Counters().Invalid != before+1 {
			t.Errorf("%s was not counted", what)
		}
	}
	if r.Hub().Get(meshconfig.MeshName) != nil {
		t.Error("something was stored")
	}
	r.relay.store(sign(t, w, &signedconfig.Statement{Section: "mesh", MeshID: meshID}))
	if r.Hub().Get(meshconfig.MeshName) == nil {
		t.Error("a good envelope was not stored")
	}
}

func sign(t *testing.T, w *world, st *signedconfig.Statement) []byte {
	t.Helper()
	st.Serial, st.Audience, st.PayloadType = signedconfig.Serial{Counter: 1}, signedconfig.AudienceMesh, "x"
	st.IssuedAt = time.Now()
	data, err := w.signer.Sign(st)
	check(t, err)
	return data
}

// A relay keeps for a minute what its proxies no longer watch, then gives it up.
func TestARelayGivesUpWhatNobodyWatches(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.replica(t), w.replica(t)
	check(t, w.lead(leader, 1).Publish(w.shop()))
	f := w.proxy(t, relay, "mine")
	f.subscribeAll()
	f.send(unsubscribeOf(string(meshconfig.RoutesName(checkout))))
	await(t, "nobody watches the routes", func() bool {
		watched, _ := relay.hub.watched(meshconfig.RoutesName(checkout))
		return !watched
	})
	if relay.hub.Get(meshconfig.RoutesName(checkout)) == nil {
		t.Error("the routes are gone at once")
	}
	w.ahead.Store(int64(2 * linger))
	await(t, "the relay drops the routes", func() bool { return relay.hub.Get(meshconfig.RoutesName(checkout)) == nil })
	await(t, "the leader stops sending them", func() bool {
		watched, _ := leader.hub.watched(meshconfig.RoutesName(checkout))
		return !watched
	})
	if relay.hub.Get(meshconfig.MeshName) == nil {
		t.Error("the mesh section went too")
	}
	f.subscribe(meshconfig.RoutesName(checkout))
	f.envelope(meshconfig.RoutesName(checkout))
}

// The leader forgets a replica's pods only when the replica stays away.
func TestPodsOfALostReplicaCountForAWhile(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.replica(t), w.replica(t)
	check(t, w.lead(leader, 1).Publish(w.shop()))
	f := w.proxy(t, relay, "mine")
	f.subscribeAll()
	await(t, "the leader counts the pod", leader.counts(shopNames, 1, 1))
	leader.server.endReplicas()
	await(t, "the relay's stream ends", func() bool { _, n := leader.Streams(); return n == 0 })
	if !leader.counts(shopNames, 1, 1)() {
		t.Error("the pod is forgotten at once")
	}
	await(t, "the relay is back", func() bool { _, n := leader.Streams(); return n == 1 })
	f.send(unsubscribeOf(string(meshconfig.MeshName)))
	await(t, "the relay reports anew", leader.counts(shopNames[:1], 0, 0))
	w.ahead.Store(int64(2 * lostGrace))
	await(t, "the old stream is forgotten", func() bool {
		leader.tracker.mu.Lock()
		defer leader.tracker.mu.Unlock()
		return len(leader.tracker.lost) == 0
	})
	if !leader.counts(shopNames, 1, 1)() {
		t.Error("the pod went with the old stream though the new one told of it")
	}
	relay.stop()
	await(t, "the relay's stream ends", func() bool { _, n := leader.Streams(); return n == 0 })
	w.ahead.Store(int64(4 * lostGrace))
	await(t, "the pod is forgotten", leader.counts(shopNames, 0, 0))
}
