// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Of tidying up.
const (
	tidyEvery = 10 * time.Second
	// tidyQuiet is how little is allocated in that time when nothing much goes on.
	tidyQuiet = 1 << 20
	// tidyRounds is how often it takes: each collection halves the stacks that goroutines have grown and no longer need.
	tidyRounds = 3
)

// tidier gives memory back to the system once a burst is over. Go collects garbage when as much again was allocated, so
// that a proxy which falls idle keeps what its last burst left, and the stacks that handshakes have grown.
type tidier struct {
	allocated func() uint64 // bytes, ever
	collect   func()

	last, tidied uint64 // what was allocated at the last look, and at the last collection
	rounds       int    // that are left of this burst
}

func newTidier() *tidier {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	return &tidier{
		allocated: func() uint64 {
			metrics.Read(sample)
			return sample[0].Value.Uint64()
		},
		collect: debug.FreeOSMemory,
	}
}

// run tidies up until ctx ends.
func (t *tidier) run(ctx context.Context) error {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			t.look()
		}
	}
}

// look collects if nothing goes on after something has.
func (t *tidier) look() {
	now := t.allocated()
	quiet := now-t.last < tidyQuiet
	t.last = now
	if now-t.tidied >= tidyQuiet {
		t.rounds = tidyRounds
	}
	if !quiet || t.rounds == 0 {
		return
	}
	t.rounds--
	t.collect()
	t.tidied = t.allocated()
	t.last = t.tidied
}
