// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// rogue is an operator that sends whatever it is told to, and remembers what it hears.
type rogue struct {
	*world

	address string
	send    chan []byte
	heard   chan *controlapi.StreamRequest
}

func newRogue(t *testing.T) *rogue {
	t.Helper()
	r := &rogue{world: newWorld(t), send: make(chan []byte), heard: make(chan *controlapi.StreamRequest, 1000)}
	path, handler := controlapi.NewConfigServiceHandler(r)
	address, stop := r.serve(t, path, handler)
	t.Cleanup(stop)
	r.address = address
	return r
}

// Stream implements controlapi.ConfigServiceHandler.
func (r *rogue) Stream(ctx context.Context, s *connect.BidiStream[controlapi.StreamRequest, controlapi.StreamResponse]) error {
	go func() {
		for {
			m, err := s.Receive()
			if err != nil {
				return
			}
			r.heard <- m
		}
	}()
	if err := s.Send(&controlapi.StreamResponse{Message: &controlapi.StreamResponse_Hint{Hint: &controlapi.Hint{}}}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case data := <-r.send:
			if err := s.Send(&controlapi.StreamResponse{Message: &controlapi.StreamResponse_Envelope{Envelope: data}}); err != nil {
				return err
			}
		}
	}
}

// hears waits for a message of the agent.
func (r *rogue) hears(t *testing.T, what string, is func(*controlapi.StreamRequest) bool) *controlapi.StreamRequest {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case m := <-r.heard:
			if is(m) {
				return m
			}
		case <-deadline.C:
			t.Fatalf("in vain: %s", what)
		}
	}
}

func (r *rogue) hearsAck(t *testing.T, name meshconfig.Name) {
	t.Helper()
	r.hears(t, "an ack of "+string(name), func(m *controlapi.StreamRequest) bool { return m.GetAck().GetName() == string(name) })
}

func (r *rogue) hearsNack(t *testing.T) *controlapi.Nack {
	t.Helper()
	return r.hears(t, "a nack", func(m *controlapi.StreamRequest) bool { return m.GetNack() != nil }).GetNack()
}

func (r *rogue) hearsSubscription(t *testing.T, name meshconfig.Name) *controlapi.Subscription {
	t.Helper()
	var found *controlapi.Subscription
	r.hears(t, "a subscription to "+string(name), func(m *controlapi.StreamRequest) bool {
		for _, s := range m.GetSubscribe().GetSubscriptions() {
			if s.GetName() == string(name) {
				found = s
			}
		}
		return found != nil
	})
	return found
}

// statement is a sound statement about a section.
func statement(name meshconfig.Name, counter uint64, m proto.Message) *signedconfig.Statement {
	st := &signedconfig.Statement{
		Section: string(name), MeshID: meshID, Audience: signedconfig.AudienceMesh,
		Serial: signedconfig.Serial{Term: 1, Counter: counter}, IssuedAt: time.Now(),
		PayloadType: meshconfig.PayloadType(name.Kind()),
	}
	if name.Kind() == meshconfig.KindBinding {
		st.Audience = signedconfig.AudiencePod(name.Subject())
	}
	if m == nil {
		st.Tombstone = true
	} else {
		st.Payload = meshconfig.Encode(m)
	}
	return st
}

func sign(t *testing.T, signer *signedconfig.Signer, st *signedconfig.Statement) []byte {
	t.Helper()
	data, err := signer.Sign(st)
	check(t, err)
	return data
}

// give sends a section and waits until it is in force.
func (r *rogue) give(t *testing.T, name meshconfig.Name, counter uint64, m proto.Message) {
	t.Helper()
	r.send <- sign(t, r.signer, statement(name, counter, m))
	r.hearsAck(t, name)
}

// provision makes a proxy ready.
func (r *rogue) provision(t *testing.T) {
	t.Helper()
	r.give(t, meshconfig.MeshName, 1, r.mesh())
	r.send <- sign(t, r.signer, statement(meshconfig.BindingName("pod"), 1, binding("pod", inboundName)))
	r.hearsSubscription(t, inboundName)
	r.send <- sign(t, r.signer, statement(inboundName, 1, inbound()))
	r.hearsAck(t, meshconfig.BindingName("pod"))
}

// Whatever is wrong with an envelope: it is nacked with the reason, counted, and what was in force stays in force.
func TestWrongEnvelopesAreRefused(t *testing.T) {
	r := newRogue(t)
	p := start(t, r.files(t, "pod", r.address))
	r.provision(t)
	p.Want(routesName, meshconfig.AllEndpoints(checkout))
	r.hearsSubscription(t, routesName)
	r.give(t, routesName, 10, routes(checkout, 1))
	p.mu.Lock()
	p.refuse[meshconfig.EndpointsName(checkout, 0)] = true
	p.mu.Unlock()

	edit := func(change func(*signedconfig.Statement)) []byte {
		st := statement(routesName, 20, routes(checkout, 666))
		change(st)
		return sign(t, r.signer, st)
	}
	sound := edit(func(*signedconfig.Statement) {})
	flipped := slices.Clone(sound)
	flipped[len(flipped)/3] ^= 1
	now := time.Now()
	imposter := shopper
	imposter.ServiceAccount = "admin"
	for what, c := range map[string]struct {
		envelope []byte
		reason   string
	}{
		"one bit is flipped":           {flipped, "*"},
		"the last byte is missing":     {sound[:len(sound)-1], signedconfig.ReasonEncoding},
		"a byte is added":              {append(slices.Clone(sound), 0), signedconfig.ReasonEncoding},
		"it is empty":                  {nil, signedconfig.ReasonEncoding},
		"signed by another config CA":  {sign(t, newWorld(t).signer, statement(routesName, 20, routes(checkout, 666))), signedconfig.ReasonSigner},
		"signed under the workload CA": {sign(t, r.workload.Signer(t, time.Time{}, time.Time{}), statement(routesName, 20, routes(checkout, 666))), signedconfig.ReasonSigner},
		"the signer has expired": {
			sign(t, r.config.Signer(t, now.Add(-2*time.Hour), now.Add(-time.Hour)), func() *signedconfig.Statement {
				st := statement(routesName, 20, routes(checkout, 666))
				st.IssuedAt = now.Add(-90 * time.Minute)
				return st
			}()), signedconfig.ReasonExpired,
		},
		"it has expired": {edit(func(st *signedconfig.Statement) {
			st.IssuedAt, st.NotAfter = now.Add(-2*time.Minute), now.Add(-time.Minute)
		}), signedconfig.ReasonExpired},
		"it is of next week":           {edit(func(st *signedconfig.Statement) { st.IssuedAt = now.Add(30 * time.Minute) }), signedconfig.ReasonNotYetValid},
		"for another mesh":             {edit(func(st *signedconfig.Statement) { st.MeshID = "another" }), signedconfig.ReasonMeshID},
		"for another pod":              {edit(func(st *signedconfig.Statement) { st.Audience = signedconfig.AudiencePod("other") }), signedconfig.ReasonAudience},
		"a replayed serial":            {edit(func(st *signedconfig.Statement) { st.Serial.Counter = 9 }), signedconfig.ReasonSerial},
		"an old leader's serial":       {edit(func(st *signedconfig.Statement) { st.Serial = signedconfig.Serial{Counter: 99} }), signedconfig.ReasonSerial},
		"the serial with new content":  {edit(func(st *signedconfig.Statement) { st.Serial.Counter = 10 }), signedconfig.ReasonSerial},
		"a section nobody asked for":   {edit(func(st *signedconfig.Statement) { st.Section = "routes/other.shop/*" }), signedconfig.ReasonNotRequested},
		"a section of no known kind":   {edit(func(st *signedconfig.Statement) { st.Section = "secrets/all" }), signedconfig.ReasonNotRequested},
		"the name for all shards":      {edit(func(st *signedconfig.Statement) { st.Section = string(meshconfig.AllEndpoints(checkout)) }), signedconfig.ReasonNotRequested},
		"another payload type":         {edit(func(st *signedconfig.Statement) { st.PayloadType = meshconfig.PayloadType(meshconfig.KindMesh) }), signedconfig.ReasonPayload},
		"a payload that is none":       {edit(func(st *signedconfig.Statement) { st.Payload = []byte("garbage") }), signedconfig.ReasonPayload},
		"another section's payload":    {sign(t, r.signer, statement(routesName, 20, routes("other.shop", 666))), signedconfig.ReasonPayload},
		"a binding of another account": {sign(t, r.signer, statement(meshconfig.BindingName("pod"), 20, bindingOf(imposter))), signedconfig.ReasonPayload},
		"another trust domain": {
			sign(t, r.signer, statement(meshconfig.MeshName, 20, &meshconfig.Mesh{TrustDomain: "else.where", WorkloadRoots: r.mesh().GetWorkloadRoots()})),
			signedconfig.ReasonPayload,
		},
		"what the table cannot put in force": {
			sign(t, r.signer, statement(meshconfig.EndpointsName(checkout, 0), 20, &meshconfig.Endpoints{Service: checkout, Shards: 1})),
			reasonTable,
		},
	} {
		t.Run(what, func(t *testing.T) {
			before, table := p.Rejected(), p.all()
			r.send <- c.envelope
			nack := r.hearsNack(t)
			counted := ""
			for reason, n := range p.Rejected() {
				if n == before[reason]+1 {
					counted = reason
				}
			}
			if counted != c.reason && c.reason != "*" {
				t.Errorf("counted as %q: want %q", counted, c.reason)
			}
			if !strings.Contains(nack.GetReason(), counted) {
				t.Errorf("nack says %q: want the reason %q", nack.GetReason(), counted)
			}
			if !maps.EqualFunc(table, p.all(), func(a, b proto.Message) bool { return a == b }) {
				t.Errorf("the table changed from %v to %v", table, p.all())
			}
			if !p.ready() {
				t.Error("not ready any more")
			}
		})
	}
	r.give(t, routesName, 21, routes(checkout, 2))
	if p.weight() != 2 {
		t.Error("a sound section is not taken after all that")
	}
}

func bindingOf(id identity.ID) *meshconfig.Binding {
	b := binding("pod", inboundName)
	b.Identity = id.String()
	return b
}

// A lower serial is refused after a restart too, of what is held, of what was deleted and of what was given up.
func TestFloorsOutliveARestart(t *testing.T) {
	r := newRogue(t)
	opts := r.files(t, "pod", r.address)
	p := start(t, opts)
	r.provision(t)
	kept, deleted, given := routesName, meshconfig.RoutesName("deleted.shop"), meshconfig.RoutesName("given.shop")
	p.Want(kept, deleted, given)
	for _, name := range []meshconfig.Name{kept, deleted, given} {
		r.give(t, name, 10, routes(name.Subject(), 1))
	}
	r.give(t, deleted, 11, nil)
	p.Unwant(given)
	await(t, "the envelope of what was given up is removed", func() bool {
		_, err := os.Stat(p.store.envelopePath(given))
		return os.IsNotExist(err)
	})
	p.stop()
	p = start(t, opts)
	if await(t, "the kept routes are in force", func() bool { return p.weight() == 1 }); p.in(deleted) != nil || p.in(given) != nil {
		t.Error("what was deleted or given up is back")
	}
	p.Want(kept, deleted, given)
	await(t, "the proxy is connected", p.Connected)
	for i, name := range []meshconfig.Name{kept, deleted, given} {
		r.send <- sign(t, r.signer, statement(name, 9, routes(name.Subject(), 666)))
		if nack := r.hearsNack(t); nack.GetName() != string(name) || !strings.Contains(nack.GetReason(), signedconfig.ReasonSerial) {
			t.Errorf("nack %v: want one of %s for its serial", nack, name)
		}
		if got := p.Rejected()[signedconfig.ReasonSerial]; got != uint64(i+1) {
			t.Errorf("counted %d: want %d", got, i+1)
		}
	}
	for _, name := range []meshconfig.Name{kept, deleted, given} {
		r.give(t, name, 12, routes(name.Subject(), 3))
	}
}

// The floor of a deletion stands even if the proxy died before it wrote the floors: the tombstone itself is kept until then.
func TestATombstoneOutlivesACrash(t *testing.T) {
	r := newRogue(t)
	opts := r.files(t, "pod", r.address)
	p := start(t, opts)
	r.provision(t)
	p.Want(routesName)
	r.give(t, routesName, 10, routes(checkout, 1))
	r.give(t, routesName, 11, nil)
	p.stop()
	check(t, p.store.removeFloors())
	for range 2 {
		p = start(t, opts)
		p.Want(routesName)
		await(t, "the proxy is connected", p.Connected)
		r.send <- sign(t, r.signer, statement(routesName, 10, routes(checkout, 666)))
		if nack := r.hearsNack(t); !strings.Contains(nack.GetReason(), signedconfig.ReasonSerial) || p.weight() != 0 {
			t.Errorf("nack %v, weight %d: want it refused for its serial", nack, p.weight())
		}
		await(t, "the floor takes the tombstone's place", func() bool {
			_, err := os.Stat(p.store.envelopePath(routesName))
			return os.IsNotExist(err)
		})
		p.stop()
	}
}

// Each corrupted file is refused, counted and removed; the rest is in force without the operator.
func TestCorruptedFilesAreNeverFatal(t *testing.T) {
	w := newWorld(t)
	forged := sign(t, newWorld(t).signer, statement(routesName, 99, routes(checkout, 666)))
	genuine := sign(t, w.signer, statement(routesName, 99, routes(checkout, 666)))
	for what, c := range map[string]struct {
		corrupt func(*store) error
		reasons map[string]uint64 // "*": any
	}{
		"nothing":              {func(*store) error { return nil }, nil},
		"a truncated envelope": {rewrite(func(data []byte) []byte { return data[:len(data)/2] }), map[string]uint64{signedconfig.ReasonEncoding: 1}},
		"a flipped bit":        {rewrite(func(data []byte) []byte { data[10] ^= 1; return data }), map[string]uint64{"*": 1}},
		"another section's envelope": {func(s *store) error {
			return os.Rename(s.envelopePath(meshconfig.HeartbeatName), s.envelopePath(routesName))
		}, map[string]uint64{signedconfig.ReasonNotRequested: 1}},
		"an envelope of another CA": {rewrite(func([]byte) []byte { return forged }), map[string]uint64{signedconfig.ReasonSigner: 1}},
		"an older envelope than the floors know": {func(s *store) error {
			floors := signedconfig.NewFloors(0)
			return errors.Join(
				floors.Accept(string(routesName), signedconfig.Serial{Term: 8}, [32]byte{}),
				s.putFloors(floors), s.putEnvelope(routesName, genuine))
		}, map[string]uint64{signedconfig.ReasonSerial: 1}},
		"an endless file": {
			rewrite(func([]byte) []byte { return make([]byte, signedconfig.MaxEnvelopeSize+1) }), map[string]uint64{signedconfig.ReasonEncoding: 1},
		},
		"floors that are none": {func(s *store) error {
			return errors.Join(os.WriteFile(filepath.Join(s.dir, floorsFile), []byte("nonsense"), 0o600), os.Remove(s.envelopePath(routesName)))
		}, map[string]uint64{signedconfig.ReasonEncoding: 1}},
		"a half-written file": {func(s *store) error {
			return os.Rename(s.envelopePath(routesName), filepath.Join(s.dir, sectionsDir, temporaryPrefix+"1"))
		}, nil},
	} {
		t.Run(what, func(t *testing.T) {
			r := w.operator(t)
			check(t, w.lead(r, 1).Publish(w.shop("pod")))
			opts := w.files(t, "pod", r.address)
			p := start(t, opts)
			p.Want(routesName)
			await(t, "all is kept", func() bool { return p.ready() && p.weight() == 1 && !p.Heartbeat().IsZero() })
			p.stop()
			r.stop()
			check(t, c.corrupt(p.store))
			p = start(t, opts)
			await(t, "the proxy is ready without the operator", p.ready)
			got := p.Rejected()
			if n, whatever := c.reasons["*"]; whatever && sum(got) != n || !whatever && !maps.Equal(got, c.reasons) {
				t.Errorf("refused %v: want %v", got, c.reasons)
			}
			if intact := what == "nothing"; (p.weight() == 1) != intact {
				t.Errorf("weight %d", p.weight())
			}
			p.stop()
			left, err := os.ReadDir(filepath.Join(p.store.dir, sectionsDir))
			check(t, err)
			for _, f := range left {
				if what != "nothing" && strings.HasPrefix(f.Name(), "routes") || strings.HasPrefix(f.Name(), temporaryPrefix) {
					t.Errorf("%s was not removed", f.Name())
				}
			}
		})
	}
}

// rewrite changes the kept envelope of the routes.
func rewrite(change func([]byte) []byte) func(*store) error {
	return func(s *store) error {
		data, err := os.ReadFile(s.envelopePath(routesName))
		return errors.Join(err, os.WriteFile(s.envelopePath(routesName), change(data), 0o600))
	}
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
