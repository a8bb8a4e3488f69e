// SPDX-License-Identifier: Apache-2.0

//go:build !race

package ratelimit

import (
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
)

func TestAllowDoesNotAllocate(t *testing.T) {
	l, all := newLimits(t, perSecond("pod", 1000, 10), perSecond("also", 1000, 20), perCaller(perSecond("each", 100, 10)))
	for name, c := range map[string]struct {
		matching uint64
		who      identity.ID
	}{
		"no limit": {0, nobody}, "one of the pod": {1, nobody}, "one of a caller": {4, caller(1)}, "all of them": {all, caller(1)},
	} {
		now := start
		l.Allow(c.matching, c.who, now) // the caller's bucket is made
		if allocs := testing.AllocsPerRun(1000, func() {
			now = now.Add(3 * time.Millisecond) // some are admitted, some are not
			l.Allow(c.matching, c.who, now)
		}); allocs != 0 {
			t.Errorf("%s: %v allocations, want 0", name, allocs)
		}
	}
}
