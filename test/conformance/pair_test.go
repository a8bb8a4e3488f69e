// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/test/pair"
)

// service is how an application is declared.
type service struct {
	protocol  string // "http1", "http2", "grpc", or empty: undeclared
	plaintext bool   // mTLS is Disabled
}

// faces are where a pair takes connections.
type faces struct {
	client netip.AddrPort                      // as the client's application calls
	server netip.AddrPort                      // as the client-side proxy calls
	caller func(alpn ...string) *tls.Config    // TLS towards server of a caller that is in the mesh
	memory func(tb testing.TB) (bytes []int64) // resident, of the proxies
}

// behind runs a pair in front of an application until the test ends.
func behind(tb testing.TB, app netip.AddrPort, s service) faces {
	tb.Helper()
	p := pair.New(tb, app, pair.Options{Protocol: protocols[s.protocol], Plaintext: s.plaintext})
	return faces{client: p.Client, server: p.Server, caller: p.CallerTLS}
}

var protocols = map[string]meshconfig.Protocol{
	"http1": meshconfig.Protocol_PROTOCOL_HTTP1,
	"http2": meshconfig.Protocol_PROTOCOL_HTTP2,
	"grpc":  meshconfig.Protocol_PROTOCOL_GRPC,
}

// serve runs an application of HTTP/1.1 and of HTTP/2 with prior knowledge.
func serve(tb testing.TB, handler http.Handler) netip.AddrPort {
	tb.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	tb.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}
