// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/message"
)

// reading counts reads.
type reading struct {
	net.Conn
	reads atomic.Int64
}

func (r *reading) Read(p []byte) (int, error) {
	r.reads.Add(1)
	return r.Conn.Read(p)
}

// NetConn and Under implement socket.Around.
func (r *reading) NetConn() net.Conn { return r.Conn }
func (r *reading) Under() net.Conn   { return r.Conn }

// inBubble gives a test in a bubble a connection, the other end of it, and what is counted.
func inBubble(t *testing.T) (*Conn, net.Conn, *counted) {
	t.Helper()
	ours, peer := net.Pipe()
	t.Cleanup(func() {
		ours.Close()
		peer.Close()
		time.Sleep(1000 * time.Hour) // whoever sends to it notices
	})
	count := &counted{}
	return New(ours, &defaults, count), peer, count
}

// send writes to a connection while something else runs.
func send(peer net.Conn, pause time.Duration, pieces ...string) {
	go func() {
		for _, piece := range pieces {
			time.Sleep(pause)
			if _, err := peer.Write([]byte(piece)); err != nil {
				return
			}
		}
	}()
}

func TestWaitHoldsNoBuffer(t *testing.T) {
	client, server := testconn.TCP(t)
	reader := &reading{Conn: client}
	c := New(reader, &defaults, nil)
	nothing := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrIdle) || reader.reads.Load() != 0 || c.in.buf != nil {
			t.Errorf("%s: %v; %d reads, a buffer of %v", what, err, reader.reads.Load(), c.in.buf)
		}
	}
	for range 2 {
		nothing("a request", c.Wait(time.Now().Add(time.Millisecond)))
		c.SetDeadline(time.Now().Add(time.Millisecond))
		nothing("an answer", c.ReadResponse(&message.Head{}, get))
		c.SetDeadline(time.Time{})
		send(server, 0, canary)
		if err := c.Wait(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got, err := readRequest(c); err != nil || got.head.Path != "/canary" || reader.reads.Load() != 0 {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := inBubble(t)
		start := time.Now()
		for _, wait := range []time.Duration{time.Millisecond, time.Second, time.Minute, 7 * time.Minute, time.Second, time.Hour} {
			from := time.Now()
			if err := c.Wait(from.Add(wait)); !errors.Is(err, ErrIdle) || time.Since(from) != wait {
				t.Errorf("after %v: %v, want ErrIdle after %v", time.Since(from), err, wait)
			}
		}
		c.SetDeadline(start.Add(2 * time.Hour))
		if err := c.Wait(time.Time{}); !errors.Is(err, ErrIdle) || time.Since(start) != 2*time.Hour {
			t.Errorf("with a deadline, after %v: %v", time.Since(start), err)
		}
		c.SetDeadline(time.Time{})
		send(peer, time.Minute, canary)
		if err := c.Wait(start.Add(24 * time.Hour)); err != nil {
			t.Error(err)
		}
		if _, err := readRequest(c); err != nil {
			t.Error(err)
		}
		peer.Close()
		if err := c.Wait(time.Time{}); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestHeadTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, count := inBubble(t)
		send(peer, 4*time.Second, "GET /", "a", "b", "c", "d", "e", "f")
		if err := c.Wait(time.Time{}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var h message.Head
		err := c.ReadRequest(&h)
		mustFail(t, err, 408)
		if took := time.Since(start); took != defaults.HeaderTime {
			t.Errorf("it took %v", took)
		}
		if count.of[limits.HeaderTime] != 1 {
			t.Errorf("counted %v", count.of)
		}
	})
}

func TestHeadOfAnAnswerTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := inBubble(t)
		send(peer, time.Hour, "HTTP/1.1 200 OK\r\n") // its first byte may take as long as it likes
		var h message.Head
		mustFail(t, c.ReadResponse(&h, get), 504)
	})
}

func TestSilenceWithinARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, count := inBubble(t)
		almost := defaults.BodyIdle - 10*time.Second
		send(peer, almost, after("Content-Length: 9\r\n\r\n"), "a", "b", "c")
		var h message.Head
		if err := c.Wait(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := c.ReadRequest(&h); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		got, _, err := content(c)
		mustFail(t, err, 408)
		if took := time.Since(start) - 3*almost; got != "abc" || took > defaults.BodyIdle || took < defaults.BodyIdle*7/8 {
			t.Errorf("got %q, and %v of silence", got, took)
		}
		if count.of[limits.BodyIdle] != 1 {
			t.Errorf("counted %v", count.of)
		}
	})
}

func TestSilenceWithinAnAnswerIsAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := inBubble(t)
		send(peer, 5*time.Hour, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na", "\r\n0\r\n\r\n")
		if got, err := readResponse(c, get); err != nil || got.content != "a" {
			t.Errorf("got %+v, %v", got, err)
		}
		start := time.Now()
		c.SetDeadline(start.Add(time.Minute))
		var h message.Head
		if err := c.ReadResponse(&h, get); !errors.Is(err, ErrIdle) || time.Since(start) != time.Minute {
			t.Errorf("with a deadline, after %v: %v", time.Since(start), err)
		}
	})
}

func TestPeerThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, count := inBubble(t)
		start := time.Now()
		err := c.WriteResponse(&message.Head{Status: 204})
		if err = errors.Join(err, c.Flush()); err == nil {
			t.Error("the answer was sent")
		}
		if took := time.Since(start); took != defaults.SendIdle || count.of[limits.SendIdle] != 1 {
			t.Errorf("after %v, counted %v", took, count.of)
		}
		if c.Alive() || c.Reusable() {
			t.Error("the connection counts as usable")
		}
	})
}

// TestInterrupt ends every way of reading, and reading goes on afterwards where it was.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := inBubble(t)
		interrupted := func(what string, read func() error) {
			t.Helper()
			done := make(chan error)
			go func() { done <- read() }()
			time.Sleep(time.Second)
			synctest.Wait()
			c.Interrupt()
			if err := <-done; !errors.Is(err, ErrInterrupted) {
				t.Errorf("%s: %v", what, err)
			}
			if err := read(); !errors.Is(err, ErrInterrupted) {
				t.Errorf("%s, once more: %v", what, err)
			}
			c.Resume()
		}
		var h message.Head
		interrupted("Wait", func() error { return c.Wait(time.Now().Add(time.Hour)) })
		send(peer, 0, "POST / HTTP/1.1\r\nHo")
		interrupted("ReadRequest", func() error { return c.ReadRequest(&h) })
		send(peer, time.Second, "st: a\r\nContent-Length: 2\r\n\r\n")
		if err := c.ReadRequest(&h); err != nil {
			t.Fatal(err)
		}
		interrupted("Read", func() error { _, err := c.Read(make([]byte, 1)); return err })
		send(peer, time.Second, "ab")
		if got, _, err := content(c); err != nil || got != "ab" {
			t.Errorf("got %q, %v", got, err)
		}
		interrupted("Watch", c.Watch)
		if h.Path != "/" || h.Authority != "a" {
			t.Errorf("the head has changed: %+v", h)
		}
	})
}

// TestWatch notices what a caller does while its request is answered.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer, _ := inBubble(t)
		send(peer, 0, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
		var h message.Head
		if err := c.ReadRequest(&h); err != nil {
			t.Fatal(err)
		}
		send(peer, time.Minute, canary)
		if err := c.Watch(); err != nil {
			t.Fatal(err)
		}
		if err := c.Watch(); err != nil || h.Path != "/first" {
			t.Fatalf("once more: %v; the head is %+v", err, h)
		}
		if got, err := readRequest(c); err != nil || got.head.Path != "/canary" {
			t.Errorf("got %+v, %v", got, err)
		}
		time.AfterFunc(time.Minute, func() { peer.Close() })
		if err := c.Watch(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	})
}

// TestAlive looks at sockets, also beneath TLS.
func TestAlive(t *testing.T) {
	for name, do := range map[string]func(peer net.Conn) (alive bool){
		"nothing happens": func(net.Conn) bool { return true },
		"the peer closes": func(peer net.Conn) bool { peer.Close(); return false },
		"the peer speaks": func(peer net.Conn) bool {
			_, _ = peer.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n"))
			return false
		},
		"the peer half closes": func(peer net.Conn) bool { _ = peer.(*net.TCPConn).CloseWrite(); return false },
		"the peer resets": func(peer net.Conn) bool {
			_ = peer.(*net.TCPConn).SetLinger(0)
			peer.Close()
			return false
		},
	} {
		for _, over := range []string{"TCP", "TLS"} {
			t.Run(name+", over "+over, func(t *testing.T) {
				client, server := testconn.TCP(t)
				var conn net.Conn = client
				if over == "TLS" {
					conn = tls.Client(client, &tls.Config{MinVersion: tls.VersionTLS13})
				}
				c := New(conn, &defaults, nil)
				_ = client.SetReadDeadline(past) // does not matter
				if !c.Alive() {
					t.Fatal("it is not alive to begin with")
				}
				want := do(server)
				// What the peer did arrives at once on loopback, but not before its call returns elsewhere.
				for range 1000 {
					if c.Alive() == want {
						return
					}
				}
				t.Errorf("alive is %v", !want)
			})
		}
	}
}

func TestAliveDoesNotAllocate(t *testing.T) {
	client, _ := testconn.TCP(t)
	c := New(client, &defaults, nil)
	if n := testing.AllocsPerRun(100, func() { c.Alive() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBytesBehindAnAnswer makes a connection unusable: nobody asked for them.
func TestBytesBehindAnAnswer(t *testing.T) {
	c := New(&memory{in: []byte("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n")}, &defaults, nil)
	if _, err := readResponse(c, get); err != nil {
		t.Fatal(err)
	}
	if c.Release(); c.Alive() || c.Reusable() {
		t.Error("the connection counts as usable")
	}
}

// TestRaw hands over what follows an upgrade.
func TestRaw(t *testing.T) {
	m := &memory{in: []byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbytes")}
	c := New(m, &defaults, nil)
	if got, err := readRequest(c); err != nil || got.head.Upgrade != "websocket" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if b, conn := c.Raw(); string(b) != "bytes" || conn != net.Conn(m) || c.Reusable() {
		t.Errorf("got %q", b)
	}
	if b, _ := New(m, &defaults, nil).Raw(); len(b) > 0 {
		t.Errorf("got %q of nothing", b)
	}
}

// TestRefusalsAreAnswered writes an answer to what was refused, behind a request to HEAD on which nothing of it depends.
func TestRefusalsAreAnswered(t *testing.T) {
	m := &memory{in: []byte("HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\n\r\n")}
	c := New(m, &defaults, nil)
	if _, err := readRequest(c); err != nil {
		t.Fatal(err)
	}
	_, err := readRequest(c)
	mustFail(t, err, 400)
	if err := c.WriteResponse(&message.Head{Status: 400, Length: 2}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Write([]byte("no"))
	if err = errors.Join(err, c.End(nil), c.Flush()); err != nil {
		t.Fatal(err)
	}
	if want := "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"; string(m.out) != want {
		t.Errorf("got %q, want %q", m.out, want)
	}
}

// TestPeekTakesWhatIsHere relays content without reading.
func TestPeekTakesWhatIsHere(t *testing.T) {
	m := &memory{in: []byte(inChunks("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))}
	c := New(m, &defaults, nil)
	var h message.Head
	if err := c.ReadRequest(&h); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for {
		b, err := c.Peek()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		got.Write(b[:1])
		c.Discard(1)
	}
	if got.String() != "abcde" || m.reads != 1 || c.Remaining() != 0 {
		t.Errorf("got %q in %d reads", got.String(), m.reads)
	}
}
