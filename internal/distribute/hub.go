// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"sync"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// Entry is one version of a section as it goes over the wire. It never changes once it is in a Hub.
type Entry struct {
	Name      meshconfig.Name
	Serial    signedconfig.Serial
	Digest    [32]byte // of the statement
	Tombstone bool
	Envelope  []byte
}

// version is what a stream's far end has of a section.
type version struct {
	serial signedconfig.Serial
	digest [32]byte
}

func (e *Entry) version() version { return version{e.Serial, e.Digest} }

// source fills a hub: the publisher of the leader, or the relay. Its methods are called without the hub's lock, may come
// late and in any order, and so say only what to look at again.
type source interface {
	// changed says that the first watcher of a subscription came or the last one left.
	changed(sub meshconfig.Name)
	// ask says that a proxy holds a version of a section that the hub has nothing of: it wants the section's successor, or
	// its tombstone.
	ask(name meshconfig.Name, held version)
}

// Hub holds the newest envelope of each section and knows which streams watch it.
type Hub struct {
	mu     sync.RWMutex
	topics map[meshconfig.Name]*topic // by subscription
	source source                     // nil: nobody fills the hub
	notify func()                     // after each change of an entry; may be nil
}

// topic is what one subscription covers: one section, or the shards of a service's endpoints.
type topic struct {
	entries  map[meshconfig.Name]*Entry
	watchers map[*watcher]struct{}
}

func newHub(notify func()) *Hub {
	return &Hub{topics: make(map[meshconfig.Name]*topic), notify: notify}
}

// Get returns the newest version of a section, or nil.
func (h *Hub) Get(name meshconfig.Name) *Entry {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if t := h.topics[name.Subscription()]; t != nil {
		return t.entries[name]
	}
	return nil
}

// Put stores an entry unless the hub has one of the same or a higher serial, and wakes who watches it.
func (h *Hub) Put(e *Entry) bool {
	if !h.put(e) {
		return false
	}
	if h.notify != nil {
		h.notify()
	}
	return true
}

func (h *Hub) put(e *Entry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topic(e.Name.Subscription())
	old := t.entries[e.Name]
	if old != nil && old.Serial.Compare(e.Serial) >= 0 {
		return false
	}
	t.entries[e.Name] = e
	same := old != nil && old.Digest == e.Digest
	for w := range t.watchers {
		// Equal content, signed again, matters to replicas alone: they hand it to proxies that have nothing yet.
		if !same || w.replica {
			w.mark(e.Name)
		}
	}
	return true
}

// topic returns the topic of a subscription, made if need be. Callers hold h.mu.
func (h *Hub) topic(sub meshconfig.Name) *topic {
	t := h.topics[sub]
	if t == nil {
		t = &topic{entries: make(map[meshconfig.Name]*Entry, 1), watchers: make(map[*watcher]struct{}, 1)}
		h.topics[sub] = t
	}
	return t
}

// tidy drops a topic that is empty. Callers hold h.mu.
func (h *Hub) tidy(sub meshconfig.Name, t *topic) {
	if len(t.entries) == 0 && len(t.watchers) == 0 {
		delete(h.topics, sub)
	}
}

// setSource says who fills the hub from now on.
func (h *Hub) setSource(s source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.source = s
}

// watch adds a watcher to a subscription and marks all that is there as changed for it.
func (h *Hub) watch(sub meshconfig.Name, w *watcher) {
	h.mu.Lock()
	t := h.topic(sub)
	first := len(t.watchers) == 0
	t.watchers[w] = struct{}{}
	for name := range t.entries {
		w.mark(name)
	}
	s := h.source
	h.mu.Unlock()
	if first && s != nil {
		s.changed(sub)
	}
}

func (h *Hub) unwatch(sub meshconfig.Name, w *watcher) {
	h.mu.Lock()
	t := h.topics[sub]
	if t == nil {
		h.mu.Unlock()
		return
	}
	_, was := t.watchers[w]
	delete(t.watchers, w)
	last := was && len(t.watchers) == 0
	h.tidy(sub, t)
	s := h.source
	h.mu.Unlock()
	if last && s != nil {
		s.changed(sub)
	}
}

func (h *Hub) ask(name meshconfig.Name, held version) {
	h.mu.RLock()
	s := h.source
	h.mu.RUnlock()
	if s != nil {
		s.ask(name, held)
	}
}

// watched says whether anybody watches a subscription, and returns what the hub has under it.
func (h *Hub) watched(sub meshconfig.Name) (yes bool, entries []*Entry) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	t := h.topics[sub]
	if t == nil {
		return false, nil
	}
	for _, e := range t.entries {
		entries = append(entries, e)
	}
	return len(t.watchers) > 0, entries
}

// subscriptions returns all that is watched.
func (h *Hub) subscriptions() []meshconfig.Name {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := make([]meshconfig.Name, 0, len(h.topics))
	for sub, t := range h.topics {
		if len(t.watchers) > 0 {
			out = append(out, sub)
		}
	}
	return out
}

// forget drops the entries of a subscription for which drop is true, unless somebody watches it, which it reports. The
// streams that come later begin anew.
func (h *Hub) forget(sub meshconfig.Name, drop func(*Entry) bool) (watched bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[sub]
	if t == nil {
		return false
	}
	if len(t.watchers) > 0 {
		return true
	}
	for name, e := range t.entries {
		if drop(e) {
			delete(t.entries, name)
		}
	}
	h.tidy(sub, t)
	return false
}

// each calls f with every entry.
func (h *Hub) each(f func(*Entry)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, t := range h.topics {
		for _, e := range t.entries {
			f(e)
		}
	}
}

// prune drops all that nobody watches: what a replica that no longer leads would not be told the news of.
func (h *Hub) prune() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for sub, t := range h.topics {
		if len(t.watchers) == 0 {
			delete(h.topics, sub)
		}
	}
}
