// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimited bounds how many keys a limiter remembers.
const maxLimited = 16384

// limiter gives each key (a pod, an address) its own rate. It forgets keys that have not been seen for a while.
type limiter struct {
	every rate.Limit
	burst int

	mu   sync.Mutex
	keys map[string]*rate.Limiter
}

func newLimiter(every time.Duration, burst int) *limiter {
	return &limiter{every: rate.Every(every), burst: burst, keys: map[string]*rate.Limiter{}}
}

// allow takes one of the key's tokens, if it has any.
func (l *limiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		if len(l.keys) >= maxLimited {
			l.forget(now)
		}
		k = rate.NewLimiter(l.every, l.burst)
		l.keys[key] = k
	}
	return k.AllowN(now, 1)
}

// forget drops the keys that are as good as new, or any one when all are busy. The caller holds l.mu.
func (l *limiter) forget(now time.Time) {
	for key, k := range l.keys {
		if k.TokensAt(now) >= float64(l.burst) {
			delete(l.keys, key)
		}
	}
	if len(l.keys) < maxLimited {
		return
	}
	for key := range l.keys {
		delete(l.keys, key)
		return
	}
}

// slots bounds how many do something at once and how many wait to, each no longer than wait.
type slots struct {
	wait    time.Duration
	running chan struct{}
	waiting chan struct{}
}

func newSlots(running, waiting int, wait time.Duration) *slots {
	return &slots{wait: wait, running: make(chan struct{}, running), waiting: make(chan struct{}, waiting)}
}

// acquire returns a func that gives the slot back.
func (s *slots) acquire(ctx context.Context) (func(), error) {
	release := func() { <-s.running }
	select {
	case s.running <- struct{}{}:
		return release, nil
	default:
	}
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return nil, refuse(ReasonOverloaded, "%d requests wait already: try again later", cap(s.waiting))
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case s.running <- struct{}{}:
		return release, nil
	case <-timer.C:
		return nil, refuse(ReasonOverloaded, "waited %s for one of %d places: try again later", s.wait, cap(s.running))
	case <-ctx.Done():
		return nil, refuse(ReasonCanceled, "waiting for a place: %v", context.Cause(ctx))
	}
}
