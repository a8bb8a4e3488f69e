// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/proxy/http2"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/message"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// request2 is a request of HTTP/2 and what became of it.
type request2 struct {
	done    chan struct{}
	content string // of the request

	mu      sync.Mutex
	stream  *http2.Stream
	failure *Failure
	reset   *http2.StreamError
	status  int
	body    strings.Builder
}

// ask2 asks for a stream and sends a request on it.
func ask2(e *Endpoint, method, content string) (*request2, *Waiting) {
	a := &request2{done: make(chan struct{}), content: content}
	h := &message.Head{Method: method, Scheme: "http", Authority: "service.example", Path: "/", Length: message.Unknown}
	return a, e.Open(h, content == "", a, 0)
}

func (a *request2) Opened(s *http2.Stream, why *Failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stream, a.failure = s, why
	switch {
	case why != nil:
		close(a.done)
	case a.content != "":
		s.SendData([]byte(a.content), true)
	}
}

func (a *request2) Head(h *message.Head, end bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = h.Status
	a.ended(end)
}

func (a *request2) Data(p []byte, end bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body.Write(p)
	a.ended(end)
}

func (a *request2) Trailer([]message.Field) { a.ended(true) }

func (a *request2) Reset(why *http2.StreamError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reset = why
	a.ended(true)
}

func (a *request2) Drained(int) {}

func (a *request2) ended(end bool) {
	if end {
		close(a.done)
	}
}

// answer waits for the answer's content, or why there is none.
func (a *request2) answer(t *testing.T) string {
	t.Helper()
	select {
	case <-a.done:
	case <-t.Context().Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure != nil {
		return a.failure.Error()
	}
	if a.reset != nil {
		return a.reset.Error()
	}
	return a.body.String()
}

// limited runs a server of HTTP/2 that takes so many streams on a connection.
func limited(t *testing.T, streams int, handler http.HandlerFunc) Key {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	s.Start()
	t.Cleanup(s.Close)
	return Key{Address: netip.MustParseAddrPort(s.Listener.Addr().String())}
}

// who answers with the address of the connection on which it was asked, when it is released.
func who(release <-chan struct{}, running *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		<-release
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.RemoteAddr)
	}
}

func TestStreamsWaitForOneDial(t *testing.T) {
	for name, c := range map[string]struct {
		streams, requests, conns int
	}{
		"all of them share the connection":      {100, 50, 1},
		"another is made when streams run out":  {10, 25, 3},
		"and as many as it takes, one by one":   {1, 8, 8},
		"one request makes one connection only": {100, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			var running atomic.Int32
			e := registry(t, Options{}).Acquire(limited(t, c.streams, who(release, &running)))
			var all []*request2
			for i := range c.requests {
				a, _ := ask2(e, "POST", strings.Repeat("x", i))
				all = append(all, a)
			}
			eventually(t, "all requests are there", func() bool { return int(running.Load()) == c.requests })
			close(release)
			remotes := map[string]bool{}
			for _, a := range all {
				remotes[a.answer(t)] = true
			}
			if len(remotes) != c.conns || e.Connections() != c.conns {
				t.Errorf("%d connections, want %d: %v", len(remotes), c.conns, remotes)
			}
		})
	}
}

func TestWhoWaitsForAStream(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int32
	key := limited(t, 1, who(release, &running))
	e := registry(t, Options{
		MaxConnections: 1, MaxWaiters: 2, WaitTimeout: 50 * time.Millisecond, ConnectTimeout: time.Second,
	}).Acquire(key)
	first, _ := ask2(e, "GET", "")
	eventually(t, "the first is there", func() bool { return running.Load() == 1 })
	late, _ := ask2(e, "GET", "")
	gone, wait := ask2(e, "GET", "")
	tooMany, _ := ask2(e, "GET", "")
	wait.Cancel()
	wait.Cancel()
	const busy = "overloaded: too many connections to the endpoint, or waiting for one"
	if got := tooMany.answer(t); got != busy {
		t.Errorf("one too many: %s", got)
	}
	if got := late.answer(t); got != busy || !late.failure.Undelivered {
		t.Errorf("one that has waited too long: %s", got)
	}
	next, _ := ask2(e, "GET", "")
	close(release)
	if a, b := first.answer(t), next.answer(t); a != b {
		t.Errorf("the next came on %s, the first on %s", b, a)
	}
	select {
	case <-gone.done:
		t.Error("who has gone was served")
	default:
	}
}

// The race detector sees it when a head is looked at after Cancel.
func TestWhoCancelsMayUseTheHeadAgain(t *testing.T) {
	for range 20 {
		release := make(chan struct{})
		var running atomic.Int32
		e := registry(t, Options{MaxConnections: 1}).Acquire(limited(t, 1, who(release, &running)))
		first, _ := ask2(e, "GET", "")
		eventually(t, "the first is there", func() bool { return running.Load() == 1 })
		h := &message.Head{Method: "GET", Scheme: "http", Authority: "service.example", Path: "/", Length: message.Unknown}
		wait := e.Open(h, true, &request2{done: make(chan struct{})}, 0)
		close(release)
		first.answer(t)
		wait.Cancel()
		*h = message.Head{Method: "no", Path: "of the kind"}
	}
}

func TestNoConnectionOfHTTP2CanBeMade(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.MustParseAddrPort(listener.Addr().String())
	listener.Close()
	for name, c := range map[string]struct {
		address netip.AddrPort
		want    string
	}{
		"nobody listens": {nobody, "connection refused"},
		"the server hangs up": {listen(t, func(c net.Conn) {
			c.Close()
		}), "HTTP/2 with"},
		"the server does not speak it": {listen(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			io.Copy(io.Discard, c)
		}), "HTTP/2 with"},
		"the server says nothing": {listen(t, func(c net.Conn) { io.Copy(io.Discard, c) }), errSilent.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			e := registry(t, Options{ConnectTimeout: 100 * time.Millisecond}).Acquire(Key{Address: c.address})
			for range 2 {
				var all []*request2
				for range 3 {
					a, _ := ask2(e, "POST", "body")
					all = append(all, a)
				}
				for _, a := range all {
					got := a.answer(t)
					if a.failure == nil {
						t.Fatalf("got %q", got)
					}
					refused(t, a.failure, refusal.ConnectFailed, true)
					if !strings.Contains(got, c.want) {
						t.Errorf("failure %q, want %q", got, c.want)
					}
				}
			}
			eventually(t, "no connection is left", func() bool { return e.Connections() == 0 })
		})
	}
}

func TestAConnectionOfHTTP2TakesNoNewStreams(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(e *Endpoint, server *httptest.Server, shift *atomic.Int64)
		next bool // there is another connection for who comes next
	}{
		"when the server drains": {func(_ *Endpoint, server *httptest.Server, _ *atomic.Int64) {
			go server.Config.Shutdown(context.Background())
		}, false},
		"when a leaf expires": {func(_ *Endpoint, _ *httptest.Server, shift *atomic.Int64) {
			shift.Store(int64(2 * time.Hour))
		}, true},
		"when the endpoint leaves": {func(e *Endpoint, _ *httptest.Server, _ *atomic.Int64) { e.Release() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			var running atomic.Int32
			s, key := server(t, who(release, &running))
			var shift atomic.Int64
			clock := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
			key.Identity, key.Plaintext = testpki.Identity("shop", "cart"), true
			key.PlaintextUntil = time.Now().Add(time.Hour).UnixMilli()
			r := registry(t, Options{Clock: clock})
			e := r.Acquire(key)
			first, _ := ask2(e, "GET", "")
			eventually(t, "the first is there", func() bool { return running.Load() == 1 })
			c.act(e, s, &shift)
			eventually(t, "no more streams are taken", func() bool {
				e.two.mu.Lock()
				defer e.two.mu.Unlock()
				return len(e.two.conns) == 0 || e.two.conns[0].expired(clock)
			})
			if c.next {
				e.PlaintextUntil = 0
				next, wait := ask2(e, "GET", "")
				eventually(t, "the next is there", func() bool { return running.Load() == 2 })
				wait.Cancel()
				close(release)
				if a, b := first.answer(t), next.answer(t); a == b || strings.Contains(b, " ") {
					t.Errorf("the first came on %q, the next on %q", a, b)
				}
			} else {
				close(release)
				if got := first.answer(t); strings.Contains(got, " ") {
					t.Errorf("what ran ended with %q", got)
				}
			}
			if name == "when the endpoint leaves" || !c.next {
				eventually(t, "no connection is left", func() bool { return e.Connections() == 0 })
			}
		})
	}
}

func TestUnusedConnectionsOfHTTP2AreClosed(t *testing.T) {
	_, key := server(t, func(http.ResponseWriter, *http.Request) {})
	e := registry(t, Options{IdleTimeout: 20 * time.Millisecond}).Acquire(key)
	for range 2 {
		a, _ := ask2(e, "GET", "")
		if got := a.answer(t); got != "" {
			t.Error(got)
		}
		eventually(t, "no connection is left", func() bool { return e.Connections() == 0 })
	}
}

func TestABusyConnectionOfHTTP2IsCutWhenItsEndpointHasLeft(t *testing.T) {
	var running atomic.Int32
	_, key := server(t, func(_ http.ResponseWriter, r *http.Request) {
		running.Add(1)
		<-r.Context().Done()
	})
	r := registry(t, Options{DrainTimeout: 30 * time.Millisecond})
	e := r.Acquire(key)
	a, _ := ask2(e, "GET", "")
	eventually(t, "it is there", func() bool { return running.Load() == 1 })
	e.Release()
	if got := a.answer(t); a.reset == nil || !a.reset.Gone || a.reset.Unprocessed {
		t.Errorf("got %q", got)
	}
	eventually(t, "the endpoint is forgotten", func() bool { return r.Len() == 0 })
}

func TestExtendedConnectIsForServersThatTakeIt(t *testing.T) {
	_, key := server(t, func(http.ResponseWriter, *http.Request) {})
	e := registry(t, Options{}).Acquire(key)
	a := &request2{done: make(chan struct{})}
	e.Open(&message.Head{Method: "CONNECT", Protocol: "websocket", Scheme: "http", Authority: "a", Path: "/"}, false, a, 0)
	if got := a.answer(t); !strings.Contains(got, ErrNoExtendedConnect.Error()) {
		t.Errorf("got %q", got)
	}
}

// What tells whether a request can have been seen.
func TestWhatAServerOfHTTP2DidNotTake(t *testing.T) {
	for name, c := range map[string]struct {
		act         func(*xhttp2.Framer, uint32)
		unprocessed bool
	}{
		"REFUSED_STREAM was not delivered": {
			func(f *xhttp2.Framer, id uint32) { f.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream) }, true,
		},
		"a stream after the last of GOAWAY was not delivered": {
			func(f *xhttp2.Framer, id uint32) { f.WriteGoAway(id-2, xhttp2.ErrCodeNo, nil) }, true,
		},
		"another reset may have been delivered": {
			func(f *xhttp2.Framer, id uint32) { f.WriteRSTStream(id, xhttp2.ErrCodeInternal) }, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := listen(t, func(conn net.Conn) { serveFrames(conn, c.act) })
			e := registry(t, Options{}).Acquire(Key{Address: address})
			first, _ := ask2(e, "GET", "")
			first.answer(t)
			second, _ := ask2(e, "POST", "body")
			got := second.answer(t)
			if second.reset == nil || second.reset.Unprocessed != c.unprocessed {
				t.Errorf("got %q, %+v", got, second.reset)
			}
		})
	}
}

// serveFrames answers the first request of a connection and does something to the second.
func serveFrames(conn net.Conn, act func(*xhttp2.Framer, uint32)) {
	defer conn.Close()
	io.CopyN(io.Discard, conn, int64(len(xhttp2.ClientPreface)))
	framer := xhttp2.NewFramer(conn, conn)
	framer.WriteSettings()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		headers, ok := frame.(*xhttp2.HeadersFrame)
		if !ok {
			continue
		}
		if id := headers.StreamID; id > 1 {
			act(framer, id)
			continue
		}
		var block strings.Builder
		hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
		framer.WriteHeaders(xhttp2.HeadersFrameParam{
			StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true, EndStream: true,
		})
	}
}
