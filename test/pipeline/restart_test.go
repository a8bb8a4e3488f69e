// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// A proxy that restarts while the operator is away serves at once from what it kept. What is wrong with that is refused,
// and so is what is older.
func TestAProxyRestartsWithoutTheOperator(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	m.apply(service("pay", 3))
	m.run(pod("pay", 5, 1))
	web, operator := m.workload("shop/web-1"), m.replicas[0]
	client := web.client()
	routes, spoilt := meshconfig.RoutesName("cart.shop"), meshconfig.RoutesName("pay.shop")
	for _, url := range []string{"http://cart.shop/", "http://pay.shop/"} {
		client.becomes("all serve", url, func(a answer) bool { return a.served() == nil })
	}
	m.settle()
	replayed := operator.Hub().Get(routes).Envelope
	m.apply(split(1, 0))
	m.settle()
	kept := web.sidecar().held()

	web.door.lead("") // the operator is away
	web.sidecar().stop()
	begun := time.Now()
	p := web.startProxy()
	if a := client.firstAnswer("http://cart.shop/"); a.served() != nil {
		t.Errorf("after a restart: %v", a)
	}
	t.Logf("served %s after the start of the proxy", time.Since(begun).Round(time.Millisecond))
	if len(p.agent.Rejected()) > 0 || p.agent.Connected() {
		t.Errorf("refused %v, connected %t", p.agent.Rejected(), p.agent.Connected())
	}
	for name, s := range kept {
		if p.held()[name].Serial != s.Serial {
			t.Errorf("%s is not what was kept", name)
		}
	}

	// One file is not what it was.
	p.stop()
	data, err := os.ReadFile(kept[spoilt].File)
	check(t, err)
	data[strings.Index(string(data), "pay")] ^= 1
	check(t, os.WriteFile(kept[spoilt].File, data, 0o600))
	p = web.startProxy()
	if a := client.firstAnswer("http://cart.shop/"); a.served() != nil {
		t.Errorf("with another section's file spoilt: %v", a)
	}
	if n := p.rejected(signedconfig.ReasonSignature); n != 1 || len(p.agent.Rejected()) != 1 {
		t.Errorf("refused %v: want one for its signature", p.agent.Rejected())
	}
	if a := client.get("http://pay.shop/"); a.reason != "unknown_destination" {
		t.Errorf("of the spoilt section: %v", a)
	}

	// Who answers in the operator's place cannot turn it back.
	e := m.evil()
	web.door.lead(e.address)
	stream := e.connected(string(web.pod.UID))
	stream.send <- replayed
	if nack := stream.nack(m); nack.GetName() != string(routes) || p.rejected(signedconfig.ReasonSerial) != 1 {
		t.Errorf("nack %v, counted %d", nack, p.rejected(signedconfig.ReasonSerial))
	}
	if a := client.get("http://cart.shop/"); a.served() != nil {
		t.Errorf("after a replay: %v", a)
	}

	web.door.lead(operator.address)
	client.becomes("what was spoilt is back", "http://pay.shop/", servedBy("pay-1"))
	m.apply(split(0, 1))
	client.becomes("an edit is in force", "http://cart.shop/", servedBy("cart-v2-1"))
}

// firstAnswer asks until a proxy or an application answers: until then connections are refused.
func (c *client) firstAnswer(url string) (a answer) {
	c.from.mesh.Helper()
	await(c.from.mesh, "an answer", func() bool {
		a = c.get(url)
		return a.err == nil && a.reason != "not_ready"
	})
	return a
}

// An address of the mesh's networks that nobody has is refused, with the operator and without; what is known stays so.
func TestUnknownDestinations(t *testing.T) {
	t.Parallel()
	// Between the hold of a second and what a busy machine adds to it.
	const hold, most = 900 * time.Millisecond, 5 * time.Second
	m := shop(t, settings{})
	web := m.workload("shop/web-1")
	client := web.client()
	client.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	refused := func(what, url string, least time.Duration) {
		t.Helper()
		begun := time.Now()
		a := client.get(url)
		if took := time.Since(begun); a.status != 502 || a.reason != "unknown_destination" || took < least || took > most {
			t.Errorf("%s: after %s: %v", what, took, a)
		}
	}
	refused("with the operator", "http://10.250.0.1/", 0)
	refused("a port that the Service has not", "http://10.96.0.1:81/", 0)
	m.settle()

	web.door.lead("")
	await(t, "the operator is away", func() bool { return !web.sidecar().agent.Connected() })
	refused("without the operator", "http://10.250.0.2/", hold)
	refused("a Service that was never dialled", "http://10.96.0.2/", hold)
	refused("one that was asked for before", "http://10.250.0.1/", 0)
	if a := client.get("http://cart.shop/"); a.served() != nil {
		t.Errorf("what is known: %v", a)
	}
	if _, err := web.lines("10.250.0.3:70"); err == nil {
		t.Error("a TCP connection to an unknown address is let through")
	}
	web.door.lead(m.replicas[0].address)
	client.becomes("the Service is known once the operator is back", "http://10.96.0.2/", servedBy("cart-v2-1"))
}
