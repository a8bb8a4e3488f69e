// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// maxNacks bounds the nacks of one answer, and the sections that are not published.
const maxNacks = 10

// Programmed says how far a set of sections has come.
type Programmed struct {
	Subscribed int    // connected pods that subscribe to any of the sections
	Acked      int    // of those, the pods that hold the newest version of all of the sections that they subscribe to
	Nacks      []Nack // refusals of a newest version, by pod and section; at most ten
	MoreNacks  int    // that are not listed
	// Unpublished says why the newest version of a section is kept back, so that no pod holds it; the errors name their
	// sections and are sorted by them. At most ten.
	Unpublished     []error
	MoreUnpublished int // that are not listed
}

// Nack is one proxy's refusal of one section.
type Nack struct {
	PodUID  string
	Section meshconfig.Name
	Reason  string
}

// tracker knows what the pods subscribe to and hold, from streams of its own node and from reports of others.
type tracker struct {
	hub     *Hub
	changed chan struct{} // of size 1

	mu        sync.Mutex
	owners    uint64
	pods      map[string]*tracked
	bySub     map[meshconfig.Name]map[string]struct{} // pods by subscription
	lost      map[uint64]time.Time                    // owners of which no more is heard
	reporting bool
	pending   map[string]*pending // what the next report says
	health    map[string]Health   // by service, as last put together
}

// tracked is what is known of a pod.
type tracked struct {
	owner   uint64 // the stream, of this node's own or of a replica that reports, that it is known from
	local   bool
	session uint64
	subs    map[meshconfig.Name]map[meshconfig.Name]held
	health  map[string]*controlapi.ServiceHealth // by service; those of which something is amiss
}

// held is what a pod holds of a section, and what it last refused.
type held struct {
	acked, nacked bool
	digest        [32]byte // of what it acked
	nack          string
	nackDigest    [32]byte
}

func newTracker(h *Hub) *tracker {
	return &tracker{
		hub: h, changed: make(chan struct{}, 1),
		pods:    make(map[string]*tracked),
		bySub:   make(map[meshconfig.Name]map[string]struct{}),
		lost:    make(map[uint64]time.Time),
		pending: make(map[string]*pending),
		health:  make(map[string]Health),
	}
}

func (t *tracker) notify() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// newOwner returns the number of a new stream.
func (t *tracker) newOwner() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owners++
	return t.owners
}

// connect begins what a pod's stream tells. It takes over from every stream before it.
func (t *tracker) connect(owner uint64, uid string, session uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replace(uid, &tracked{owner: owner, local: true, session: session})
	if t.reporting {
		t.pending[uid] = &pending{full: true, session: session}
	}
}

// disconnect ends it.
func (t *tracker) disconnect(owner uint64, uid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pod := t.pods[uid]
	if pod == nil || pod.owner != owner {
		return
	}
	t.remove(uid)
	if t.reporting {
		t.pending[uid] = &pending{gone: true, session: pod.session}
	}
}

// update changes a local pod's state under one subscription, unless another stream has taken over.
func (t *tracker) update(owner uint64, uid string, sub meshconfig.Name, f func(*tracked)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pod := t.pods[uid]
	if pod == nil || pod.owner != owner {
		return
	}
	f(pod)
	if t.reporting {
		t.touch(uid, pod.session, sub)
	}
	t.notify()
}

// subscribe begins a subscription anew; the pod holds what it says it holds.
func (t *tracker) subscribe(owner uint64, uid string, sub meshconfig.Name, holds holdings) {
	t.update(owner, uid, sub, func(pod *tracked) {
		sections := make(map[meshconfig.Name]held, max(1, len(holds)))
		for name, v := range holds {
			sections[name] = held{acked: true, digest: v.digest}
		}
		t.set(uid, pod, sub, sections)
	})
}

func (t *tracker) unsubscribe(owner uint64, uid string, sub meshconfig.Name) {
	t.update(owner, uid, sub, func(pod *tracked) { t.unset(uid, pod, sub) })
}

func (t *tracker) ack(owner uint64, uid string, name meshconfig.Name, digest [32]byte) {
	sub := name.Subscription()
	t.update(owner, uid, sub, func(pod *tracked) {
		if sections, ok := pod.subs[sub]; ok {
			sections[name] = held{acked: true, digest: digest}
		}
	})
}

func (t *tracker) nack(owner uint64, uid string, name meshconfig.Name, digest [32]byte, reason string) {
	sub := name.Subscription()
	t.update(owner, uid, sub, func(pod *tracked) {
		if sections, ok := pod.subs[sub]; ok {
			h := sections[name]
			h.nacked, h.nack, h.nackDigest = true, reason, digest
			sections[name] = h
		}
	})
}

// replace puts a pod in the place of what was known of it. Callers hold t.mu.
func (t *tracker) replace(uid string, pod *tracked) {
	t.remove(uid)
	pod.subs = make(map[meshconfig.Name]map[meshconfig.Name]held)
	t.pods[uid] = pod
}

// remove forgets a pod. Callers hold t.mu.
func (t *tracker) remove(uid string) {
	pod := t.pods[uid]
	if pod == nil {
		return
	}
	for sub := range pod.subs {
		t.unset(uid, pod, sub)
	}
	delete(t.pods, uid)
	t.notify()
}

// set makes sections all that a pod holds under a subscription. Callers hold t.mu.
func (t *tracker) set(uid string, pod *tracked, sub meshconfig.Name, sections map[meshconfig.Name]held) {
	pod.subs[sub] = sections
	if t.bySub[sub] == nil {
		t.bySub[sub] = make(map[string]struct{}, 1)
	}
	t.bySub[sub][uid] = struct{}{}
}

// unset ends a subscription. Callers hold t.mu.
func (t *tracker) unset(uid string, pod *tracked, sub meshconfig.Name) {
	delete(pod.subs, sub)
	delete(t.bySub[sub], uid)
	if len(t.bySub[sub]) == 0 {
		delete(t.bySub, sub)
	}
}

// programmed counts the pods that subscribe to sections. Nobody holds the newest version of one that is unpublished. Any
// other that the hub does not have counts for nothing.
func (t *tracker) programmed(names []meshconfig.Name, unpublished map[meshconfig.Name]error) Programmed {
	current := make(map[meshconfig.Name][32]byte, len(names))
	for _, name := range names {
		switch e := t.hub.Get(name); {
		case e != nil:
			current[name] = e.Digest
		case unpublished[name] != nil:
			current[name] = [32]byte{}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	behind := make(map[string]bool) // by pod that subscribes to any
	var nacks []Nack
	for name, digest := range current {
		sub := name.Subscription()
		for uid := range t.bySub[sub] {
			h := t.pods[uid].subs[sub][name]
			behind[uid] = behind[uid] || !h.acked || h.digest != digest || unpublished[name] != nil
			if h.nacked && h.nackDigest == digest {
				nacks = append(nacks, Nack{PodUID: uid, Section: name, Reason: h.nack})
			}
		}
	}
	out := Programmed{Subscribed: len(behind)}
	for _, late := range behind {
		if !late {
			out.Acked++
		}
	}
	slices.SortFunc(nacks, func(a, b Nack) int { return cmp.Or(cmp.Compare(a.PodUID, b.PodUID), cmp.Compare(a.Section, b.Section)) })
	out.Nacks = nacks[:min(len(nacks), maxNacks)]
	out.MoreNacks = len(nacks) - len(out.Nacks)
	sections := slices.Sorted(maps.Keys(unpublished))
	for _, name := range sections[:min(len(sections), maxNacks)] {
		out.Unpublished = append(out.Unpublished, unpublished[name])
	}
	out.MoreUnpublished = len(sections) - len(out.Unpublished)
	return out
}
