// SPDX-License-Identifier: Apache-2.0

package upstream

import "time"

// retire makes the pool keep nothing any more and returns what is idle, which is for the caller to close.
func (p *pool) retire() []*pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	return p.takeIdle(func(*pooled) bool { return true })
}

// revive undoes retire.
func (p *pool) revive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = false
}

// reapLater sees to it that what is ready now is closed when it was not used for long. The lock is held.
func (p *pool) reapLater() {
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.endpoint.registry.options.IdleTimeout, p.reap)
	}
}

// reap closes what was not used for long, and comes back while something is left.
func (p *pool) reap() {
	timeout := p.endpoint.registry.options.IdleTimeout
	now := time.Now()
	p.mu.Lock()
	old := p.takeIdle(func(c *pooled) bool { return now.Sub(c.used) >= timeout })
	p.reaper = nil
	if len(p.ready) > 0 {
		next := timeout
		for _, c := range p.ready {
			next = min(next, max(timeout-now.Sub(c.used), timeout/16))
		}
		p.reaper = time.AfterFunc(next, p.reap)
	}
	p.mu.Unlock()
	closeAll(old)
}

// takeIdle takes idle connections of which the condition is true out of the pool. The lock is held.
func (p *pool) takeIdle(condition func(*pooled) bool) []*pooled {
	var taken []*pooled
	kept := p.ready[:0]
	for _, c := range p.ready {
		if c.isIdle() && condition(c) {
			c.ready = false
			delete(p.open, c)
			taken = append(taken, c)
			continue
		}
		kept = append(kept, c)
	}
	clear(p.ready[len(kept):])
	p.ready = kept
	return taken
}
