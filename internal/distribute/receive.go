// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// Bounds of one stream. A version that is held counts as well as a subscription does.
const (
	maxSubscriptions        = 20_000
	maxReplicaSubscriptions = 1_000_000
	maxReason               = 256 // bytes of a nack's
)

// receive takes what the far end says until it ends.
func (st *stream) receive() error {
	for {
		m, err := st.conn.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return st.server.received(err)
		}
		if err := st.take(m); err != nil {
			return err
		}
	}
}

func (st *stream) take(m *controlapi.StreamRequest) error {
	switch m := m.GetMessage().(type) {
	case *controlapi.StreamRequest_Subscribe:
		for _, sub := range m.Subscribe.GetSubscriptions() {
			if err := st.subscribe(sub); err != nil {
				return err
			}
		}
		return nil
	case *controlapi.StreamRequest_Unsubscribe:
		return st.unsubscribe(m.Unsubscribe.GetNames())
	case *controlapi.StreamRequest_Ack:
		return st.ack(m.Ack)
	case *controlapi.StreamRequest_Nack:
		return st.nack(m.Nack)
	case *controlapi.StreamRequest_Report:
		if !st.caller.replica {
			return refuse(RefusedForbidden, connect.CodePermissionDenied, "only replicas report")
		}
		st.server.node.tracker.apply(st.owner, m.Report.GetPods())
		return nil
	case *controlapi.StreamRequest_Health:
		return st.health(m.Health)
	case *controlapi.StreamRequest_Hello:
		return refuse(RefusedProtocol, connect.CodeInvalidArgument, "a second hello")
	default:
		return refuse(RefusedProtocol, connect.CodeInvalidArgument, "an empty message, or one of a later version")
	}
}

func (st *stream) subscribe(m *controlapi.Subscription) error {
	sub, err := meshconfig.ParseName(m.GetName())
	if err != nil || sub != sub.Subscription() {
		return refuse(RefusedProtocol, connect.CodeInvalidArgument, "subscription %.100q is not a section's name", m.GetName())
	}
	if !st.caller.replica {
		if sub.Kind() == meshconfig.KindBinding && sub != meshconfig.BindingName(st.uid) {
			return refuse(RefusedForbidden, connect.CodePermissionDenied, "section %s is another pod's", sub)
		}
		if err := st.subscriptions.wait(st.ctx); err != nil {
			return err
		}
	}
	held, err := st.holdings(sub, m.GetHeld())
	if err != nil {
		return err
	}
	limit := maxSubscriptions
	if st.caller.replica {
		limit = maxReplicaSubscriptions
	}
	subs, have := st.watcher.sizes()
	if subs >= limit || have+len(held) > 2*limit {
		return refuse(RefusedTooMany, connect.CodeResourceExhausted, "more than %d subscriptions on one stream", limit)
	}
	if !st.caller.replica {
		st.server.node.tracker.subscribe(st.owner, st.uid, sub, held)
		if _, ok := st.hinted[sub]; !ok {
			st.server.hints.add(st.caller.id, sub)
		}
	}
	st.watcher.subscribe(sub, held)
	return nil
}

// holdings reads what the far end holds under a subscription.
func (st *stream) holdings(sub meshconfig.Name, in []*controlapi.Held) (holdings, error) {
	out := make(holdings, max(1, len(in)))
	for _, h := range in {
		name, err := meshconfig.ParseName(h.GetName())
		digest := copyDigest(h.GetDigest())
		serial, errSerial := signedconfig.ParseSerial(h.GetSerial())
		if err != nil || errSerial != nil || digest == nil || name.Subscription() != sub ||
			name == sub && sub.Kind() == meshconfig.KindEndpoints {
			return nil, refuse(RefusedProtocol, connect.CodeInvalidArgument,
				"held version of %.100q under subscription %s is malformed", h.GetName(), sub)
		}
		out[name] = version{serial, *digest}
		st.checkAhead(name, serial)
	}
	return out, nil
}

// checkAhead notes config of a later term than the leader's: the sign of a cluster restored from a backup. Such a proxy
// takes nothing of this leader until the epoch is raised.
func (st *stream) checkAhead(name meshconfig.Name, held signedconfig.Serial) {
	p := st.server.node.leader()
	if p == nil || (signedconfig.Serial{Epoch: held.Epoch, Term: held.Term}).Compare(p.Term()) <= 0 {
		return
	}
	st.server.node.counters.update(func(c *Counters) { c.Ahead++ })
	if st.complaints.take() {
		st.server.node.opts.Log.Info("a proxy holds config of a later term than this leader's: "+
			"if the cluster was restored from a backup, raise the epoch", "pod", st.uid, "section", name, "serial", held.String())
	}
}

func (st *stream) unsubscribe(names []string) error {
	for _, s := range names {
		name, err := meshconfig.ParseName(s)
		if err != nil {
			return refuse(RefusedProtocol, connect.CodeInvalidArgument, "unsubscribe %.100q: not a section's name", s)
		}
		if st.watcher.unsubscribe(name) && !st.caller.replica {
			st.server.node.tracker.unsubscribe(st.owner, st.uid, name)
		}
	}
	return nil
}

func (st *stream) ack(m *controlapi.Ack) error {
	name, err := meshconfig.ParseName(m.GetName())
	digest := copyDigest(m.GetDigest())
	if err != nil || digest == nil {
		return refuse(RefusedProtocol, connect.CodeInvalidArgument, "ack of %.100q is malformed", m.GetName())
	}
	st.server.node.counters.update(func(c *Counters) { c.Acked++ })
	if !st.caller.replica && st.concerns(name) {
		st.server.node.tracker.ack(st.owner, st.uid, name, *digest)
	}
	return nil
}

// nack takes a refusal. The name is empty, and the digest too, when the envelope did not even tell them.
func (st *stream) nack(m *controlapi.Nack) error {
	name, err := meshconfig.ParseName(m.GetName())
	digest := copyDigest(m.GetDigest())
	if m.GetName() != "" && (err != nil || digest == nil) {
		return refuse(RefusedProtocol, connect.CodeInvalidArgument, "nack of %.100q is malformed", m.GetName())
	}
	reason := strings.ToValidUTF8(m.GetReason()[:min(len(m.GetReason()), maxReason)], "?")
	st.server.node.counters.update(func(c *Counters) { c.Nacked++ })
	if st.complaints.take() {
		st.server.node.opts.Log.Info("a proxy refused config", "pod", st.uid, "section", name, "reason", reason)
	}
	if !st.caller.replica && m.GetName() != "" && st.concerns(name) {
		st.server.node.tracker.nack(st.owner, st.uid, name, *digest, reason)
	}
	return nil
}

// concerns says whether an ack or nack is about something that the stream may have got.
func (st *stream) concerns(name meshconfig.Name) bool {
	return st.watcher.subscribed(name) && st.server.node.hub.Get(name) != nil
}

// budget bounds how often something happens. Its zero value allows nothing.
type budget struct {
	burst, perSecond float64

	used float64
	last time.Time
}

// take says whether it may happen once more.
func (b *budget) take() bool {
	now := time.Now()
	if !b.last.IsZero() {
		b.used = max(0, b.used-now.Sub(b.last).Seconds()*b.perSecond)
	}
	b.last = now
	if b.used+1 > b.burst {
		return false
	}
	b.used++
	return true
}

// wait waits until it may.
func (b *budget) wait(ctx context.Context) error {
	for !b.take() {
		timer := time.NewTimer(time.Duration(float64(time.Second) / b.perSecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
	return nil
}
