// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

func healthOf(services ...*controlapi.ServiceHealth) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Health{Health: &controlapi.Health{Services: services}}}
}

// seen is what a tracker knows that a pod sees.
func (r *replica) seen(uid string) map[string]*controlapi.ServiceHealth {
	r.tracker.mu.Lock()
	defer r.tracker.mu.Unlock()
	if pod := r.tracker.pods[uid]; pod != nil {
		return pod.health
	}
	return nil
}

func (r *replica) sum(service string) string {
	r.tracker.sumHealth()
	h := r.Health(service)
	return fmt.Sprintf("%v and %d more, %d short of budget", h.Ejected, h.MoreEjected, h.Exhausted)
}

func TestAProxyIsHeardAboutWhatItUsesAndWithinBounds(t *testing.T) {
	w := newWorld(t)
	leader := w.replica(t)
	check(t, w.lead(leader, 1).Publish(w.shop()))
	f := w.proxy(t, leader, "mine")
	f.subscribe(meshconfig.RoutesName(checkout), meshconfig.AllEndpoints("v2.shop"))
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("10.0.0.%d:80", 30-i))
	}
	f.send(healthOf(
		&controlapi.ServiceHealth{Service: checkout, Ejected: append([]string{"not an address"}, many...), MoreEjected: 5},
		&controlapi.ServiceHealth{Service: "others.bank", BudgetExhausted: true},
		&controlapi.ServiceHealth{Service: "v2.shop", Ejected: []string{"[fd00::1%eth0]:80", "[fd00:0::1]:80"}},
	))
	await(t, "the leader hears of it", func() bool { return len(leader.seen("mine")) > 0 })
	seen := leader.seen("mine")
	if len(seen) != 2 || len(seen[checkout].GetEjected()) != maxHealthEjected-1 || !slices.Equal(seen["v2.shop"].GetEjected(), []string{"[fd00::1]:80"}) {
		t.Errorf("kept %v", seen)
	}
	f.send(healthOf(&controlapi.ServiceHealth{Service: checkout}))
	await(t, "what is well again is forgotten", func() bool { return len(leader.seen("mine")) == 0 })
}

func TestAReplicaTellsNothingOfItsOwn(t *testing.T) {
	w := newWorld(t)
	leader := w.replica(t)
	w.lead(leader, 1)
	f := w.dial(t, leader, w.serving.Server(t, serverName))
	f.hello("")
	f.hint()
	f.send(healthOf())
	f.refused(connect.CodePermissionDenied)
}

func TestTheLeaderPutsTogetherWhatAllProxiesSee(t *testing.T) {
	w := newWorld(t)
	leader, relay := w.replica(t), w.replica(t)
	check(t, w.lead(leader, 1).Publish(w.shop()))
	near, far := w.proxy(t, leader, "near"), w.proxy(t, relay, "far")
	near.subscribeAll()
	far.subscribeAll()
	near.send(healthOf(&controlapi.ServiceHealth{Service: checkout, Ejected: []string{"10.0.0.1:80", "10.0.0.2:80"}, BudgetExhausted: true}))
	far.send(healthOf(&controlapi.ServiceHealth{Service: checkout, Ejected: []string{"10.0.0.2:80"}, MoreEjected: 3, BudgetExhausted: true}))
	await(t, "the leader hears of both", func() bool {
		return leader.sum(checkout) == "[10.0.0.1:80 10.0.0.2:80] and 2 more, 2 short of budget"
	})
	if leader.tracker.sumHealth() {
		t.Error("the same again is a change")
	}
	near.close()
	await(t, "what a pod saw goes with it", func() bool { return leader.sum(checkout) == "[10.0.0.2:80] and 3 more, 1 short of budget" })
	far.send(healthOf())
	await(t, "a replica passes on that all is well", func() bool { return leader.sum(checkout) == "[] and 0 more, 0 short of budget" })
}

// A pod may be behind a Service and a backend that it is divided among, and is one then.
func TestWhatIsEjectedOfBackendsIsShownWithTheirRoot(t *testing.T) {
	tr := newTracker(newHub(nil))
	tr.connect(1, "pod", 1)
	tr.setHealth(1, "pod", map[string]*controlapi.ServiceHealth{
		checkout:   {Service: checkout, Ejected: []string{"10.0.0.2:80"}, BudgetExhausted: true},
		"v1.shop":  {Service: "v1.shop", Ejected: []string{"10.0.0.1:80", "10.0.0.2:80"}, MoreEjected: 3, BudgetExhausted: true},
		"v2.shop":  {Service: "v2.shop", Ejected: []string{"10.0.0.3:80"}},
		"v4.shop":  {Service: "v4.shop", Ejected: []string{"10.0.0.4:80"}, MoreEjected: 2},
		"all.shop": {Service: "all.shop", Ejected: []string{"10.0.0.1:80", "10.0.0.2:80"}, MoreEjected: 7},
	})
	tr.sumHealth()
	n := &Node{tracker: tr}
	for name, c := range map[string]struct {
		backends []string
		want     string
	}{
		"the Service alone":                          {nil, "[10.0.0.2:80] and 0 more, 1 short of budget"},
		"a backend of which more is out":             {[]string{"v1.shop"}, "[10.0.0.1:80 10.0.0.2:80] and 3 more, 1 short of budget"},
		"two of them, and one that all is well with": {[]string{"v1.shop", "v2.shop", "v3.shop"}, "[10.0.0.1:80 10.0.0.2:80 10.0.0.3:80] and 3 more, 1 short of budget"},
		"two with more than is listed":               {[]string{"v1.shop", "v4.shop"}, "[10.0.0.1:80 10.0.0.2:80 10.0.0.4:80] and 5 more, 1 short of budget"},
	} {
		t.Run(name, func(t *testing.T) {
			h := n.Health(checkout, c.backends...)
			if got := fmt.Sprintf("%v and %d more, %d short of budget", h.Ejected, h.MoreEjected, h.Exhausted); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if h := n.Health("all.shop", "v2.shop", "v4.shop"); len(h.Ejected) != 4 || h.MoreEjected != 5 {
		t.Errorf("%+v: want the 9 of a Service that may have the pods of its backends", h)
	}
	if again := n.Health("v1.shop").Ejected; !slices.Equal(again, []string{"10.0.0.1:80", "10.0.0.2:80"}) {
		t.Errorf("asking has changed what is known: %v", again)
	}
}

// A stream to a leader begins with all that pods see.
func TestANewLeaderHearsOfWhatIsAmiss(t *testing.T) {
	tr, leader := newTracker(newHub(nil)), newTracker(newHub(nil))
	tr.connect(1, "pod", 1)
	tr.setHealth(1, "pod", map[string]*controlapi.ServiceHealth{checkout: {Service: checkout, BudgetExhausted: true}})
	tr.setHealth(2, "pod", nil) // of another stream
	tr.beginReports()
	leader.apply(leader.newOwner(), tr.report())
	if leader.sumHealth(); leader.health[checkout].Exhausted != 1 {
		t.Errorf("the leader knows %v", leader.health)
	}
	if reports := tr.report(); len(reports) > 0 {
		t.Errorf("told again: %v", reports)
	}
}
