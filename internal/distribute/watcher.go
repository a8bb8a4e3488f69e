// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"cmp"
	"slices"
	"sync"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// watcher is a stream's side of the hub: what it subscribes to, what its far end has, and what changed since.
// Its lock is taken after the hub's.
type watcher struct {
	hub     *Hub
	replica bool          // is told of every serial, not of every content
	wake    chan struct{} // of size 1: something changed

	mu    sync.Mutex
	subs  map[meshconfig.Name]holdings
	have  int // versions in all holdings
	dirty map[meshconfig.Name]struct{}
}

// holdings are what the far end has under one subscription.
type holdings map[meshconfig.Name]version

func newWatcher(h *Hub, replica bool) *watcher {
	return &watcher{
		hub: h, replica: replica, wake: make(chan struct{}, 1),
		subs:  make(map[meshconfig.Name]holdings),
		dirty: make(map[meshconfig.Name]struct{}),
	}
}

// mark says that a section changed.
func (w *watcher) mark(name meshconfig.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.subs[name.Subscription()]; !ok {
		return
	}
	w.dirty[name] = struct{}{}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// subscribe begins a subscription, or begins it anew, with what the far end holds under it. The watcher keeps held.
func (w *watcher) subscribe(sub meshconfig.Name, held holdings) {
	asked := make(map[meshconfig.Name]version)
	for name, v := range held {
		if w.hub.Get(name) == nil {
			asked[name] = v
		}
	}
	if held == nil {
		held = make(holdings, 1)
	}
	w.mu.Lock()
	w.have += len(held) - len(w.subs[sub])
	w.subs[sub] = held
	w.mu.Unlock()
	w.hub.watch(sub, w)
	for name, v := range asked {
		w.hub.ask(name, v)
	}
}

// unsubscribe ends a subscription and says whether there was one.
func (w *watcher) unsubscribe(sub meshconfig.Name) bool {
	w.mu.Lock()
	held, was := w.subs[sub]
	w.have -= len(held)
	delete(w.subs, sub)
	w.mu.Unlock()
	if was {
		w.hub.unwatch(sub, w)
	}
	return was
}

// close ends all subscriptions.
func (w *watcher) close() {
	w.mu.Lock()
	subs := w.subs
	w.subs, w.have = make(map[meshconfig.Name]holdings), 0
	w.mu.Unlock()
	for sub := range subs {
		w.hub.unwatch(sub, w)
	}
}

// subscribed says whether the stream asked for a section.
func (w *watcher) subscribed(name meshconfig.Name) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.subs[name.Subscription()]
	return ok
}

// sizes returns how many subscriptions and versions the stream has.
func (w *watcher) sizes() (subs, have int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.subs), w.have
}

// take empties the set of what changed and returns it in the order in which to send it: what everything else needs
// first, and what is gone last, so that its successor is there before.
func (w *watcher) take() []meshconfig.Name {
	w.mu.Lock()
	names := make([]meshconfig.Name, 0, len(w.dirty))
	for name := range w.dirty {
		names = append(names, name)
	}
	clear(w.dirty)
	w.mu.Unlock()
	gone := make(map[meshconfig.Name]int, len(names))
	for _, name := range names {
		if e := w.hub.Get(name); e != nil && e.Tombstone {
			gone[name] = 1
		}
	}
	slices.SortFunc(names, func(a, b meshconfig.Name) int {
		return cmp.Or(cmp.Compare(gone[a], gone[b]), cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	return names
}

// order is that in which sections are sent; a binding comes after the inbound section that it names.
var order = []meshconfig.Kind{
	meshconfig.KindMesh, meshconfig.KindInbound, meshconfig.KindBinding, meshconfig.KindAddress,
	meshconfig.KindEndpoints, meshconfig.KindRoutes, meshconfig.KindHeartbeat,
}

func rank(name meshconfig.Name) int { return slices.Index(order, name.Kind()) }

// due returns the newest version of a section if the far end lacks it, and notes that it has it: whoever calls must send
// it or end the stream. To note it only after sending would be too late, for by then the far end may have dropped it and
// asked anew.
func (w *watcher) due(name meshconfig.Name) *Entry {
	e := w.hub.Get(name)
	if e == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	held, ok := w.subs[name.Subscription()]
	if !ok {
		return nil
	}
	have, ok := held[name]
	if ok && (have.serial.Compare(e.Serial) >= 0 || have.digest == e.Digest && !w.replica) {
		return nil
	}
	if !ok {
		w.have++
	}
	held[name] = e.version()
	return e
}
