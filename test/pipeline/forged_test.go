// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// stolen are routes that send the callers of cart elsewhere.
func stolen() *meshconfig.Routes {
	return &meshconfig.Routes{Service: "cart.shop", Ports: []*meshconfig.ServicePort{{
		Port: 80, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1,
		Backends: []*meshconfig.WeightedBackend{{Name: "evil", Service: "cart-v2.shop", Port: 80, Weight: 1}},
	}}}
}

// forgery is an envelope and why it must be refused.
type forgery struct {
	what     string
	envelope []byte
	reason   string
	named    bool // the nack names the section: the proxy uses one of this name
}

// forgeries are envelopes that someone can make who has the control server and the workload CA, but not the config CA's
// signer; replayed is one that was genuine once.
func (m *mesh) forgeries(replayed []byte) []forgery {
	m.Helper()
	now, routes := time.Now(), meshconfig.RoutesName("cart.shop")
	edit := func(change func(*signedconfig.Statement)) []byte {
		st := statement(routes, stolen())
		change(st)
		return m.sign(m.signer, st)
	}
	sound := edit(func(*signedconfig.Statement) {})
	old := statement(routes, stolen())
	old.IssuedAt = now.Add(-90 * time.Minute)
	return []forgery{
		{"signed by a certificate of the workload CA", m.sign(m.authorities.workload.Signer(m, time.Time{}, time.Time{}), statement(routes, stolen())), signedconfig.ReasonSigner, true},
		{"signed by another mesh's signer", m.sign(newAuthorities(m).signer, statement(routes, stolen())), signedconfig.ReasonSigner, true},
		{"signed by a signer that has expired", m.sign(m.config.Signer(m, now.Add(-2*time.Hour), now.Add(-time.Hour)), old), signedconfig.ReasonExpired, true},
		{"for another mesh", edit(func(st *signedconfig.Statement) { st.MeshID = "another" }), signedconfig.ReasonMeshID, true},
		{"for another pod", edit(func(st *signedconfig.Statement) { st.Audience = signedconfig.AudiencePod("another") }), signedconfig.ReasonAudience, true},
		{"truncated", sound[:len(sound)-7], signedconfig.ReasonEncoding, false},
		{"with a bit of the payload flipped", flip(m, sound), signedconfig.ReasonSignature, true},
		{"a section that nobody asked for", edit(func(st *signedconfig.Statement) { st.Section = "routes/pay.shop/*" }), signedconfig.ReasonNotRequested, false},
		{"replayed", replayed, signedconfig.ReasonSerial, true},
		{"with another section's payload type", edit(func(st *signedconfig.Statement) { st.PayloadType = meshconfig.PayloadType(meshconfig.KindMesh) }), signedconfig.ReasonPayload, true},
	}
}

// flip flips one bit of the name of the backend in the payload.
func flip(m *mesh, envelope []byte) []byte {
	m.Helper()
	at := strings.Index(string(envelope), "evil")
	if at < 0 {
		m.Fatal("the envelope holds no backend")
	}
	out := slices.Clone(envelope)
	out[at] ^= 1
	return out
}

// Whoever takes over the control server can hold config back, and nothing else: each forgery is refused for its own
// reason, counted and nacked, and traffic goes on as it did.
func TestForgedConfigIsRefused(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	web := m.workload("shop/web-1")
	client, p := web.client(), web.sidecar()
	client.becomes("cart serves", "http://cart.shop/", servedBy("cart-1"))
	m.settle()
	replayed := m.replicas[0].Hub().Get(meshconfig.RoutesName("cart.shop")).Envelope
	m.apply(split(1, 0))
	m.settle()
	genuine := p.held()

	stop := m.load(2, func() error {
		a := client.get("http://cart.shop/")
		if !servedBy("cart-1")(a) {
			return fmt.Errorf("a forgery counts: %v", a)
		}
		return nil
	})
	e := m.evil()
	web.door.lead(e.address)
	stream := e.connected(string(web.pod.UID))
	for _, f := range m.forgeries(replayed) {
		counted, rejected := p.rejected(f.reason), p.agent.Rejected()
		stream.send <- f.envelope
		nack := stream.nack(m)
		if named := nack.GetName() != ""; named != f.named || !strings.Contains(nack.GetReason(), "("+f.reason+")") {
			t.Errorf("%s: nack %v: want reason %s, named %t", f.what, nack, f.reason, f.named)
		}
		if n := p.rejected(f.reason) - counted; n != 1 {
			t.Errorf("%s: counted %d as %s: want 1", f.what, n, f.reason)
		}
		for reason, n := range p.agent.Rejected() {
			if reason != f.reason && n != rejected[reason] {
				t.Errorf("%s: counted as %s, too", f.what, reason)
			}
		}
		for name, s := range p.held() {
			if genuine[name].Serial != s.Serial {
				t.Errorf("%s: section %s changed", f.what, name)
			}
		}
	}
	if n := stop(); n == 0 {
		t.Error("no call under load")
	}

	// The true operator is back, and its next word counts.
	web.door.lead(m.replicas[0].address)
	m.apply(split(0, 1))
	client.becomes("the next edit is in force", "http://cart.shop/", servedBy("cart-v2-1"))
	m.settle()
}
