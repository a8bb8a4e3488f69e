// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"maps"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/internal/controlapi"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// lostGrace is how long the pods of a replica still count after its stream broke: it comes back and reports them anew.
const lostGrace = 10 * time.Second

// sectionsPerReport keeps one pod's part of a report well below the size of a message.
const sectionsPerReport = 500

// pending is what the next report says of a pod.
type pending struct {
	session    uint64
	gone, full bool
	health     bool                         // it changed
	subs       map[meshconfig.Name]struct{} // that changed
}

// touch notes that a pod's state under a subscription changed. Callers hold t.mu.
func (t *tracker) touch(uid string, session uint64, sub meshconfig.Name) {
	p := t.pendingOf(uid, session)
	if p.full {
		return
	}
	if p.subs == nil {
		p.subs = make(map[meshconfig.Name]struct{})
	}
	p.subs[sub] = struct{}{}
}

// pendingOf returns what the next report says of a pod. Callers hold t.mu.
func (t *tracker) pendingOf(uid string, session uint64) *pending {
	p := t.pending[uid]
	if p == nil || p.session != session || p.gone {
		p = &pending{session: session}
		t.pending[uid] = p
	}
	return p
}

// beginReports makes the next report say all of what the node's own streams told.
func (t *tracker) beginReports() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reporting = true
	clear(t.pending)
	for uid, pod := range t.pods {
		if pod.local {
			t.pending[uid] = &pending{session: pod.session, full: true}
		}
	}
}

// endReports stops the noting of changes.
func (t *tracker) endReports() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reporting = false
	clear(t.pending)
}

// report returns what changed since the last one.
func (t *tracker) report() []*controlapi.PodReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*controlapi.PodReport
	for uid, p := range t.pending {
		if p.gone {
			out = append(out, &controlapi.PodReport{PodUid: uid, Session: p.session, Gone: true})
			continue
		}
		pod := t.pods[uid]
		if pod == nil || !pod.local || pod.session != p.session {
			continue
		}
		subs := maps.Keys(p.subs)
		if p.full {
			subs = maps.Keys(pod.subs)
		}
		var sections []*controlapi.SectionReport
		for sub := range subs {
			sections = append(sections, pod.report(sub)...)
		}
		full := p.full
		for part := range slices.Chunk(sections, sectionsPerReport) {
			out = append(out, &controlapi.PodReport{PodUid: uid, Session: p.session, Full: full, Sections: part})
			full = false
		}
		if full {
			out = append(out, &controlapi.PodReport{PodUid: uid, Session: p.session, Full: true})
		}
		if p.health || p.full && len(pod.health) > 0 {
			out = append(out, pod.reportHealth(uid))
		}
	}
	clear(t.pending)
	return out
}

// report says all of what a pod holds under a subscription, in place of what was said before.
func (pod *tracked) report(sub meshconfig.Name) []*controlapi.SectionReport {
	sections, ok := pod.subs[sub]
	if !ok {
		return []*controlapi.SectionReport{{Name: string(sub), Unsubscribed: true}}
	}
	if len(sections) == 0 {
		return []*controlapi.SectionReport{{Name: string(sub), Unsubscribed: true}, {Name: string(sub)}}
	}
	out := make([]*controlapi.SectionReport, 0, len(sections)+1)
	if sub.Kind() == meshconfig.KindEndpoints {
		out = append(out, &controlapi.SectionReport{Name: string(sub), Unsubscribed: true})
	}
	for name, h := range sections {
		r := &controlapi.SectionReport{Name: string(name)}
		if h.acked {
			r.Digest = h.digest[:]
		}
		if h.nacked {
			r.Nack, r.NackDigest = h.nack, h.nackDigest[:]
		}
		out = append(out, r)
	}
	return out
}

// apply takes a report of a replica. What is malformed is left out: only replicas report.
func (t *tracker) apply(owner uint64, reports []*controlapi.PodReport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range reports {
		uid, pod := r.GetPodUid(), t.pods[r.GetPodUid()]
		known := pod != nil && pod.owner == owner
		switch {
		case pod != nil && r.GetSession() < pod.session:
			continue // the pod has moved on
		case r.GetGone():
			if known {
				t.remove(uid)
			}
			continue
		case r.GetFull():
			pod = &tracked{owner: owner, session: r.GetSession()}
			t.replace(uid, pod)
		case !known:
			continue
		}
		for _, s := range r.GetSections() {
			t.applySection(uid, pod, s)
		}
		if r.GetHealth() != nil {
			pod.applyHealth(r.GetHealth())
		}
	}
	t.notify()
}

// applySection takes one section of a report. Callers hold t.mu.
func (t *tracker) applySection(uid string, pod *tracked, r *controlapi.SectionReport) {
	name, err := meshconfig.ParseName(r.GetName())
	if err != nil {
		return
	}
	sub := name.Subscription()
	if r.GetUnsubscribed() {
		t.unset(uid, pod, sub)
		return
	}
	if _, ok := pod.subs[sub]; !ok {
		t.set(uid, pod, sub, make(map[meshconfig.Name]held, 1))
	}
	h := held{
		acked:  copyDigest(r.GetDigest()) != nil,
		nacked: copyDigest(r.GetNackDigest()) != nil,
		nack:   r.GetNack(),
	}
	if d := copyDigest(r.GetDigest()); d != nil {
		h.digest = *d
	}
	if d := copyDigest(r.GetNackDigest()); d != nil {
		h.nackDigest = *d
	}
	if h.acked || h.nacked {
		pod.subs[sub][name] = h
	}
}

// copyDigest returns a digest of the right length, or nil.
func copyDigest(b []byte) *[32]byte {
	if len(b) != 32 {
		return nil
	}
	d := [32]byte(b)
	return &d
}

// lose notes that a replica's stream broke.
func (t *tracker) lose(owner uint64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost[owner] = now
}

// expire forgets the pods of replicas whose stream broke and that did not come back.
func (t *tracker) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for owner, since := range t.lost {
		if now.Sub(since) < lostGrace {
			continue
		}
		delete(t.lost, owner)
		for uid, pod := range t.pods {
			if pod.owner == owner {
				t.remove(uid)
			}
		}
	}
}
