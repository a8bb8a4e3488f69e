// SPDX-License-Identifier: Apache-2.0

package health

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// check makes a check that allows for a busy machine.
func check(t *testing.T, config *meshconfig.HealthCheck) *Check {
	t.Helper()
	config.Timeout = 5000
	c, err := New(config, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHTTPOverASocket(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "all is well")
	}))
	t.Cleanup(s.Close)
	e := acquire(t, registry(t, upstream.Options{}), upstream.Key{Address: netip.MustParseAddrPort(s.Listener.Addr().String())})
	good := check(t, &meshconfig.HealthCheck{Type: byHTTP, Path: "/ready", Body: "well$"})
	bad := check(t, &meshconfig.HealthCheck{Type: byHTTP, Path: "/other"})
	for range 3 {
		if err := once(t, good, e); err != nil {
			t.Error(err)
		}
		if err := once(t, bad, e); err == nil {
			t.Error("503 is healthy")
		}
	}
	last := e.Reuse(time.Now())
	last.SetDeadline(time.Now().Add(-time.Second)) // as a request leaves it
	last.Put(time.Now())
	if err := once(t, good, e); err != nil {
		t.Errorf("a connection that a request had a deadline on: %v", err)
	}
	s.CloseClientConnections()
	if err := once(t, good, e); err != nil {
		t.Errorf("a connection that was closed while nobody used it: %v", err)
	}
	s.Close()
	if err := once(t, good, e); err == nil {
		t.Error("a server that has gone is healthy")
	}
}

// TestHTTP2OverASocket asks a server that takes HTTP/2 with prior knowledge, and nothing else.
func TestHTTP2OverASocket(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "all is well")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	e := acquire(t, registry(t, upstream.Options{}), upstream.Key{Address: netip.MustParseAddrPort(s.Listener.Addr().String())})
	good := check(t, &meshconfig.HealthCheck{Type: byHTTP, Path: "/ready", Body: "well$", Http2Ports: []uint32{80}})
	bad := check(t, &meshconfig.HealthCheck{Type: byHTTP, Path: "/other", Http2Ports: []uint32{80}})
	for range 3 {
		if err := once(t, good.At(80), e); err != nil {
			t.Error(err)
		}
		if err := once(t, bad.At(80), e); err == nil || !strings.Contains(err.Error(), "it answers 503") {
			t.Errorf("503: %v", err)
		}
	}
	if n := e.Connections(); n != 1 {
		t.Errorf("%d connections for six checks", n)
	}
	if err := once(t, good, e); err == nil {
		t.Error("HTTP/1.1 is understood: nothing was shown")
	}
}

func TestTheServerOfGRPC(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	says := grpchealth.NewServer()
	says.SetServingStatus("cart.Cart", grpc_health_v1.HealthCheckResponse_SERVING)
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, says)
	var over sync.WaitGroup
	over.Go(func() { s.Serve(listener) })
	t.Cleanup(over.Wait)
	t.Cleanup(s.Stop)
	e := acquire(t, registry(t, upstream.Options{}), upstream.Key{Address: netip.MustParseAddrPort(listener.Addr().String())})
	server := check(t, &meshconfig.HealthCheck{Type: byGRPC})
	cart := check(t, &meshconfig.HealthCheck{Type: byGRPC, GrpcService: "cart.Cart"})
	if err := once(t, server, e); err != nil {
		t.Error(err)
	}
	if err := once(t, cart, e); err != nil {
		t.Error(err)
	}
	if err := once(t, check(t, &meshconfig.HealthCheck{Type: byGRPC, GrpcService: "other"}), e); err == nil || !strings.Contains(err.Error(), `"5"`) {
		t.Errorf("a service that is not there: %v", err)
	}
	says.SetServingStatus("cart.Cart", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	if err := once(t, cart, e); err == nil || !strings.Contains(err.Error(), "serving status is 2") {
		t.Errorf("a service that does not serve: %v", err)
	}
}

// TestMeshTLS checks an endpoint of the mesh, which must see the proxy's identity, whatever the kind of check.
func TestMeshTLS(t *testing.T) {
	authority := testpki.NewAuthority(t)
	cart, web := testpki.Identity("shop", "cart"), testpki.Identity("shop", "web")
	server := authority.Credentials(t, cart)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{upstream.ALPNHTTP1, upstream.ALPNTCP},
		Certificates: []tls.Certificate{*server.Certificate()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Roots(),
	})
	if err != nil {
		t.Fatal(err)
	}
	var over sync.WaitGroup
	t.Cleanup(over.Wait)
	t.Cleanup(func() { listener.Close() })
	gone := make(chan bool, 1) // whether the application is
	over.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			over.Go(func() {
				defer conn.Close()
				secured := conn.(*tls.Conn)
				if secured.Handshake() != nil {
					return
				}
				state := secured.ConnectionState()
				if len(state.PeerCertificates[0].URIs) != 1 || state.PeerCertificates[0].URIs[0].String() != web.String() {
					t.Errorf("the caller is %v", state.PeerCertificates[0].URIs)
				}
				if state.NegotiatedProtocol == upstream.ALPNHTTP1 {
					script(body(200, "ok"))(conn)
				} else if isGone := <-gone; !isGone {
					io.Copy(io.Discard, conn)
				}
			})
		}
	})
	r := registry(t, upstream.Options{Credentials: authority.Credentials(t, web)})
	address := netip.MustParseAddrPort(listener.Addr().String())
	e := acquire(t, r, upstream.Key{Address: address, Identity: cart})
	if err := once(t, check(t, &meshconfig.HealthCheck{Type: byHTTP, Body: "ok"}), e); err != nil {
		t.Error(err)
	}
	tcp := check(t, &meshconfig.HealthCheck{Type: byTCP})
	gone <- false
	if err := once(t, tcp, e); err != nil {
		t.Error(err)
	}
	gone <- true
	if err := once(t, tcp, e); err == nil || !strings.Contains(err.Error(), "closes the connection") {
		t.Errorf("an application that is not behind its proxy: %v", err)
	}
	impostor := acquire(t, r, upstream.Key{Address: address, Identity: testpki.Identity("shop", "pay")})
	if err := once(t, tcp, impostor); err == nil || !strings.Contains(err.Error(), "peer_identity") {
		t.Errorf("an impostor: %v", err)
	}
}

// TestACheckerOverSockets takes out a server that answers 503 and takes it back.
func TestACheckerOverSockets(t *testing.T) {
	status := make(chan int, 1)
	status <- 503
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := <-status
		status <- now
		w.WriteHeader(now)
	}))
	t.Cleanup(s.Close)
	e := acquire(t, registry(t, upstream.Options{}), upstream.Key{Address: netip.MustParseAddrPort(s.Listener.Addr().String())})
	c := check(t, &meshconfig.HealthCheck{Type: byHTTP, HealthyThreshold: 1, UnhealthyThreshold: 1})
	c.Interval = 20 * time.Millisecond
	said := &state{}
	checker := NewChecker(t.Context(), c, NewPace(1000), seeded())
	t.Cleanup(checker.Close)
	checker.Update([]Target{{Endpoint: e, State: said}})
	until := func(down int32) {
		t.Helper()
		ticker, patience := time.NewTicker(time.Millisecond), time.NewTimer(20*time.Second)
		defer ticker.Stop()
		defer patience.Stop()
		for said.down.Load() != down {
			checker.Use()
			select {
			case <-ticker.C:
			case <-patience.C:
				t.Fatalf("down is %d", said.down.Load())
			}
		}
	}
	until(1)
	<-status
	status <- 200
	until(0)
}
