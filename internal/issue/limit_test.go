// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestALimiterGivesEachKeyItsOwnRate(t *testing.T) {
	l, now := newLimiter(time.Second, 2), time.Now()
	for i, want := range []bool{true, true, false} {
		if got := l.allow("a", now); got != want {
			t.Errorf("try %d of a: %t", i, got)
		}
	}
	if !l.allow("b", now) {
		t.Error("b pays for a")
	}
	if !l.allow("a", now.Add(time.Second)) {
		t.Error("a second later a has a token again")
	}
}

func TestALimiterForgetsKeys(t *testing.T) {
	l, now := newLimiter(time.Second, 1), time.Now()
	for i := range maxLimited {
		l.allow(fmt.Sprint(i), now)
	}
	l.allow("one more, all busy", now)
	if len(l.keys) != maxLimited {
		t.Errorf("%d keys: want %d", len(l.keys), maxLimited)
	}
	l.allow("one more, all idle", now.Add(time.Minute))
	if len(l.keys) != 1 {
		t.Errorf("%d keys: want 1", len(l.keys))
	}
}

func TestSlotsBoundWhoRunsWhoWaitsAndHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, 1, 5*time.Second)
		release, err := s.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		waiter := make(chan error, 1)
		go func() {
			_, err := s.acquire(t.Context())
			waiter <- err
		}()
		synctest.Wait()
		if _, err := s.acquire(t.Context()); result(err) != string(ReasonOverloaded) || time.Since(start) != 0 {
			t.Errorf("one too many: %v after %s", err, time.Since(start))
		}
		if err := <-waiter; result(err) != string(ReasonOverloaded) || time.Since(start) != 5*time.Second {
			t.Errorf("the waiter: %v after %s", err, time.Since(start))
		}
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("gone"))
		if _, err := s.acquire(gone); result(err) != string(ReasonCanceled) {
			t.Errorf("a caller that has gone: %v", err)
		}
		go func() {
			_, err := s.acquire(t.Context())
			waiter <- err
		}()
		synctest.Wait()
		release()
		if err := <-waiter; err != nil {
			t.Errorf("after a release: %v", err)
		}
	})
}
