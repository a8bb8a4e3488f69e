// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"cmp"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-mesh/heddle/proxy/socket"
)

// Endpoint is one address that is called, with its live state. It is safe for concurrent use.
type Endpoint struct {
	Key

	registry *Registry
	inFlight atomic.Int64
	one      *pool1 // of HTTP/1.1
	two      *pool2

	// Guarded by Registry.mu.
	holders int
	drain   *time.Timer

	mu      sync.Mutex
	open    map[io.Closer]struct{}
	retired bool
}

func newEndpoint(r *Registry, key Key) *Endpoint {
	e := &Endpoint{Key: key, registry: r, open: make(map[io.Closer]struct{})}
	e.one, e.two = newPool1(e), newPool2(e)
	return e
}

// MTLS says whether a connection that is opened now is mesh TLS.
func (e *Endpoint) MTLS() bool {
	plaintext := e.Plaintext && (e.PlaintextUntil == 0 || e.registry.options.Clock().UnixMilli() < e.PlaintextUntil)
	return !e.Identity.IsZero() && !plaintext
}

// Begin counts a request, or a connection that is not HTTP, that goes to the endpoint. End undoes it.
func (e *Endpoint) Begin() { e.inFlight.Add(1) }

// End counts one that is over.
func (e *Endpoint) End() { e.inFlight.Add(-1) }

// InFlight is how many are on their way: what pickers compare.
func (e *Endpoint) InFlight() int64 { return e.inFlight.Load() }

// Connections is how many connections to the endpoint are open.
func (e *Endpoint) Connections() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.open)
}

// Stream is a connection to an endpoint for one caller's bytes. Close it once.
type Stream struct {
	net.Conn
	endpoint *Endpoint
}

// Close closes the connection.
func (s *Stream) Close() error {
	err := s.Conn.Close()
	s.endpoint.untrack(s, s.Conn)
	return err
}

// Reset closes the connection so that its peer sees that it was cut short.
func (s *Stream) Reset() {
	socket.Reset(s.Conn)
	s.endpoint.untrack(s, s.Conn)
}

// Dial opens a connection for one caller's bytes, as mesh TLS with this ALPN name or in plaintext. It may take some time; 0:
// Options.ConnectTimeout. Errors are *Failure.
func (e *Endpoint) Dial(ctx context.Context, alpn string, timeout time.Duration) (*Stream, error) {
	conn, _, err := e.dial(ctx, alpn, cmp.Or(timeout, e.registry.options.ConnectTimeout))
	if err != nil {
		return nil, err
	}
	s := &Stream{Conn: conn, endpoint: e}
	e.track(s, conn)
	return s, nil
}

// track notes a connection, which conn is underneath.
func (e *Endpoint) track(c io.Closer, conn net.Conn) {
	e.registry.watch.Add(conn)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open[c] = struct{}{}
}

func (e *Endpoint) untrack(c io.Closer, conn net.Conn) {
	e.registry.watch.Remove(conn)
	e.mu.Lock()
	delete(e.open, c)
	last := e.retired && len(e.open) == 0
	e.mu.Unlock()
	if last {
		go e.registry.forget(e) // engines close connections under locks that come after Registry.mu
	}
}

// retire takes the idle connections out of the pools and gives the rest until the drain's time is over, or for ever. It
// returns what closes the idle ones, to be called when no lock is held, and says whether nothing at all is left.
// Registry.mu is held.
func (e *Endpoint) retire(forever bool) (idle []io.Closer, empty bool) {
	e.mu.Lock()
	e.retired = true
	empty = len(e.open) == 0
	e.mu.Unlock()
	idle = append(e.one.retire(), e.two.retire()...)
	if !empty && !forever {
		e.drain = time.AfterFunc(e.registry.options.DrainTimeout, e.cut)
	}
	return idle, empty
}

// revive undoes retire. Registry.mu is held.
func (e *Endpoint) revive() {
	e.stopDrain()
	e.mu.Lock()
	e.retired = false
	e.mu.Unlock()
	e.one.revive()
	e.two.revive()
}

// stopDrain forgets the deadline. Registry.mu is held.
func (e *Endpoint) stopDrain() {
	if e.drain != nil {
		e.drain.Stop()
		e.drain = nil
	}
}

// cut closes every connection.
func (e *Endpoint) cut() {
	e.mu.Lock()
	all := make([]io.Closer, 0, len(e.open))
	for c := range e.open {
		all = append(all, c)
	}
	e.mu.Unlock()
	for _, c := range all {
		if s, ok := c.(*Stream); ok {
			s.Reset()
			continue
		}
		c.Close()
	}
}
