// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// reasonTable says that the table could not put a sound section in force. The other reasons are those of signedconfig.
const reasonTable = "table"

// errGivenUp says that a section was asked for until just now: nothing is wrong with it.
var errGivenUp = errors.New("given up meanwhile")

// arrival is an envelope on its way into force.
type arrival struct {
	name      meshconfig.Name
	sub       *subscription // that it came for
	statement *signedconfig.Statement
	message   proto.Message // nil: a tombstone
	envelope  []byte
	stored    bool // comes from the store
}

// take takes an envelope from the stream: it acks or nacks it.
func (a *Agent) take(envelope []byte) {
	a.turn.Lock()
	defer a.turn.Unlock()
	statement, err := a.verifier().Verify(envelope, signedconfig.OnArrival)
	if err == nil {
		err = a.admit(&arrival{statement: statement, envelope: envelope})
	}
	if err != nil && !errors.Is(err, errGivenUp) {
		a.reject(envelope, err)
	}
}

// admit judges what has been verified and puts it in force. Callers hold a.turn.
func (a *Agent) admit(r *arrival) error {
	st := r.statement
	name, err := meshconfig.ParseName(st.Section)
	if err != nil {
		return &signedconfig.Error{Reason: signedconfig.ReasonNotRequested, Detail: err.Error()}
	}
	r.name = name
	var recently bool
	r.sub, recently = a.holdings.requested(name)
	switch {
	case name.Kind() == meshconfig.KindEndpoints && name == name.Subscription():
		return &signedconfig.Error{Reason: signedconfig.ReasonNotRequested, Detail: "a name for all shards is no section's"}
	case r.sub == nil && recently:
		return errGivenUp
	case r.sub == nil:
		return &signedconfig.Error{Reason: signedconfig.ReasonNotRequested, Detail: "nobody asked for section " + string(name)}
	}
	if err := a.floors.Check(string(name), st.Serial, st.Digest()); err != nil {
		return err
	}
	if want := meshconfig.PayloadType(name.Kind()); st.PayloadType != want {
		return &signedconfig.Error{Reason: signedconfig.ReasonPayload, Detail: fmt.Sprintf("payload type %q: want %q", st.PayloadType, want)}
	}
	if st.Tombstone {
		a.bury(r)
		return nil
	}
	if held, ok := a.holdings.get(name); ok && held.digest == st.Digest() {
		a.settle(r) // signed again
		a.supersede(name)
		return nil
	}
	if r.message, err = a.decode(name, st.Payload); err != nil {
		return &signedconfig.Error{Reason: signedconfig.ReasonPayload, Detail: err.Error()}
	}
	return a.apply(r)
}

// decode reads a payload and refuses what is not for this pod.
func (a *Agent) decode(name meshconfig.Name, payload []byte) (proto.Message, error) {
	m, err := meshconfig.Decode(name, payload)
	if err != nil {
		return nil, err
	}
	if err := meshconfig.Validate(name, m); err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *meshconfig.Mesh:
		if m.GetTrustDomain() != a.opts.ID.TrustDomain {
			return nil, fmt.Errorf("trust domain %q: this pod's is %q", m.GetTrustDomain(), a.opts.ID.TrustDomain)
		}
	case *meshconfig.Binding:
		if m.GetIdentity() != a.opts.ID.String() {
			return nil, fmt.Errorf("identity %s: this pod's is %s", m.GetIdentity(), a.opts.ID)
		}
	}
	return m, nil
}

// apply puts a section in force. A binding waits for the inbound section that it names; until then the last one, and its
// inbound section, stay. Callers hold a.turn.
func (a *Agent) apply(r *arrival) error {
	binding, isBinding := r.message.(*meshconfig.Binding)
	if isBinding {
		if inbound := meshconfig.Name(binding.GetInbound()); !a.holdings.live(inbound) {
			a.await(r, inbound)
			return nil
		}
	}
	if err := a.opts.Apply(r.name, r.message); err != nil {
		return &signedconfig.Error{Reason: reasonTable, Detail: err.Error()}
	}
	a.settle(r)
	switch m := r.message.(type) {
	case *meshconfig.Mesh:
		a.identity.setRoots(m.GetWorkloadRoots())
	case *meshconfig.Heartbeat:
		a.status.beat(m.GetAt())
	case *meshconfig.Binding:
		a.bind(meshconfig.Name(m.GetInbound()))
	case *meshconfig.Inbound:
		a.unwait(r.name)
	}
	return nil
}

// await keeps a binding until its inbound section is there, in place of one that waited before. Callers hold a.turn.
func (a *Agent) await(r *arrival, inbound meshconfig.Name) {
	before := a.awaited()
	a.pending = r
	a.holdings.fix(inbound)
	if before != "" && before != inbound && before != a.bound {
		a.holdings.unfix(before)
	}
}

// awaited returns the inbound section that a binding waits for, or nothing.
func (a *Agent) awaited() meshconfig.Name {
	if a.pending == nil {
		return ""
	}
	binding, _ := a.pending.message.(*meshconfig.Binding)
	return meshconfig.Name(binding.GetInbound())
}

// supersede gives up a binding that waits when a newer version has come. Callers hold a.turn.
func (a *Agent) supersede(name meshconfig.Name) {
	if name.Kind() == meshconfig.KindBinding && a.pending != nil {
		a.bind(a.bound)
	}
}

// unwait puts the binding in force that waited for an inbound section. Callers hold a.turn.
func (a *Agent) unwait(inbound meshconfig.Name) {
	if a.awaited() != inbound {
		return
	}
	r := a.pending
	if err := a.apply(r); err != nil {
		a.reject(r.envelope, err)
	}
}

// bind notes which inbound section is in force, and gives up the others. Callers hold a.turn.
func (a *Agent) bind(inbound meshconfig.Name) {
	old, awaited := a.bound, a.awaited()
	a.bound, a.pending = inbound, nil
	if inbound != "" {
		a.holdings.fix(inbound)
	}
	for _, name := range []meshconfig.Name{old, awaited} {
		if name != "" && name != inbound {
			a.holdings.unfix(name)
		}
	}
}

// bury takes a tombstone. What the workload itself needs stays in force: its mesh, binding or inbound section is gone
// only when the pod is, or when another takes its place, which must come first. Callers hold a.turn.
func (a *Agent) bury(r *arrival) {
	name := r.name
	switch {
	case name == meshconfig.MeshName, name.Kind() == meshconfig.KindBinding, name != "" && name == a.bound:
		a.opts.Log.Info("a section that this workload needs was deleted; it stays in force", "section", name)
		a.outbox.ack(name, r.statement.Digest())
		a.supersede(name)
		return
	case a.holdings.live(name):
		a.opts.Remove(name)
	}
	a.settle(r)
}

// settle makes a version that is in force, or a tombstone, what is held. Callers hold a.turn.
func (a *Agent) settle(r *arrival) {
	st := r.statement
	digest := st.Digest()
	if err := a.floors.Accept(string(r.name), st.Serial, digest); err != nil {
		a.opts.Log.Error(err, "a section was accepted below its floor") // admit has checked it
	}
	a.unsaved = true
	held := section{
		serial: st.Serial, digest: digest, tombstone: st.Tombstone, size: len(r.envelope),
		issued: st.IssuedAt, applied: a.opts.Clock(),
	}
	if !a.holdings.set(r.sub, r.name, held) {
		return // given up while it was applied
	}
	if r.stored {
		return
	}
	if err := a.store.putEnvelope(r.name, r.envelope); err != nil {
		a.opts.Log.Error(err, "config is in force and was not kept for a restart", "section", r.name)
	}
	a.outbox.ack(r.name, digest)
}

// reject refuses an envelope: it is counted, logged, and nacked if it came from the stream.
func (a *Agent) reject(envelope []byte, err error) {
	reason := a.count(err)
	name, digest := meshconfig.Name(""), [32]byte{}
	serial := ""
	if e, bad := signedconfig.Decode(envelope); bad == nil {
		// What it claims, to name it by. Nothing of it is believed.
		if parsed, bad := meshconfig.ParseName(e.Section); bad == nil {
			if sub, _ := a.holdings.requested(parsed); sub != nil {
				name, digest = parsed, e.Digest()
			}
		}
		serial = e.Serial.String()
	}
	a.opts.Log.Info("refused config; what was in force stays", "reason", reason, "section", name, "serial", serial, "error", err.Error())
	a.outbox.nack(name, digest, err.Error())
}

// count counts a refusal and returns its reason.
func (a *Agent) count(err error) string {
	reason := signedconfig.ReasonEncoding
	var refused *signedconfig.Error
	if errors.As(err, &refused) {
		reason = refused.Reason
	}
	a.status.reject(reason)
	a.opts.Rejected(reason)
	return reason
}
