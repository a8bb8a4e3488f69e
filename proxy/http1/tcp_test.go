// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// TestWaitOnTCP ends waiting in every way.
func TestWaitOnTCP(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(ours *Conn, peer *net.TCPConn)
		want error
	}{
		"the peer closes":      {func(_ *Conn, peer *net.TCPConn) { peer.Close() }, io.EOF},
		"the peer half closes": {func(_ *Conn, peer *net.TCPConn) { _ = peer.CloseWrite() }, io.EOF},
		"the peer resets": {func(_ *Conn, peer *net.TCPConn) {
			_ = peer.SetLinger(0)
			peer.Close()
		}, syscall.ECONNRESET},
		"we close":    {func(ours *Conn, _ *net.TCPConn) { ours.NetConn().Close() }, net.ErrClosed},
		"interrupted": {func(ours *Conn, _ *net.TCPConn) { ours.Interrupt() }, ErrInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			ours, peer := testconn.TCP(t)
			conn := New(ours, &defaults, nil)
			done := make(chan error)
			go func() { done <- conn.Wait(time.Time{}) }()
			c.do(conn, peer)
			if err := <-done; !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if alive := conn.Alive(); alive != (name == "interrupted") {
				t.Errorf("alive is %v", alive)
			}
			if name != "interrupted" {
				return
			}
			conn.Resume()
			send(peer, 0, canary)
			if got, err := readRequest(conn); err != nil || got.head.Path != "/canary" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

var browserBytes = []byte(browserRequest)

// TestAwait waits for content without reading it.
func TestAwait(t *testing.T) {
	ours, peer := testconn.TCP(t)
	c := New(ours, &defaults, nil)
	send(peer, 0, "HTTP/1.1 200 OK\r\n\r\n", "a", "b")
	var h message.Head
	if err := c.ReadResponse(&h, get); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) < 2 {
		if err := c.Await(); err != nil {
			t.Fatal(err)
		}
		var p [10]byte
		n, err := c.Read(p[:])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	c.SetDeadline(time.Now().Add(time.Millisecond))
	if err := c.Await(); !errors.Is(err, ErrIdle) {
		t.Errorf("nothing comes: %v", err)
	}
	c.SetDeadline(time.Time{})
	peer.Close()
	if err := c.Await(); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) || string(got) != "ab" {
		t.Errorf("got %q, then %d, %v", got, n, err)
	}
}

// TestMore reads what is there and does not wait.
func TestMore(t *testing.T) {
	ours, peer := testconn.TCP(t)
	c := New(ours, &defaults, nil)
	send(peer, 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
	var h message.Head
	if err := c.ReadResponse(&h, get); err != nil {
		t.Fatal(err)
	}
	if c.More() {
		t.Error("there is more already")
	}
	for _, b := range []string{"a", "b"} {
		send(peer, 0, b)
		if err := c.Await(); err != nil || !c.More() {
			t.Fatalf("there is no more, %v", err)
		}
		if p, err := c.Peek(); string(p) != b || err != nil || h.Length != 2 {
			t.Errorf("got %q, %v", p, err)
		}
		c.Discard(1)
	}
	if _, err := c.Peek(); !c.More() || !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	for _, end := range []func(){func() { peer.Close() }, func() { ours.Close() }} {
		c.body = body{kind: toEnd}
		end()
		_ = c.Await()
		if c.More() {
			t.Error("there is more behind the end")
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("got %d, %v", n, err)
		}
		c.in.err = nil
	}
}

// TestAsk sends a request and reads its answer in one, and says what went wrong with either.
func TestAsk(t *testing.T) {
	request := &message.Head{Method: "GET", Authority: "a", Path: "/"}
	const whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	var h message.Head
	start := func(t *testing.T, deadline time.Duration) (*Conn, *net.TCPConn) {
		t.Helper()
		ours, peer := testconn.TCP(t)
		c := New(ours, &defaults, nil)
		if c.SetDeadline(time.Now().Add(deadline)); deadline == 0 {
			c.SetDeadline(time.Time{})
		}
		if err := c.WriteRequest(request); err != nil {
			t.Fatal(err)
		}
		return c, peer
	}
	hear := func(t *testing.T, peer net.Conn) {
		t.Helper()
		got := make([]byte, len(whole))
		if _, err := io.ReadFull(peer, got); err != nil || string(got) != whole {
			t.Errorf("it got %q, %v", got, err)
		}
	}
	for _, deadline := range []time.Duration{0, time.Hour} {
		t.Run("an answer", func(t *testing.T) {
			c, peer := start(t, deadline)
			go func() {
				hear(t, peer)
				_, _ = io.WriteString(peer, "HTTP/1.1 204 No Content\r\n\r\n")
			}()
			if err := c.Ask(&h, request); err != nil || h.Status != 204 || c.Written() != int64(len(whole)) || c.End(nil) != nil || !c.Reusable() {
				t.Errorf("got %+v, %v", h, err)
			}
		})
	}
	t.Run("a deadline that has passed", func(t *testing.T) {
		c, peer := start(t, -time.Second)
		if err := c.Ask(&h, request); !errors.Is(err, ErrIdle) {
			t.Error(err)
		}
		hear(t, peer)
		c.SetDeadline(time.Time{})
		send(peer, 0, "HTTP/1.1 204 No Content\r\n\r\n")
		if err := c.ReadResponse(&h, request); err != nil || h.Status != 204 {
			t.Errorf("got %+v, %v", h, err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		c, peer := start(t, time.Millisecond)
		if err := c.Ask(&h, request); !errors.Is(err, ErrIdle) {
			t.Error(err)
		}
		hear(t, peer)
	})
	t.Run("the server is gone", func(t *testing.T) {
		c, peer := start(t, time.Hour)
		_ = peer.SetLinger(0)
		peer.Close()
		if err := c.Ask(&h, request); err == nil || errors.Is(err, ErrIdle) || c.Reusable() || c.Alive() {
			t.Error(err)
		}
	})
	t.Run("a server that takes nothing", func(t *testing.T) {
		c, _ := start(t, time.Hour)
		set := defaults
		set.SendIdle = time.Nanosecond
		c.set = &set
		if err := c.Ask(&h, request); !errors.Is(err, os.ErrDeadlineExceeded) || c.Reusable() || c.Alive() {
			t.Error(err)
		}
	})
	t.Run("closed by us", func(t *testing.T) {
		c, _ := start(t, time.Hour)
		c.NetConn().Close()
		if err := c.Ask(&h, request); !errors.Is(err, net.ErrClosed) || c.Written() != 0 {
			t.Error(err)
		}
	})
}

// sockets carry requests between a caller and a server over TCP.
type sockets struct {
	proxied
	caller, server net.Conn
	answer         []byte
	until          time.Time      // the deadline of answers
	read           [64 << 10]byte // the caller's
}

func newSockets(t testing.TB, answer []byte) *sockets {
	t.Helper()
	s := &sockets{answer: answer, until: time.Now().Add(time.Hour)}
	caller, in := testconn.TCP(t)
	out, server := testconn.TCP(t)
	s.caller, s.server = caller, server
	s.in, s.out = New(in, &defaults, nil), New(out, &defaults, nil)
	go func() { // the server
		var p [64 << 10]byte
		for {
			if _, err := server.Read(p[:]); err != nil {
				return
			}
			if _, err := server.Write(answer); err != nil {
				return
			}
		}
	}()
	return s
}

// ask is forward with what follows.
func (s *sockets) ask() error {
	message.DropHopByHop(&s.request)
	s.out.SetDeadline(s.until)
	if err := errors.Join(s.out.WriteRequest(&s.request), relay(s.out, s.in)); err != nil {
		return err
	}
	return s.out.Ask(&s.proxied.answer, &s.request)
}

func (s *sockets) carry(t testing.TB) {
	t.Helper()
	if _, err := s.caller.Write(browserBytes); err != nil {
		t.Fatal(err)
	}
	if !s.out.Alive() {
		t.Fatal("the server has gone")
	}
	steps := [...]error{
		s.in.Wait(time.Time{}), s.in.ReadRequest(&s.request), s.ask(), s.back(),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	s.out.Release()
	for got := 0; got < len(s.answer); {
		n, err := s.caller.Read(s.read[:])
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
}

// TestWarmRequestsOverTCPDoNotAllocate is TestWarmRequestsDoNotAllocate with the kernel in between.
func TestWarmRequestsOverTCPDoNotAllocate(t *testing.T) {
	s := newSockets(t, append([]byte(serverAnswer), oneKiB...))
	const runs = 200
	made := counting(t)
	n := testing.AllocsPerRun(1, func() {
		*made = 0
		for range runs {
			s.carry(t)
		}
	})
	if n -= float64(2 * *made); n >= runs/2 {
		t.Errorf("%v allocations in %d requests, want none", n, runs)
	}
}

func BenchmarkTCP(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "16KiB": 16 << 10} {
		b.Run(name, func(b *testing.B) {
			s := newSockets(b, append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "+
				map[bool]string{true: "1024", false: "16384"}[size == 1<<10]+"\r\n\r\n"), make([]byte, size)...))
			b.ReportAllocs()
			for b.Loop() {
				s.carry(b)
			}
		})
	}
}
