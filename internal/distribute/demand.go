// SPDX-License-Identifier: Apache-2.0

package distribute

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// What the publisher does when asked: on-demand sections, and tombstones of what there is not.

// changed makes the publisher answer a subscription that got its first watcher, and drop what it made for one that lost
// its last.
func (p *Publisher) changed(sub meshconfig.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hub == nil || !p.synced {
		return
	}
	watched, entries := p.hub.watched(sub)
	if !watched {
		p.release(sub)
		return
	}
	if err := p.answer(sub, entries); err != nil {
		p.opts.Log.Error(err, "a subscription was not answered", "section", sub)
	}
}

// ask tombstones a section that a proxy holds and that there is not.
func (p *Publisher) ask(name meshconfig.Name, _ version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hub == nil:
	case p.synced:
		if err := p.answerHeld(name); err != nil {
			p.opts.Log.Error(err, "a section that is gone was not tombstoned", "section", name)
		}
	case len(p.asked) < maxAsked:
		p.asked[name] = struct{}{}
	}
}

// answer makes sure that a watched subscription has at least one section or tombstone. Callers hold p.mu.
func (p *Publisher) answer(sub meshconfig.Name, entries []*Entry) error {
	switch sub.Kind() {
	case meshconfig.KindAddress:
		p.demand[sub] = struct{}{}
		return p.evaluate(sub)
	case meshconfig.KindMesh, meshconfig.KindHeartbeat:
		return nil // never absent for long
	case meshconfig.KindEndpoints:
		if len(entries) == 0 {
			return p.answerHeld(meshconfig.EndpointsName(sub.Subject(), 0))
		}
	default:
		if len(entries) == 0 {
			return p.answerHeld(sub)
		}
	}
	return nil
}

// answerHeld tombstones a section unless there is one. Callers hold p.mu.
func (p *Publisher) answerHeld(name meshconfig.Name) error {
	_, failed := p.failed[name]
	if failed || p.hub.Get(name) != nil || name.Kind() == meshconfig.KindAddress {
		return nil
	}
	return p.tombstone(name)
}

// answerAll answers all that was asked before the first Publish. Callers hold p.mu.
func (p *Publisher) answerAll() error {
	var errs []error
	for _, sub := range p.hub.subscriptions() {
		_, entries := p.hub.watched(sub)
		errs = append(errs, p.answer(sub, entries))
	}
	for name := range p.asked {
		errs = append(errs, p.answerHeld(name))
	}
	p.asked = nil
	return errors.Join(errs...)
}

// evaluate brings an on-demand section up to date. Callers hold p.mu.
func (p *Publisher) evaluate(name meshconfig.Name) error {
	m := p.opts.Resolve(name)
	if m == nil {
		return fmt.Errorf("section %s is not published: it was not resolved", name)
	}
	if old := p.known[name]; old != nil && old.message == m && old.renewals == p.renewals {
		return nil
	}
	p.counters.update(func(c *Counters) { c.Evaluated++ })
	return p.publish(name, m)
}

// release drops what was made because somebody watched. Callers hold p.mu.
func (p *Publisher) release(sub meshconfig.Name) {
	if sub.Kind() == meshconfig.KindAddress {
		delete(p.demand, sub)
		delete(p.known, sub)
		delete(p.failed, sub)
		p.hub.forget(sub, func(*Entry) bool { return true })
		return
	}
	p.hub.forget(sub, func(e *Entry) bool { return e.Tombstone })
}

// bury tombstones what was published, by this leader or one before it, and is in sections no longer. Callers hold p.mu.
func (p *Publisher) bury(sections map[meshconfig.Name]proto.Message) error {
	var gone []meshconfig.Name
	for name := range p.known {
		if _, ok := p.demand[name]; !ok && sections[name] == nil {
			gone = append(gone, name)
		}
	}
	for name := range p.failed {
		if sections[name] == nil && p.known[name] == nil && name.Kind() != meshconfig.KindAddress {
			gone = append(gone, name)
		}
	}
	if !p.synced {
		p.hub.each(func(e *Entry) {
			switch {
			case e.Name.Kind() == meshconfig.KindHeartbeat || e.Name.Kind() == meshconfig.KindAddress:
			case sections[e.Name] == nil && p.known[e.Name] == nil:
				gone = append(gone, e.Name)
			}
		})
	}
	var errs []error
	for _, name := range gone {
		delete(p.failed, name)
		if watched := p.hub.forget(name.Subscription(), func(e *Entry) bool { return e.Name == name }); !watched {
			// Nobody has it, or is told when it comes back and says that it has it.
			delete(p.known, name)
			continue
		}
		err := p.tombstone(name)
		if err == nil {
			delete(p.known, name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tombstone signs that a section is gone. Callers hold p.mu.
func (p *Publisher) tombstone(name meshconfig.Name) error {
	st := p.statement(name)
	st.Tombstone = true
	if err := p.sign(st); err != nil {
		return fmt.Errorf("section %s is not tombstoned: %w", name, err)
	}
	return nil
}

// beat signs the heartbeat. Callers hold p.mu.
func (p *Publisher) beat() error {
	st := p.statement(meshconfig.HeartbeatName)
	st.Payload = meshconfig.Encode(&meshconfig.Heartbeat{At: p.opts.Clock().UnixMilli()})
	if err := p.sign(st); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}
