// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"bytes"
	"sync"
	"testing"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// sent counts the envelopes that were sent but for heartbeats.
func sent(c Counters) (n uint64) {
	for kind, k := range c.Sent {
		if kind != meshconfig.KindHeartbeat {
			n += k
		}
	}
	return n
}

// A weight edit and an endpoint change are signed once and sent once to each of fifty proxies, and nothing else is.
func TestAnEditIsSignedOnceAndSentToEachProxyOnce(t *testing.T) {
	const proxies = 50
	w := newWorld(t)
	r := w.replica(t)
	p := w.lead(r, 1)
	shop := w.shop()
	check(t, p.Publish(shop))
	var wg sync.WaitGroup
	for i := range proxies {
		f := w.proxy(t, r, podUID(i))
		f.subscribe(meshconfig.MeshName, meshconfig.RoutesName(checkout), meshconfig.AllEndpoints(checkout))
		wg.Go(func() {
			for {
				m, err := f.conn.Receive()
				if err != nil {
					return
				}
				e, err := signedconfig.Decode(m.GetEnvelope())
				if err != nil {
					t.Error(err)
					return
				}
				digest := e.Digest()
				_ = f.conn.Send(ackOf(e.Section, digest[:]))
			}
		})
	}
	all := []meshconfig.Name{
		meshconfig.MeshName, meshconfig.RoutesName(checkout), meshconfig.EndpointsName(checkout, 0), meshconfig.EndpointsName(checkout, 1),
	}
	programmed := func() bool {
		p := r.Programmed(all)
		return p.Subscribed == proxies && p.Acked == proxies && len(p.Nacks) == 0
	}
	await(t, "all proxies hold all", programmed)
	if got := sent(r.Counters()); got != proxies*4 {
		t.Fatalf("sent %d envelopes at first: want %d", got, proxies*4)
	}
	for what, edit := range map[string]func(){
		"a weight":    func() { shop[meshconfig.RoutesName(checkout)] = routes(checkout, 9) },
		"an endpoint": func() { shop[meshconfig.EndpointsName(checkout, 1)] = endpoints(checkout, 1, 2, "10.0.0.9") },
	} {
		before := r.Counters()
		edit()
		check(t, p.Publish(shop))
		await(t, what+" arrives everywhere", programmed)
		after := r.Counters()
		signed := after.Signed[meshconfig.KindRoutes] + after.Signed[meshconfig.KindEndpoints] -
			before.Signed[meshconfig.KindRoutes] - before.Signed[meshconfig.KindEndpoints]
		if encoded := after.Encoded - before.Encoded; encoded != 1 || signed != 1 || sent(after)-sent(before) != proxies {
			t.Errorf("%s: encoded %d, signed %d, sent %d: want 1, 1, %d", what, encoded, signed, sent(after)-sent(before), proxies)
		}
	}
	r.stop()
	wg.Wait()
}

func TestWhatIsHeldIsNotSentAgain(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	p := w.lead(r, 1)
	shop := w.shop()
	check(t, p.Publish(shop))
	f := w.proxy(t, r, "mine")
	f.subscribe(meshconfig.MeshName, meshconfig.RoutesName(checkout), meshconfig.AllEndpoints(checkout))
	held := f.envelopes(
		meshconfig.MeshName, meshconfig.RoutesName(checkout), meshconfig.EndpointsName(checkout, 0), meshconfig.EndpointsName(checkout, 1),
	)
	f.close()

	// Meanwhile one shard changes, and the other goes.
	shop[meshconfig.EndpointsName(checkout, 0)] = endpoints(checkout, 0, 1, "10.0.0.1", "10.0.0.2")
	delete(shop, meshconfig.EndpointsName(checkout, 1))
	check(t, p.Publish(shop))
	f = w.proxy(t, r, "mine")
	f.subscribeHolding(meshconfig.MeshName, held[0])
	f.subscribeHolding(meshconfig.RoutesName(checkout), held[1])
	f.subscribeHolding(meshconfig.AllEndpoints(checkout), held[2:]...)
	if got := f.envelopes(meshconfig.EndpointsName(checkout, 0), meshconfig.EndpointsName(checkout, 1)); !got[1].Tombstone {
		t.Error("the shard that is gone is no tombstone")
	}
	// What is held counts as acked.
	await(t, "the held sections count", func() bool {
		got := r.Programmed([]meshconfig.Name{meshconfig.MeshName, meshconfig.RoutesName(checkout)})
		return got.Subscribed == 1 && got.Acked == 1
	})
	if n := r.Counters().Sent[meshconfig.KindMesh]; n != 1 {
		t.Errorf("sent the mesh section %d times: want once", n)
	}
}

// A stream whose far end does not read holds up nobody, queues nothing, and gets the newest version in the end.
func TestASlowStreamSkipsVersions(t *testing.T) {
	const versions = 100
	w := newWorld(t)
	r := w.replica(t)
	p := w.lead(r, 1)
	shop := w.shop()
	check(t, p.Publish(shop))
	f := w.proxy(t, r, "mine")
	name := meshconfig.EndpointsName(checkout, 0)
	f.subscribe(meshconfig.AllEndpoints(checkout))
	f.envelopes(name, meshconfig.EndpointsName(checkout, 1))
	var last []byte
	for i := range versions {
		m := endpoints(checkout, 0, 2)
		for j := range 2000 {
			m.Endpoints = append(m.Endpoints, &meshconfig.Endpoint{
				Address: "10.0." + string(rune('0'+i%10)) + ".1", Workload: podUID(i), Pod: "shop/" + podUID(j),
			})
		}
		shop[name] = m
		check(t, p.Publish(shop))
		last = r.Hub().Get(name).Envelope
	}
	received := 0
	for {
		received++
		if m := f.receive(); bytes.Equal(m.GetEnvelope(), last) {
			break
		}
	}
	if received >= versions/2 {
		t.Errorf("received %d of %d versions while not reading: want them skipped", received, versions)
	}
}

func TestANackIsReportedUntilItIsAcked(t *testing.T) {
	w := newWorld(t)
	r := w.replica(t)
	check(t, w.lead(r, 1).Publish(w.shop()))
	f := w.proxy(t, r, "mine")
	f.subscribe(meshconfig.MeshName)
	e := f.envelope(meshconfig.MeshName)
	names := []meshconfig.Name{meshconfig.MeshName, meshconfig.RoutesName(checkout)}
	f.nack(e, "table: no")
	f.send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Nack{Nack: &controlapi.Nack{Reason: "encoding"}}})
	await(t, "the nack is reported", func() bool {
		p := r.Programmed(names)
		return p.Subscribed == 1 && p.Acked == 0 && len(p.Nacks) == 1 &&
			p.Nacks[0] == Nack{PodUID: "mine", Section: meshconfig.MeshName, Reason: "table: no"}
	})
	f.ack(e)
	await(t, "the ack takes its place", func() bool {
		p := r.Programmed(names)
		return p.Subscribed == 1 && p.Acked == 1 && len(p.Nacks) == 0
	})
	f.send(unsubscribeOf(string(meshconfig.MeshName)))
	await(t, "the subscription is over", func() bool { return r.Programmed(names).Subscribed == 0 })
	if n := r.Counters().Nacked; n != 2 {
		t.Errorf("counted %d nacks: want 2", n)
	}
}
