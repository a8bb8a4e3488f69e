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
)

// end is one side of a connection that is relayed.
type end interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// relay carries bytes both ways until both sides have ended, or one has failed, or ctx ends, or one side has ended and the
// other carried nothing for too long. It closes neither side in good order, and both otherwise.
func relay(ctx context.Context, caller, callee end, halfClosed time.Duration) (in, out int64, err error) {
	both := func() {
		caller.Close()
		callee.Close()
	}
	stop := context.AfterFunc(ctx, both)
	defer stop()
	var half atomic.Bool
	way := func(to, from end) (int64, error) {
		n, err := flow(to, from, &half, halfClosed)
		if err != nil {
			both()
		}
		return n, err
	}
	var wg sync.WaitGroup
	var inErr error
	wg.Go(func() { in, inErr = way(callee, caller) })
	out, err = way(caller, callee)
	wg.Wait()
	return in, out, firstCause(inErr, err)
}

// firstCause returns the error that is not a consequence of the other.
func firstCause(a, b error) error {
	if a == nil || b != nil && errors.Is(a, net.ErrClosed) {
		return b
	}
	return a
}

// flow carries bytes one way, and then the end of the stream.
func flow(to, from end, half *atomic.Bool, halfClosed time.Duration) (total int64, err error) {
	for {
		n, err := io.Copy(to, from)
		total += n
		if err == nil {
			break
		}
		if n == 0 || !half.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return total, err
		}
		limit(from, halfClosed) // it was not idle
	}
	half.Store(true)
	limit(to, halfClosed)
	return total, to.CloseWrite()
}

// limit gives a side that is still open a time to send something.
func limit(e end, wait time.Duration) {
	if c, ok := e.(interface{ SetReadDeadline(time.Time) error }); ok {
		c.SetReadDeadline(time.Now().Add(wait)) //nolint:errcheck // a closed connection needs none
	}
}

// primed is a side of which somebody has begun to read.
type primed struct {
	end
	pending <-chan chunk
	first   chunk
	started bool
}

// chunk is what one read gave.
type chunk struct {
	bytes []byte
	err   error
}

// Read implements io.Reader.
func (p *primed) Read(b []byte) (int, error) {
	if !p.started {
		p.first, p.started = <-p.pending, true
	}
	if len(p.first.bytes) > 0 {
		n := copy(b, p.first.bytes)
		p.first.bytes = p.first.bytes[n:]
		return n, nil
	}
	if err := p.first.err; err != nil {
		return 0, err
	}
	return p.end.Read(b)
}

// SetReadDeadline passes the deadline on.
func (p *primed) SetReadDeadline(t time.Time) error {
	if c, ok := p.end.(interface{ SetReadDeadline(time.Time) error }); ok {
		return c.SetReadDeadline(t)
	}
	return errors.ErrUnsupported
}

// How often speaksFirst looks: bytes of the caller that could become a request are held no longer than twice the first.
const (
	soon  = 50 * time.Millisecond
	later = time.Second // when both have been silent for that long
)

// speaksFirst waits until one side of a connection of unknown protocol speaks. If that is the caller then what it speaks
// is returned, otherwise Opaque. The callee must be read through what is returned.
func speaksFirst(ctx context.Context, caller Peeker, callee end) (Protocol, *primed, error) {
	pending := make(chan chunk, 1)
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	spoken := make(chan struct{})
	go func() { // it ends when the callee speaks or is closed
		buf := make([]byte, 4<<10)
		n, err := callee.Read(buf)
		pending <- chunk{buf[:n], err}
		close(spoken)
		cancel()
	}()
	back := &primed{end: callee, pending: pending}
	for look, begun := soon, time.Now(); ; {
		held := caller.Buffered() > 0
		protocol, err := detect(wait, caller, look)
		if protocol != Unknown || err != nil {
			return protocol, back, err
		}
		select {
		case <-spoken:
			return Opaque, back, nil
		case <-ctx.Done():
			return Unknown, back, context.Cause(ctx)
		default:
		}
		if held {
			return Opaque, back, nil // too short for a request, and nothing follows
		}
		if time.Since(begun) > later && caller.Buffered() == 0 {
			look = later
		} else {
			look = soon
		}
	}
}
