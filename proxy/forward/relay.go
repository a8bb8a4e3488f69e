// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// end is one side of a connection that is relayed.
type end interface {
	net.Conn
	CloseWrite() error
}

// relay carries bytes both ways until both sides have ended, or one has failed, or ctx ends, or one side has ended and the
// other carried nothing for too long. It closes neither side in good order, and otherwise resets both: what was cut short
// must not look whole.
func (s *side) relay(ctx context.Context, caller, callee end) (in, out int64, err error) {
	r := &relayed{both: both{caller, callee}, side: s}
	stop := context.AfterFunc(ctx, r.reset)
	defer stop()
	var wg sync.WaitGroup
	var inErr error
	wg.Go(func() { in, inErr = r.way(callee, caller) })
	out, err = r.way(caller, callee)
	wg.Wait()
	return in, out, firstCause(inErr, err)
}

// relayed is a connection that is relayed.
type relayed struct {
	both
	side *side
	half atomic.Bool // one side has ended
}

// both are the sides of a connection.
type both struct{ caller, callee end }

func (b both) reset() {
	socket.Reset(b.caller)
	socket.Reset(b.callee)
}

// Close implements io.Closer, for running, which closes what it cuts.
func (b both) Close() error {
	b.reset()
	return nil
}

// way carries bytes one way, and then the end.
func (r *relayed) way(to, from end) (total int64, err error) {
	for {
		n, err := socket.Copy(to, from, r.side.Budget)
		total += n
		if err == nil {
			break
		}
		if n == 0 || !r.half.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			r.exceeded(err)
			r.reset()
			return total, err
		}
		r.limit(from) // it was not idle
	}
	r.half.Store(true)
	r.limit(to)
	if err := to.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
		r.reset()
		return total, err
	}
	return total, nil
}

// limit gives a side that is still open a time to send something.
func (r *relayed) limit(e end) {
	e.SetReadDeadline(time.Now().Add(r.side.Limits.HalfClosed)) //nolint:errcheck // a closed connection needs none
}

func (r *relayed) exceeded(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.side.Count.Exceeded(limits.HalfClosed)
	}
}

// firstCause returns the error that is not a consequence of the other.
func firstCause(a, b error) error {
	if a == nil || b != nil && errors.Is(a, net.ErrClosed) {
		return b
	}
	return a
}

// await waits until a connection has something to be read, or ctx ends, and says which. It fails if that has broken.
func await(ctx context.Context, c net.Conn) (came bool, err error) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		c.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection needs none
	})
	err = socket.Wait(c)
	if !stop() {
		<-done
		c.SetReadDeadline(time.Time{}) //nolint:errcheck // reading tells
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case errors.Is(err, io.EOF):
		return true, nil
	}
	return err == nil, err
}

// soon is how long bytes of the caller that could become a request are held.
const soon = 100 * time.Millisecond

// whoSpeaks waits until one side of a connection of unknown protocol speaks, or ends. If that is the caller then what it
// speaks is returned, otherwise Opaque. Nothing is taken of either side, and nothing is held while both are silent.
//
// What the server does is remembered, so that the next connection's caller need not be waited for.
func (s *side) whoSpeaks(ctx context.Context, caller Peeker, callee end, serverFirst *atomic.Bool) (Protocol, *refusal.Error) {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	var server bool
	var broken error
	var listening sync.WaitGroup
	listening.Go(func() {
		if server, broken = await(wait, callee); server || broken != nil {
			cancel()
		}
	})
	var protocol Protocol
	came, err := caller.Buffered() > 0, error(nil)
	if !came {
		came, err = await(wait, caller)
	}
	if came {
		protocol, err = detect(wait, caller, soon)
	}
	cancel()
	listening.Wait()
	switch {
	case err != nil:
		return Unknown, &refusal.Error{Reason: refusal.CallerGone, Cause: err}
	case ctx.Err() != nil:
		return Unknown, &refusal.Error{Reason: refusal.CallerGone, Cause: context.Cause(ctx)}
	case protocol == HTTP1 || protocol == HTTP2:
		serverFirst.CompareAndSwap(true, false)
	case broken != nil:
		socket.Reset(caller)
		return Unknown, &refusal.Error{Reason: refusal.UpstreamFailed, Cause: broken}
	case protocol == Unknown: // the server spoke, or what the caller has begun with is too short for a request
		protocol = Opaque
		serverFirst.CompareAndSwap(false, server && caller.Buffered() == 0)
	}
	return protocol, nil
}
