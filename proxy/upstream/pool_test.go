// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func TestConnectionsAreUsedAgain(t *testing.T) {
	for version, name := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(name, func(t *testing.T) {
			_, key := server(t, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, r.Proto+" "+r.RemoteAddr)
			})
			e := registry(t, Options{}).Acquire(key)
			first := exchange(t, e, Version(version), request(t, "POST", "body"))
			if !strings.HasPrefix(first, name+" ") {
				t.Errorf("server saw %q, want %s", first, name)
			}
			for range 10 {
				if again := exchange(t, e, Version(version), request(t, "GET", "")); again != first {
					t.Errorf("second request came as %q, first as %q", again, first)
				}
			}
			if n := e.Connections(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

func TestStreamsShareAConnection(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int32
	_, key := server(t, func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		<-release
		io.WriteString(w, r.RemoteAddr)
	})
	e := registry(t, Options{}).Acquire(key)
	const n = 50
	seen := make(chan string, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { seen <- exchange(t, e, HTTP2, request(t, "GET", "")) })
	}
	eventually(t, "all requests are there", func() bool { return running.Load() == n })
	close(release)
	wg.Wait()
	close(seen)
	remotes := map[string]bool{}
	for s := range seen {
		remotes[s] = true
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections for %d streams, want 1", len(remotes), n)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int32
	_, key := server(t, func(http.ResponseWriter, *http.Request) {
		running.Add(1)
		<-release
	})
	e := registry(t, Options{MaxConnections: 2, MaxWaiters: 1, WaitTimeout: 20 * time.Millisecond}).Acquire(key)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { exchange(t, e, HTTP1, request(t, "GET", "")) })
	}
	eventually(t, "both requests are there", func() bool { return running.Load() == 2 })
	_, err := e.RoundTrip(HTTP1, request(t, "GET", ""))
	refused(t, err, refusal.Overloaded, true)
	close(release)
	wg.Wait()
	exchange(t, e, HTTP1, request(t, "GET", ""))
	if n := e.Connections(); n > 2 {
		t.Errorf("%d connections, want at most 2", n)
	}
}

func TestAWaiterGetsTheConnectionThatBecomesFree(t *testing.T) {
	var once sync.Once
	inside, release := make(chan struct{}), make(chan struct{})
	_, key := server(t, func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(inside); <-release })
	})
	e := registry(t, Options{MaxConnections: 1}).Acquire(key)
	var wg sync.WaitGroup
	wg.Go(func() { exchange(t, e, HTTP1, request(t, "GET", "")) })
	<-inside
	for range 5 {
		wg.Go(func() { exchange(t, e, HTTP1, request(t, "GET", "")) })
	}
	p := e.pools[HTTP1]
	eventually(t, "all others wait", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.waiters) == 5
	})
	close(release)
	wg.Wait()
	if n := e.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	for version := range Version(2) {
		_, key := server(t, func(http.ResponseWriter, *http.Request) {})
		e := registry(t, Options{IdleTimeout: 20 * time.Millisecond}).Acquire(key)
		exchange(t, e, version, request(t, "GET", ""))
		eventually(t, "no connection is left", func() bool { return e.Connections() == 0 })
		exchange(t, e, version, request(t, "GET", ""))
	}
}

// A server that closes idle connections must cost no request, whatever its method.
func TestAConnectionThatTheServerClosedWhileIdleCostsNothing(t *testing.T) {
	var served atomic.Int32
	address := listen(t, func(conn net.Conn) { // one request each, without saying so
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		served.Add(1)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	e := registry(t, Options{}).Acquire(Key{Address: address})
	const n = 200
	failed := 0
	for range n {
		r := request(t, "POST", "once")
		response, err := e.RoundTrip(HTTP1, r)
		if err != nil {
			// The close crossed the request on its way: nobody can know, so it is not sent again.
			refused(t, err, refusal.UpstreamFailed, false)
			failed++
			continue
		}
		io.ReadAll(response.Body)
		response.Body.Close()
		if served.Load()%2 == 0 { // let the close arrive, so that both cases come up
			eventually(t, "the close arrives", func() bool { return e.Connections() == 0 })
		}
	}
	if got := int(served.Load()); got+failed != n {
		t.Errorf("%d served and %d failed of %d", got, failed, n)
	}
	if failed > n/2 {
		t.Errorf("%d of %d failed", failed, n)
	}
}

func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(listener.Addr().String())
	listener.Close()
	e := registry(t, Options{}).Acquire(Key{Address: address})
	for version := range Version(2) {
		_, err = e.RoundTrip(version, request(t, "POST", "body"))
		refused(t, err, refusal.ConnectFailed, true)
	}
	_, err = e.Dial(t.Context(), ALPNTCP)
	refused(t, err, refusal.ConnectFailed, true)
}

// The texts that judge looks for come from net/http; each must be what net/http says.
func TestWhatAnHTTP2ServerDidNotTake(t *testing.T) {
	cases := map[string]struct {
		act         func(*http2.Framer, uint32)
		undelivered bool
	}{
		"REFUSED_STREAM was not delivered": {
			func(f *http2.Framer, id uint32) { f.WriteRSTStream(id, http2.ErrCodeRefusedStream) }, true,
		},
		"a stream after the last of GOAWAY was not delivered": {
			func(f *http2.Framer, id uint32) { f.WriteGoAway(id-2, http2.ErrCodeNo, nil) }, true,
		},
		"another reset may have been delivered": {
			func(f *http2.Framer, id uint32) { f.WriteRSTStream(id, http2.ErrCodeInternal) }, false,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			address := listen(t, func(conn net.Conn) { serveFrames(conn, c.act) })
			e := registry(t, Options{}).Acquire(Key{Address: address})
			exchange(t, e, HTTP2, request(t, "GET", ""))
			r := request(t, "POST", "body")
			r.GetBody = nil
			_, err := e.RoundTrip(HTTP2, r)
			refused(t, err, refusal.UpstreamFailed, c.undelivered)
		})
	}
}

// serveFrames answers the first request of a connection and does something to the second.
func serveFrames(conn net.Conn, act func(*http2.Framer, uint32)) {
	defer conn.Close()
	io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
	framer := http2.NewFramer(conn, conn)
	framer.WriteSettings()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		headers, ok := frame.(*http2.HeadersFrame)
		if !ok {
			continue
		}
		if id := headers.StreamID; id > 1 {
			act(framer, id)
			continue
		}
		var block strings.Builder
		hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
		framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true, EndStream: true,
		})
	}
}
