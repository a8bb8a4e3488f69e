// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/proxy/forward"
)

// drainPoll is how often a drain looks whether requests are still running.
const drainPoll = 20 * time.Millisecond

// Drain ends a pod's traffic in order. It begins when the kubelet runs the preStop hook or the operator says that the
// pod is being deleted: the proxy stops being ready and asks its callers to leave, while it goes on to serve whoever
// hasn't heard yet, and the application can go on to call others. SIGTERM finishes it.
type Drain struct {
	in, out forward.Server
	started atomic.Bool
}

// NewDrain makes a Drain of both directions.
func NewDrain(in, out forward.Server) *Drain { return &Drain{in: in, out: out} }

// Begin starts to drain. It doesn't wait and may be called again.
func (d *Drain) Begin() {
	if d.started.CompareAndSwap(false, true) {
		d.in.Drain()
	}
}

// Draining says whether Begin was called.
func (d *Drain) Draining() bool { return d.started.Load() }

// Wait returns nil when no inbound request or connection runs, or ctx's error.
func (d *Drain) Wait(ctx context.Context) error {
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for d.in.Active() > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Finish drains both directions, waits until what runs has ended or ctx ends, and cuts what is left; then it returns
// ctx's error.
func (d *Drain) Finish(ctx context.Context) error {
	d.Begin()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, server := range []forward.Server{d.in, d.out} {
		wg.Go(func() { errs[i] = server.Shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
