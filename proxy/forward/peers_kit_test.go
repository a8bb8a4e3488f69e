// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/internal/testconn"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// meeting is what a caller and an endpoint do to a proxy between them, in a bubble where time is exact: the proxy's clocks,
// deadlines and timers are the bubble's, and the connections are in memory, with windows like those of sockets.
//
// What sockets alone do is not in it: the kernel's copying, looking at idle connections before they are used, and TCP's own
// finding out that a peer is gone, which vanish_test.go and package socket have on real ones.
type meeting struct {
	timeout time.Duration // of the route; 0 is none
	play    func(m *met)  // both peers, and what they see

	took     time.Duration // from the first byte to the end of play
	late     time.Duration // how much more it may be, where that hangs on who ran first
	events   []seen        // what the proxy reported, in its order
	exceeded []limits.Name // what it counted
	kept     int           // connections to the endpoint that are still open
}

// seen is what is compared of an event.
type seen struct {
	status, attempts int
	reason           refusal.Reason
}

// window is what a connection holds that nobody has read.
const window = 16 << 10

// met is a meeting under way.
type met struct {
	*testing.T
	caller    *testconn.Conn
	endpoints chan *testconn.Conn // the endpoint's end of each connection that the proxy makes
	begun     time.Time
	others    sync.WaitGroup
}

// meanwhile does something that ends when the connections do.
func (m *met) meanwhile(act func()) { m.others.Go(act) }

// pass lets the bubble's time pass.
func (m *met) pass(d time.Duration) { time.Sleep(d) }

// counts are the limits that were exceeded.
type counts struct {
	mu    sync.Mutex
	names []limits.Name
}

// Exceeded implements limits.Counter.
func (c *counts) Exceeded(name limits.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, name)
}

// meet runs each meeting, with a caller and an endpoint of one version of HTTP.
func meet(t *testing.T, protocol meshconfig.Protocol, meetings map[string]meeting) {
	t.Helper()
	ca := testpki.NewAuthority(t)
	for name, test := range meetings {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(t, ca, protocol) })
		})
	}
}

func (test *meeting) run(t *testing.T, ca *testpki.Authority, protocol meshconfig.Protocol) {
	t.Helper()
	at := netip.MustParseAddrPort("10.0.0.1:8080")
	var near *testconn.Conn
	var made []*testconn.Conn // one after the other
	m := &met{T: t, endpoints: make(chan *testconn.Conn, 10)}
	m.caller, near = testconn.Memory(window)
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := testconn.Memory(window)
		made = append(made, theirs)
		m.endpoints <- theirs
		return ours, nil
	}
	over := &counts{}
	// Connections to the endpoint are kept for longer than any meeting takes.
	p := start(t, ca, web, false, settings{count: over, upstream: upstream.Options{Dial: dial, IdleTimeout: 24 * time.Hour, Count: over}})
	p.service(protocol, func(port *meshconfig.ServicePort) {
		if test.timeout > 0 {
			port.Routes = []*meshconfig.Route{{Name: "all", RequestTimeout: test.timeout.Milliseconds()}}
		}
	}, 1)
	p.endpoints(cart, identity.ID{}, at)
	endpoint := p.upstreams.Acquire(upstream.Key{Address: at, Pod: "shop/cart-0"})
	defer endpoint.Release()
	served := make(chan struct{})
	go func() {
		defer close(served)
		rest := p.server.Serve(t.Context(), &forward.Conn{
			Peeker: listener.Peek(near), Source: netip.MustParseAddrPort("10.0.0.2:1"), Destination: netip.AddrPortFrom(cartIP, 80),
		})
		for rest != nil {
			rest = rest()
		}
	}()
	m.begun = time.Now()
	test.play(m)
	if took := time.Since(m.begun); took < test.took || took > test.took+test.late {
		t.Errorf("it took %v, want %v and at most %v more", took, test.took, test.late)
	}
	m.caller.Close()
	<-served
	synctest.Wait()
	var events []seen
	for _, e := range p.events.All() {
		events = append(events, seen{e.Status, e.Attempts, e.Reason})
	}
	if !slices.Equal(events, test.events) {
		t.Errorf("events %v, want %v", events, test.events)
	}
	if !slices.Equal(over.names, test.exceeded) {
		t.Errorf("it counted %v, want %v", over.names, test.exceeded)
	}
	if n := endpoint.Connections(); n != test.kept {
		t.Errorf("%d connections to the endpoint are open, want %d", n, test.kept)
	}
	if n, active := endpoint.InFlight(), p.server.Active(); n != 0 || active != 0 {
		t.Errorf("%d requests are with the endpoint and %d with the proxy, want none", n, active)
	}
	for _, conn := range made {
		conn.Close()
	}
	m.others.Wait()
}

// peer1 is the end of a connection that speaks HTTP/1.1.
type peer1 struct {
	*testing.T
	conn *testconn.Conn
	in   *bufio.Reader
}

func (m *met) caller1() *peer1 { return &peer1{m.T, m.caller, bufio.NewReader(m.caller)} }

// endpoint1 is the endpoint on the next connection that the proxy makes.
func (m *met) endpoint1() *peer1 {
	conn := <-m.endpoints
	return &peer1{m.T, conn, bufio.NewReader(conn)}
}

// serve has the endpoint do something meanwhile, on the next connection that the proxy makes.
func (m *met) serve(act func(e *peer1)) { m.meanwhile(func() { act(m.endpoint1()) }) }

func (p *peer1) say(text string) error {
	_, err := io.WriteString(p.conn, text)
	return err
}

// sayEach says a text byte by byte, each a while after the one before, until the peer takes no more.
func (p *peer1) sayEach(text string, every time.Duration) {
	for i := range len(text) {
		if i > 0 {
			time.Sleep(every)
		}
		if p.say(text[i:i+1]) != nil {
			return
		}
	}
}

// asked takes a request, with its content, and returns that.
func (p *peer1) asked(method string) string {
	p.Helper()
	r, err := http.ReadRequest(p.in)
	if err != nil {
		p.Errorf("the endpoint got no request: %v", err)
		return ""
	}
	content, err := io.ReadAll(r.Body)
	if r.Method != method || err != nil {
		p.Errorf("the endpoint got %s, %q, %v", r.Method, content, err)
	}
	return string(content)
}

// answered takes an answer of a status and returns its content, and what reading that ended with.
func (p *peer1) answered(status int) (string, error) {
	p.Helper()
	r, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.Errorf("no answer: %v", err)
		return "", err
	}
	content, err := io.ReadAll(r.Body)
	if r.StatusCode != status {
		p.Errorf("status %d, want %d: %s", r.StatusCode, status, content)
	}
	return string(content), err
}

// served takes an answer that is whole, of status 200 and a text.
func (p *peer1) served(want string) {
	p.Helper()
	if got, err := p.answered(http.StatusOK); got != want || err != nil {
		p.Errorf("the answer is %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// cutShort takes the head of an answer of status 200, and content that breaks off.
func (p *peer1) cutShort(want string) {
	p.Helper()
	if got, err := p.answered(http.StatusOK); got != want || !errors.Is(err, io.ErrUnexpectedEOF) {
		p.Errorf("the answer is %q, %v, want %q and no end", got, err, want)
	}
}

// refused takes a refusal that names what is wanted, and the end of the connection if that comes with it.
func (p *peer1) refused(status int, text string, closed bool) {
	p.Helper()
	if got, err := p.answered(status); !strings.Contains(got, text) || err != nil {
		p.Errorf("the refusal is %q, %v", got, err)
	}
	if closed {
		p.ended(io.EOF)
	}
}

// ended waits for the end of the connection, with nothing before it.
func (p *peer1) ended(want error) {
	p.Helper()
	if b, err := p.in.ReadByte(); err != want { //nolint:errorlint // it is that itself
		p.Errorf("the connection ended with %q, %v, want %v", b, err, want)
	}
}

const (
	get1 = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n"
	ok1  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)
