// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// nobody is an address at which nobody listens, and that the kernel gives to nobody: tcpmux of old.
func nobody() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:1") }

func TestWhatWasNotDeliveredIsTriedOnceMore(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var served atomic.Int64
		app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			io.Copy(w, r.Body)
		})
		p := newPair(t, v.declared, app, settings{})
		client := clientOf(t, p.at, v.http2)
		bad := map[string]netip.AddrPort{
			"the endpoint refuses the connection":         nobody(),
			"the endpoint's application does":             p.server.listen(nobody()),
			"the endpoint is another one":                 start(t, p.ca, web, true, settings{}).listen(app),
			"the endpoint hangs up before it says a word": accept(t, func(net.Conn) {}),
		}
		for name, address := range bad {
			before := served.Load()
			const n = 30
			p.client.endpoints(cart, shop, address, p.inside)
			for range n {
				if got := (call{method: "POST", body: "body"}).status(t, client, 200); got != "body" {
					t.Errorf("%s: got %q", name, got)
				}
			}
			if got := served.Load() - before; got != n {
				t.Errorf("%s: served %d times, want %d", name, got, n)
			}
			p.client.events.wait(t, "of a second try", func(e observe.Event) bool {
				return e.Attempts == 2 && e.Status == 200 && e.Endpoint == p.inside
			})
			p.client.endpoints(cart, shop, address)
			response, body := call{method: "POST", body: "body"}.do(t, client)
			if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("heddle-reason") == "" || response.Header.Get("heddle-undelivered") != "" {
				t.Errorf("%s, alone: status %d, header %v, body %q", name, response.StatusCode, response.Header, body)
			}
		}
	})
}

func TestALargeBodyIsNotSentTwice(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int64
			app := httpApp(t, func(_ http.ResponseWriter, r *http.Request) {
				if n, _ := io.Copy(io.Discard, r.Body); n == 1<<20 {
					served.Add(1)
				}
			})
			p := newPair(t, asHTTP, app, settings{})
			p.client.endpoints(cart, shop, p.inside, p.server.listen(nobody()))
			client := clientOf(t, p.at, http2)
			delivered := int64(0)
			for range 20 {
				response, _ := call{method: "POST", body: strings.Repeat("x", 1<<20)}.do(t, client)
				if response.StatusCode == http.StatusOK {
					delivered++
				} else if response.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("status %d", response.StatusCode)
				}
			}
			if served.Load() != delivered || delivered == 0 {
				t.Errorf("served %d, delivered %d", served.Load(), delivered)
			}
		})
	}
}

// hangsUp is an application that reads requests and closes connections.
func hangsUp(t *testing.T, seen *atomic.Int64) netip.AddrPort {
	t.Helper()
	return accept(t, func(c net.Conn) {
		reader := bufio.NewReader(c)
		r, err := http.ReadRequest(reader)
		if err == nil {
			io.Copy(io.Discard, r.Body)
			seen.Add(1)
		}
	})
}

func TestWhatMayHaveBeenDeliveredIsTriedAgainOnlyIfThatDoesNoHarm(t *testing.T) {
	var seen atomic.Int64
	p := newPair(t, asHTTP, httpApp(t, ok), settings{})
	p.client.endpoints(cart, shop, p.inside, p.server.listen(hangsUp(t, &seen)))
	client := clientOf(t, p.at, false)
	for range 20 {
		before := seen.Load()
		response, _ := call{method: "POST", body: "once"}.do(t, client)
		if hung := seen.Load() - before; hung > 1 || (hung == 1) != (response.StatusCode == http.StatusBadGateway) {
			t.Errorf("POST: status %d, read %d times by the one that hangs up", response.StatusCode, hung)
		}
	}
	// The server-side proxy answers 502 for its application, which the client-side one passes on: it was delivered.
	plain := newPair(t, asHTTP, httpApp(t, ok), settings{})
	plain.client.endpoints(cart, identity.ID{}, hangsUp(t, &seen), httpApp(t, ok))
	client = clientOf(t, plain.at, false)
	failed := 0
	for range 20 {
		response, _ := call{method: "POST", body: "once"}.do(t, client)
		if response.StatusCode != http.StatusOK {
			failed++
			if response.StatusCode != http.StatusBadGateway || response.Header.Get("heddle-reason") != "upstream_failed" {
				t.Errorf("status %d, header %v", response.StatusCode, response.Header)
			}
		}
	}
	if failed == 0 {
		t.Error("no POST failed: they were tried again")
	}
	for range 10 {
		call{}.status(t, client, 200)
	}
}

func TestTheMarkCountsOnMeshTLSAlone(t *testing.T) {
	var calls atomic.Int64
	app := httpApp(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Heddle-Undelivered", "1")
		w.Header().Set("Heddle-Reason", "forged")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	p := newPair(t, asHTTP, app, settings{})
	client := clientOf(t, p.at, false)
	for name, id := range map[string]identity.ID{"meshed": shop, "unmeshed": {}} {
		address := app
		if !id.IsZero() {
			address = p.inside
		}
		p.client.endpoints(cart, id, address)
		before := calls.Load()
		response, _ := call{}.do(t, client)
		if response.StatusCode != http.StatusServiceUnavailable || calls.Load() != before+1 || response.Header.Get("heddle-reason") != "" ||
			response.Header.Get("heddle-undelivered") != "" {
			t.Errorf("%s: status %d after %d calls, header %v", name, response.StatusCode, calls.Load()-before, response.Header)
		}
	}
}

func TestNoEndpoints(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, ok), settings{})
	p.client.endpoints(cart, shop)
	response, body := call{}.do(t, clientOf(t, p.at, false))
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("heddle-reason") != "no_endpoints" || !strings.Contains(body, cart) {
		t.Errorf("status %d, header %v, body %q", response.StatusCode, response.Header, body)
	}
	p.client.events.wait(t, "of no endpoints", func(e observe.Event) bool {
		return e.Reason == refusal.NoEndpoints && e.Labels.Backend == "v1" && e.Attempts == 0
	})
	p.client.tables.Remove(meshconfig.RoutesName(cart))
	call{}.status(t, clientOf(t, p.at, false), 502)
}

func TestAPodThatIsDialledByItsOwnAddress(t *testing.T) {
	pod := netip.MustParseAddrPort("10.1.0.9:80")
	var inside atomic.Pointer[string]
	p := newPair(t, asHTTP, httpApp(t, ok), settings{upstream: upstream.Options{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == pod.String() {
				address = *inside.Load()
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}})
	at := p.inside.String()
	inside.Store(&at)
	p.client.apply(meshconfig.AddressName(pod.Addr()), &meshconfig.Address{Address: pod.Addr().String(), Pod: &meshconfig.PodAddress{
		Endpoint: &meshconfig.Endpoint{Address: pod.Addr().String(), Identity: shop.String(), Pod: "shop/cart-0", Workload: "cart"},
		Ports:    []*meshconfig.PodPort{{Port: 80, Protocol: asHTTP, Service: cart}},
	}})
	if got := (call{}).status(t, clientOf(t, p.client.listen(pod), false), 200); got != "as URI="+web.String() {
		t.Errorf("got %q", got)
	}
	p.client.events.wait(t, "of the pod", func(e observe.Event) bool {
		return e.MTLS && *e.Labels == observe.Labels{Service: cart, Workload: "cart"} && e.Pod == "shop/cart-0"
	})
	if got, _ := spoken(t, p.client.listen(netip.AddrPortFrom(pod.Addr(), 9)), ""); got != "" {
		t.Errorf("a port that does not listen: got %q", got)
	}
}
