// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// mostGrowth is how many bytes a proxy may grow while it streams.
const mostGrowth = 4 << 20

// watched looks at the resident memory of a pair's processes.
type watched struct {
	t     *testing.T
	of    faces
	stop  chan struct{}
	group sync.WaitGroup

	mu    sync.Mutex
	from  []int64
	peaks []int64
}

// watch prepares to look.
func watch(t *testing.T, f faces) *watched {
	t.Helper()
	return &watched{t: t, of: f, stop: make(chan struct{})}
}

// begin notes what is resident now, and looks ten times a second from then on.
func (w *watched) begin() {
	if w.of.memory == nil {
		return
	}
	w.from = w.of.memory(w.t)
	w.peaks = make([]int64, len(w.from))
	w.group.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.look()
			case <-w.stop:
				return
			}
		}
	})
}

func (w *watched) look() {
	now := w.of.memory(w.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range now {
		w.peaks[i] = max(w.peaks[i], now[i])
	}
}

// end compares.
func (w *watched) end(what string) {
	w.t.Helper()
	if w.of.memory == nil {
		unmeasured(w.t, "memory of "+what, "the pair runs in this process")
	}
	begun := time.Now()
	close(w.stop)
	w.group.Wait()
	w.look()
	within, told := 0, ""
	for i, from := range w.from {
		grown := w.peaks[i] - from
		told += fmt.Sprintf("process %d of the pair: %.1f MiB, grew by %.1f MiB\n", i, mib(from), mib(grown))
		if grown <= mostGrowth {
			within++
		}
	}
	w.t.Log(told)
	score(w.t, fmt.Sprintf("memory of %s: at most %d MiB more", what, mostGrowth>>20), begun, within, len(w.from), told)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
