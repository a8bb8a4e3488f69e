// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/heddle-mesh/heddle/internal/probe"
)

var localhost = netip.MustParseAddr("127.0.0.1")

// portOfServer is where an httptest server listens.
func portOfServer(t *testing.T, url string) uint16 {
	t.Helper()
	_, address, _ := strings.Cut(url, "://")
	return netip.MustParseAddrPort(address).Port()
}

// application is an HTTP server that does what its path says.
func application(t *testing.T, secure bool) uint16 {
	t.Helper()
	mux := http.NewServeMux()
	for path, status := range map[string]int{"/ok": 200, "/none": 204, "/gone": 404, "/sick": 500, "/odd": 600} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/sick", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "full=1&x=%20" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "shop.example" || len(r.Header["X-Two"]) != 2 || r.Header.Get("Accept") != "*/*" || r.UserAgent() != "kube-probe/1.37" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/bare", func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header["Accept"]; ok || r.UserAgent() != "mine" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 10*maxProbeBody)) })
	server := httptest.NewUnstartedServer(mux)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return portOfServer(t, server.URL)
}

// closedPort is where nobody listens.
// closedPort is tcpmux of old: nobody listens there, and the kernel gives it to nobody.
const closedPort = 1

func TestAskHTTP(t *testing.T) {
	plain, secure := application(t, false), application(t, true)
	http1 := func(path string) probe.Spec { return probe.Spec{Kind: probe.HTTP, Port: plain, Path: path} }
	hook := func(path string) probe.Spec { return probe.Spec{Kind: probe.Hook, Port: plain, Path: path} }
	for name, c := range map[string]struct {
		spec probe.Spec
		want int
	}{
		"200":                                  {http1("/ok"), 200},
		"204":                                  {http1("/none"), 200},
		"a path without a slash":               {http1("ok"), 200},
		"404 is passed on":                     {http1("/gone"), 404},
		"500 is passed on":                     {http1("/sick"), 500},
		"a status that HTTP doesn't have":      {http1("/odd"), 503},
		"a redirect to itself is followed":     {http1("/here"), 500},
		"a redirect elsewhere is success":      {http1("/away"), 200},
		"a redirect without end":               {http1("/loop"), 503},
		"a query":                              {http1("/query?full=1&x=%20"), 200},
		"a large body is not read whole":       {http1("/large"), 200},
		"HTTPS with anybody's certificate":     {probe.Spec{Kind: probe.HTTP, Port: secure, Path: "/ok", HTTPS: true}, 200},
		"HTTPS where HTTP is spoken":           {probe.Spec{Kind: probe.HTTP, Port: plain, Path: "/ok", HTTPS: true}, 503},
		"nobody listens":                       {probe.Spec{Kind: probe.HTTP, Port: closedPort, Path: "/ok"}, 503},
		"a hook":                               {hook("/ok"), 200},
		"a hook that fails has been called":    {hook("/sick"), 200},
		"a hook of HTTPS where HTTP is spoken": {probe.Spec{Kind: probe.Hook, Port: plain, Path: "/ok", HTTPS: true}, 200},
		"a hook that nobody takes":             {probe.Spec{Kind: probe.Hook, Port: closedPort, Path: "/ok"}, 503},
		"too slow":                             {probe.Spec{Kind: probe.HTTP, Port: plain, Path: "/slow", TimeoutMillis: 50}, 503},
		"headers": {probe.Spec{
			Kind: probe.HTTP, Port: plain, Path: "/headers",
			Headers: []probe.Header{{Name: "host", Value: "shop.example"}, {Name: "x-two", Value: "1"}, {Name: "X-Two", Value: "2"}},
		}, 200},
		"headers that are taken away": {probe.Spec{
			Kind: probe.HTTP, Port: plain, Path: "/bare",
			Headers: []probe.Header{{Name: "Accept"}, {Name: "User-Agent", Value: "mine"}},
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ask(t.Context(), &c.spec, localhost, "kube-probe/1.37")
			if got != c.want || (err == nil) != (c.want == 200) {
				t.Errorf("status %d, %v, want %d", got, err, c.want)
			}
		})
	}
}

func TestAskTCP(t *testing.T) {
	if got, err := ask(t.Context(), &probe.Spec{Kind: probe.TCP, Port: application(t, false)}, localhost, ""); got != 200 || err != nil {
		t.Error(got, err)
	}
	if got, err := ask(t.Context(), &probe.Spec{Kind: probe.TCP, Port: closedPort}, localhost, ""); got != 503 || err == nil {
		t.Error(got, err)
	}
}

// The server is grpc-go's, to which the kubelet speaks with grpc-go's client.
func TestAskGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(), health.NewServer()
	service.SetServingStatus("payments", healthpb.HealthCheckResponse_SERVING)
	service.SetServingStatus("sick", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(server, service)
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	port := uint16(l.Addr().(*net.TCPAddr).Port)

	for name, c := range map[string]struct {
		service string
		port    uint16
		want    string // expression that is in the error
	}{
		"the server as a whole":  {"", port, ""},
		"a service":              {"payments", port, ""},
		"one that isn't serving": {"sick", port, "status is 2"},
		"one that is unknown":    {"nobody", port, "unknown service"},
		// It closes on the preface: that is met in the first read, or already in a write.
		"what speaks HTTP/1.1":       {"", application(t, false), "http2|broken pipe|connection reset"},
		"nobody listens":             {"", closedPort, "refused"},
		"HTTP/2 that isn't gRPC":     {"", plainHTTP2(t, nil), "no gRPC"},
		"gRPC with a broken message": {"", plainHTTP2(t, []byte{0, 0, 0, 0, 9}), "not one message"},
	} {
		t.Run(name, func(t *testing.T) {
			status, err := ask(t.Context(), &probe.Spec{Kind: probe.GRPC, Port: c.port, Service: c.service}, localhost, "kube-probe")
			if c.want == "" {
				if err != nil || status != 200 {
					t.Error(status, err)
				}
				return
			}
			if err == nil || status != 503 || !regexp.MustCompile(c.want).MatchString(err.Error()) {
				t.Errorf("status %d, error %v, want one with %q", status, err, c.want)
			}
		})
	}
}

// plainHTTP2 answers every request with a body, as gRPC if there is one.
func plainHTTP2(t *testing.T, body []byte) uint16 {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if body != nil {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write(body)
			w.Header().Set("Grpc-Status", "0")
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return portOfServer(t, server.URL)
}

func TestAHookEndsWhenTheKubeletHangsUp(t *testing.T) {
	called, ended := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(called)
		<-r.Context().Done()
		close(ended)
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var done atomic.Bool
	go func() {
		_, _ = ask(ctx, &probe.Spec{Kind: probe.Hook, Port: portOfServer(t, server.URL)}, localhost, "")
		done.Store(true)
	}()
	<-called
	if done.Load() {
		t.Error("it was not waited for")
	}
	cancel()
	<-ended // or the test hangs
}
