// SPDX-License-Identifier: Apache-2.0

//go:build !race

package forward_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
)

// plainServer answers every request, of which the end is known, with the same bytes, and allocates nothing for it.
func plainServer(tb testing.TB, end, answer string) netip.AddrPort {
	tb.Helper()
	last, said := []byte(end), []byte(answer)
	return accept(tb, func(c net.Conn) {
		buf, n := make([]byte, 64<<10), 0
		for {
			more, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			if n += more; bytes.HasSuffix(buf[:n], last) {
				n = 0
				c.Write(said)
			}
		}
	})
}

const someFields = "Host: cart.shop\r\nUser-Agent: test/1.0\r\nAccept: */*\r\nX-Request-Id: 0123456789abcdef\r\n" +
	"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Forwarded-For: 192.0.2.1\r\n"

// plainProxy runs one direction of a proxy in clear, with the metrics that it has in use and the access log off.
func plainProxy(tb testing.TB, inbound bool, app netip.AddrPort) netip.AddrPort {
	tb.Helper()
	p := start(tb, testpki.NewAuthority(tb), shop, inbound, settings{observer: telemetry.New(telemetry.Options{})})
	if inbound {
		p.policyOf(&meshconfig.PortPolicy{
			Mtls: permissive, DefaultAction: allow, Protocol: asHTTP,
			Rules: []*meshconfig.AuthorizationRule{rule("shop/cart/secret", deny, web, nil, []string{"/secret/*"})},
		})
		return p.listen(app)
	}
	p.service(asHTTP, func(port *meshconfig.ServicePort) {
		port.Routes = []*meshconfig.Route{{Name: "items", Matches: []*meshconfig.Match{
			{Path: &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_PREFIX, Value: "/items"}},
		}}}
		port.Rules = []*meshconfig.SplitRule{{Name: "canary", Backends: port.GetBackends(), Matches: []*meshconfig.Match{
			{Headers: []*meshconfig.HeaderMatch{{Type: meshconfig.HeaderMatch_TYPE_EXACT, Name: "x-canary", Value: "1"}}},
		}}}
	}, 1)
	p.endpoints(cart, identity.ID{}, app)
	return p.listen(netip.AddrPortFrom(cartIP, 80))
}

// messages are a request and its answer, as they are and as the proxy writes them on.
var messages = map[string]struct{ request, answer string }{
	"GET with an answer of 1 KiB": {
		"GET /items/1?q=2 HTTP/1.1\r\n" + someFields + "\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024),
	},
	"POST of 1 KiB, answered in chunks": {
		"POST /items HTTP/1.1\r\n" + someFields + "Content-Length: 1024\r\n\r\n" + strings.Repeat("y", 1023) + "\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + strings.Repeat("x", 1024) + "\r\n0\r\n\r\n",
	},
}

// pingPong sends requests on one connection and reads their answers.
type pingPong struct {
	conn    net.Conn
	request []byte
	answer  []byte
	got     []byte
}

func newPingPong(tb testing.TB, at netip.AddrPort, request, answer string) *pingPong {
	tb.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return &pingPong{conn, []byte(request), []byte(answer), make([]byte, 64<<10)}
}

func (p *pingPong) exchange(tb testing.TB) {
	tb.Helper()
	if _, err := p.conn.Write(p.request); err != nil {
		tb.Fatal(err)
	}
	for n := 0; n < len(p.answer); {
		more, err := p.conn.Read(p.got[n:])
		if n += more; err != nil {
			tb.Fatal(err, string(p.got[:n]))
		}
		if n >= len(p.answer) && !bytes.Equal(p.got[:n], p.answer) {
			tb.Fatalf("got %q", p.got[:n])
		}
	}
}

func TestAWarmRequestOfHTTP1AllocatesNothing(t *testing.T) {
	for name, m := range messages {
		for _, inbound := range []bool{false, true} {
			t.Run(map[bool]string{false: "outbound, ", true: "inbound, "}[inbound]+name, func(t *testing.T) {
				end := m.request[len(m.request)-4:]
				p := newPingPong(t, plainProxy(t, inbound, plainServer(t, end, m.answer)), m.request, m.answer)
				for range 100 {
					p.exchange(t)
				}
				if n := testing.AllocsPerRun(1000, func() { p.exchange(t) }); n > 0 {
					t.Errorf("%v allocations per request", n)
				}
			})
		}
	}
}

// guardedProxy is plainProxy outbound with everything that a profile can say and that makes no new text.
func guardedProxy(tb testing.TB, app netip.AddrPort) netip.AddrPort {
	tb.Helper()
	p := start(tb, testpki.NewAuthority(tb), shop, false, settings{observer: telemetry.New(telemetry.Options{})})
	p.traffic(asHTTP, func(r *meshconfig.Routes) {
		r.Ports[0].Routes = []*meshconfig.Route{{
			Name: "items", RequestTimeout: 60_000, TryTimeout: 60_000, IdleTimeout: 60_000,
			Retry: retry(3, func(r *meshconfig.Retry) { r.Codes, r.BackoffBase, r.BackoffMax = []uint32{503}, 25, 250 }),
		}}
		r.Clusters = []*meshconfig.Cluster{{
			Service:   cart,
			Balancing: &meshconfig.Balancing{Policy: meshconfig.BalancingPolicy_BALANCING_POLICY_PEAK_EWMA},
			Breaker:   &meshconfig.Breaker{MaxConnections: 10, MaxPending: 10, MaxRequests: 10, EndpointMaxRequests: 10, Adaptive: true},
		}}
	}, 1)
	p.endpoints(cart, identity.ID{}, app)
	return p.listen(netip.AddrPortFrom(cartIP, 80))
}

func TestAWarmRequestThatIsGuardedAllocatesNothing(t *testing.T) {
	for name, m := range messages {
		t.Run(name, func(t *testing.T) {
			p := newPingPong(t, guardedProxy(t, plainServer(t, m.request[len(m.request)-4:], m.answer)), m.request, m.answer)
			for range 100 {
				p.exchange(t)
			}
			if n := testing.AllocsPerRun(1000, func() { p.exchange(t) }); n > 0 {
				t.Errorf("%v allocations per request", n)
			}
		})
	}
}

func BenchmarkGuardedHTTP1(b *testing.B) {
	m := messages["GET with an answer of 1 KiB"]
	p := newPingPong(b, guardedProxy(b, plainServer(b, "\r\n\r\n", m.answer)), m.request, m.answer)
	b.ReportAllocs()
	for b.Loop() {
		p.exchange(b)
	}
}

func BenchmarkHTTP1(b *testing.B) {
	m := messages["GET with an answer of 1 KiB"]
	for _, inbound := range []bool{false, true} {
		b.Run(map[bool]string{false: "outbound", true: "inbound"}[inbound], func(b *testing.B) {
			at := plainProxy(b, inbound, plainServer(b, "\r\n\r\n", m.answer))
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(loop *testing.PB) {
				p := newPingPong(b, at, m.request, m.answer)
				for loop.Next() {
					p.exchange(b)
				}
			})
		})
	}
}
