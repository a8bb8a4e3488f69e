// SPDX-License-Identifier: Apache-2.0

package controllers

import "testing"

func TestASignalMergesWhatNobodyLookedAt(t *testing.T) {
	t.Parallel()
	var s Signal
	s.Notify() // nobody is there
	woken, unsubscribe := s.Subscribe()
	pending := func() int {
		n := 0
		for {
			select {
			case <-woken:
				n++
			default:
				return n
			}
		}
	}
	if n := pending(); n != 1 {
		t.Errorf("%d wake-ups for what was notified before, want 1", n)
	}
	for range 100 {
		s.Notify()
	}
	if n := pending(); n != 1 {
		t.Errorf("%d wake-ups for 100 notifications, want 1", n)
	}
	unsubscribe()
	s.Notify()
	if n := pending(); n != 0 {
		t.Errorf("%d wake-ups after the end", n)
	}
}
