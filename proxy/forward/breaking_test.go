// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// held is an application whose requests wait until they are let go.
type held struct {
	here atomic.Int64
	over chan struct{}
}

func (h *held) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	h.here.Add(1)
	defer h.here.Add(-1)
	select {
	case <-h.over:
	case <-r.Context().Done():
	}
}

// breaker bounds what is under way towards the service.
func (p *proxy) breaker(protocol meshconfig.Protocol, b *meshconfig.Breaker) {
	p.Helper()
	p.traffic(protocol, func(r *meshconfig.Routes) {
		r.Clusters = []*meshconfig.Cluster{{Service: cart, Breaker: b}}
	}, 1)
}

func TestABreakerRefusesWhatIsOverABound(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		for bound, breaker := range map[string]*meshconfig.Breaker{
			"maxRequests":          {MaxRequests: 2},
			"endpoint.maxRequests": {EndpointMaxRequests: 1},
		} {
			h := &held{over: make(chan struct{})}
			p := newPair(t, v.declared, httpApp(t, h.ServeHTTP), settings{})
			p.client.endpoints(cart, shop, p.inside, p.server.listen(httpApp(t, h.ServeHTTP)))
			p.client.breaker(v.declared, breaker)
			client := clientOf(t, p.at, v.http2)
			done := make(chan struct{}, 2)
			for range 2 {
				go func() {
					defer func() { done <- struct{}{} }()
					r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cart/", nil)
					if response, err := client.Do(r); err != nil || response.Body.Close() != nil || response.StatusCode != http.StatusOK {
						t.Errorf("%s: %v %v", bound, response, err)
					}
				}()
			}
			eventually(t, "two requests", func() bool { return h.here.Load() == 2 })
			response, body := call{}.do(t, client)
			if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("heddle-reason") != "circuit_open" || !strings.Contains(body, "detail: "+bound+"\n") {
				t.Errorf("%s: status %d, header %v, body %q", bound, response.StatusCode, response.Header, body)
			}
			p.client.events.wait(t, bound, func(e observe.Event) bool { return e.Reason == refusal.CircuitOpen && e.Attempts == 0 })
			close(h.over)
			<-done
			<-done
			eventually(t, "room", func() bool {
				response, _ := call{}.do(t, client)
				return response.StatusCode == http.StatusOK
			})
		}
	})
}

func TestABreakerBoundsConnections(t *testing.T) {
	for name, c := range map[string]struct {
		breaker *meshconfig.Breaker
		bound   string
	}{
		"of the service":   {&meshconfig.Breaker{MaxConnections: 1}, "maxConnections"},
		"of each endpoint": {&meshconfig.Breaker{EndpointMaxConnections: 1}, "endpoint.maxConnections"},
	} {
		t.Run("HTTP/1.1, "+name, func(t *testing.T) {
			h := &held{over: make(chan struct{})}
			p, at := newClient(t, asHTTP, httpApp(t, h.ServeHTTP))
			p.breaker(asHTTP, c.breaker)
			first, second := clientOf(t, at, false), clientOf(t, at, false)
			done := make(chan int)
			go func() {
				response, _ := call{}.do(t, first)
				done <- response.StatusCode
			}()
			eventually(t, "a request", func() bool { return h.here.Load() == 1 })
			response, body := call{}.do(t, second)
			if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "detail: "+c.bound+"\n") {
				t.Errorf("status %d, body %q", response.StatusCode, body)
			}
			close(h.over)
			if got := <-done; got != 200 {
				t.Errorf("status %d", got)
			}
			call{}.status(t, second, 200)
		})
		t.Run("TCP, "+name, func(t *testing.T) {
			p, at := newClient(t, asTCP, accept(t, func(c net.Conn) { io.Copy(c, c) }))
			p.breaker(asTCP, c.breaker)
			first := dial(t, p, at.String())
			first.Write([]byte("x"))
			io.ReadFull(first, make([]byte, 1))
			if got, _ := spoken(t, at, ""); got != "" {
				t.Errorf("got %q", got)
			}
			p.events.wait(t, c.bound, func(e observe.Event) bool {
				return e.Reason == refusal.CircuitOpen && strings.Contains(e.Err.Error(), c.bound)
			})
			first.Close()
			eventually(t, "room", func() bool {
				second, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.String())
				if err != nil {
					return false
				}
				defer second.Close()
				second.Write([]byte("x"))
				n, _ := second.Read(make([]byte, 1))
				return n == 1
			})
		})
	}
}

func TestAnEndpointThatIsFullOfConnectionsIsPassedOver(t *testing.T) {
	const n = 5
	random := func(p *proxy, protocol meshconfig.Protocol) {
		p.traffic(protocol, func(r *meshconfig.Routes) {
			r.Clusters = []*meshconfig.Cluster{{
				Service: cart, Breaker: &meshconfig.Breaker{EndpointMaxConnections: 1},
				Balancing: &meshconfig.Balancing{Policy: meshconfig.BalancingPolicy_BALANCING_POLICY_RANDOM},
			}}
		}, 1)
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		h := &held{over: make(chan struct{})}
		var apps []netip.AddrPort
		for range n {
			apps = append(apps, httpApp(t, h.ServeHTTP))
		}
		p, at := newClient(t, asHTTP, apps...)
		random(p, asHTTP)
		answers := make(chan int, n)
		for i := range int64(n) {
			go func() {
				response, _ := call{}.do(t, clientOf(t, at, false))
				answers <- response.StatusCode
			}()
			eventually(t, "the next request", func() bool { return h.here.Load() == i+1 })
		}
		call{}.status(t, clientOf(t, at, false), 503)
		close(h.over)
		for range n {
			if got := <-answers; got != 200 {
				t.Errorf("status %d", got)
			}
		}
	})
	t.Run("TCP", func(t *testing.T) {
		var apps []netip.AddrPort
		for range n {
			apps = append(apps, accept(t, func(c net.Conn) { io.Copy(c, c) }))
		}
		p, at := newClient(t, asTCP, apps...)
		random(p, asTCP)
		for i := range n {
			c := dial(t, p, at.String())
			c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		if got, err := spoken(t, at, ""); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestABreakerBoundsWhatWaits(t *testing.T) {
	for name, c := range map[string]struct {
		versions
		id identity.ID
	}{
		"http1":          {versions{false, asHTTP}, shop},
		"http2":          {versions{true, asHTTP2}, shop},
		"http1 to http2": {versions{false, asHTTP2}, identity.ID{}},
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			defer close(over)
			p, at := newClient(t, c.declared)
			p.breaker(c.declared, &meshconfig.Breaker{MaxPending: 1})
			p.endpoints(cart, c.id, accept(t, func(net.Conn) { <-over }))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answers := make(chan string, 2)
			for range 2 {
				client := clientOf(t, at, c.http2)
				go func() {
					r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://cart/", nil)
					response, err := client.Do(r)
					if err != nil {
						answers <- "none"
						return
					}
					body, _ := io.ReadAll(response.Body)
					response.Body.Close()
					answers <- string(body)
				}()
			}
			if got := <-answers; !strings.Contains(got, "detail: maxPending\n") {
				t.Errorf("the first answer is %q", got)
			}
			cancel()
			if got := <-answers; got != "none" {
				t.Errorf("the other is %q", got)
			}
		})
	}
}

func TestAnEndpointThatFailsIsLeftAlone(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var failed atomic.Int64
		p := newPair(t, v.declared, httpApp(t, ok), settings{})
		p.client.endpoints(cart, shop, p.inside, p.server.listen(httpApp(t, func(w http.ResponseWriter, _ *http.Request) {
			failed.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		})))
		client := clientOf(t, p.at, v.http2)
		for range 60 {
			call{method: "POST", body: "x"}.do(t, client)
		}
		if got := failed.Load(); got != 5 {
			t.Errorf("it got %d requests, want 5", got)
		}
	})
}

func TestWhatIsNoFaultOfTheEndpointIsNotHeldAgainstIt(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var shed, left atomic.Int64
		answer := func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			switch r.URL.Path {
			case "/shed":
				shed.Add(1)
				w.WriteHeader(http.StatusTooManyRequests)
			case "/wait":
				left.Add(1)
				<-r.Context().Done()
			}
		}
		p := newPair(t, v.declared, httpApp(t, answer), settings{})
		var second atomic.Int64
		p.client.endpoints(cart, shop, p.inside, p.server.listen(httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			second.Add(1)
			answer(w, r)
		})))
		client := clientOf(t, p.at, v.http2)
		for range 20 {
			call{method: "POST", path: "/shed"}.status(t, client, 429)
		}
		for i := range int64(16) {
			ctx, cancel := context.WithCancel(t.Context())
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://cart/wait", nil)
			done := make(chan struct{})
			go func() {
				client.Do(r) // it fails
				close(done)
			}()
			eventually(t, "the request", func() bool { return left.Load() == i+1 })
			cancel()
			<-done
		}
		p.client.fault(v.declared, nil, &meshconfig.Fault{Percent: 100, HttpStatus: 500})
		for range 20 {
			call{}.status(t, client, 500)
		}
		p.client.traffic(v.declared, func(*meshconfig.Routes) {}, 1)
		before, asked := second.Load(), int64(0)
		// While a caller that left is under way still, the other endpoint has fewer requests and gets them all.
		eventually(t, "both endpoints are asked", func() bool {
			call{}.status(t, client, 200)
			asked++
			got := second.Load() - before
			return got > 0 && got < asked
		})
	})
}

func TestARouteWithoutAByteForTooLong(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/begins" {
				io.WriteString(w, "begun")
				http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		})
		p := newPair(t, v.declared, app, settings{})
		p.client.route(v.declared, &meshconfig.Route{IdleTimeout: 100})
		client := clientOf(t, p.at, v.http2)
		call{path: "/silent"}.status(t, client, 504)
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cart/begins", nil)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if got, err := io.ReadAll(response.Body); err == nil || string(got) != "begun" {
			t.Errorf("got %q, %v", got, err)
		}
		p.client.events.wait(t, "of the idle answer", func(e observe.Event) bool {
			return e.Reason == refusal.Timeout && e.Status == 200 && e.Duration > 100*time.Millisecond
		})
	})
}

func TestARateLimit(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var served atomic.Int64
		p := newPair(t, v.declared, httpApp(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }), settings{})
		p.server.policyOf(&meshconfig.PortPolicy{Mtls: strict, DefaultAction: allow, Protocol: v.declared, RateLimits: []*meshconfig.RateLimit{
			{Name: "shop/cart/few", Requests: 1, Interval: 3_600_000, Burst: 3, To: []*meshconfig.Operation{{Methods: []string{"GET"}}}},
		}})
		client := clientOf(t, p.at, v.http2)
		for range 3 {
			call{}.status(t, client, 200)
		}
		response, body := call{}.do(t, client)
		after, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("heddle-reason") != "rate_limited" || !strings.Contains(body, "shop/cart/few") ||
			err != nil || after < 1 || after > 3600 {
			t.Errorf("status %d, header %v, body %q", response.StatusCode, response.Header, body)
		}
		call{method: "PUT"}.status(t, client, 200)
		if served.Load() != 4 {
			t.Errorf("served %d times", served.Load())
		}
		p.server.events.wait(t, "of the limit", func(e observe.Event) bool { return e.Reason == refusal.RateLimited && e.Status == 429 })
	})
}

func TestARateLimitOfConnections(t *testing.T) {
	p := newPair(t, asTCP, accept(t, func(c net.Conn) { io.WriteString(c, "hello") }), settings{})
	p.server.policyOf(&meshconfig.PortPolicy{Mtls: strict, DefaultAction: allow, Protocol: asTCP, RateLimits: []*meshconfig.RateLimit{
		{Name: "shop/cart/few", Requests: 1, Interval: 3_600_000, Burst: 2},
	}})
	for i := range 4 {
		want := "hello"
		if i >= 2 {
			want = ""
		}
		if got, _ := spoken(t, p.at, ""); got != want {
			t.Errorf("connection %d: got %q, want %q", i, got, want)
		}
	}
	p.server.events.wait(t, "of the limit", func(e observe.Event) bool { return e.Reason == refusal.RateLimited })
}
