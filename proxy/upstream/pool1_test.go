// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/refusal"
)

func TestConnectionsAreUsedAgain(t *testing.T) {
	_, key := server(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.RemoteAddr)
	})
	e := registry(t, Options{}).Acquire(key)
	first := exchange(t, e, "POST", "body")
	for range 10 {
		if again := exchange(t, e, "GET", ""); again != first {
			t.Errorf("second request came as %q, first as %q", again, first)
		}
	}
	if n := e.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	_, key := server(t, func(http.ResponseWriter, *http.Request) {})
	e := registry(t, Options{MaxConnections: 2, MaxWaiters: 1, WaitTimeout: 20 * time.Millisecond}).Acquire(key)
	var busy [2]*Conn1
	for i := range busy {
		var why *Failure
		if busy[i], why = begin(e, "GET", ""); why != nil {
			t.Fatal(why)
		}
	}
	_, why := borrow(e)
	refused(t, why, refusal.Overloaded, true)
	waits := make(chan *Failure, 1)
	e.one.endpoint.registry.options.WaitTimeout = time.Minute
	go func() {
		c, why := borrow(e)
		if c != nil {
			c.Put(time.Now())
		}
		waits <- why
	}()
	eventually(t, "one waits", func() bool { return waiting(e) == 1 })
	_, why = borrow(e) // one more than may wait
	refused(t, why, refusal.Overloaded, true)
	for _, c := range busy {
		if _, err := read(c); err != nil {
			t.Error(err)
		}
	}
	if why := <-waits; why != nil {
		t.Error(why)
	}
	exchange(t, e, "GET", "")
	if n := e.Connections(); n > 2 {
		t.Errorf("%d connections, want at most 2", n)
	}
}

func waiting(e *Endpoint) int {
	e.one.mu.Lock()
	defer e.one.mu.Unlock()
	return len(e.one.waiters)
}

func TestAWaiterGetsTheConnectionThatBecomesFree(t *testing.T) {
	_, key := server(t, func(http.ResponseWriter, *http.Request) {})
	e := registry(t, Options{MaxConnections: 1}).Acquire(key)
	c, why := begin(e, "GET", "")
	if why != nil {
		t.Fatal(why)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { exchange(t, e, "GET", "") })
	}
	eventually(t, "all others wait", func() bool { return waiting(e) == 5 })
	read(c)
	wg.Wait()
	if n := e.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestAWaiterDoesNotWaitForItsOwnDial(t *testing.T) {
	address := listen(t, func(conn net.Conn) { serveOne(conn, nil) })
	slow := make(chan struct{})
	var dials atomic.Int32
	e := registry(t, Options{Dial: func(ctx context.Context, network, to string) (net.Conn, error) {
		if dials.Add(1) > 1 {
			select {
			case <-slow:
			case <-ctx.Done():
			}
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}}).Acquire(Key{Address: address})
	first, why := borrow(e)
	if why != nil {
		t.Fatal(why)
	}
	got := make(chan *Conn1)
	go func() {
		c, _ := borrow(e)
		got <- c
	}()
	eventually(t, "it is being dialled", func() bool { return dials.Load() == 2 })
	first.Put(time.Now())
	if c := <-got; c != first {
		t.Error("it did not get the connection that was given back")
	}
	close(slow) // what was dialled is there for the next
	eventually(t, "the dial is over", func() bool { return e.Connections() == 2 })
	if c, why := borrow(e); why != nil || c == first {
		t.Errorf("%v, %v", c, why)
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("%d dials", n)
	}
}

func TestAWaiterThatGivesUp(t *testing.T) {
	address := listen(t, func(conn net.Conn) { serveOne(conn, nil) })
	e := registry(t, Options{MaxConnections: 1}).Acquire(Key{Address: address})
	c, why := borrow(e)
	if why != nil {
		t.Fatal(why)
	}
	cancel := make(chan struct{})
	close(cancel)
	_, why = e.Connect(time.Time{}, cancel, 0)
	refused(t, why, refusal.CallerGone, true)
	_, why = e.Connect(time.Now().Add(5*time.Millisecond), nil, 0)
	refused(t, why, refusal.Overloaded, true)
	if n := waiting(e); n != 0 {
		t.Errorf("%d still wait", n)
	}
	c.Close()
	if c, why = borrow(e); why != nil {
		t.Error(why)
	}
	c.Close()
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	_, key := server(t, func(http.ResponseWriter, *http.Request) {})
	e := registry(t, Options{IdleTimeout: 20 * time.Millisecond}).Acquire(key)
	exchange(t, e, "GET", "")
	eventually(t, "no connection is left", func() bool { return e.Connections() == 0 })
	exchange(t, e, "GET", "")
}

// serveOne answers one request, then does something and closes the connection, without having said so.
func serveOne(conn net.Conn, then func()) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	io.Copy(io.Discard, r.Body)
	if then != nil {
		then()
	}
	io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

// A server that closes idle connections must cost no request, whatever its method.
func TestAConnectionThatTheServerClosedWhileIdleCostsNothing(t *testing.T) {
	var served atomic.Int32
	address := listen(t, func(conn net.Conn) { serveOne(conn, func() { served.Add(1) }) })
	e := registry(t, Options{}).Acquire(Key{Address: address})
	const n = 200
	failed := 0
	for range n {
		c, why := begin(e, "POST", "once")
		if why != nil {
			// The close crossed the request on its way: nobody can know, so it is not sent again.
			refused(t, why, refusal.UpstreamFailed, false)
			failed++
			continue
		}
		read(c)
		if served.Load()%2 == 0 { // let the close arrive, so that both cases come up
			eventually(t, "the close arrives", func() bool { return !c.Alive() })
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
	_, why := borrow(e)
	refused(t, why, refusal.ConnectFailed, true)
	_, err = e.Dial(t.Context(), ALPNTCP, 0)
	refused(t, asFailure(err), refusal.ConnectFailed, true)
}

// Dials that fail end the wait of as many requests, and others are made for the rest.
func TestEveryoneWhoWaitsIsToldThatNobodyListens(t *testing.T) {
	release := make(chan struct{})
	e := registry(t, Options{MaxDials: 2, Dial: func(context.Context, string, string) (net.Conn, error) {
		<-release
		return nil, io.ErrUnexpectedEOF
	}}).Acquire(Key{Address: netip.MustParseAddrPort("127.0.0.1:1")})
	const n = 7
	failures := make(chan *Failure, n)
	for range n {
		go func() {
			_, why := borrow(e)
			failures <- why
		}()
	}
	eventually(t, "all wait", func() bool { return waiting(e) == n })
	close(release)
	for range n {
		refused(t, <-failures, refusal.ConnectFailed, true)
	}
}

// A request that has to end interrupts its connection, perhaps just when it has its whole answer.
func TestAConnectionThatWasInterruptedIsNotKept(t *testing.T) {
	_, key := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	e := registry(t, Options{}).Acquire(key)
	defer e.Release()
	c, why := begin(e, http.MethodGet, "")
	if why != nil {
		t.Fatal(why)
	}
	if body, err := io.ReadAll(c); string(body) != "ok" || err != nil {
		t.Fatalf("%q, %v", body, err)
	}
	c.Interrupt()
	c.Put(time.Now())
	if again := e.Reuse(time.Now()); again != nil {
		t.Error("it was kept")
		again.Close()
	}
}
