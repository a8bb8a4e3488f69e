// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackOnceABurstIsOver(t *testing.T) {
	var allocated uint64
	collected := 0
	tidy := newTidier()
	tidy.allocated = func() uint64 { return allocated }
	tidy.collect = func() { collected++; allocated += 1000 }
	for _, step := range []struct {
		what      string
		allocates uint64 // at each look
		looks     int
		collected int // in the end
	}{
		{"nothing has happened yet", 0, 5, 0},
		{"busy", 5 * tidyQuiet, 10, 0},
		{"quiet: a few times, and then not again", 100, 10, tidyRounds},
		{"little goes on", tidyQuiet / 4, 3, tidyRounds},
		{"little that has added up", tidyQuiet / 4, 1, tidyRounds + 1},
	} {
		for range step.looks {
			allocated += step.allocates
			tidy.look()
		}
		if collected != step.collected {
			t.Errorf("%s: collected %d times, want %d", step.what, collected, step.collected)
		}
	}
	newTidier().look()
}

func TestTidyingUpEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tidy := newTidier()
		var looked atomic.Int64
		tidy.allocated = func() uint64 { looked.Add(1); return 0 }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- tidy.run(ctx) }()
		time.Sleep(3 * tidyEvery)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || looked.Load() != 3 {
			t.Errorf("looked %d times, %v", looked.Load(), err)
		}
	})
}
