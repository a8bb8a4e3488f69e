// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// twice is two endpoints with the same application. It returns how many requests the second got.
func twice(t *testing.T, v versions, app http.HandlerFunc) (p *pair, second *atomic.Int64) {
	t.Helper()
	p, second = newPair(t, v.declared, httpApp(t, app), settings{}), new(atomic.Int64)
	p.client.endpoints(cart, shop, p.inside, p.server.listen(httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		second.Add(1)
		app(w, r)
	})))
	return p, second
}

// bothAreAsked fails unless both endpoints of twice get requests: one that was ejected would not for a second at least.
func bothAreAsked(t *testing.T, client *http.Client, second *atomic.Int64) {
	t.Helper()
	const n = 40
	before := second.Load()
	for range n {
		call{}.status(t, client, 200)
	}
	if got := second.Load() - before; got == 0 || got == n {
		t.Errorf("the second endpoint got %d of %d requests", got, n)
	}
}

// failuresEach is so many that each of two endpoints has more than the 5 in a row that eject it.
const failuresEach = 16

func TestTimeThatTheCallerTakesIsNotHeldAgainstTheEndpoint(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p, second := twice(t, v, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
		client := clientOf(t, p.at, v.http2)
		for name, route := range map[string]*meshconfig.Route{
			"the request's timeout": {RequestTimeout: 50},
			"the try's timeout":     {TryTimeout: 50},
			"the time of silence":   {IdleTimeout: 50},
		} {
			p.client.route(v.declared, route)
			for range failuresEach {
				body, stalls := io.Pipe()
				go stalls.Write([]byte("x"))
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cart/", body)
				response, err := client.Do(r)
				stalls.Close()
				if err != nil {
					t.Fatal(name, err)
				}
				response.Body.Close()
				if response.StatusCode != http.StatusGatewayTimeout {
					t.Fatalf("%s: status %d", name, response.StatusCode)
				}
			}
			p.client.route(v.declared, &meshconfig.Route{})
			bothAreAsked(t, client, second)
		}
	})
}

func TestAStreamOfGRPCThatLivesUntilItsDeadlineIsNoFailure(t *testing.T) {
	p, second := twice(t, versions{true, asGRPC}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/watch" {
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		io.WriteString(w, "an event")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	client := clientOf(t, p.at, true)
	for range failuresEach {
		response, body := call{method: "POST", path: "/watch", body: "x", header: http.Header{
			"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {"50m"},
		}}.do(t, client)
		if response.Trailer.Get("Grpc-Status") != "4" || body != "an event" {
			t.Fatalf("%q, trailer %v", body, response.Trailer)
		}
	}
	bothAreAsked(t, client, second)
}

func TestATrialByAStreamOfGRPCIsDecidedByItsFirstMessage(t *testing.T) {
	var failed, streams atomic.Int64
	p := newPair(t, asGRPC, httpApp(t, ok), settings{})
	p.client.traffic(asGRPC, func(r *meshconfig.Routes) {
		r.Clusters = []*meshconfig.Cluster{{
			Service:   cart,
			Balancing: &meshconfig.Balancing{Policy: meshconfig.BalancingPolicy_BALANCING_POLICY_RANDOM},
			Outlier:   &meshconfig.Outlier{ConsecutiveFailures: 1, BaseEjection: 10, MaxEjection: 10, MaxEjectedPercent: 100, PanicPercent: 1},
		}}
	}, 1)
	p.client.endpoints(cart, shop, p.inside, p.server.listen(httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		if failed.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		io.WriteString(w, "an event")
		http.NewResponseController(w).Flush()
		streams.Add(1)
		<-r.Context().Done()
	})))
	client := clientOf(t, p.at, true)
	ask := func() {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cart/watch", strings.NewReader("x"))
		r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
	}
	// It is ejected, has a trial, and is back: far sooner than a trial is given up that nobody has judged.
	eventually(t, "streams after that of the trial, which is open still", func() bool { ask(); return streams.Load() > 3 })
}
