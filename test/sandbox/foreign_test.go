// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// certificate has `heddle sandbox cert` issue one.
func certificate(t *testing.T, pki, identity string) tls.Certificate {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "cert")
	out, err := exec.Command(filepath.Join(binaries, "heddle"), "sandbox", "cert", "--pki", pki, "--identity", identity, "--out", prefix).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pair, err := tls.LoadX509KeyPair(prefix+".pem", prefix+".key")
	check(t, err)
	return pair
}

func roots(t *testing.T, pki string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
	check(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("ca.pem holds no certificate")
	}
	return pool
}

// foreign is a transport that speaks TLS as a client which knows nothing of the mesh.
func foreign(pair *tls.Certificate, pool *x509.CertPool, h2 bool, alpn ...string) *http.Transport {
	config := &tls.Config{
		InsecureSkipVerify: true, // its name is a URI, which Go does not compare; the chain is judged below
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
			return err
		},
		NextProtos: alpn,
	}
	if pair != nil {
		config.Certificates = []tls.Certificate{*pair}
	}
	t := &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!h2)
	t.Protocols.SetHTTP2(h2)
	return t
}

func TestAForeignClientTakesTheServerSide(t *testing.T) {
	f, pki := newFiles(t), t.TempDir()
	declared, detected := application(t, "declared", "127.0.0.11"), application(t, "detected", "127.0.0.12")
	f.service("cart", "http1", declared)
	f.service("depot", "x", detected)
	front := certificate(t, pki, "spiffe://cluster.local/ns/web/sa/front")
	s := start(t, "-f", f.dir, "--inbound-only", "--pki", pki)
	pool := roots(t, pki)
	// HTTP/2 reaches an application that is declared to speak HTTP/1.1 as that.
	spoken := map[string]string{declared: " HTTP/1.1", detected: " HTTP/2.0"}
	for endpoint, name := range map[string]string{declared: "declared", detected: "detected"} {
		url := "https://" + s.server(endpoint) + "/"
		const who = " URI=spiffe://cluster.local/ns/web/sa/front"
		for what, c := range map[string]struct {
			transport *http.Transport
			want      string
		}{
			"http/1.1": {foreign(&front, pool, false, "http/1.1"), name + " HTTP/1.1" + who},
			"h2":       {foreign(&front, pool, true, "h2"), name + spoken[endpoint] + who},
			"no ALPN":  {foreign(&front, pool, false), name + " HTTP/1.1" + who},
		} {
			if status, body := get(c.transport, url); status != http.StatusOK || body != c.want {
				t.Errorf("%s, %s: %d %q", name, what, status, body)
			}
		}
		stranger := certificate(t, t.TempDir(), "web/front")
		for what, pair := range map[string]*tls.Certificate{"no certificate": nil, "another CA's": &stranger} {
			if status, body := get(foreign(pair, pool, false, "http/1.1"), url); status != 0 {
				t.Errorf("%s, %s: %d %q", name, what, status, body)
			}
		}
	}
	if strings.Contains(s.output(), "client ") {
		t.Error("there is a client side")
	}
}

func TestAForeignServerTakesTheClientSide(t *testing.T) {
	f, pki := newFiles(t), t.TempDir()
	pair := certificate(t, pki, "shop/cart")
	pool := roots(t, pki)
	server := func(pair tls.Certificate, ip string, alpn ...string) string {
		l, err := net.Listen("tcp", ip+":0")
		check(t, err)
		server := &http.Server{Protocols: new(http.Protocols), TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: alpn,
		}}
		server.Protocols.SetHTTP1(alpn[0] != "h2")
		server.Protocols.SetHTTP2(alpn[0] == "h2")
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(r.Proto + " " + r.TLS.PeerCertificates[0].URIs[0].String()))
		})
		serve(t, l, server)
		return l.Addr().String()
	}
	f.service("cart", "http", server(pair, "127.0.0.11", "http/1.1"))
	f.service("depot", "http2", server(certificate(t, pki, "shop/depot"), "127.0.0.12", "h2"))
	f.service("imposter", "http", server(pair, "127.0.0.13", "http/1.1"))
	s := start(t, "-f", f.dir, "--outbound-only", "--pki", pki, "--caller", "cart=web/front", "--caller", "depot=web/front")
	if status, body := get(&http.Transport{}, "http://"+s.client("cart.shop:80")); status != http.StatusOK || body != "HTTP/1.1 spiffe://cluster.local/ns/web/sa/front" {
		t.Errorf("http/1.1: %d %q", status, body)
	}
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	if status, body := get(h2, "http://"+s.client("depot.shop:80")); status != http.StatusOK || body != "HTTP/2.0 spiffe://cluster.local/ns/web/sa/front" {
		t.Errorf("h2: %d %q", status, body)
	}
	if status, body := get(&http.Transport{}, "http://"+s.client("imposter.shop:80")); status != http.StatusServiceUnavailable && status != http.StatusBadGateway || !strings.Contains(body, "peer_identity") {
		t.Errorf("a server with another's certificate: %d %q", status, body)
	}
	if strings.Contains(s.output(), "server ") {
		t.Error("there is a server side")
	}
}

func TestTheServerSideInClear(t *testing.T) {
	f := newFiles(t)
	endpoint := application(t, "cart", "127.0.0.11")
	f.service("cart", "http", endpoint)
	f.write("policy.yaml", policy("{targetRef: {kind: Namespace}, mtls: {mode: Disabled}}"))
	s := start(t, "-f", f.dir)
	awaitAnswer(t, s.server(endpoint), http.StatusOK, "cart HTTP/1.1 ")
	awaitAnswer(t, s.client("cart.shop:80"), http.StatusOK, "cart HTTP/1.1 ")
	f.write("policy.yaml", policy("{targetRef: {kind: Namespace}, mtls: {mode: Strict}}"))
	awaitAnswer(t, s.server(endpoint), http.StatusForbidden, "plaintext_refused")
	awaitAnswer(t, s.client("cart.shop:80"), http.StatusOK, "cart HTTP/1.1 URI=")
}

func TestTheAddressesThatWereAskedFor(t *testing.T) {
	f := newFiles(t)
	endpoint := application(t, "cart", "127.0.0.11")
	f.service("cart", "http", endpoint)
	client, server, clientAdmin, serverAdmin := listenAt(t), listenAt(t), listenAt(t), listenAt(t)
	s := start(t, "-f", f.dir, "--listen", "cart.shop:http="+client, "--inbound", endpoint+"="+server,
		"--admin", "cart="+clientAdmin, "--admin", endpoint+"="+serverAdmin)
	if got := s.client("cart.shop:80"); got != client {
		t.Errorf("the client side listens at %s", got)
	}
	if got := s.server(endpoint); got != server {
		t.Errorf("the server side listens at %s", got)
	}
	awaitAnswer(t, client, http.StatusOK, "cart")
	for _, admin := range []string{clientAdmin, serverAdmin} {
		if status, body := get(&http.Transport{}, "http://"+admin+"/ready"); status != http.StatusOK {
			t.Errorf("%s: %d %q", admin, status, body)
		}
	}
}
