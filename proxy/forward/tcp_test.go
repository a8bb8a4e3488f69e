// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
)

// sum is a server that takes everything, then answers how much it was.
func sum(c net.Conn) {
	n, _ := io.Copy(io.Discard, c)
	io.WriteString(c, strings.Repeat("x", int(n))+"end")
}

func TestBytesAndHalfClose(t *testing.T) {
	for name, protocol := range map[string]meshconfig.Protocol{"declared": asTCP, "undeclared": undeclared} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, protocol, accept(t, sum), settings{})
			conn := dial(t, p.client, p.at.String())
			payload := make([]byte, 1<<20)
			rand.Read(payload)
			payload[0] = 0
			if _, err := conn.Write(payload); err != nil {
				t.Fatal(err)
			}
			conn.CloseWrite()
			got, err := io.ReadAll(conn)
			if err != nil || len(got) != len(payload)+3 {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			for _, side := range []*proxy{p.client, p.server} {
				e := side.events.wait(t, "of the connection", func(observe.Event) bool { return true })
				if e.BytesIn != 1<<20 || e.BytesOut != 1<<20+3 || e.Protocol != "tcp" || !e.MTLS || e.Class() != "ok" {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

// A server that speaks first must not wait for anything, declared or not.
func TestAServerThatSpeaksFirst(t *testing.T) {
	app := accept(t, func(c net.Conn) {
		io.WriteString(c, "220 ready\r\n")
		line := make([]byte, 6)
		io.ReadFull(c, line)
		c.Write(line)
	})
	for name, protocol := range map[string]meshconfig.Protocol{"declared": asTCP, "undeclared": undeclared} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, protocol, app, settings{limits: limits.Set{Grace: 5 * time.Millisecond}})
			start := time.Now()
			conn := dial(t, p.client, p.at.String())
			line := make([]byte, 11)
			if _, err := io.ReadFull(conn, line); err != nil || string(line) != "220 ready\r\n" {
				t.Fatalf("first line %q, %v", line, err)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
			io.WriteString(conn, "QUIT\r\n")
			if rest, err := io.ReadAll(conn); string(rest) != "QUIT\r\n" || err != nil {
				t.Errorf("rest %q, %v", rest, err)
			}
		})
	}
}

// On a port that nobody declared a caller may take its time and is carried as HTTP all the same.
func TestACallerOfAnUndeclaredPortThatSpeaksLate(t *testing.T) {
	app := httpApp(t, ok)
	p := newPair(t, undeclared, app, settings{limits: limits.Set{Grace: time.Millisecond}})
	p.server.policy(strict, deny, rule("shop/cart/get", allow, web, []string{"GET"}, nil))
	conn := dial(t, p.client, p.at.String())
	timer := time.NewTimer(50 * time.Millisecond)
	<-timer.C
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n")
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") {
		t.Errorf("got %q, %v", got, err)
	}
	p.client.events.wait(t, "of a request", func(e observe.Event) bool { return e.Method == http.MethodGet && e.Status == 200 })
	p.server.events.wait(t, "of a request", func(e observe.Event) bool { return e.Rule == "shop/cart/get" })
}

func TestTheApplicationsOwnTLSPasses(t *testing.T) {
	p := newPair(t, undeclared, netip.AddrPort{}, settings{})
	certificate := p.ca.Issue(t, shop, time.Now().Add(time.Hour))
	app := accept(t, func(c net.Conn) {
		secured := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12})
		io.WriteString(secured, "own TLS")
		secured.Close()
	})
	p.client.endpoints(cart, shop, p.server.listen(app))
	conn := tls.Client(dial(t, p.client, p.at.String()), &tls.Config{
		InsecureSkipVerify: true, ServerName: "cart", MinVersion: tls.VersionTLS12, //nolint:gosec // the certificate is looked at below
	})
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "own TLS" {
		t.Errorf("got %q, %v", got, err)
	}
	if leaf := conn.ConnectionState().PeerCertificates[0]; !leaf.Equal(certificate.Leaf) || leaf.PublicKeyAlgorithm != x509.ECDSA {
		t.Error("the certificate is not the application's own")
	}
}

func TestUnmeshedAndForeignDestinations(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, ok), settings{})
	plain := httpApp(t, ok)
	p.client.endpoints(cart, identity.ID{}, plain)
	if got := (call{}).status(t, clientOf(t, p.at, false), 200); got != "as " {
		t.Errorf("unmeshed: got %q", got)
	}
	p.client.events.wait(t, "in plaintext", func(e observe.Event) bool { return !e.MTLS && e.Peer == nil && e.Status == 200 })

	foreign := p.client.listen(plain) // loopback: none of the mesh's
	abroad := clientOf(t, foreign, false)
	if got := (call{}).status(t, abroad, 200); got != "as " {
		t.Errorf("foreign: got %q", got)
	}
	abroad.CloseIdleConnections()
	p.client.events.wait(t, "of a foreign connection", func(e observe.Event) bool {
		return e.Protocol == "tcp" && *e.Labels == (observe.Labels{}) && e.Endpoint == plain
	})

	unknown := p.client.listen(netip.MustParseAddrPort("10.9.9.9:80"))
	response, body := call{}.do(t, clientOf(t, unknown, false))
	if response.StatusCode != http.StatusBadGateway || response.Header.Get("heddle-reason") != "unknown_destination" || !strings.Contains(body, "10.9.9.9:80") {
		t.Errorf("unknown: status %d, header %v, body %q", response.StatusCode, response.Header, body)
	}
	conn := dial(t, p.client, unknown.String())
	io.WriteString(conn, "\x00\x00")
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("unknown, not HTTP: got %q", got)
	}
	p.client.events.wait(t, "of the refusal", func(e observe.Event) bool {
		return e.Reason == refusal.UnknownDestination && e.Protocol == "tcp"
	})
	gone := p.client.listen(netip.AddrPortFrom(cartIP, 81))
	call{}.status(t, clientOf(t, gone, false), 502)
}

// A Service of type ExternalName is a name for another in DNS: its callers dial that one's address.
func TestAnAliasIsTheServiceThatItNames(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, httpApp(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }), settings{})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://alias.other", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := clientOf(t, p.at, v.http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if got, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || string(got) != "alias.other" {
			t.Errorf("status %d, host %q", response.StatusCode, got)
		}
		p.client.events.wait(t, "of the service", func(e observe.Event) bool { return e.Labels.Service == cart && e.MTLS })
	})
}

func TestConnectionsThatSendNothing(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, ok), settings{limits: limits.Set{
		FirstByte: 30 * time.Millisecond, Idle: 30 * time.Millisecond,
		HeaderTime: 50 * time.Millisecond, Handshake: 50 * time.Millisecond,
	}})
	for _, c := range []struct {
		side   *proxy
		at     netip.AddrPort
		bytes  string
		reason refusal.Reason
	}{
		{p.client, p.at, "", refusal.NoFirstByte},
		{p.server, p.inside, "", refusal.NoFirstByte},
		{p.client, p.at, "GET / HTTP/1.1\r\nHost: c", refusal.BadRequest},
		{p.server, p.inside, "\x16\x03", refusal.PlaintextRefused},
		{p.server, p.inside, "\x16\x03\x01\x00", refusal.PlaintextRefused},
	} {
		before := len(c.side.events.All())
		conn := dial(t, c.side, c.at.String())
		io.WriteString(conn, c.bytes)
		if got, _ := io.ReadAll(conn); bytes.Contains(got, []byte("200 OK")) {
			t.Errorf("%q: got %q", c.bytes, got)
		}
		eventually(t, "it is reported", func() bool { return len(c.side.events.All()) > before })
		if e := c.side.events.All()[before]; e.Reason != c.reason {
			t.Errorf("%q: reason %s, want %s", c.bytes, e.Reason, c.reason)
		}
	}
}

func TestWeightsOfConnections(t *testing.T) {
	p := newPair(t, asTCP, netip.AddrPort{}, settings{})
	one := p.server.listen(accept(t, func(c net.Conn) { io.WriteString(c, "1") }))
	two := p.server.listen(accept(t, func(c net.Conn) { io.WriteString(c, "2") }))
	p.client.endpoints(cart, shop, one)
	p.client.endpoints(backend(1), shop, two)
	for weights, want := range map[[2]uint32]string{{1, 0}: "1", {0, 1}: "2"} {
		p.client.service(asTCP, nil, weights[0], weights[1])
		if got, _ := spoken(t, p.at, ""); got != want {
			t.Errorf("weights %v: got %q, want %q", weights, got, want)
		}
	}
	p.client.endpoints(cart, shop)
	p.client.service(asTCP, nil, 1)
	if got, _ := spoken(t, p.at, ""); got != "" {
		t.Errorf("no endpoints: got %q", got)
	}
	p.client.events.wait(t, "of no endpoints", func(e observe.Event) bool { return e.Reason == refusal.NoEndpoints })
}

// An end in good order would be that of a server which has nothing to say.
func TestAConnectionThatIsRefusedIsReset(t *testing.T) {
	hello := accept(t, func(c net.Conn) { io.WriteString(c, "hello") })
	for name, change := range map[string]func(p *pair){
		"without endpoints":            func(p *pair) { p.client.endpoints(cart, shop) },
		"nobody listens":               func(p *pair) { p.client.endpoints(cart, shop, nobody()) },
		"the application does not":     func(p *pair) { p.client.endpoints(cart, shop, p.server.listen(nobody())) },
		"a policy denies it":           func(p *pair) { p.server.policy(strict, deny) },
		"a rate limit has no token":    func(p *pair) { p.server.policyOf(spent()); spoken(p.T, p.at, "") },
		"nobody knows the service":     func(p *pair) { p.at = p.client.listen(netip.MustParseAddrPort("10.9.9.9:80")) },
		"it comes without an identity": func(p *pair) { p.at = p.inside },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, asTCP, hello, settings{})
			p.server.policyOf(&meshconfig.PortPolicy{Mtls: strict, DefaultAction: allow, Protocol: asTCP})
			change(p)
			if got, err := spoken(t, p.at, "\x00"); got != "" || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// spent is a policy with a rate limit for one connection.
func spent() *meshconfig.PortPolicy {
	return &meshconfig.PortPolicy{Mtls: strict, DefaultAction: allow, Protocol: asTCP, RateLimits: []*meshconfig.RateLimit{
		{Name: "shop/cart/few", Requests: 1, Interval: 3_600_000, Burst: 1},
	}}
}
