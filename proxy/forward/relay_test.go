// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
	"github.com/heddle-mesh/heddle/proxy/table"
)

// ways are the ways on which bytes pass: through a client-side proxy alone, a server-side one alone, both with mTLS
// between them, and both without.
func ways(t *testing.T, app netip.AddrPort, s settings) map[string]netip.AddrPort {
	t.Helper()
	meshed := newPair(t, asTCP, app, s)
	plain := newPair(t, asTCP, app, s)
	plain.server.policyOf(&meshconfig.PortPolicy{Mtls: disabled, DefaultAction: allow, Protocol: asTCP})
	plain.client.endpoints(cart, identity.ID{}, plain.inside)
	alone := newPair(t, asTCP, app, s)
	alone.client.endpoints(cart, identity.ID{}, app)
	return map[string]netip.AddrPort{
		"the client side alone": alone.at, "the server side alone": plain.inside, "both, with mTLS": meshed.at, "both, in plaintext": plain.at,
	}
}

// A reset on one side is a reset on the other, however many proxies are between; a good end is a good end.
func TestHowAConnectionEnds(t *testing.T) {
	ended := make(chan error, 1)
	held := make(chan net.Conn, 1)
	app := accept(t, func(c net.Conn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		if first[0] == 'h' {
			c.Write(first)
			held <- c
		}
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	for way, at := range ways(t, app, settings{}) {
		t.Run(way+", the caller resets", func(t *testing.T) {
			conn := dial(t, nil, at.String())
			io.WriteString(conn, "h")
			io.ReadFull(conn, make([]byte, 1))
			<-held
			socket.Reset(conn)
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server sees %v", err)
			}
		})
		t.Run(way+", the server resets", func(t *testing.T) {
			conn := dial(t, nil, at.String())
			io.WriteString(conn, "h")
			io.ReadFull(conn, make([]byte, 1))
			socket.Reset(<-held)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the caller sees %v", err)
			}
			<-ended
		})
		t.Run(way+", the caller ends", func(t *testing.T) {
			conn := dial(t, nil, at.String())
			io.WriteString(conn, "x")
			conn.CloseWrite()
			if err := <-ended; err != nil {
				t.Errorf("the server sees %v", err)
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the caller sees %v", err)
			}
		})
	}
}

// Each direction ends by itself: a server's answer goes on after the request has ended, and the other way round.
func TestHalfClose(t *testing.T) {
	const size = 300_000
	asked, read := make(chan int, 1), make(chan int, 1)
	app := accept(t, func(c net.Conn) {
		first := make([]byte, 1)
		io.ReadFull(c, first)
		if first[0] == 's' { // the server ends first
			c.(*net.TCPConn).CloseWrite()
			all, _ := io.ReadAll(c)
			read <- len(all)
			return
		}
		all, _ := io.ReadAll(c)
		asked <- len(all)
		io.WriteString(c, strings.Repeat("x", size))
	})
	for way, at := range ways(t, app, settings{}) {
		t.Run(way, func(t *testing.T) {
			conn := dial(t, nil, at.String())
			io.WriteString(conn, "c"+strings.Repeat("x", size))
			conn.CloseWrite()
			if n := <-asked; n != size {
				t.Errorf("the server got %d bytes", n)
			}
			if got, err := io.ReadAll(conn); len(got) != size || err != nil {
				t.Errorf("the caller got %d bytes, %v", len(got), err)
			}

			conn = dial(t, nil, at.String())
			io.WriteString(conn, "s")
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the caller sees %v", err)
			}
			io.WriteString(conn, strings.Repeat("x", size))
			conn.CloseWrite()
			if n := <-read; n != size {
				t.Errorf("the server got %d bytes after it had ended", n)
			}
		})
	}
}

// What is cut because the proxy ends, or a policy changes, must not look as if it had ended in good order.
func TestWhatIsCutLooksCut(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.Copy(c, c) })
	for name, cut := range map[string]func(*pair){
		"the client side ends": func(p *pair) { go p.client.server.Shutdown(canceled(t)) },
		"the server side ends": func(p *pair) { go p.server.server.Shutdown(canceled(t)) },
		"a policy denies it":   func(p *pair) { p.server.policy(strict, deny) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, asTCP, app, settings{})
			conn := dial(t, p.client, p.at.String())
			io.WriteString(conn, "x")
			io.ReadFull(conn, make([]byte, 1))
			cut(p)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the caller sees %v", err)
			}
		})
	}
}

func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// Once a server has spoken first on a port that nobody declared, callers that are silent are not waited for. A change of
// config forgets that.
func TestAServerThatSpokeFirstIsRemembered(t *testing.T) {
	greeting := accept(t, func(c net.Conn) {
		io.WriteString(c, "220 ready\r\n")
		io.Copy(io.Discard, c)
	})
	port := func(p *pair) *table.Port {
		d, err := p.client.tables.Lookup(t.Context(), netip.AddrPortFrom(cartIP, 80))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Release()
		return d.Port()
	}
	greeted := func(p *pair) {
		t.Helper()
		line := make([]byte, 11)
		if _, err := io.ReadFull(dial(t, p.client, p.at.String()), line); err != nil || string(line) != "220 ready\r\n" {
			t.Errorf("got %q, %v", line, err)
		}
	}
	p := newPair(t, undeclared, greeting, settings{limits: limits.Set{Grace: time.Millisecond}})
	greeted(p)
	policy := func(p *pair) *table.PortPolicy { return p.server.tables.Inbound(greeting.Port()) }
	if !port(p).ServerFirst.Load() || !policy(p).ServerFirst.Load() {
		t.Error("it is not remembered")
	}

	patient := newPair(t, undeclared, greeting, settings{limits: limits.Set{Grace: time.Hour}})
	port(patient).ServerFirst.Store(true)
	policy(patient).ServerFirst.Store(true)
	greeted(patient) // nobody waited an hour
	patient.client.service(undeclared, func(p *meshconfig.ServicePort) { p.Backends[0].Weight = 2 }, 1)
	if port(patient).ServerFirst.Load() {
		t.Error("a change of the port's config does not forget it")
	}

	// A caller that speaks HTTP is carried as such all the same, and makes it forgotten.
	web := newPair(t, undeclared, httpApp(t, ok), settings{limits: limits.Set{Grace: time.Hour}})
	port(web).ServerFirst.Store(true)
	call{}.status(t, clientOf(t, web.at, false), 200)
	web.client.events.wait(t, "of a request", func(e observe.Event) bool { return e.Status == 200 })
	if port(web).ServerFirst.Load() {
		t.Error("it is still remembered")
	}
}

// TLS of the application's own goes to the Service that was dialled, whomever it names; the log has the name.
func TestWhomTLSIsFor(t *testing.T) {
	for name, protocol := range map[string]meshconfig.Protocol{"declared": meshconfig.Protocol_PROTOCOL_TLS, "undeclared": undeclared} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, protocol, netip.AddrPort{}, settings{})
			certificate := p.ca.Issue(t, shop, time.Now().Add(time.Hour))
			app := accept(t, func(c net.Conn) {
				secured := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12})
				io.Copy(secured, secured)
				secured.Close()
			})
			p.client.endpoints(cart, shop, p.server.listen(app))
			conn := tls.Client(dial(t, p.client, p.at.String()), &tls.Config{
				InsecureSkipVerify: true, ServerName: "pay.example", MinVersion: tls.VersionTLS12, //nolint:gosec // it is not under test
			})
			io.WriteString(conn, "hello")
			if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
				t.Error(err)
			}
			conn.Close()
			p.client.events.wait(t, "of TLS", func(e observe.Event) bool { return e.Protocol == "tls" && e.ServerName == "pay.example" })
		})
	}
}

// What only begins like TLS passes as bytes.
func TestBytesThatBeginLikeTLS(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.Copy(c, c) })
	for name, sent := range map[string]string{
		"a ClientHello without anything": "\x16\x03\x01\x00\x04\x01\x00\x00\x00",
		"a broken one":                   "\x16\x03\x01\x00\x08\x01\x00\x00\x04\xff\xff\xff\xff",
		"another handshake message":      "\x16\x03\x01\x00\x04\x02\x00\x00\x00",
		"half a header":                  "\x16\x03",
		"one that is too large":          "\x16\x03\x01\x10\x00\x01\x00\xff\xff" + strings.Repeat("x", 70_000),
	} {
		for declared, protocol := range map[string]meshconfig.Protocol{"declared": meshconfig.Protocol_PROTOCOL_TLS, "undeclared": undeclared} {
			t.Run(name+", "+declared, func(t *testing.T) {
				p := newPair(t, protocol, app, settings{})
				conn := dial(t, p.client, p.at.String())
				go io.WriteString(conn, sent)
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != sent {
					t.Errorf("%d bytes came back, %v", len(got), err)
				}
			})
		}
	}
}

// A rule about requests is never dropped because the bytes are none: it does not allow them, and it denies them.
func TestRulesAboutRequestsOnOtherBytes(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.Copy(c, c) })
	for name, c := range map[string]struct {
		action meshconfig.Action
		rule   *meshconfig.AuthorizationRule
		want   string // the rule that decided; empty: it passes
	}{
		"methods that are allowed":           {deny, rule("shop/cart/get", allow, web, []string{"GET"}, nil), evaluate.DefaultRule},
		"paths that are allowed":             {deny, rule("shop/cart/x", allow, web, nil, []string{"/x"}), evaluate.DefaultRule},
		"methods that are denied":            {allow, rule("shop/cart/no-post", deny, web, []string{"POST"}, nil), "shop/cart/no-post"},
		"paths that are denied":              {allow, rule("shop/cart/no-x", deny, web, nil, []string{"/x"}), "shop/cart/no-x"},
		"the caller alone":                   {deny, rule("shop/cart/web", allow, web, nil, nil), ""},
		"another caller's paths are denied":  {allow, rule("shop/cart/no-x", deny, shop, nil, []string{"/x"}), ""},
		"another caller's paths are allowed": {deny, rule("shop/cart/x", allow, shop, nil, []string{"/x"}), evaluate.DefaultRule},
	} {
		for declared, protocol := range map[string]meshconfig.Protocol{"declared TCP": asTCP, "undeclared": undeclared, "declared TLS": meshconfig.Protocol_PROTOCOL_TLS} {
			t.Run(name+", "+declared, func(t *testing.T) {
				p := newPair(t, protocol, app, settings{})
				p.server.policyOf(&meshconfig.PortPolicy{
					Mtls: strict, DefaultAction: c.action, Protocol: protocol, Rules: []*meshconfig.AuthorizationRule{c.rule},
				})
				if c.want == "" {
					conn := dial(t, p.client, p.at.String())
					io.WriteString(conn, "\x00bytes")
					if _, err := io.ReadFull(conn, make([]byte, 6)); err != nil {
						t.Error(err)
					}
					return
				}
				if got, err := spoken(t, p.at, "\x00bytes"); err == nil || got != "" {
					t.Errorf("it passed: got %q", got)
				}
				p.server.events.wait(t, "of the refusal", func(e observe.Event) bool {
					return e.Reason == refusal.Denied && e.Rule == c.want && e.Protocol == "tcp"
				})
			})
		}
	}
}
