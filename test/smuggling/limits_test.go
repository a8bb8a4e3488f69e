// SPDX-License-Identifier: Apache-2.0

package smuggling

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/test/hostile"
	"github.com/heddle-mesh/heddle/test/pair"
)

// counts is a limits.Counter.
type counts struct {
	mu sync.Mutex
	of map[limits.Name]int
}

// Exceeded implements limits.Counter.
func (c *counts) Exceeded(name limits.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[name]++
}

func (c *counts) get(name limits.Name) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[name]
}

const large = 32 << 20

// more waits until a limit has been counted once more than when it was called.
func (c *counts) more(name limits.Name) (wait func()) {
	before := c.get(name)
	return func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(30 * time.Second); c.get(name) == before && time.Now().Before(deadline); {
			<-tick.C
		}
	}
}

// A hostile caller gets what the limit says, and is counted; a good one beside it is served all through. How soon is for
// the bench to say.
func TestLimitsUnderAttack(t *testing.T) {
	set, err := limits.Parse(hostile.Limits)
	if err != nil {
		t.Fatal(err)
	}
	protocols := map[hostile.Port]meshconfig.Protocol{
		hostile.HTTP1: meshconfig.Protocol_PROTOCOL_HTTP1, hostile.HTTP2: meshconfig.Protocol_PROTOCOL_HTTP1,
		hostile.TCP: meshconfig.Protocol_PROTOCOL_TCP, hostile.Undeclared: meshconfig.Protocol_PROTOCOL_UNSPECIFIED,
	}
	for _, what := range hostile.All() {
		t.Run(what.Name, func(t *testing.T) {
			t.Parallel()
			counted := &counts{of: make(map[limits.Name]int)}
			app := pair.Listen(t, func(ctx context.Context, c net.Conn) { serveAll(ctx, c, what.Port == hostile.Undeclared) })
			p := pair.New(t, app, pair.Options{Protocol: protocols[what.Port], Change: func(o *forward.Options) {
				o.Limits, o.Count = set, counted
			}})
			good := newGood(p.Client)
			good.ask() // it has its connection before others have them all
			attacker := hostile.New(hostile.Target{
				HTTP1: p.Client, HTTP2: p.Client, TCP: p.Client, Undeclared: p.Client,
				Inbound: p.Server, Caller: p.CallerTLS("heddle/h1"),
				Authority: "cart", Path: "/a", Large: "/large", Stuck: "/stuck", Await: counted.more,
			})
			defer attacker.Close()
			done := make(chan struct{})
			var asking, attacking sync.WaitGroup
			asking.Go(func() { good.askUntil(done) })
			times := 3
			if what.Limit == limits.SendIdle {
				times = 1 // it waits until something is counted, and that must be its own
			}
			for range times {
				attacking.Go(func() {
					if err := attacker.Make(t.Context(), what); err != nil {
						t.Error(err)
					}
				})
			}
			attacking.Wait()
			close(done)
			asking.Wait()
			good.stop(t)
			if n := counted.get(what.Limit); (n == 0) != what.Uncounted {
				t.Errorf("%s was counted %d times: %v", what.Limit, n, counted.of)
			}
		})
	}
}

// Of every limit there is an attack, but of those that are of the whole proxy.
func TestEveryLimitIsAttacked(t *testing.T) {
	for _, l := range limits.All() {
		if l.Name == limits.Memory { // TestNoMemoryRefusesNewRequests
			continue
		}
		if !slices.ContainsFunc(hostile.All(), func(a *hostile.Attack) bool { return a.Limit == l.Name }) {
			t.Errorf("nothing goes over %s", l.Name)
		}
	}
}

// serveAll is the application that attacks are for.
func serveAll(ctx context.Context, c net.Conn, speaksFirst bool) {
	r := bufio.NewReader(c)
	if speaksFirst {
		c.SetReadDeadline(time.Now().Add(time.Second))
	}
	first, err := r.Peek(1)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		io.WriteString(c, "hello")
		io.Copy(io.Discard, c)
	case err == nil && first[0] == 'k':
		io.Copy(io.Discard, r)
		<-ctx.Done()
	default:
		c.SetReadDeadline(time.Time{})
		serveLarge(ctx, c, r)
	}
}

// serveLarge answers requests strictly, "/large" with much, and reads nothing behind "/stuck".
func serveLarge(ctx context.Context, c net.Conn, r *bufio.Reader) {
	for {
		m, err := readRequest(r, func(m *message) {
			if target(m) == "/stuck" {
				<-ctx.Done()
			}
		})
		if err != nil {
			return
		}
		if target(m) != "/large" {
			io.WriteString(c, usualAnswer(m))
			continue
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", large)
		if _, err := io.CopyN(c, zeros{}, large); err != nil {
			return
		}
	}
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// good is a caller as they should be.
type good struct {
	client *http.Client
	served int
	err    error
}

func newGood(to netip.AddrPort) *good {
	return &good{client: &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", to.String())
		},
	}}}
}

func (g *good) ask() {
	answer, err := g.client.Get("http://cart/good")
	if err != nil {
		g.err = cmp.Or(g.err, err)
		return
	}
	defer answer.Body.Close()
	if b, err := io.ReadAll(answer.Body); err != nil || string(b) != answerTo("GET", "/good") {
		g.err = cmp.Or(g.err, fmt.Errorf("status %d: %q, %w", answer.StatusCode, b, err))
	}
	g.served++
}

func (g *good) askUntil(done <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		g.ask()
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// stop ends it, and looks how it fared.
func (g *good) stop(t *testing.T) {
	t.Helper()
	g.client.CloseIdleConnections()
	if g.err != nil {
		t.Errorf("after %d good requests one failed: %v", g.served, g.err)
	}
}

// While no memory is left new requests are refused, and no longer.
func TestNoMemoryRefusesNewRequests(t *testing.T) {
	const size = 1 << 20
	budget, counted := limits.NewBudget(size), &counts{of: make(map[limits.Name]int)}
	o := newOrigin(t)
	p := pair.New(t, o.address, pair.Options{Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Change: func(o *forward.Options) {
		o.Budget, o.Count = budget, counted
	}})
	c, err := net.Dial("tcp", p.Client.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for _, full := range []bool{false, true, false} {
		if full {
			budget.Must(size)
		}
		io.WriteString(c, get(""))
		m, _, err := readAnswer(r, "GET")
		want := map[bool]int{false: 200, true: 503}[full]
		if err != nil || m.status() != want || full != (m.value("Heddle-Reason") == "overloaded") {
			t.Fatalf("with memory full %v it was answered %v, %v", full, m, err)
		}
		if full {
			budget.Give(size)
		}
	}
	if counted.get(limits.Memory) != 1 {
		t.Errorf("counted %v", counted.of)
	}
}
