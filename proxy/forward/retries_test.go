// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// stumbles is an application that answers so many requests badly, then well with what it was sent.
func stumbles(t *testing.T, served *atomic.Int64, times int64, badly func(http.ResponseWriter)) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if served.Add(1) <= times {
			badly(w)
			return
		}
		w.Write(body)
	}
}

func unavailable(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }

func TestAnAnswerThatARouteRetries(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		for name, c := range map[string]struct {
			call     call
			stumbles int64
			change   func(*meshconfig.Retry)
			served   int64
			status   int
		}{
			"is gone for a request that may be repeated": {
				call{method: "PUT", body: "x"}, 2, nil, 3, 200,
			},
			"reaches the caller after the last try": {
				call{method: "PUT", body: "x"}, 9, nil, 3, 503,
			},
			"reaches the caller at once if the code is not listed": {
				call{}, 9, func(r *meshconfig.Retry) { r.Codes = []uint32{502} }, 1, 503,
			},
			"reaches the caller of a request that must not be repeated": {
				call{method: "POST", body: "x"}, 9, nil, 1, 503,
			},
			"is gone for a POST with a key": {
				call{method: "POST", body: "x", header: http.Header{"Idempotency-Key": {"1"}}}, 1, nil, 2, 200,
			},
			"is gone for a POST that the route calls idempotent": {
				call{method: "POST", body: "x"}, 1, func(r *meshconfig.Retry) { r.Idempotency = meshconfig.Idempotency_IDEMPOTENCY_ALWAYS }, 2, 200,
			},
			"is gone after a wait": {
				call{method: "PUT", body: "x"}, 2, func(r *meshconfig.Retry) { r.BackoffBase, r.BackoffMax = 5, 20 }, 3, 200,
			},
			"reaches the caller if the content is too large to be held": {
				call{method: "PUT", body: strings.Repeat("x", 1<<20)}, 9, nil, 1, 503,
			},
		} {
			var served atomic.Int64
			p := newPair(t, v.declared, httpApp(t, stumbles(t, &served, c.stumbles, unavailable)), settings{})
			p.client.route(v.declared, &meshconfig.Route{Retry: retry(2, func(r *meshconfig.Retry) {
				r.Codes = []uint32{503}
				if c.change != nil {
					c.change(r)
				}
			})})
			response, body := c.call.do(t, clientOf(t, p.at, v.http2))
			if response.StatusCode != c.status || served.Load() != c.served || c.status == 200 && body != c.call.body {
				t.Errorf("%s: status %d, served %d times, body %.20q; want %d, %d", name, response.StatusCode, served.Load(), body, c.status, c.served)
			}
			p.client.events.wait(t, name, func(e observe.Event) bool {
				return e.Attempts == int(c.served) && e.Status == c.status && (e.RetryReason == "status") == (c.served > 1) && e.Labels.Route == "all"
			})
		}
	})
}

func TestACallerThatLeavesWhileARetryWaits(t *testing.T) {
	for name, http2 := range map[string]bool{"http1": false, "http2": true} {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int64
			p := newPair(t, asHTTP, httpApp(t, stumbles(t, &served, 9, func(w http.ResponseWriter) {
				w.Header().Set("Retry-After", "9")
				unavailable(w)
			})), settings{})
			p.client.route(asHTTP, &meshconfig.Route{Retry: retry(3, func(r *meshconfig.Retry) { r.Codes = []uint32{503} })})
			ctx, cancel := context.WithCancel(t.Context())
			client, left := clientOf(t, p.at, http2), make(chan error)
			go func() {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://cart/", nil)
				if err == nil {
					_, err = client.Do(r)
				}
				left <- err
			}()
			eventually(t, "the first try", func() bool { return served.Load() == 1 })
			cancel()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			e := p.client.events.wait(t, "of a caller that left", func(e observe.Event) bool { return e.Reason == refusal.CallerGone })
			if e.Duration > 5*time.Second || served.Load() != 1 {
				t.Errorf("after %v, served %d times", e.Duration, served.Load())
			}
		})
	}
}

func TestAServerThatAsksForMoreTimeThanThereIs(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var served atomic.Int64
		p := newPair(t, v.declared, httpApp(t, stumbles(t, &served, 9, func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "5")
			unavailable(w)
		})), settings{})
		p.client.route(v.declared, &meshconfig.Route{
			RequestTimeout: 4000, Retry: retry(3, func(r *meshconfig.Retry) { r.Codes = []uint32{503} }),
		})
		begun := time.Now()
		response, _ := call{}.do(t, clientOf(t, p.at, v.http2))
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "5" || served.Load() != 1 || time.Since(begun) > 3*time.Second {
			t.Errorf("status %d, served %d times, after %v", response.StatusCode, served.Load(), time.Since(begun))
		}
	})
}

func TestAWaitForAnotherTryIsNotIdle(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var served atomic.Int64
		p := newPair(t, v.declared, httpApp(t, stumbles(t, &served, 1, func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			unavailable(w)
		})), settings{})
		p.client.route(v.declared, &meshconfig.Route{
			IdleTimeout: 300, Retry: retry(1, func(r *meshconfig.Retry) { r.Codes = []uint32{503} }),
		})
		call{method: "PUT", body: "x"}.status(t, clientOf(t, p.at, v.http2), 200)
	})
}

// callUntil calls until an event is reported that hangs on which endpoint is picked.
func callUntil(t *testing.T, p *proxy, call func(), wanted func(observe.Event) bool) {
	t.Helper()
	for range 40 {
		call()
		if slices.ContainsFunc(p.events.All(), wanted) {
			return
		}
	}
	t.Error("the event did not come")
}

func TestATryThatTakesTooLong(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		over := make(chan struct{})
		slow := httpApp(t, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-over:
			case <-r.Context().Done():
			}
		})
		defer close(over)
		p := newPair(t, v.declared, slow, settings{})
		quick := p.server.listen(httpApp(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
		client := clientOf(t, p.at, v.http2)
		for name, on := range map[string][]meshconfig.RetryCondition{
			"is tried elsewhere": {meshconfig.RetryCondition_RETRY_CONDITION_TIMEOUT},
			"is answered 504":    {meshconfig.RetryCondition_RETRY_CONDITION_RESET},
		} {
			again := name == "is tried elsewhere"
			p.client.route(v.declared, &meshconfig.Route{TryTimeout: 400, Retry: retry(1, func(r *meshconfig.Retry) { r.On = on })})
			p.client.endpoints(cart, shop, p.inside)
			if again {
				p.client.endpoints(cart, shop, p.inside, quick)
			}
			callUntil(t, p.client, func() {
				response, body := call{method: "PUT", body: "x"}.do(t, client)
				if again && (response.StatusCode != http.StatusOK || body != "x") || !again && response.StatusCode != http.StatusGatewayTimeout {
					t.Errorf("%s: status %d, body %q", name, response.StatusCode, body)
				}
			}, func(e observe.Event) bool {
				return again && e.RetryReason == "timeout" && e.Status == 200 || !again && e.Reason == refusal.Timeout && e.Attempts == 1
			})
		}
	})
}

func TestTheBudgetEndsRetries(t *testing.T) {
	var served atomic.Int64
	p := newPair(t, asHTTP, httpApp(t, stumbles(t, &served, 1<<30, unavailable)), settings{})
	p.client.traffic(asHTTP, func(r *meshconfig.Routes) {
		r.Ports[0].Routes = []*meshconfig.Route{{Name: "all", Retry: retry(1, func(r *meshconfig.Retry) { r.Codes = []uint32{503} })}}
		r.RetryBudget = &meshconfig.RetryBudget{Percent: 10}
	}, 1)
	client := clientOf(t, p.at, false)
	const n = 40
	for range n {
		call{}.status(t, client, 503)
	}
	if got := served.Load() - n; got < 1 || got > n/10 {
		t.Errorf("%d of %d requests were tried again, want 1 to %d", got, n, n/10)
	}
}

func TestWhatABreakerRefusesEarnsNoBudget(t *testing.T) {
	var served atomic.Int64
	h := &held{over: make(chan struct{})}
	p := newPair(t, asHTTP, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			h.ServeHTTP(w, r)
			return
		}
		served.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}), settings{})
	p.client.traffic(asHTTP, func(r *meshconfig.Routes) {
		r.Ports[0].Routes = []*meshconfig.Route{{Name: "all", Retry: retry(1, func(r *meshconfig.Retry) { r.Codes = []uint32{503} })}}
		r.RetryBudget = &meshconfig.RetryBudget{Percent: 50}
		r.Clusters = []*meshconfig.Cluster{{Service: cart, Breaker: &meshconfig.Breaker{MaxRequests: 1}}}
	}, 1)
	client := clientOf(t, p.at, false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		call{path: "/hold"}.do(t, client)
	}()
	eventually(t, "one is held", func() bool { return h.here.Load() == 1 })
	for range 100 {
		if response, _ := (call{}).do(t, client); response.Header.Get("heddle-reason") != "circuit_open" {
			t.Fatalf("header %v", response.Header)
		}
	}
	close(h.over)
	<-done
	const n = 20
	for range n {
		call{}.status(t, client, 503)
	}
	if got := served.Load() - n; got < 1 || got > n/2+1 {
		t.Errorf("%d of %d requests were tried again, want half", got, n)
	}
}

func TestWhatIsNotSentAgainCostsNoBudget(t *testing.T) {
	var served atomic.Int64
	p := newPair(t, asHTTP, httpApp(t, stumbles(t, &served, 1, unavailable)), settings{})
	p.client.traffic(asHTTP, func(r *meshconfig.Routes) {
		r.Ports[0].Routes = []*meshconfig.Route{{Name: "all", Retry: retry(1, func(r *meshconfig.Retry) { r.Codes = []uint32{503} })}}
		r.RetryBudget = &meshconfig.RetryBudget{MinPerSecond: 1}
	}, 1)
	client := clientOf(t, p.at, false)
	p.client.endpoints(cart, shop, nobody())
	for range 5 {
		call{}.status(t, client, 503) // there is no other endpoint
	}
	p.client.endpoints(cart, shop, p.inside)
	call{}.status(t, client, 200)
	if served.Load() != 2 {
		t.Errorf("served %d times", served.Load())
	}
}

// An endpoint that does not come as far as to take requests.
func TestATryThatIsNotEvenSentInTimeIsTriedElsewhere(t *testing.T) {
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
			mute := accept(t, func(net.Conn) { <-over })
			p := newPair(t, c.declared, httpApp(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), settings{})
			good := p.inside
			if c.id.IsZero() {
				good = httpApp(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
			}
			p.client.route(c.declared, &meshconfig.Route{TryTimeout: 300})
			p.client.endpoints(cart, c.id, mute, good)
			client := clientOf(t, p.at, c.http2)
			callUntil(t, p.client, func() {
				if got := (call{method: "POST", body: "x"}).status(t, client, 200); got != "x" {
					t.Errorf("got %q", got)
				}
			}, func(e observe.Event) bool {
				return e.Attempts == 2 && e.Status == 200 && e.RetryReason == "refused_stream"
			})
		})
	}
}

func TestConnectionsOfAnswersThatAreRetriedAreUsedAgain(t *testing.T) {
	var served, conns atomic.Int64
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if served.Add(1)%3 != 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Write(body)
	}
	app := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	app.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	app.Start()
	t.Cleanup(app.Close)
	p, at := newClient(t, asHTTP, addrOf(app.Listener.Addr()))
	p.traffic(asHTTP, func(r *meshconfig.Routes) {
		r.Ports[0].Routes = []*meshconfig.Route{{Name: "all", Retry: retry(2, func(r *meshconfig.Retry) {
			r.Codes, r.BackoffBase, r.BackoffMax = []uint32{503}, 2, 2
		})}}
		r.RetryBudget = &meshconfig.RetryBudget{MinPerSecond: 100}
	}, 1)
	client := clientOf(t, at, false)
	for range 8 {
		call{method: "PUT", body: "x"}.status(t, client, 200)
	}
	if got := conns.Load(); got > 2 {
		t.Errorf("%d connections for one request at a time", got)
	}
}

func TestAGRPCRequestThatWasNotDeliveredIsTriedOnceMore(t *testing.T) {
	p, client := newGRPCPair(t)
	p.client.endpoints(cart, shop, p.inside, p.server.listen(nobody()))
	for range 20 {
		if _, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); err != nil {
			t.Error(err)
		}
	}
	p.client.events.wait(t, "of a second try", func(e observe.Event) bool {
		return e.Attempts == 2 && e.GRPCStatus == 0 && e.RetryReason == "refused_stream"
	})
}

func TestCodesOfGRPCAreRetriedUnlessTheAnswerHasBegun(t *testing.T) {
	p, client := newGRPCPair(t)
	p.client.route(asGRPC, &meshconfig.Route{Retry: retry(2, func(r *meshconfig.Retry) {
		r.GrpcCodes, r.Idempotency = []uint32{14}, meshconfig.Idempotency_IDEMPOTENCY_ALWAYS
	})})
	for code, attempts := range map[codes.Code]int{codes.Unavailable: 3, codes.NotFound: 1} {
		_, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{
			ResponseStatus: &grpc_testing.EchoStatus{Code: int32(code), Message: "no"},
		})
		if status.Code(err) != code {
			t.Errorf("%v: got %v", code, err)
		}
		p.client.events.wait(t, code.String(), func(e observe.Event) bool {
			return e.GRPCStatus == int(code) && e.Attempts == attempts
		})
	}
}

func TestDeadlinesOfGRPCTravel(t *testing.T) {
	for name, c := range map[string]struct{ asked, want string }{
		"the caller's, if that is less": {"1S", "1S"},
		"the route's, if that is less":  {"1H", "5000000u"},
		"the route's, without one":      {"", "5000000u"},
	} {
		t.Run(name, func(t *testing.T) {
			var got atomic.Pointer[string]
			p := newPair(t, asGRPC, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
				timeout := r.Header.Get("grpc-timeout")
				got.Store(&timeout)
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Grpc-Status", "0")
			}), settings{})
			p.client.route(asGRPC, &meshconfig.Route{RequestTimeout: 5000})
			header := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
			if c.asked != "" {
				header["Grpc-Timeout"] = []string{c.asked}
			}
			call{method: "POST", body: "x", header: header}.do(t, clientOf(t, p.at, true))
			if timeout := *got.Load(); timeout != c.want {
				t.Errorf("the application got %q, want %q", timeout, c.want)
			}
		})
	}
}

func TestADeadlineOfGRPCEndsAnAnswerAsTheServerWould(t *testing.T) {
	p := newPair(t, asGRPC, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		io.WriteString(w, "begun")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), settings{})
	response, body := call{method: "POST", body: "x", header: http.Header{
		"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {"100m"},
	}}.do(t, clientOf(t, p.at, true))
	if got := response.Trailer.Get("Grpc-Status"); body != "begun" || got != "4" {
		t.Errorf("%q, trailer %v", body, response.Trailer)
	}
	p.client.events.wait(t, "of the timeout", func(e observe.Event) bool { return e.Reason == refusal.Timeout && e.GRPCStatus == 4 })
}

func TestADeadlineOfGRPCIsHonoured(t *testing.T) {
	p := newPair(t, asGRPC, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/never" {
			<-r.Context().Done()
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	}), settings{})
	client := clientOf(t, p.at, true)
	// Each has its own, also with a state and timer that were used before.
	for _, c := range []struct{ path, timeout, want string }{
		{"/", "20S", "0"}, {"/never", "100m", "4"}, {"/", "20S", "0"}, {"/", "30S", "0"}, {"/never", "100m", "4"},
	} {
		response, _ := call{method: "POST", path: c.path, body: "x", header: http.Header{
			"Content-Type": {"application/grpc+json; a=b"}, "Te": {"trailers"}, "Grpc-Timeout": {c.timeout},
		}}.do(t, client)
		if kind := response.Header.Get("Content-Type"); c.want == "4" && kind != "application/grpc+json" {
			t.Errorf("%s: Content-Type %q", c.path, kind)
		}
		if got := response.Header.Get("Grpc-Status"); got != c.want || (got == "4") != (response.Header.Get("heddle-reason") == "timeout") {
			t.Errorf("%s within %s: grpc-status %q, header %v", c.path, c.timeout, got, response.Header)
		}
	}
	p.client.events.wait(t, "of the timeout", func(e observe.Event) bool { return e.Reason == refusal.Timeout && e.GRPCStatus == 4 })
}
