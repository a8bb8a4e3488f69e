// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Signal wakes everyone who subscribed. Notifying many times while a subscriber is busy wakes it once. The zero value is
// ready to use.
type Signal struct {
	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// Notify wakes the subscribers; it never blocks.
func (s *Signal) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subs {
		select {
		case sub <- struct{}{}:
		default:
		}
	}
}

// Subscribe returns a channel that is received from at once, for what was notified before, and after each Notify; and a
// func that ends it.
func (s *Signal) Subscribe() (<-chan struct{}, func()) {
	sub := make(chan struct{}, 1)
	sub <- struct{}{}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs == nil {
		s.subs = make(map[chan struct{}]struct{})
	}
	s.subs[sub] = struct{}{}
	return sub, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, sub)
	}
}

// signalSource makes a signal a source of a controller: at its start and after each Notify, and at most once per interval, all that list
// returns is put into the queue.
func signalSource[request comparable](s *Signal, interval time.Duration, list func(ctx context.Context) []request) source.TypedSource[request] {
	return source.TypedFunc[request](func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[request]) error {
		woken, unsubscribe := s.Subscribe()
		go func() {
			defer unsubscribe()
			for {
				select {
				case <-ctx.Done():
					return
				case <-woken:
				}
				for _, r := range list(ctx) {
					queue.Add(r)
				}
				pause(ctx, interval)
			}
		}()
		return nil
	})
}

// pause waits for d or the context's end.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
