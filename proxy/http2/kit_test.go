// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

// relay joins a stream of a server with one of a client, as a proxy does.
type relay struct {
	src *Stream
	up  *Conn

	mu  sync.Mutex
	dst *Stream
}

// source is the sink of the caller's stream, target that of the endpoint's.
type (
	source struct{ *relay }
	target struct{ *relay }
)

func relayTo(up *Conn) func(*Stream) Sink {
	return func(s *Stream) Sink { return source{&relay{src: s, up: up}} }
}

func (r *relay) to() *Stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dst
}

func (r source) Head(h *message.Head, end bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dst, err := r.up.Open(h, end, target(r))
	if err != nil {
		r.src.Reset(RefusedStream)
		return
	}
	r.dst = dst
	dst.Pair(r.src.Conn())
	r.src.Pair(r.up)
}

func (r source) Data(p []byte, end bool)   { r.src.Consumed(r.to().SendData(p, end)) }
func (r source) Trailer(f []message.Field) { r.to().SendTrailer(f) }
func (r source) Drained(n int)             { r.to().Consumed(n) }
func (r source) Reset(why *StreamError) {
	if dst := r.to(); dst != nil {
		dst.Reset(why.Code)
	}
}

func (r target) Source() *Conn                  { return r.src.Conn() }
func (r target) Head(h *message.Head, end bool) { r.src.SendHead(h, end) }
func (r target) Data(p []byte, end bool) {
	n := r.src.SendData(p, end)
	r.to().Consumed(n)
}
func (r target) Trailer(f []message.Field) { r.src.SendTrailer(f) }
func (r target) Drained(n int)             { r.src.Consumed(n) }
func (r target) Reset(why *StreamError)    { r.src.Reset(why.Code) }

// serve runs connections until the test ends.
func serve(t testing.TB, c *Conn) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.Serve(); close(done) }()
	t.Cleanup(func() {
		c.Close(nil)
		select {
		case <-done:
		case <-time.After(patience): //nolint:forbidigo // a test that hangs says so
			t.Error("Serve does not return")
		}
	})
	return done
}

// listen accepts connections on a port of the loopback until the test ends.
func listen(t testing.TB, each func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			each(c)
		}
	}()
	return l.Addr().String()
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// client dials the engine's client and waits until it may open streams.
func client(t testing.TB, address string, cfg *Config) *Conn {
	t.Helper()
	changed := make(chan struct{}, 1)
	c := Client(dial(t, address), cfg, func(*Conn) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	serve(t, c)
	for c.Room() == 0 {
		select {
		case <-changed:
		case <-time.After(patience): //nolint:forbidigo // a test that hangs says so
			t.Fatal("no settings come")
		}
	}
	return c
}

// proxy listens for callers, relays what they ask to an endpoint over one connection, and returns its address.
func proxy(t testing.TB, endpoint string, server, upstream *Config) string {
	t.Helper()
	up := client(t, endpoint, upstream)
	return listen(t, func(c net.Conn) { serve(t, Server(c, server, relayTo(up))) })
}

// counted is a limits.Counter.
type counted struct {
	mu sync.Mutex
	n  map[limits.Name]int
}

func (c *counted) Exceeded(name limits.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[limits.Name]int{}
	}
	c.n[name]++
}

func (c *counted) of(name limits.Name) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}
