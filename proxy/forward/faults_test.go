// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
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

func TestAFaultAnswersInThePlaceOfTheEndpoint(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var served atomic.Int64
		p := newPair(t, v.declared, httpApp(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }), settings{})
		client := clientOf(t, p.at, v.http2)
		p.client.fault(v.declared, nil, &meshconfig.Fault{Percent: 100, HttpStatus: 418})
		response, body := call{method: "POST", body: "x"}.do(t, client)
		if response.StatusCode != http.StatusTeapot || response.Header.Get("heddle-reason") != "fault_injected" || !strings.Contains(body, "shop/cart/drill") {
			t.Errorf("status %d, header %v, body %q", response.StatusCode, response.Header, body)
		}
		p.client.events.wait(t, "of the fault", func(e observe.Event) bool {
			return e.Reason == refusal.FaultInjected && e.Fault == "shop/cart/drill" && e.Status == 418 && e.Attempts == 1
		})
		if served.Load() != 0 {
			t.Error("the application saw it")
		}
		p.client.fault(v.declared, nil, &meshconfig.Fault{Percent: 100, HttpStatus: 418, ExpiresAt: time.Now().Add(-time.Second).UnixMilli()})
		call{}.status(t, client, 200)
		p.client.fault(v.declared, nil, &meshconfig.Fault{HttpStatus: 418})
		call{}.status(t, client, 200)
		p.client.fault(v.declared, nil, &meshconfig.Fault{Percent: 100, HttpStatus: 418, Matches: []*meshconfig.Match{{Method: "PUT"}}})
		call{}.status(t, client, 200)
		call{method: "PUT"}.status(t, client, 418)
	})
}

func TestAFaultOfAStatusWithoutContent(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, httpApp(t, ok), settings{})
		client := clientOf(t, p.at, v.http2)
		for _, status := range []uint32{204, 304} {
			p.client.fault(v.declared, nil, &meshconfig.Fault{Percent: 100, HttpStatus: status})
			response, body := call{}.do(t, client)
			if response.StatusCode != int(status) || response.Header.Get("heddle-reason") != "fault_injected" || body != "" {
				t.Errorf("status %d, header %v, body %q", response.StatusCode, response.Header, body)
			}
			if _, ok := response.Header["Content-Length"]; ok {
				t.Errorf("%d has a Content-Length", status)
			}
		}
	})
}

func TestADelayIsTakenOffTheDeadlineOfGRPC(t *testing.T) {
	var got atomic.Pointer[string]
	p := newPair(t, asGRPC, httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		timeout := r.Header.Get("grpc-timeout")
		got.Store(&timeout)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	}), settings{})
	p.client.fault(asGRPC, nil, &meshconfig.Fault{Percent: 100, Delay: 100})
	call{method: "POST", body: "x", header: http.Header{
		"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {"20S"},
	}}.do(t, clientOf(t, p.at, true))
	left, err := strconv.Atoi(strings.TrimSuffix(*got.Load(), "u"))
	if err != nil || left > 19_900_000 || left < 1_000_000 {
		t.Errorf("the application got %q, want 19.9 s or somewhat less", *got.Load())
	}
}

func TestRetriesMeetFaults(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		for name, fault := range map[string]*meshconfig.Fault{
			"a status":            {Percent: 30, HttpStatus: 503},
			"a reset":             {Percent: 30, Cut: true},
			"a status after time": {Percent: 30, HttpStatus: 503, Delay: 2},
		} {
			p := newPair(t, v.declared, httpApp(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), settings{})
			p.client.fault(v.declared, &meshconfig.Route{Retry: retry(10, func(r *meshconfig.Retry) { r.Codes = []uint32{503} })}, fault)
			client := clientOf(t, p.at, v.http2)
			for range 40 {
				if got := (call{method: "PUT", body: "x"}).status(t, client, 200); got != "x" {
					t.Errorf("%s: got %q", name, got)
				}
			}
			p.client.events.wait(t, name, func(e observe.Event) bool { return e.Attempts > 1 && e.Status == 200 && e.Fault != "" })
		}
	})
}

func TestADelayIsPartOfTheTry(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var served atomic.Int64
		p := newPair(t, v.declared, httpApp(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }), settings{})
		client := clientOf(t, p.at, v.http2)
		p.client.fault(v.declared, nil, &meshconfig.Fault{Percent: 100, Delay: 60})
		begun := time.Now()
		call{method: "POST", body: "x"}.status(t, client, 200)
		if took := time.Since(begun); took < 60*time.Millisecond {
			t.Errorf("after %v", took)
		}
		for name, route := range map[string]*meshconfig.Route{
			"the try's timeout":     {TryTimeout: 50},
			"the request's timeout": {RequestTimeout: 50},
		} {
			before := served.Load()
			p.client.fault(v.declared, route, &meshconfig.Fault{Percent: 100, Delay: 20000})
			response, _ := call{}.do(t, client)
			if response.StatusCode != http.StatusGatewayTimeout || response.Header.Get("heddle-reason") != "timeout" || served.Load() != before {
				t.Errorf("%s: status %d, header %v", name, response.StatusCode, response.Header)
			}
		}
	})
}

func TestAResetReachesTheCaller(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, httpApp(t, ok), settings{})
		p.client.fault(v.declared, nil, &meshconfig.Fault{Percent: 100, Cut: true, Matches: []*meshconfig.Match{{Method: "POST"}}})
		client := clientOf(t, p.at, v.http2)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://cart/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if response, err := client.Do(r); err == nil {
			response.Body.Close()
			t.Errorf("status %d", response.StatusCode)
		}
		p.client.events.wait(t, "of the reset", func(e observe.Event) bool { return e.Reason == refusal.FaultInjected && e.Status == 0 })
		call{}.status(t, client, 200)
	})
}

func TestAFaultOfGRPC(t *testing.T) {
	p, client := newGRPCPair(t)
	for want, fault := range map[codes.Code]*meshconfig.Fault{
		codes.ResourceExhausted: {Percent: 100, GrpcStatus: 8},
		codes.Unavailable:       {Percent: 100, HttpStatus: 503},
	} {
		p.client.fault(asGRPC, nil, fault)
		if _, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); status.Code(err) != want {
			t.Errorf("want %v, got %v", want, err)
		}
	}
	p.client.fault(asGRPC, nil, &meshconfig.Fault{Percent: 100, GrpcStatus: 8})
	if response, _ := (call{}).do(t, clientOf(t, p.at, true)); response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("of a request that is no gRPC: status %d", response.StatusCode)
	}
}

func TestAFaultOfAConnection(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.WriteString(c, "hello") })
	p, at := newClient(t, asTCP, app)
	read := func() (string, time.Duration, error) {
		begun := time.Now()
		text, err := spoken(t, at, "")
		return text, time.Since(begun), err
	}
	p.fault(asTCP, nil, &meshconfig.Fault{Percent: 100, Delay: 60})
	if got, took, err := read(); got != "hello" || took < 60*time.Millisecond || err != nil {
		t.Errorf("delayed: got %q after %v, %v", got, took, err)
	}
	p.fault(asTCP, nil, &meshconfig.Fault{Percent: 100, Cut: true})
	if got, _, err := read(); got != "" || err == nil {
		t.Errorf("reset: got %q, %v", got, err)
	}
	p.events.wait(t, "of the reset", func(e observe.Event) bool { return e.Reason == refusal.FaultInjected && e.Fault == "shop/cart/drill" })
	p.fault(asTCP, nil, &meshconfig.Fault{Percent: 100, Cut: true, Matches: []*meshconfig.Match{{Callers: []*meshconfig.Caller{
		{Identities: []string{shop.String()}},
	}}}})
	if got, _, err := read(); got != "hello" || err != nil {
		t.Errorf("of another caller: got %q, %v", got, err)
	}
	p.endpoints(cart, identity.ID{}, nobody(), app)
	p.traffic(asTCP, func(*meshconfig.Routes) {}, 1)
	for range 10 {
		if got, _, err := read(); got != "hello" || err != nil {
			t.Errorf("with an endpoint that is not there: got %q, %v", got, err)
		}
	}
}
