// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

const checkout = "checkout.shop"

// desk is a publisher with a hub of its own and no streams.
type desk struct {
	*Publisher

	hub      *Hub
	counters *counters
	resolved map[meshconfig.Name]proto.Message
}

func newDesk(t *testing.T, w *world, term uint64) *desk {
	t.Helper()
	d := &desk{hub: newHub(nil), counters: newCounters(), resolved: make(map[meshconfig.Name]proto.Message)}
	d.Publisher = NewPublisher(PublisherOptions{
		MeshID: meshID, Term: term, Signer: w.signer,
		Resolve: func(name meshconfig.Name) proto.Message {
			if m := d.resolved[name]; m != nil {
				return m
			}
			return &meshconfig.Address{Address: name.Subject()}
		},
	})
	d.bind(d.hub, d.counters)
	d.hub.setSource(d.Publisher)
	return d
}

// counted returns what happens to the counters meanwhile.
func (d *desk) counted(f func()) (encoded, signed, tombstones uint64) {
	before := d.counters.snapshot()
	f()
	after := d.counters.snapshot()
	for kind, n := range after.Signed {
		signed += n - before.Signed[kind]
	}
	return after.Encoded - before.Encoded, signed, after.Tombstones - before.Tombstones
}

func (d *desk) watch(names ...meshconfig.Name) *watcher {
	w := newWatcher(d.hub, false)
	for _, name := range names {
		w.subscribe(name, nil)
	}
	return w
}

func TestOnlyWhatChangedIsSigned(t *testing.T) {
	w := newWorld(t)
	d := newDesk(t, w, 1)
	d.watch(meshconfig.RoutesName(checkout), meshconfig.AllEndpoints(checkout))
	shop := w.shop()
	for _, step := range []struct {
		what                        string
		edit                        func()
		encoded, signed, tombstones uint64
	}{
		{"the first time: all, and the heartbeat", func() {}, 5, 6, 0},
		{"nothing changed", func() {}, 0, 0, 0},
		{"a message made anew with equal content", func() { shop[meshconfig.RoutesName(checkout)] = routes(checkout, 1) }, 1, 0, 0},
		{"a weight", func() { shop[meshconfig.RoutesName(checkout)] = routes(checkout, 2) }, 1, 1, 0},
		{"an endpoint of one shard", func() {
			shop[meshconfig.EndpointsName(checkout, 1)] = endpoints(checkout, 1, 2, "10.0.0.2", "10.0.0.3")
		}, 1, 1, 0},
		{"a shard less: the other says so, and the tombstone", func() {
			shop[meshconfig.EndpointsName(checkout, 0)] = endpoints(checkout, 0, 1, "10.0.0.1")
			delete(shop, meshconfig.EndpointsName(checkout, 1))
		}, 1, 2, 1},
		{"what nobody watches vanishes without a tombstone", func() { delete(shop, meshconfig.InboundName("aaaa")) }, 0, 0, 0},
		{"it comes back", func() { shop[meshconfig.InboundName("aaaa")] = inbound() }, 1, 1, 0},
	} {
		step.edit()
		encoded, signed, tombstones := d.counted(func() { check(t, d.Publish(shop)) })
		if encoded != step.encoded || signed != step.signed || tombstones != step.tombstones {
			t.Errorf("%s: encoded %d, signed %d, tombstones %d: want %d, %d, %d",
				step.what, encoded, signed, tombstones, step.encoded, step.signed, step.tombstones)
		}
	}
}

func TestAddressesAreSignedWhileSomebodyWatches(t *testing.T) {
	w := newWorld(t)
	d := newDesk(t, w, 1)
	shop := w.shop()
	check(t, d.Publish(shop))
	name := meshconfig.Name("address/10.1.2.3")
	var watching *watcher
	_, signed, _ := d.counted(func() { watching = d.watch(name) })
	if signed != 1 || d.hub.Get(name) == nil {
		t.Fatalf("signed %d when the first watcher came: want 1", signed)
	}
	for _, step := range []struct {
		what   string
		edit   func()
		signed uint64
	}{
		{"a second watcher", func() { d.watch(name).close() }, 0},
		{"it is still none of ours", func() {}, 0},
		{"it becomes a service", func() { d.resolved[name] = &meshconfig.Address{Address: "10.1.2.3", Service: checkout} }, 1},
		{"nobody watches it any more", func() { watching.close(); delete(d.resolved, name) }, 0},
	} {
		_, signed, _ := d.counted(func() { step.edit(); check(t, d.Publish(shop)) })
		if signed != step.signed {
			t.Errorf("%s: signed %d: want %d", step.what, signed, step.signed)
		}
	}
	if d.hub.Get(name) != nil {
		t.Error("the hub keeps an address that nobody watches")
	}
}

func TestWhatThereIsNotIsTombstonedOnceSynced(t *testing.T) {
	w := newWorld(t)
	d := newDesk(t, w, 1)
	held := version{serial: signedconfig.Serial{Counter: 1}}
	early := newWatcher(d.hub, false)
	early.subscribe(meshconfig.RoutesName("gone.shop"), nil)
	early.subscribe(meshconfig.AllEndpoints("gone.shop"), nil)
	early.subscribe(meshconfig.AllEndpoints(checkout), holdings{meshconfig.EndpointsName(checkout, 7): held})
	if names := early.take(); len(names) != 0 {
		t.Fatalf("%q were answered before anything was published", names)
	}
	check(t, d.Publish(w.shop()))
	late := newWatcher(d.hub, false)
	late.subscribe(meshconfig.RoutesName("never.shop"), nil)
	late.subscribe(meshconfig.AllEndpoints("never.shop"), nil)
	late.subscribe(meshconfig.AllEndpoints(checkout), holdings{meshconfig.EndpointsName(checkout, 9): held})
	for _, name := range []meshconfig.Name{
		meshconfig.RoutesName("gone.shop"), meshconfig.EndpointsName("gone.shop", 0), meshconfig.EndpointsName(checkout, 7),
		meshconfig.RoutesName("never.shop"), meshconfig.EndpointsName("never.shop", 0), meshconfig.EndpointsName(checkout, 9),
	} {
		if e := d.hub.Get(name); e == nil || !e.Tombstone {
			t.Errorf("section %s: %v: want a tombstone", name, e)
		}
	}
	late.close()
	if e := d.hub.Get(meshconfig.RoutesName("never.shop")); e != nil {
		t.Error("a tombstone that nobody watches is kept")
	}
	if e := d.hub.Get(meshconfig.EndpointsName(checkout, 0)); e == nil || e.Tombstone {
		t.Error("the sections that there are went with it")
	}
}

// A leader of the next term answers for what its replica has cached and the cluster no longer has.
func TestANewLeaderTombstonesWhatTheLastOneLeft(t *testing.T) {
	w := newWorld(t)
	old := newDesk(t, w, 1)
	watching := old.watch(meshconfig.RoutesName(checkout), meshconfig.MeshName)
	shop := w.shop()
	check(t, old.Publish(shop))
	p := NewPublisher(PublisherOptions{MeshID: meshID, Term: 2, Signer: w.signer, Resolve: old.opts.Resolve})
	old.bind(nil, nil)
	p.bind(old.hub, old.counters)
	old.hub.setSource(p)
	for _, name := range watching.take() {
		watching.due(name)
	}
	delete(shop, meshconfig.RoutesName(checkout))
	check(t, p.Publish(shop))
	e := old.hub.Get(meshconfig.RoutesName(checkout))
	if e == nil || !e.Tombstone || e.Serial.Term != 2 {
		t.Errorf("routes: %+v: want a tombstone of term 2", e)
	}
	var due []meshconfig.Name
	for _, name := range watching.take() {
		if watching.due(name) != nil {
			due = append(due, name)
		}
	}
	if !slices.Equal(due, []meshconfig.Name{meshconfig.RoutesName(checkout)}) {
		t.Errorf("%q are sent to who holds the old leader's: want the tombstone alone, the mesh's content is the same", due)
	}
	if err := old.Publish(shop); !errors.Is(err, ErrNotLeader) {
		t.Errorf("the old leader publishes: %v", err)
	}
}

func TestALeaderOfALowerTermIsFenced(t *testing.T) {
	w := newWorld(t)
	d := newDesk(t, w, 5)
	check(t, d.Publish(w.shop()))
	stale := NewPublisher(PublisherOptions{MeshID: meshID, Term: 4, Signer: w.signer, Resolve: d.opts.Resolve})
	stale.bind(d.hub, d.counters)
	if err := stale.Publish(w.shop()); !errors.Is(err, ErrFenced) {
		t.Errorf("Publish: %v: want ErrFenced", err)
	}
	if e := d.hub.Get(meshconfig.MeshName); e.Serial.Term != 5 {
		t.Errorf("the mesh section went back to %s", e.Serial)
	}
}

func TestARenewedSignerSignsAllAnewAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	d := newDesk(t, w, 1)
	d.watch(meshconfig.RoutesName("none.shop"), meshconfig.Name("address/10.1.2.3"))
	shop := w.shop()
	check(t, d.Publish(shop))
	before := make(map[meshconfig.Name]*Entry)
	d.hub.each(func(e *Entry) { before[e.Name] = e })
	check(t, d.SetSigner(w.config.Signer(t, time.Now(), time.Now().Add(2*time.Hour))))
	if len(before) != 8 {
		t.Fatalf("%d sections: want 5 of the shop, heartbeat, address and tombstone", len(before))
	}
	d.hub.each(func(e *Entry) {
		old := before[e.Name]
		if e.Serial.Compare(old.Serial) <= 0 || (e.Digest != old.Digest && e.Name != meshconfig.HeartbeatName) {
			t.Errorf("%s went from %s to %s, same content: %t", e.Name, old.Serial, e.Serial, e.Digest == old.Digest)
		}
	})
	if _, signed, _ := d.counted(func() { check(t, d.Publish(shop)) }); signed != 0 {
		t.Errorf("the next Publish signed %d: want 0", signed)
	}
}

func TestABindingIsForItsPodAlone(t *testing.T) {
	w := newWorld(t)
	d := newDesk(t, w, 3)
	shop := w.shop()
	shop[meshconfig.BindingName("pod")] = &meshconfig.Binding{
		PodUid: "pod", Pod: "shop/pod", Identity: shopper.String(), Inbound: string(meshconfig.InboundName("aaaa")), Workload: "web",
	}
	check(t, d.Publish(shop))
	for name, audience := range map[meshconfig.Name]string{
		meshconfig.BindingName("pod"): signedconfig.AudiencePod("pod"), meshconfig.MeshName: signedconfig.AudienceMesh,
	} {
		v := &signedconfig.Verifier{Roots: w.config.Pool(), MeshID: meshID, Audiences: []string{audience}}
		st, err := v.Verify(d.hub.Get(name).Envelope, signedconfig.OnArrival)
		check(t, err)
		if st.Section != string(name) || st.Serial.Term != 3 || !st.NotAfter.Equal(w.signer.NotAfter()) {
			t.Errorf("statement %+v", st)
		}
	}
}

// One section that cannot be signed holds up no other, keeps its last version and is not taken for gone.
func TestASectionThatCannotBeSignedKeepsItsLastVersion(t *testing.T) {
	w := newWorld(t)
	d := newDesk(t, w, 1)
	shop := w.shop()
	d.watch(meshconfig.RoutesName(checkout))
	check(t, d.Publish(shop))
	first, good := d.hub.Get(meshconfig.RoutesName(checkout)), shop[meshconfig.RoutesName(checkout)]
	shop[meshconfig.RoutesName(checkout)] = routes("other.shop", 1) // not the service of its name
	shop[meshconfig.MeshName] = &meshconfig.Mesh{TrustDomain: domain, WorkloadRoots: [][]byte{w.workload.Certificate.Raw}}
	if err := d.Publish(shop); err == nil {
		t.Fatal("no error")
	}
	if e := d.hub.Get(meshconfig.RoutesName(checkout)); e != first {
		t.Errorf("the routes are %+v: want the last good ones", e)
	}
	keptBack := func() string {
		why := d.unpublished([]meshconfig.Name{meshconfig.RoutesName(checkout), meshconfig.MeshName})
		if len(why) > 1 || why[meshconfig.MeshName] != nil {
			t.Errorf("unpublished: %v: want the routes at most", why)
		}
		return fmt.Sprint(why[meshconfig.RoutesName(checkout)])
	}
	const reason = `section routes/checkout.shop/*: service "other.shop": want that of the name`
	if why := keptBack(); why != reason {
		t.Errorf("kept back for %q: want %q", why, reason)
	}
	check(t, d.SetSigner(w.config.Signer(t, time.Now(), time.Now().Add(2*time.Hour))))
	if why := keptBack(); why != reason {
		t.Errorf("after another signer has signed the last good ones: kept back for %q", why)
	}
	if _, signed, _ := d.counted(func() { _ = d.Publish(shop) }); signed != 0 {
		t.Errorf("signed %d: want 0, the mesh section was published before", signed)
	}
	bad := shop[meshconfig.RoutesName(checkout)]
	shop[meshconfig.RoutesName(checkout)] = good
	check(t, d.Publish(shop))
	if why := keptBack(); why != "<nil>" {
		t.Errorf("what was published before is there again: still kept back for %q", why)
	}
	shop[meshconfig.RoutesName(checkout)] = bad
	never := meshconfig.RoutesName("never.shop")
	shop[never] = routes("other.shop", 1)
	_ = d.Publish(shop)
	d.watch(never)
	if e := d.hub.Get(never); e != nil {
		t.Errorf("a section that could never be signed is answered with %+v: want nothing, it is not gone", e)
	}
	delete(shop, never)
	delete(shop, meshconfig.RoutesName(checkout))
	check(t, d.Publish(shop))
	for _, name := range []meshconfig.Name{meshconfig.RoutesName(checkout), never} {
		if e := d.hub.Get(name); e == nil || !e.Tombstone {
			t.Errorf("%s is %+v: want a tombstone", name, e)
		}
	}
}
