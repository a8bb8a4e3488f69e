// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// Mode says which requests the access log holds. Whatever the mode, it holds what was refused for who the other side
// is, and what its caller sent or never sent, each within a bound.
type Mode string

// The modes.
const (
	Off    Mode = "off"
	Errors Mode = "errors" // what failed, or was refused
	All    Mode = "json"
)

// ParseMode reads a mode; the empty one is Off.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case "":
		return Off, nil
	case Off, Errors, All:
		return m, nil
	default:
		return "", fmt.Errorf("access log %q: want off, errors or json", s)
	}
}

// Bounds of the access log.
const (
	queuedLines  = 1024
	deniedBurst  = 100 // denials logged at once, and
	deniedRate   = 20  // a second, when the mode does not hold them; malformed input alike
	bufferToKeep = 4 << 10
)

// AccessLog writes a line of JSON for a finished request or connection. Lines are queued, so that a slow reader of the
// output slows no request; when the queue is full they are dropped and counted. A nil AccessLog logs nothing.
type AccessLog struct {
	mode    Mode
	out     io.Writer
	lines   chan *[]byte
	buffers sync.Pool
	dropped atomic.Uint64
	denied  bucket
	garbled bucket // apart from denied, so that who sends garbage cannot hide a denial
}

// NewAccessLog makes an AccessLog. Its lines appear while Run runs.
func NewAccessLog(mode Mode, out io.Writer) *AccessLog {
	l := &AccessLog{mode: mode, out: out, lines: make(chan *[]byte, queuedLines)}
	l.buffers.New = func() any { b := make([]byte, 0, 1024); return &b }
	return l
}

// Run writes lines until ctx ends, then those that are queued.
func (l *AccessLog) Run(ctx context.Context) {
	for {
		select {
		case line := <-l.lines:
			l.write(line)
		case <-ctx.Done():
			for {
				select {
				case line := <-l.lines:
					l.write(line)
				default:
					return
				}
			}
		}
	}
}

func (l *AccessLog) write(line *[]byte) {
	if _, err := l.out.Write(*line); err != nil {
		l.dropped.Add(1)
	}
	if cap(*line) <= bufferToKeep {
		l.buffers.Put(line)
	}
}

// Dropped is how many lines were lost.
func (l *AccessLog) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// observe queues the event's line if the mode has it.
func (l *AccessLog) observe(e *observe.Event) {
	if l == nil {
		return
	}
	suppressed := 0
	switch {
	case l.mode == All:
	case l.mode == Errors && failed(e):
	default:
		bucket := l.always(e.Reason)
		if bucket == nil {
			return
		}
		var ok bool
		if suppressed, ok = bucket.take(e.Start.Add(e.Duration)); !ok {
			return
		}
	}
	buffer, ok := l.buffers.Get().(*[]byte)
	if !ok {
		return // the pool holds nothing else
	}
	*buffer = appendEvent((*buffer)[:0], e, suppressed)
	select {
	case l.lines <- buffer:
	default:
		l.dropped.Add(1)
	}
}

func failed(e *observe.Event) bool {
	if e.Reason != refusal.None || e.Status >= 500 {
		return true
	}
	return e.Protocol == "grpc" && e.GRPCStatus > 0
}

// always returns what bounds the lines of a reason that is logged in every mode; nil of the others.
func (l *AccessLog) always(r refusal.Reason) *bucket {
	switch {
	case isDenial(r):
		return &l.denied
	case r == refusal.BadRequest || r == refusal.NoFirstByte:
		return &l.garbled
	default:
		return nil
	}
}

// isDenial says whether something was refused for who the other side is, or isn't.
func isDenial(r refusal.Reason) bool {
	switch r {
	case refusal.Denied, refusal.PlaintextRefused, refusal.TLSFailed, refusal.PeerIdentity, refusal.PolicyChanged,
		refusal.UnknownDestination:
		return true
	default:
		return false
	}
}

// bucket lets deniedBurst through at once and deniedRate a second.
type bucket struct {
	mu         sync.Mutex
	tokens     float64
	filled     time.Time
	suppressed int
}

// take returns whether one more may pass now, and how many did not since the last that did.
func (b *bucket) take(now time.Time) (suppressed int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.filled.IsZero() {
		b.tokens = deniedBurst
	} else if passed := now.Sub(b.filled).Seconds(); passed > 0 {
		b.tokens = min(b.tokens+passed*deniedRate, deniedBurst)
	}
	b.filled = now
	if b.tokens < 1 {
		b.suppressed++
		return 0, false
	}
	b.tokens--
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}
