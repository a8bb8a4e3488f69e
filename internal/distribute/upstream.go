// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// upstream is one stream to the leader.
type upstream struct {
	relay      *relay
	address    string
	conn       *connect.BidiStreamForClient[controlapi.StreamRequest, controlapi.StreamResponse]
	subscribed map[meshconfig.Name]struct{}
}

// failure returns what the far end said when sending failed: Send itself says no more than that it ended.
func (u *upstream) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return cause(ctx, err)
	}
	if _, said := u.conn.Receive(); said != nil {
		return said
	}
	return err
}

// receive puts what arrives into the hub.
func (u *upstream) receive() error {
	for {
		m, err := u.conn.Receive()
		if err != nil {
			return err
		}
		if envelope := m.GetEnvelope(); len(envelope) > 0 {
			u.relay.store(envelope)
		}
	}
}

// send subscribes to what the node's proxies subscribe to, and reports.
func (u *upstream) send(ctx context.Context) error {
	r := u.relay
	subs := r.node.hub.subscriptions()
	r.mu.Lock()
	subs = slices.AppendSeq(subs, maps.Keys(r.idle))
	r.mu.Unlock()
	if err := u.subscribe(subs, r.unanswered()); err != nil {
		return cause(ctx, err)
	}
	if err := u.report(); err != nil {
		return cause(ctx, err)
	}
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.wake:
			err = u.update()
		case <-tick.C:
			if address, ok := r.node.opts.Leader(); ok && address != u.address {
				return fmt.Errorf("the leader is now at %s", address)
			}
			if err = u.report(); err == nil {
				err = u.sweep()
			}
		}
		if err != nil {
			return cause(ctx, err)
		}
	}
}

// update looks at the subscriptions that changed.
func (u *upstream) update() error {
	r := u.relay
	r.mu.Lock()
	pending := slices.Collect(maps.Keys(r.pending))
	clear(r.pending)
	r.mu.Unlock()
	asked := r.unanswered()
	subs := pending[:0]
	for _, sub := range pending {
		watched, _ := r.node.hub.watched(sub)
		if _, subscribed := u.subscribed[sub]; watched && (!subscribed || len(asked[sub]) > 0) {
			subs = append(subs, sub)
		}
	}
	return u.subscribe(subs, asked)
}

// subscribe subscribes at the leader, with what the hub has and what proxies hold that it has not.
func (u *upstream) subscribe(subs []meshconfig.Name, asked map[meshconfig.Name][]*controlapi.Held) error {
	list := make([]*controlapi.Subscription, 0, len(subs))
	for _, sub := range subs {
		u.subscribed[sub] = struct{}{}
		s := &controlapi.Subscription{Name: string(sub), Held: asked[sub]}
		_, entries := u.relay.node.hub.watched(sub)
		for _, e := range entries {
			s.Held = append(s.Held, heldOf(e.Name, e.version()))
		}
		list = append(list, s)
	}
	for _, part := range controlapi.Chunks(list) {
		if err := u.conn.Send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Subscribe{
			Subscribe: &controlapi.Subscribe{Subscriptions: part},
		}}); err != nil {
			return err
		}
	}
	return nil
}

func heldOf(name meshconfig.Name, v version) *controlapi.Held {
	return &controlapi.Held{Name: string(name), Digest: v.digest[:], Serial: v.serial.String()}
}

// report tells the leader what changed in what the node's proxies hold.
func (u *upstream) report() error {
	for _, part := range controlapi.Chunks(u.relay.node.tracker.report()) {
		if err := u.conn.Send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Report{
			Report: &controlapi.Report{Pods: part},
		}}); err != nil {
			return err
		}
	}
	return nil
}

// sweep gives up what nobody has watched for a while.
func (u *upstream) sweep() error {
	r := u.relay
	now := r.node.opts.Clock()
	var gone []string
	r.mu.Lock()
	for sub, since := range r.idle {
		if now.Sub(since) < linger {
			continue
		}
		delete(r.idle, sub)
		if !r.node.hub.forget(sub, func(*Entry) bool { return true }) {
			delete(u.subscribed, sub)
			gone = append(gone, string(sub))
		}
	}
	r.mu.Unlock()
	for part := range slices.Chunk(gone, sectionsPerReport) {
		if err := u.conn.Send(&controlapi.StreamRequest{Message: &controlapi.StreamRequest_Unsubscribe{
			Unsubscribe: &controlapi.Unsubscribe{Names: part},
		}}); err != nil {
			return err
		}
	}
	return nil
}
