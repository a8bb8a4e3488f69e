// SPDX-License-Identifier: Apache-2.0

package table

import (
	"context"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// orphanGrace is how long endpoints are kept that no table names: they may have come before their routes.
const orphanGrace = 30 * time.Second

// want notes that a section is needed, or is not any more. The lock is held.
func (s *Store) want(needed bool, names ...meshconfig.Name) {
	for _, n := range names {
		s.wanted[n] = needed
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run tells the subscriber what is needed, forgets what was not used for long, and has endpoints checked where config says
// so, until ctx ends.
func (s *Store) Run(ctx context.Context, subscriber Subscriber) {
	s.locked(func() { s.running = ctx; s.checkAll() })
	defer s.locked(func() { s.running = nil; s.checkAll() })
	ticker := time.NewTicker(max(min(orphanGrace, s.options.IdleExpiry)/3, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			want, unwant := s.takeWanted()
			if len(want) > 0 {
				subscriber.Want(want...)
			}
			if len(unwant) > 0 {
				subscriber.Unwant(unwant...)
			}
		case <-ticker.C:
			s.locked(s.expire)
		}
	}
}

// takeWanted returns what changed since it was called last, sorted.
func (s *Store) takeWanted() (want, unwant []meshconfig.Name) {
	s.mu.Lock()
	for name, needed := range s.wanted {
		if needed {
			want = append(want, name)
		} else {
			unwant = append(unwant, name)
		}
	}
	clear(s.wanted)
	s.mu.Unlock()
	slices.Sort(want)
	slices.Sort(unwant)
	return want, unwant
}

// expire forgets what was not used for long. The lock is held.
func (s *Store) expire() {
	now := time.Now()
	for _, a := range s.addresses {
		if a.idle(now, s.options.IdleExpiry) {
			s.dropAddress(a)
		}
	}
	for _, svc := range s.services {
		if svc.idle(now, s.options.IdleExpiry) {
			s.dropService(svc)
		}
	}
	for _, b := range s.backends {
		if b.idle(now, orphanGrace) {
			s.dropBackend(b)
		}
	}
}

// oldest returns the key of the least recently used entry that nobody uses.
func oldest[K comparable, V interface{ leased() *lease }](m map[K]V) (key K, ok bool) {
	var best *lease
	for k, v := range m {
		if l := v.leased(); l.pins == 0 && (best == nil || l.used.Before(best.used)) {
			key, best, ok = k, l, true
		}
	}
	return key, ok
}

// leased is for oldest.
func (l *lease) leased() *lease { return l }
