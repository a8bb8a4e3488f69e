// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// hubOf returns a hub with sections whose digests are known.
func hubOf(names ...meshconfig.Name) *Hub {
	h := newHub(nil)
	for i, name := range names {
		h.Put(&Entry{Name: name, Serial: signedconfig.Serial{Counter: uint64(i + 1)}, Digest: digestOf(1)})
	}
	return h
}

func digestOf(n byte) [32]byte { return [32]byte{n} }

func TestAPodCountsOnceAndForAllItSubscribesTo(t *testing.T) {
	names := []meshconfig.Name{
		"mesh", "routes/a.b/*", meshconfig.EndpointsName("a.b", 0), meshconfig.EndpointsName("a.b", 1), "routes/unpublished.b/*",
	}
	tr := newTracker(hubOf(names[:4]...))
	tr.connect(1, "one", 1)
	tr.connect(2, "two", 1)
	tr.connect(3, "idle", 1)
	for owner, uid := range map[uint64]string{1: "one", 2: "two"} {
		tr.subscribe(owner, uid, "mesh", nil)
		tr.subscribe(owner, uid, "routes/unpublished.b/*", nil)
	}
	tr.subscribe(2, "two", meshconfig.AllEndpoints("a.b"), holdings{meshconfig.EndpointsName("a.b", 0): {digest: digestOf(1)}})
	for i, step := range []struct {
		do         func()
		acked, all int
	}{
		{func() {}, 0, 2},
		{func() { tr.ack(1, "one", "mesh", digestOf(1)) }, 1, 2},
		{func() { tr.ack(2, "two", "mesh", digestOf(1)) }, 1, 2},
		{func() { tr.ack(2, "two", meshconfig.EndpointsName("a.b", 1), digestOf(9)) }, 1, 2},
		{func() { tr.ack(2, "two", meshconfig.EndpointsName("a.b", 1), digestOf(1)) }, 2, 2},
		{func() { tr.ack(1, "two", "mesh", digestOf(2)) }, 2, 2}, // of another stream
		{func() { tr.hub.Put(&Entry{Name: "mesh", Serial: signedconfig.Serial{Counter: 9}, Digest: digestOf(2)}) }, 0, 2},
		{func() { tr.ack(1, "one", "mesh", digestOf(2)) }, 1, 2},
		{func() { tr.disconnect(1, "two") }, 1, 2}, // of another stream
		{func() { tr.disconnect(2, "two") }, 1, 1},
		{func() { tr.unsubscribe(1, "one", "mesh") }, 0, 0},
	} {
		step.do()
		if p := tr.programmed(names, nil); p.Acked != step.acked || p.Subscribed != step.all {
			t.Errorf("step %d: %d of %d: want %d of %d", i, p.Acked, p.Subscribed, step.acked, step.all)
		}
	}
}

func TestNobodyHoldsWhatIsNotPublished(t *testing.T) {
	kept, never := meshconfig.Name("routes/a.b/*"), meshconfig.Name("routes/c.b/*")
	names := []meshconfig.Name{"mesh", kept, never}
	tr := newTracker(hubOf("mesh", kept))
	subscribe := func(owner uint64, uid string, names ...meshconfig.Name) {
		tr.connect(owner, uid, 1)
		for _, name := range names {
			tr.subscribe(owner, uid, name, holdings{name: {digest: digestOf(1)}})
		}
	}
	subscribe(1, "one", "mesh")
	subscribe(2, "two", "mesh", kept)
	subscribe(3, "three", "mesh", never)
	for what, tc := range map[string]struct {
		unpublished map[meshconfig.Name]error
		acked       int
		reasons     string
	}{
		"all is published":                           {nil, 3, "[]"},
		"an older version of one is":                 {map[meshconfig.Name]error{kept: errors.New("too long")}, 2, "[too long]"},
		"and one never was":                          {map[meshconfig.Name]error{never: errors.New("no key"), kept: errors.New("too long")}, 1, "[too long no key]"},
		"one that never was, and that some wait for": {map[meshconfig.Name]error{never: errors.New("no key")}, 2, "[no key]"},
	} {
		p := tr.programmed(names, tc.unpublished)
		if p.Acked != tc.acked || p.Subscribed != 3 || fmt.Sprint(p.Unpublished) != tc.reasons || p.MoreUnpublished != 0 {
			t.Errorf("%s: %+v: want %d of 3, and %s", what, p, tc.acked, tc.reasons)
		}
	}
	many := map[meshconfig.Name]error{}
	for i := range 2 * maxNacks {
		name := meshconfig.RoutesName(fmt.Sprintf("s%02d.b", i))
		many[name] = errors.New(string(name))
	}
	if p := tr.programmed(names, many); len(p.Unpublished) != maxNacks || p.MoreUnpublished != maxNacks || p.Unpublished[0].Error() != "routes/s00.b/*" {
		t.Errorf("%v and %d more: want the first %d", p.Unpublished, p.MoreUnpublished, maxNacks)
	}
}

func TestNacksAreSortedAndBounded(t *testing.T) {
	tr := newTracker(hubOf("mesh"))
	for i := range 2 * maxNacks {
		uid := podUID(i)
		tr.connect(uint64(i), uid, 1)
		tr.subscribe(uint64(i), uid, "mesh", nil)
		tr.nack(uint64(i), uid, "mesh", digestOf(1), "no")
	}
	tr.nack(0, podUID(0), "mesh", digestOf(3), "of a version that is not the newest")
	p := tr.programmed([]meshconfig.Name{"mesh"}, nil)
	if len(p.Nacks) != maxNacks || p.MoreNacks != maxNacks-1 || p.Nacks[0].PodUID != podUID(1) {
		t.Errorf("%d nacks from %s and %d more: want %d from %s and %d more",
			len(p.Nacks), p.Nacks[0].PodUID, p.MoreNacks, maxNacks, podUID(1), maxNacks-1)
	}
}

// Whatever happens on a replica, in whatever batches it is reported, the leader ends up counting the same.
func TestReportsTellTheLeaderAll(t *testing.T) {
	const seeds = 200
	names := []meshconfig.Name{"mesh", "routes/a.b/*", meshconfig.EndpointsName("a.b", 0), meshconfig.EndpointsName("a.b", 1)}
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, seed))
		hub := hubOf(names...)
		replica, leader := newTracker(hub), newTracker(hub)
		source := leader.newOwner()
		reconnect := func() {
			replica.endReports()
			leader.lose(source, time.Time{})
			source = leader.newOwner()
			replica.beginReports()
		}
		owners := make(map[string]uint64)
		for range 100 {
			uid, name := podUID(random.IntN(3)), names[random.IntN(len(names))]
			owner, connected := owners[uid]
			switch action := random.IntN(12); {
			case action == 0 && connected:
				replica.disconnect(owner, uid)
				delete(owners, uid)
			case !connected:
				owners[uid] = replica.newOwner()
				replica.connect(owners[uid], uid, owners[uid])
			case action <= 2:
				replica.unsubscribe(owner, uid, name.Subscription())
			case action <= 6:
				replica.subscribe(owner, uid, name.Subscription(), nil)
			case action <= 9:
				replica.ack(owner, uid, name, digestOf(1))
			default:
				replica.nack(owner, uid, name, digestOf(1), "no")
			}
			switch random.IntN(20) {
			case 0:
				reconnect()
			case 1, 2, 3:
				leader.apply(source, replica.report())
			}
		}
		reconnect()
		leader.apply(source, replica.report())
		leader.expire(time.Time{}.Add(lostGrace))
		for _, name := range names {
			if a, b := fmt.Sprint(replica.programmed([]meshconfig.Name{name}, nil)), fmt.Sprint(leader.programmed([]meshconfig.Name{name}, nil)); a != b {
				t.Fatalf("seed %d, section %s: the replica counts %s, the leader %s", seed, name, a, b)
			}
		}
	}
}

func TestAReportOfAPodThatMovedOnIsStale(t *testing.T) {
	tr := newTracker(hubOf("mesh"))
	from, to := tr.newOwner(), tr.newOwner()
	report := func(session uint64, full, gone bool) []*controlapi.PodReport {
		d := digestOf(1)
		return []*controlapi.PodReport{{
			PodUid: "pod", Session: session, Full: full, Gone: gone,
			Sections: []*controlapi.SectionReport{{Name: "mesh", Digest: d[:]}},
		}}
	}
	counted := func() int { return tr.programmed([]meshconfig.Name{"mesh"}, nil).Acked }
	tr.apply(from, report(1, false, false))
	if counted() != 0 {
		t.Error("a change of a pod that nobody told of counts")
	}
	tr.apply(from, report(1, true, false))
	tr.apply(to, report(2, true, false))
	tr.apply(from, report(1, false, true))
	if counted() != 1 {
		t.Error("the old replica's report that the pod is gone counts")
	}
	tr.apply(from, report(1, true, false))
	tr.lose(from, time.Time{})
	tr.expire(time.Time{}.Add(lostGrace))
	if counted() != 1 {
		t.Error("the pod went with the replica that it left")
	}
	tr.apply(to, report(2, false, true))
	if counted() != 0 {
		t.Error("the pod is gone and counts")
	}
}

func TestAReportOfAPodThatHoldsALotIsSplit(t *testing.T) {
	tr := newTracker(newHub(nil))
	tr.beginReports()
	tr.connect(1, "pod", 1)
	for i := range 3 * sectionsPerReport {
		tr.subscribe(1, "pod", meshconfig.InboundName(podUID(i)), nil)
	}
	got := newTracker(newHub(nil))
	parts := tr.report()
	if len(parts) < 3 {
		t.Errorf("%d parts: want it split", len(parts))
	}
	got.apply(1, parts)
	if n := len(got.pods["pod"].subs); n != 3*sectionsPerReport {
		t.Errorf("the leader knows %d subscriptions: want %d", n, 3*sectionsPerReport)
	}
}

func TestHintsAreBoundedAndForgetWhatWasDialledLongestAgo(t *testing.T) {
	h := newHints()
	all := func(meshconfig.Name) bool { return true }
	for i := range maxHints + 10 {
		h.add(shopper, meshconfig.RoutesName(fmt.Sprintf("s%d.shop", i)))
	}
	h.add(shopper, meshconfig.MeshName)
	h.add(shopper, meshconfig.RoutesName("s20.shop"))
	got := h.of(shopper, all)
	if len(got) != maxHints || got[0] != "routes/s20.shop/*" || got[len(got)-1] != "routes/s10.shop/*" {
		t.Errorf("%d hints, from %s to %s: want %d from s20 to s10", len(got), got[0], got[len(got)-1], maxHints)
	}
	for i := range maxIdentities {
		h.add(identity.ID{TrustDomain: domain, Namespace: "shop", ServiceAccount: fmt.Sprint(i)}, meshconfig.RoutesName("a.b"))
	}
	if n := len(h.of(shopper, all)); n != 0 {
		t.Errorf("%d hints of the identity that was used longest ago: want it forgotten", n)
	}
}
