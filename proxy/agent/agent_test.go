// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/distribute"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

func TestAProxyGetsItsCertificateAndConfig(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	p := start(t, w.files(t, "pod", o.address))
	await(t, "the proxy is ready", p.ready)
	if p.Identity().Certificate().Leaf.URIs[0].String() != shopper.String() || p.Identity().Roots() == nil || !p.Connected() {
		t.Errorf("identity %s, roots %v, connected %t", p.Identity().Certificate().Leaf.URIs, p.Identity().Roots(), p.Connected())
	}
	p.Want(routesName, meshconfig.EndpointsName(checkout, 0), "address/10.1.2.3")
	await(t, "what the table wants arrives", func() bool {
		return p.weight() == 1 && p.in(meshconfig.EndpointsName(checkout, 0)) != nil && p.in("address/10.1.2.3") != nil
	})
	shop[routesName] = routes(checkout, 2)
	check(t, publisher.Publish(shop))
	await(t, "an edit arrives", func() bool { return p.weight() == 2 })
	await(t, "it is acked", func() bool {
		n := o.Programmed([]meshconfig.Name{routesName})
		return n.Subscribed == 1 && n.Acked == 1
	})
	delete(shop, routesName)
	check(t, publisher.Publish(shop))
	await(t, "a deletion arrives", func() bool { return p.wasRemoved(routesName) })
	shop[routesName] = routes(checkout, 3)
	check(t, publisher.Publish(shop))
	await(t, "it comes back", func() bool { return p.weight() == 3 })
	p.Unwant(routesName)
	await(t, "the operator hears that it is not wanted", func() bool { return o.Programmed([]meshconfig.Name{routesName}).Subscribed == 0 })
	await(t, "the heartbeat arrives", func() bool { return !p.Heartbeat().IsZero() })
	if len(p.Rejected()) > 0 {
		t.Errorf("refused %v", p.Rejected())
	}
	if s := p.Serial(); s.Term != 1 || s.Counter == 0 {
		t.Errorf("serial %s", s)
	}
	d := p.Dump()
	if d.Ready != "yes" || len(d.Sections) != 6 || len(p.Identity().Dump().Roots) != 1 {
		t.Errorf("dump %+v, certificates %+v", d, p.Identity().Dump())
	}
	for _, s := range d.Sections {
		kept, err := p.Envelope(string(s.Name))
		if err != nil {
			t.Fatal(err)
		}
		if e, err := signedconfig.Decode(kept); err != nil || e.Section != string(s.Name) {
			t.Errorf("the envelope of %s: %v", s.Name, err)
		}
	}
	for _, none := range []string{"routes/none.shop/*", "../floors", ""} {
		if _, err := p.Envelope(none); err == nil {
			t.Errorf("there is an envelope of %q", none)
		}
	}
}

// A section that the table dropped and wants again is another subscription: it is sent again.
func TestWhatIsWantedAgainIsSentAgain(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	p := start(t, w.files(t, "pod", o.address))
	for range 20 {
		p.Want(routesName)
		await(t, "the routes arrive", func() bool { return p.weight() == 1 })
		p.mu.Lock()
		delete(p.table, routesName)
		p.mu.Unlock()
		p.Unwant(routesName)
	}
	if len(p.Rejected()) > 0 {
		t.Errorf("refused %v", p.Rejected())
	}
}

// So is one that the table dropped, and wants again, while it was being applied: the table has it no more.
func TestWhatIsDroppedWhileItIsAppliedIsSentAgain(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	p := prepare(t, w.files(t, "pod", o.address))
	apply, applied := p.opts.Apply, 0
	p.opts.Apply = func(name meshconfig.Name, m proto.Message) error {
		if name != routesName {
			return apply(name, m)
		}
		if applied++; applied == 1 {
			p.Unwant(routesName)
			p.Want(routesName)
			return nil
		}
		return apply(name, m)
	}
	p.Want(routesName)
	p.run(t)
	await(t, "the routes arrive a second time", func() bool { return p.weight() == 1 })
}

func TestABindingWaitsForItsInboundSection(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	p := start(t, w.files(t, "pod", o.address))
	await(t, "the proxy is ready", p.ready)
	bound := func() string { return p.in(meshconfig.BindingName("pod")).(*meshconfig.Binding).GetInbound() }

	// The table cannot put the next inbound section in force: the binding that names it waits, the last one stays.
	next := meshconfig.InboundName("bbbb")
	p.mu.Lock()
	p.refuse[next] = true
	p.mu.Unlock()
	shop[next] = inbound()
	shop[meshconfig.BindingName("pod")] = binding("pod", next)
	delete(shop, inboundName)
	check(t, publisher.Publish(shop))
	await(t, "the inbound section is refused", func() bool { return p.Rejected()[reasonTable] == 1 })
	if got := bound(); got != string(inboundName) || !p.ready() || p.Dump().Pending != string(next) {
		t.Errorf("bound to %s, ready %t, pending %q: want the last policy to stay and the next to be waited for", got, p.ready(), p.Dump().Pending)
	}
	if n := o.Programmed([]meshconfig.Name{meshconfig.BindingName("pod"), next}); n.Acked != 0 {
		t.Error("the binding is acked before it is in force")
	}
	// A newer version supersedes it.
	last := meshconfig.InboundName("cccc")
	shop[last] = inbound()
	shop[meshconfig.BindingName("pod")] = binding("pod", last)
	check(t, publisher.Publish(shop))
	await(t, "the newest policy is in force", func() bool { return bound() == string(last) })
	await(t, "it is acked", func() bool { return o.Programmed([]meshconfig.Name{meshconfig.BindingName("pod"), last}).Acked == 1 })
	await(t, "the others are given up", func() bool {
		return o.Programmed([]meshconfig.Name{next}).Subscribed == 0 && o.Programmed([]meshconfig.Name{inboundName}).Subscribed == 0
	})
}

// A binding that waits is given up when the one in force is signed again after it.
func TestABindingThatIsTakenBackIsNotPutInForce(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	p := start(t, w.files(t, "pod", o.address))
	await(t, "the proxy is ready", p.ready)
	next, name := meshconfig.InboundName("bbbb"), meshconfig.BindingName("pod")
	p.mu.Lock()
	p.refuse[next] = true
	p.mu.Unlock()
	shop[next], shop[name] = inbound(), binding("pod", next)
	check(t, publisher.Publish(shop))
	await(t, "the next binding waits", func() bool { return p.Rejected()[reasonTable] == 1 })
	shop[name] = binding("pod", inboundName)
	check(t, publisher.Publish(shop))
	await(t, "the last binding is acked again", func() bool { return o.Programmed([]meshconfig.Name{name}).Acked == 1 })
	await(t, "nobody waits for the next inbound section", func() bool { return o.Programmed([]meshconfig.Name{next}).Subscribed == 0 })
	if d := p.Dump(); d.Pending != "" || !p.ready() {
		t.Errorf("pending %q, ready %t", d.Pending, p.ready())
	}
}

// What the workload itself needs stays in force when it is deleted.
func TestADeletedBindingStaysInForce(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	publisher := w.lead(o, 1)
	shop := w.shop("pod")
	check(t, publisher.Publish(shop))
	opts := w.files(t, "pod", o.address)
	p := start(t, opts)
	await(t, "the proxy is ready", p.ready)
	delete(shop, meshconfig.BindingName("pod"))
	delete(shop, inboundName)
	check(t, publisher.Publish(shop))
	await(t, "the tombstone is acked", func() bool { return o.Programmed([]meshconfig.Name{meshconfig.BindingName("pod")}).Acked == 1 })
	if !p.ready() {
		t.Errorf("not ready: %v", p.Ready())
	}
	o.stop()
	p.stop()
	p = start(t, opts)
	await(t, "the proxy is ready after a restart too", p.ready)
}

func TestANewPodBeginsWithWhatOthersUse(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("first", "second")))
	first := start(t, w.files(t, "first", o.address))
	first.Want(routesName)
	await(t, "the first pod has the routes", func() bool { return first.weight() == 1 })
	second := start(t, w.files(t, "second", o.address))
	await(t, "the second pod has them unasked", func() bool { return second.weight() == 1 })
}

func TestAPodThatIsDeletedIsToldOnce(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	p := start(t, w.files(t, "pod", o.address))
	await(t, "the proxy is ready", p.ready)
	w.pods.Set("pod", shopper, true)
	told := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.terminated
	}
	await(t, "the proxy is told", func() bool { return told() == 1 })
	next := w.operator(t)
	check(t, w.lead(next, 2).Publish(w.shop("pod")))
	if told() != 1 {
		t.Error("told twice")
	}
}

// Wrong callers get no config, say why they are not ready, and are counted by the operator.
func TestWrongCallersAreNotReadyAndSayWhy(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	w.pods.Set("other", identity.ID{TrustDomain: domain, Namespace: "shop", ServiceAccount: "other"}, false)
	for what, c := range map[string]struct {
		uid     string
		says    string
		refused distribute.Refusal
	}{
		"a pod of another service account": {"other", "does not run as", distribute.RefusedIdentity},
		"a pod that does not exist":        {"nobody", "not the UID of a live injected pod", distribute.RefusedPod},
	} {
		t.Run(what, func(t *testing.T) {
			p := start(t, w.files(t, c.uid, o.address))
			await(t, "the operator refuses", func() bool { return o.Counters().Refused[c.refused] > 0 })
			await(t, "the proxy says why", func() bool {
				err := p.Ready()
				return err != nil && strings.Contains(err.Error(), c.says)
			})
			if len(p.all()) > 0 {
				t.Errorf("it got %v", p.all())
			}
		})
	}
}

func TestAServerOfAnotherNameOrCAIsNotTalkedTo(t *testing.T) {
	w := newWorld(t)
	o := w.operator(t)
	check(t, w.lead(o, 1).Publish(w.shop("pod")))
	for what, change := range map[string]func(*Options){
		"another name": func(o *Options) { o.ControlServerName = "heddle-operator.elsewhere.svc" },
		"another CA": func(o *Options) {
			other := newWorld(t).files(t, "pod", o.ControlAddress)
			o.RootsDir = other.RootsDir
		},
		"no roots": func(o *Options) { o.RootsDir = t.TempDir() },
	} {
		t.Run(what, func(t *testing.T) {
			before := w.identities.issued.Load()
			opts := w.files(t, "pod", o.address)
			change(&opts)
			p := start(t, opts)
			await(t, "the proxy says why", func() bool {
				err := p.Ready()
				return err != nil && strings.Contains(err.Error(), "x509")
			})
			if w.identities.issued.Load() != before {
				t.Error("it sent its token to a server that it cannot trust")
			}
		})
	}
}
