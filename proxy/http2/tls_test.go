// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/heddle-mesh/heddle/proxy/socket"
)

// The same between net/http's client and server when both hops are TLS, of crypto/tls and of the proxy.
func TestRelaysOverTLS(t *testing.T) {
	type secure interface {
		net.Conn
		Handshake() error
	}
	for name, wrap := range map[string]struct {
		client, server func(net.Conn, *tls.Config) secure
	}{
		"crypto/tls": {
			func(c net.Conn, cfg *tls.Config) secure { return tls.Client(c, cfg) },
			func(c net.Conn, cfg *tls.Config) secure { return tls.Server(c, cfg) },
		},
		"socket": {
			func(c net.Conn, cfg *tls.Config) secure { return socket.Client(c, cfg, nil) },
			func(c net.Conn, cfg *tls.Config) secure { return socket.Server(c, cfg, nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := httptest.NewUnstartedServer(http.HandlerFunc(echo))
			endpoint.EnableHTTP2 = true
			endpoint.StartTLS()
			t.Cleanup(endpoint.Close)
			trust := endpoint.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs

			ask := &tls.Config{RootCAs: trust, ServerName: "example.com", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
			changed := make(chan struct{}, 100)
			dialled := wrap.client(dial(t, endpoint.Listener.Addr().String()), ask)
			if err := dialled.Handshake(); err != nil {
				t.Fatal(err)
			}
			up := Client(dialled, &Config{}, func(*Conn) { changed <- struct{}{} })
			serve(t, up)
			for up.Room() == 0 {
				<-changed
			}
			show := &tls.Config{Certificates: endpoint.TLS.Certificates, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
			address := listen(t, func(c net.Conn) {
				taken := wrap.server(c, show)
				if err := taken.Handshake(); err != nil {
					t.Error(err)
				}
				serve(t, Server(taken, &Config{}, relayTo(up)))
			})

			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, ServerName: "example.com"}, ForceAttemptHTTP2: true}
			t.Cleanup(transport.CloseIdleConnections)
			c := &http.Client{Transport: transport}
			var all sync.WaitGroup
			for i := range 4 {
				all.Go(func() {
					sent := contentOf(300_000 + i)
					answer, err := c.Post("https://"+address, "", bytes.NewReader(sent))
					if err != nil {
						t.Error(err)
						return
					}
					defer answer.Body.Close()
					sum := sha256.New()
					n, err := io.Copy(sum, answer.Body)
					if want := sha256.Sum256(sent); err != nil || answer.ProtoMajor != 2 || !bytes.Equal(sum.Sum(nil), want[:]) {
						t.Errorf("%d bytes of %d came back: %v", n, len(sent), err)
					}
				})
			}
			all.Wait()
			// The reader is made to look up, and goes on.
			up.mu.Lock()
			up.poke()
			up.mu.Unlock()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address, nil)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, c, r, http.StatusOK, "")
		})
	}
}
