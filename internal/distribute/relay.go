// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

const (
	// reportInterval is how often a replica tells the leader what its proxies hold.
	reportInterval = time.Second
	// linger is how long a relay keeps what no proxy of its own watches any more: it may be on its way back.
	linger = time.Minute
	// maxLinger bounds it, in subscriptions.
	maxLinger = 50_000
)

var errNoLeader = errors.New("the leader is not known")

// relay fills the hub of a node that does not lead. While the leader is away, the hub keeps what it has.
type relay struct {
	node *Node
	wake chan struct{} // of size 1

	mu      sync.Mutex
	live    bool                         // a stream to the leader is open
	pending map[meshconfig.Name]struct{} // subscriptions to look at again, while it is
	asked   map[meshconfig.Name]version  // what proxies hold and the hub has nothing of
	idle    map[meshconfig.Name]time.Time
}

func newRelay(n *Node) *relay {
	return &relay{
		node: n, wake: make(chan struct{}, 1),
		pending: make(map[meshconfig.Name]struct{}),
		asked:   make(map[meshconfig.Name]version),
		idle:    make(map[meshconfig.Name]time.Time),
	}
}

// changed implements source.
func (r *relay) changed(sub meshconfig.Name) {
	watched, _ := r.node.hub.watched(sub)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case watched || len(r.idle) < maxLinger:
		if !watched {
			r.idle[sub] = r.node.opts.Clock()
		}
	case r.live:
		r.idle[sub] = time.Time{} // swept within a second
	default:
		r.node.hub.forget(sub, func(*Entry) bool { return true })
	}
	r.look(sub)
}

// ask implements source.
func (r *relay) ask(name meshconfig.Name, held version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) < maxAsked {
		r.asked[name] = held
	}
	r.look(name.Subscription())
}

// look makes the stream look at a subscription. A stream that begins looks at all of them. Callers hold r.mu.
func (r *relay) look(sub meshconfig.Name) {
	if !r.live {
		return
	}
	r.pending[sub] = struct{}{}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// setLive notes that a stream begins or ended.
func (r *relay) setLive(live bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = live
	clear(r.pending)
}

// run keeps a stream to the leader until the context ends.
func (r *relay) run(ctx context.Context) {
	pause := controlapi.Backoff{Min: 100 * time.Millisecond, Max: time.Second} // there are few replicas
	log := r.node.opts.Log
	for ctx.Err() == nil {
		accepted, err := r.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if accepted {
			pause.Reset()
		}
		wait := pause.Next()
		log.Info("the stream from the leader ended", "error", err.Error(), "retryAfter", wait.String())
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// stream relays from the leader until the stream breaks, and says whether the leader took it.
func (r *relay) stream(ctx context.Context) (accepted bool, err error) {
	address, ok := r.node.opts.Leader()
	if !ok {
		return false, errNoLeader
	}
	client := controlapi.Endpoint{
		Address: address, ServerName: r.node.opts.ServerName, Roots: r.node.opts.ServingRoots(),
		Certificate: r.node.opts.Certificate(), Time: r.node.opts.Clock,
	}.Client()
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The first answer says that the leader accepts.
	timeout := time.AfterFunc(firstMessageTimeout, func() { cancel(errors.New("the leader does not answer")) })
	defer timeout.Stop()
	up := &upstream{relay: r, address: address, conn: client.Config().Stream(ctx), subscribed: make(map[meshconfig.Name]struct{})}
	if err := up.conn.Send(hello(r.node.opts.Version)); err != nil {
		return false, up.failure(ctx, err)
	}
	if _, err := up.conn.Receive(); err != nil {
		return false, fmt.Errorf("leader at %s: %w", address, cause(ctx, err))
	}
	timeout.Stop()
	r.node.opts.Log.Info("relaying from the leader", "address", address)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { cancel(nil); client.Close() }()
	wg.Go(func() { cancel(up.receive()) })
	r.setLive(true)
	defer r.setLive(false)
	r.node.tracker.beginReports()
	defer r.node.tracker.endReports()
	return true, fmt.Errorf("leader at %s: %w", address, up.send(ctx))
}

func hello(version string) *controlapi.StreamRequest {
	return &controlapi.StreamRequest{Message: &controlapi.StreamRequest_Hello{Hello: &controlapi.Hello{Version: version}}}
}

// cause returns why the context ended, if it did, and err otherwise.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// store puts an envelope into the hub. Proxies verify it; what a relay looks at is what it sorts by.
func (r *relay) store(data []byte) {
	e, err := signedconfig.Decode(data)
	var name meshconfig.Name
	if err == nil {
		name, err = meshconfig.ParseName(e.Section)
	}
	if err == nil && e.MeshID != r.node.opts.MeshID {
		err = fmt.Errorf("section %s is of mesh %q, this is mesh %q", name, e.MeshID, r.node.opts.MeshID)
	}
	if err != nil {
		r.node.counters.update(func(c *Counters) { c.Invalid++ })
		r.node.opts.Log.Error(err, "the leader sent an envelope that is of no use")
		return
	}
	entry := &Entry{Name: name, Serial: e.Serial, Digest: e.Digest(), Tombstone: e.Tombstone, Envelope: data}
	if !r.node.hub.Put(entry) {
		r.node.counters.update(func(c *Counters) { c.Stale++ })
	}
}

// unanswered returns what proxies hold and the hub has nothing of, by subscription, and forgets what has been answered or
// is watched no more.
func (r *relay) unanswered() map[meshconfig.Name][]*controlapi.Held {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[meshconfig.Name][]*controlapi.Held)
	for name, v := range r.asked {
		sub := name.Subscription()
		if watched, _ := r.node.hub.watched(sub); !watched || r.node.hub.Get(name) != nil {
			delete(r.asked, name)
			continue
		}
		out[sub] = append(out[sub], heldOf(name, v))
	}
	return out
}
