// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// rule allows or denies a caller some methods and paths.
func rule(name string, action meshconfig.Action, id identity.ID, methods, paths []string) *meshconfig.AuthorizationRule {
	r := &meshconfig.AuthorizationRule{
		Name: name, Action: action, From: []*meshconfig.Caller{{Identities: []string{id.String()}}},
	}
	if methods != nil || paths != nil {
		r.To = []*meshconfig.Operation{{Methods: methods, Paths: paths}}
	}
	return r
}

func ok(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, "as "+r.Header.Get("X-Forwarded-Client-Cert"))
}

func TestARequestThatAPolicyDenies(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, httpApp(t, ok), settings{})
		p.server.policy(strict, deny,
			rule("shop/cart/read", allow, web, []string{"GET"}, []string{"/public/*"}),
			rule("shop/cart/secret", deny, web, nil, []string{"/public/secret"}))
		client := clientOf(t, p.at, v.http2)
		if got := (call{path: "/public/x"}).status(t, client, 200); got != "as URI="+web.String() {
			t.Errorf("the application saw %q", got)
		}
		for path, want := range map[string]string{
			"/public/secret": "shop/cart/secret", "/public/a/../secret": "shop/cart/secret",
			"/public/%73ecret": "shop/cart/secret", "/private": "default",
		} {
			response, body := call{path: path}.do(t, client)
			if response.StatusCode != http.StatusForbidden || response.Header.Get("heddle-reason") != "denied" ||
				!strings.Contains(body, "rule: "+want+"\n") || !strings.Contains(body, web.String()) {
				t.Errorf("%s: status %d, header %v, body %q", path, response.StatusCode, response.Header, body)
			}
			p.server.events.wait(t, "of the denial by "+want, func(e observe.Event) bool {
				return e.Reason == refusal.Denied && e.Rule == want && *e.Peer == web && e.Status == 403
			})
		}
		call{method: "POST", path: "/public/x"}.status(t, client, 403)
	})
}

// foreignCall calls the server-side proxy without a proxy of its own.
func foreignCall(t *testing.T, p *pair, http2 bool) (*http.Response, string) {
	t.Helper()
	return call{path: "/"}.do(t, clientOf(t, p.inside, http2))
}

func TestPlaintextCallers(t *testing.T) {
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		var shift atomic.Int64
		clock := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
		p := newPair(t, undeclared, httpApp(t, ok), settings{clock: clock})
		response, body := foreignCall(t, p, v.http2)
		if response.StatusCode != http.StatusForbidden || response.Header.Get("heddle-reason") != "plaintext_refused" || !strings.Contains(body, "mtls") {
			t.Errorf("strict: status %d, header %v, body %q", response.StatusCode, response.Header, body)
		}
		p.server.events.wait(t, "of the refusal", func(e observe.Event) bool {
			return e.Reason == refusal.PlaintextRefused && !e.MTLS && e.Peer == nil
		})
		until := time.Now().Add(time.Hour)
		for _, policy := range []*meshconfig.PortPolicy{
			{Mtls: permissive, DefaultAction: allow, PermissiveUntil: until.UnixMilli()},
			{Mtls: permissive, DefaultAction: allow},
			{Mtls: disabled, DefaultAction: allow},
		} {
			p.server.policyOf(policy)
			if response, body := foreignCall(t, p, v.http2); response.StatusCode != http.StatusOK || body != "as " {
				t.Errorf("%v: plaintext gave %d %q", policy.GetMtls(), response.StatusCode, body)
			}
			// In every mode mTLS is taken.
			if got := (call{path: "/"}).status(t, clientOf(t, p.at, v.http2), 200); got != "as URI="+web.String() {
				t.Errorf("%v: mTLS gave %q", policy.GetMtls(), got)
			}
			if policy.GetPermissiveUntil() != 0 {
				shift.Store(int64(2 * time.Hour)) // leaves have expired too, but the plaintext caller has none
				if response, _ := foreignCall(t, p, v.http2); response.StatusCode != http.StatusForbidden {
					t.Errorf("after the end of permissive: plaintext gave %d", response.StatusCode)
				}
				shift.Store(0)
			}
		}
	})
}

func TestPlaintextThatIsNotHTTP(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.WriteString(c, "220 hello\r\n"); io.Copy(c, c) })
	p := newPair(t, asTCP, app, settings{})
	conn := dial(t, p.server, p.inside.String())
	io.WriteString(conn, "\x00\x01\x02")
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("strict: got %q", got)
	}
	p.server.events.wait(t, "of the refusal", func(e observe.Event) bool { return e.Reason == refusal.PlaintextRefused })

	p.server.policyOf(&meshconfig.PortPolicy{Mtls: permissive, DefaultAction: allow, Protocol: asTCP})
	conn = dial(t, p.server, p.inside.String())
	greeting := make([]byte, 11)
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "220 hello\r\n" {
		t.Errorf("permissive: the server's first word is %q, %v", greeting, err)
	}
}

// A caller that has not spoken yet is not yet one without identity.
func TestAMeshCallerThatIsLate(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.Copy(c, c) })
	for name, protocol := range map[string]meshconfig.Protocol{"declared": asTCP, "undeclared": undeclared} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, protocol, app, settings{limits: limits.Set{Grace: time.Nanosecond}}) // everybody is late
			for _, mode := range []meshconfig.MTLSMode{permissive, disabled} {
				p.server.policyOf(&meshconfig.PortPolicy{
					Mtls: mode, DefaultAction: deny, Protocol: protocol,
					Rules: []*meshconfig.AuthorizationRule{rule("shop/cart/web", allow, web, nil, nil)},
				})
				for range 5 {
					conn := dial(t, p.client, p.at.String())
					io.WriteString(conn, "\x00")
					if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
						t.Errorf("%v: %v", mode, err)
					}
				}
			}
		})
	}
}

func TestWhoTheServerTakes(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, ok), settings{})
	other := testpki.NewAuthority(t)
	abroad := web
	abroad.TrustDomain = "other.example"
	cases := map[string]*tls.Certificate{
		"of another CA":           other.Issue(t, web, time.Now().Add(time.Hour)),
		"of another trust domain": p.ca.Issue(t, abroad, time.Now().Add(time.Hour)),
		"that has expired":        p.ca.Issue(t, web, time.Now().Add(-time.Second)),
		"none":                    {},
	}
	for name, certificate := range cases {
		t.Run(name, func(t *testing.T) {
			conn := tls.Client(dial(t, p.server, p.inside.String()), &tls.Config{
				InsecureSkipVerify: true, NextProtos: []string{upstream.ALPNHTTP1}, MinVersion: tls.VersionTLS13, //nolint:gosec // the server is not under test
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil },
			})
			err := conn.HandshakeContext(t.Context())
			if err == nil {
				io.WriteString(conn, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
				_, err = conn.Read(make([]byte, 1))
			}
			if err == nil || !strings.Contains(err.Error(), "remote error: tls") {
				t.Errorf("error %v, want an alert", err)
			}
		})
	}
	eventually(t, "all are reported", func() bool { return len(p.server.events.All()) == len(cases) })
	for _, e := range p.server.events.All() {
		if e.Reason != refusal.TLSFailed {
			t.Errorf("event %+v", e)
		}
	}
}

func TestWhomTheClientTakes(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, ok), settings{})
	client := clientOf(t, p.at, false)
	p.client.endpoints(cart, testpki.Identity("shop", "other"), p.inside)
	response, body := call{}.do(t, client)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("heddle-reason") != "peer_identity" {
		t.Errorf("another identity: status %d, header %v, body %q", response.StatusCode, response.Header, body)
	}
	p.server.credentials.SetCertificate(testpki.NewAuthority(t).Issue(t, shop, time.Now().Add(time.Hour)))
	p.client.endpoints(cart, shop, p.inside)
	response, body = call{}.do(t, client)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("heddle-reason") != "peer_identity" {
		t.Errorf("another CA: status %d, header %v, body %q", response.StatusCode, response.Header, body)
	}
	p.server.credentials.SetCertificate(p.ca.Issue(t, shop, time.Now().Add(time.Hour)))
	call{}.status(t, client, 200)
}

func TestBeforeAnyPolicyHasCome(t *testing.T) {
	in := start(t, testpki.NewAuthority(t), shop, true, settings{})
	at := in.listen(netip.MustParseAddrPort("127.0.0.1:1"))
	response, _ := call{}.do(t, clientOf(t, at, false))
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("heddle-reason") != "not_ready" {
		t.Errorf("status %d, header %v", response.StatusCode, response.Header)
	}
}

func TestAChangedPolicyCutsWhatItDeniesAlone(t *testing.T) {
	started := make(chan string, 10)
	app := httpApp(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		started <- r.URL.Path
		<-r.Context().Done()
	})
	bothVersions(t, func(t *testing.T, v versions) {
		t.Helper()
		p := newPair(t, v.declared, app, settings{})
		open := func(path string) io.ReadCloser {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://cart"+path, nil)
			response, err := clientOf(t, p.at, v.http2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			<-started
			return response.Body
		}
		kept, cut := open("/kept"), open("/cut")
		defer kept.Close()
		p.server.policy(strict, allow, rule("shop/cart/cut", deny, web, nil, []string{"/cut"}))
		if _, err := io.ReadAll(cut); err == nil {
			t.Error("what is denied came to a good end")
		}
		p.server.events.wait(t, "of the cut", func(e observe.Event) bool {
			return e.Path == "/cut" && e.Reason == refusal.PolicyChanged && e.Rule == "shop/cart/cut"
		})
		for _, e := range p.server.events.All() {
			if e.Path == "/kept" {
				t.Errorf("what is allowed was cut: %+v", e)
			}
		}
	})
}

func TestAChangedPolicyCutsConnections(t *testing.T) {
	app := accept(t, func(c net.Conn) { io.Copy(c, c) })
	p := newPair(t, asTCP, app, settings{})
	p.server.policyOf(&meshconfig.PortPolicy{Mtls: permissive, DefaultAction: allow, Protocol: asTCP})
	meshed, plain := dial(t, p.client, p.at.String()), dial(t, p.server, p.inside.String())
	echo := func(c net.Conn) error {
		io.WriteString(c, "x")
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	for _, c := range []net.Conn{meshed, plain} {
		if err := echo(c); err != nil {
			t.Fatal(err)
		}
	}
	p.server.policyOf(&meshconfig.PortPolicy{
		Mtls: permissive, DefaultAction: allow, Protocol: asTCP, PermissiveUntil: time.Now().Add(50 * time.Millisecond).UnixMilli(),
	})
	if _, err := plain.Read(make([]byte, 1)); err == nil { // until the date
		t.Error("plaintext went on after permissive had ended")
	}
	if err := echo(meshed); err != nil {
		t.Errorf("mTLS was cut as well: %v", err)
	}
	p.server.policyOf(&meshconfig.PortPolicy{Mtls: strict, DefaultAction: deny, Protocol: asTCP})
	if _, err := meshed.Read(make([]byte, 1)); err == nil {
		t.Error("what is denied went on")
	}
	if err := echo(dial(t, p.client, p.at.String())); err == nil {
		t.Error("what is denied came through")
	}
}

// What a server of HTTP/1.1 gets of an extended CONNECT is a GET, and that is what rules see.
func TestAnExtendedCONNECTIsJudgedAsAGET(t *testing.T) {
	p := newPair(t, asHTTP, httpApp(t, ok), settings{})
	p.server.policyOf(&meshconfig.PortPolicy{
		Mtls: strict, DefaultAction: allow, Protocol: asHTTP,
		Rules: []*meshconfig.AuthorizationRule{rule("shop/cart/no-get", deny, web, []string{"GET"}, []string{"/admin"})},
	})
	for protocol, want := range map[string]string{"websocket": "403", "anything": "403", "h2c": "400"} {
		caller := caller2(t, p.at)
		caller.ask(1, false, "CONNECT", "/admin", ":protocol", protocol)
		if f := caller.wantHead(); field(f, ":status") != want {
			t.Errorf("%s: %v, want status %s", protocol, f.Fields, want)
		}
	}
}

// A connection takes no request once the caller's leaf has expired, whatever it took before.
func TestNoRequestAfterTheCallersLeaf(t *testing.T) {
	var shift atomic.Int64
	p := newPair(t, asHTTP, httpApp(t, ok), settings{clock: func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }})
	certificate := p.ca.Issue(t, web, time.Now().Add(time.Hour))
	conn := tls.Client(dial(t, p.server, p.inside.String()), &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{upstream.ALPNHTTP1}, MinVersion: tls.VersionTLS13, //nolint:gosec // the server is not under test
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil },
	})
	answers := bufio.NewReader(conn)
	for i, want := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		if response.StatusCode != want || i == 1 && (response.Header.Get("heddle-reason") != "tls_failed" || !response.Close) {
			t.Errorf("request %d: status %d, header %v, want %d", i, response.StatusCode, response.Header, want)
		}
		shift.Store(int64(2 * time.Hour))
	}
}
