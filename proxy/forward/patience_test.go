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

// twice is two endpoints with the same application, one of which is ejected for good after 5 failures in a row. It returns
// how many requests the second got.
func twice(t *testing.T, v versions, app http.HandlerFunc) (p *pair, second *atomic.Int64) {
	t.Helper()
	p, second = newPair(t, v.declared, httpApp(t, app), settings{}), new(atomic.Int64)
	p.client.endpoints(cart, shop, p.inside, p.server.listen(httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		second.Add(1)
		app(w, r)
	})))
	return p, second
}

func (p *proxy) patience(protocol meshconfig.Protocol, route *meshconfig.Route) {
	p.Helper()
	p.traffic(protocol, func(r *meshconfig.Routes) {
		route.Name = "all"
		r.Ports[0].Routes = []*meshconfig.Route{route}
		r.Clusters = []*meshconfig.Cluster{{Service: cart, Outlier: &meshconfig.Outlier{
			ConsecutiveFailures: 5, BaseEjection: 600_000, MaxEjection: 600_000, MaxEjectedPercent: 10, PanicPercent: 50,
		}}}
	}, 1)
}

// asked is how many of some requests the second of two endpoints gets.
func asked(t *testing.T, client *http.Client, second *atomic.Int64, of int) int {
	t.Helper()
	before := second.Load()
	for range of {
		call{}.status(t, client, 200)
	}
	return int(second.Load() - before)
}

const (
	failuresEach = 16 // of which each of two endpoints has more than 5 in a row
	some         = 40
)

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
			p.client.patience(v.declared, route)
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
			p.client.patience(v.declared, &meshconfig.Route{})
			if n := asked(t, client, second, some); n == 0 || n == some {
				t.Errorf("%s: the second endpoint got %d of %d requests", name, n, some)
			}
		}
	})
}

func TestStreamsOfGRPCThatLiveUntilTheirDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		event   string
		ejected bool
	}{
		"in which a message came are no failures": {"an event", false},
		"in which nothing came are failures":      {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			p, second := twice(t, versions{true, asGRPC}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/watch" {
					return
				}
				w.Header().Set("Content-Type", "application/grpc")
				io.WriteString(w, c.event)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
			p.client.patience(asGRPC, &meshconfig.Route{})
			client := clientOf(t, p.at, true)
			for range failuresEach { // on connections that are there already
				call{}.status(t, client, 200)
			}
			for range failuresEach {
				response, body := call{method: "POST", path: "/watch", body: "x", header: http.Header{
					"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {"200m"},
				}}.do(t, client)
				if response.Trailer.Get("Grpc-Status") != "4" || body != c.event {
					t.Fatalf("%q, header %v, trailer %v", body, response.Header, response.Trailer)
				}
			}
			if n := asked(t, client, second, some); (n == 0 || n == some) != c.ejected {
				t.Errorf("the second endpoint got %d of %d requests", n, some)
			}
		})
	}
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
