// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

const (
	// maxSubscriptions is below what the server allows on a stream, and above what the table wants when it is full.
	maxSubscriptions = 16_000
	// maxRecent bounds the names that are remembered as just given up.
	maxRecent = 10_000
)

// subscription is a name that the proxy subscribes to. A subscription that was given up and is wanted again is another
// one: what was held under it is not.
type subscription struct {
	name     meshconfig.Name
	idle     *list.Element // in holdings.idle: neither fixed nor wanted by the table
	sections map[meshconfig.Name]section
}

// section is a version that is in force, or a tombstone that was taken.
type section struct {
	serial    signedconfig.Serial
	digest    [32]byte
	tombstone bool
	size      int // bytes of the envelope
	issued    time.Time
	applied   time.Time
}

// holdings are what the proxy subscribes to and what it holds.
type holdings struct {
	changed func(meshconfig.Name) // a subscription began or ended

	mu      sync.Mutex
	fixed   map[meshconfig.Name]struct{} // subscriptions for the workload itself: never given up by others
	subs    map[meshconfig.Name]*subscription
	idle    *list.List                   // of *subscription, hinted or from the store, oldest first
	recent  map[meshconfig.Name]struct{} // given up on this stream: the operator may not know it yet
	dropped []meshconfig.Name            // sections given up, for the store
}

func newHoldings(changed func(meshconfig.Name)) *holdings {
	return &holdings{
		changed: changed,
		fixed:   make(map[meshconfig.Name]struct{}),
		subs:    make(map[meshconfig.Name]*subscription),
		idle:    list.New(),
		recent:  make(map[meshconfig.Name]struct{}),
	}
}

// fix subscribes to what the workload itself needs.
func (h *holdings) fix(name meshconfig.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fixed[name] = struct{}{}
	if s := h.subs[name]; s != nil {
		h.unidle(s)
		return
	}
	h.begin(name)
}

// unfix gives up what the workload itself no longer needs.
func (h *holdings) unfix(name meshconfig.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.fixed, name)
	h.end(name)
}

// want subscribes to what the table uses. It returns names for which there is no room.
func (h *holdings) want(names []meshconfig.Name) (refused []meshconfig.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		name = name.Subscription()
		if s := h.subs[name]; s != nil {
			h.unidle(s)
			continue
		}
		if !h.room() {
			refused = append(refused, name)
			continue
		}
		h.begin(name)
	}
	return refused
}

// prefetch subscribes to what the table may use, until it says so or until there is no room for it.
func (h *holdings) prefetch(names ...meshconfig.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		name = name.Subscription()
		if h.subs[name] != nil || !h.room() {
			continue
		}
		s := h.begin(name)
		s.idle = h.idle.PushBack(s)
	}
}

// unwant gives up what the table has dropped.
func (h *holdings) unwant(names []meshconfig.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		name = name.Subscription()
		if _, ok := h.fixed[name]; !ok {
			h.end(name)
		}
	}
}

// room makes room for one more subscription, if it can. Callers hold h.mu.
func (h *holdings) room() bool {
	if len(h.subs) < maxSubscriptions {
		return true
	}
	oldest := h.idle.Front()
	if oldest == nil {
		return false
	}
	h.end(oldest.Value.(*subscription).name) //nolint:forcetypeassert // the list holds nothing else
	return true
}

// begin makes a subscription. Callers hold h.mu.
func (h *holdings) begin(name meshconfig.Name) *subscription {
	s := &subscription{name: name, sections: make(map[meshconfig.Name]section, 1)}
	h.subs[name] = s
	delete(h.recent, name)
	h.changed(name)
	return s
}

// end gives one up. Callers hold h.mu.
func (h *holdings) end(name meshconfig.Name) {
	s := h.subs[name]
	if s == nil {
		return
	}
	h.unidle(s)
	delete(h.subs, name)
	for section := range s.sections {
		h.dropped = append(h.dropped, section)
	}
	if len(h.recent) >= maxRecent {
		clear(h.recent)
	}
	h.recent[name] = struct{}{}
	h.changed(name)
}

func (h *holdings) unidle(s *subscription) {
	if s.idle != nil {
		h.idle.Remove(s.idle)
		s.idle = nil
	}
}

// requested returns the subscription under which a section was asked for, and if there is none, whether there was one
// until just now.
func (h *holdings) requested(name meshconfig.Name) (s *subscription, recently bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, recently = h.recent[name.Subscription()]
	return h.subs[name.Subscription()], recently
}

// get returns what is held of a section.
func (h *holdings) get(name meshconfig.Name) (section, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.subs[name.Subscription()]
	if s == nil {
		return section{}, false
	}
	held, ok := s.sections[name]
	return held, ok
}

// live says whether a section is held that is not a tombstone.
func (h *holdings) live(name meshconfig.Name) bool {
	held, ok := h.get(name)
	return ok && !held.tombstone
}

// set notes what is held of a section, unless the subscription that it came for has ended meanwhile: then the table has
// dropped it, even if another one has begun.
func (h *holdings) set(s *subscription, name meshconfig.Name, held section) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs[s.name] != s {
		return false
	}
	s.sections[name] = held
	return true
}

// subscriptions returns the names of all.
func (h *holdings) subscriptions() []meshconfig.Name {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]meshconfig.Name, 0, len(h.subs))
	for name := range h.subs {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// message returns a subscription as the operator is told of it, or nil.
func (h *holdings) message(name meshconfig.Name) (*subscription, *controlapi.Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.subs[name]
	if s == nil {
		return nil, nil
	}
	m := &controlapi.Subscription{Name: string(name)}
	for section, held := range s.sections {
		m.Held = append(m.Held, &controlapi.Held{Name: string(section), Digest: held.digest[:], Serial: held.serial.String()})
	}
	return s, m
}

// drop notes that a section is not held.
func (h *holdings) drop(name meshconfig.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropped = append(h.dropped, name)
}

// takeDropped returns the sections that were given up since the last time and are not held again.
func (h *holdings) takeDropped() []meshconfig.Name {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.DeleteFunc(h.dropped, func(name meshconfig.Name) bool {
		s := h.subs[name.Subscription()]
		if s == nil {
			return false
		}
		_, held := s.sections[name]
		return held
	})
	h.dropped = nil
	return out
}

// newStream forgets what was given up on the last stream.
func (h *holdings) newStream() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.recent)
}

// each calls f with every section that is held.
func (h *holdings) each(f func(meshconfig.Name, section)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		for name, held := range s.sections {
			f(name, held)
		}
	}
}
