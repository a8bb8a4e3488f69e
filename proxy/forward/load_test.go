// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// versioned is an application that says which version it is.
func versioned(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	return httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, name)
	})
}

// attempt sends one request and returns what was wrong with its answer, or the answer.
func attempt(ctx context.Context, client *http.Client, method string) (string, error) {
	var body io.Reader
	if method == "POST" {
		body = strings.NewReader("body")
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://cart/", body)
	if err != nil {
		return "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	return string(text), err
}

func TestTenThousandRequestsAtNinetyToTen(t *testing.T) {
	const n, share, workers = 10_000, 0.1, 16
	p := newPair(t, asHTTP, versioned(t, "v1"), settings{})
	p.client.endpoints(cart, identity.ID{}, versioned(t, "v1"))
	p.client.endpoints(backend(1), identity.ID{}, versioned(t, "v2"))
	p.client.service(asHTTP, nil, 90, 10)
	var two, left atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	client := clientOf(t, p.at, true)
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				got, err := attempt(t.Context(), client, "GET")
				if err != nil {
					t.Error(err)
					return
				}
				if got == "v2" {
					two.Add(1)
				}
			}
		})
	}
	wg.Wait()
	sigma := math.Sqrt(n * share * (1 - share))
	if off := math.Abs(float64(two.Load()) - n*share); off > 4*sigma {
		t.Errorf("%d of %d went to v2: off by %.1f sigma", two.Load(), n, off/sigma)
	}
}

// underLoad runs a change again and again while requests of all kinds are sent, none of which may fail.
func underLoad(t *testing.T, p *pair, times int, change func(round int)) (requests int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int64
	var wg sync.WaitGroup
	for worker := range 4 {
		client := clientOf(t, p.at, worker%2 == 0)
		wg.Go(func() {
			for ctx.Err() == nil {
				method := [...]string{"GET", "POST"}[sent.Add(1)%2]
				if _, err := attempt(context.WithoutCancel(ctx), client, method); err != nil {
					t.Errorf("%s, HTTP/2 %v: %v", method, worker%2 == 0, err)
				}
			}
		})
	}
	for round := range times {
		change(round)
		target := sent.Load() + 20
		eventually(t, "requests go on", func() bool { return sent.Load() >= target })
	}
	cancel()
	wg.Wait()
	for _, e := range p.client.events.All() {
		if t.Failed() && e.Reason != refusal.None {
			t.Logf("%s %s: %v", e.Protocol, e.Method, e.Err)
		}
	}
	return sent.Load()
}

func TestNoRequestFailsWhileWeightsChange(t *testing.T) {
	p := newPair(t, asHTTP, versioned(t, "v1"), settings{})
	p.client.endpoints(backend(1), shop, p.server.listen(versioned(t, "v2")))
	underLoad(t, p, 40, func(round int) {
		v2 := uint32(round % 101)
		p.client.service(asHTTP, nil, 100-v2, v2)
	})
	p.client.service(asHTTP, nil, 0, 1)
	if got := (call{}).status(t, clientOf(t, p.at, false), 200); got != "v2" {
		t.Errorf("after 0/100: got %q", got)
	}
}

func TestNoRequestFailsWhileEndpointsComeAndGo(t *testing.T) {
	p := newPair(t, asHTTP, versioned(t, "v1"), settings{})
	var all []netip.AddrPort
	for range 4 {
		all = append(all, p.server.listen(versioned(t, "v1")))
	}
	underLoad(t, p, 40, func(round int) {
		first := round % len(all)
		rest := append(append([]netip.AddrPort{}, all[first:]...), all[:first]...)
		p.client.endpoints(cart, shop, rest[:1+round%3]...)
	})
	p.client.endpoints(cart, shop)
	eventually(t, "what has left is forgotten", func() bool { return p.client.upstreams.Len() == 0 })
}

// Endpoints that end while they are called: their proxies drain first, as in a rolling restart.
func TestNoRequestFailsWhileServersDrain(t *testing.T) {
	p := newPair(t, asHTTP, versioned(t, "v1"), settings{})
	app := versioned(t, "v1")
	begin := func() (*proxy, netip.AddrPort) {
		server := start(t, p.ca, shop, true, settings{})
		server.policy(strict, allow)
		return server, server.listen(app)
	}
	old, oldAt := begin()
	p.client.endpoints(cart, shop, oldAt)
	underLoad(t, p, 8, func(int) {
		next, nextAt := begin()
		p.client.endpoints(cart, shop, oldAt, nextAt)
		old.server.Drain()
		p.client.endpoints(cart, shop, nextAt)
		if err := old.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		old, oldAt = next, nextAt
	})
}

func TestCertificatesRenewUnderLoad(t *testing.T) {
	p := newPair(t, asHTTP, versioned(t, "v1"), settings{})
	underLoad(t, p, 30, func(int) {
		// Leaves that are over soon make connections leave the pool, too.
		p.client.credentials.SetCertificate(p.ca.Issue(t, web, time.Now().Add(2*time.Second)))
		p.server.credentials.SetCertificate(p.ca.Issue(t, shop, time.Now().Add(2*time.Second)))
	})
}

func TestDrainingTellsCallersToLeave(t *testing.T) {
	p := newPair(t, asHTTP, versioned(t, "v1"), settings{})
	client := clientOf(t, p.at, false)
	call{}.status(t, client, 200)
	p.client.server.Drain()
	p.client.server.Drain()
	response, _ := call{}.do(t, client)
	if !response.Close {
		t.Error("the answer does not say that the connection closes")
	}
	call{}.status(t, client, 200) // later ones are served all the same
	call{}.status(t, clientOf(t, p.at, true), 200)
	eventually(t, "nothing is active", func() bool { return p.client.server.Active() == 0 })
}

func TestShutdownWaitsForWhatRunsAndCutsItInTheEnd(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, app, settings{})
		result := make(chan error, 1)
		go func() {
			_, err := attempt(t.Context(), clientOf(t, p.at, v.http2), "GET")
			result <- err
		}()
		<-started
		if n := p.client.server.Active(); n != 1 {
			t.Errorf("%d active", n)
		}
		done := make(chan error, 1)
		go func() { done <- p.client.server.Shutdown(t.Context()) }()
		release <- struct{}{}
		if err := <-result; err != nil {
			t.Errorf("what ran failed: %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}

		p = newPair(t, v.declared, app, settings{})
		go func() {
			_, err := attempt(t.Context(), clientOf(t, p.at, v.http2), "GET")
			result <- err
		}()
		<-started
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := p.client.server.Shutdown(ctx); err == nil {
			t.Error("nothing was left to cut")
		}
		if err := <-result; err == nil {
			t.Error("what was cut came to a good end")
		}
	})
}

func TestWhatAnEndpointIsDoingWhenItLeavesIsEndedInTheEnd(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.Copy(c, c) })
	p := newPair(t, asTCP, app, settings{
		upstream: upstream.Options{DrainTimeout: 100 * time.Millisecond},
		limits:   limits.Set{HalfClosed: 50 * time.Millisecond},
	})
	conn := dial(t, p.client, p.at.String())
	io.WriteString(conn, "x")
	io.ReadFull(conn, make([]byte, 1))
	begun := time.Now()
	p.client.endpoints(cart, shop)
	if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(begun) < 50*time.Millisecond {
		t.Errorf("ended after %v: %v", time.Since(begun), err)
	}

	// A side that has ended, of which the other says nothing.
	silent := newPair(t, asTCP, accept(t, func(c net.Conn) { c.Read(make([]byte, 1)); <-t.Context().Done() }), settings{
		limits: limits.Set{HalfClosed: 50 * time.Millisecond},
	})
	conn = dial(t, silent.client, silent.at.String())
	conn.CloseWrite()
	_, err := conn.Read(make([]byte, 1)) // until it is given up
	if err == nil {
		t.Error("read something")
	}
	silent.client.events.wait(t, "of the connection", func(e observe.Event) bool { return e.Reason == refusal.None })
}
