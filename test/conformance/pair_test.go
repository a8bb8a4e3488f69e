// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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
	client    netip.AddrPort                   // as the client's application calls
	server    netip.AddrPort                   // as the client-side proxy calls
	caller    func(alpn ...string) *tls.Config // TLS towards server of a caller that is in the mesh
	processes []pair.Process                   // none: it runs in this process
}

// behind runs a pair in front of an application until the test ends.
func behind(tb testing.TB, app netip.AddrPort, s service) faces {
	tb.Helper()
	if *heddle != "" {
		return sandboxed(tb, app, s)
	}
	p := pair.New(tb, app, pair.Options{Protocol: protocols[s.protocol], Plaintext: s.plaintext})
	return faces{client: p.Client, server: p.Server, caller: p.CallerTLS}
}

var protocols = map[string]meshconfig.Protocol{
	"http1": meshconfig.Protocol_PROTOCOL_HTTP1,
	"http2": meshconfig.Protocol_PROTOCOL_HTTP2,
	"grpc":  meshconfig.Protocol_PROTOCOL_GRPC,
}

const objects = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: x, port: 80%s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: x, port: %d}]
endpoints: [{addresses: [%s]}]
`

const inClear = `---
apiVersion: mesh.heddle.io/v1alpha1
kind: MeshPolicy
metadata: {name: clear, namespace: shop}
spec: {targetRef: {kind: Namespace}, mtls: {mode: Disabled}}
`

// appProtocols are how a Service declares a protocol.
var appProtocols = map[string]string{"http1": "http1", "http2": "kubernetes.io/h2c", "grpc": "grpc"}

// sandboxed runs a pair of processes.
func sandboxed(tb testing.TB, app netip.AddrPort, s service) faces {
	tb.Helper()
	dir, authority := tb.TempDir(), tb.TempDir()
	declared, policy := "", ""
	if s.protocol != "" {
		declared = ", appProtocol: " + appProtocols[s.protocol]
	}
	if s.plaintext {
		policy = inClear
	}
	yaml := fmt.Sprintf(objects, declared, app.Port(), app.Addr()) + policy
	check(tb, os.WriteFile(filepath.Join(dir, "objects.yaml"), []byte(yaml), 0o600))
	binary := below(tb, *heddle)
	out := filepath.Join(authority, "front")
	cert := exec.Command(binary, "sandbox", "cert", "--pki", authority, "--identity", "shop/front", "--out", out)
	said, err := cert.CombinedOutput()
	if err != nil {
		tb.Fatalf("%v\n%s", err, said)
	}
	own, err := tls.LoadX509KeyPair(out+".pem", out+".key")
	check(tb, err)
	box := pair.StartSandbox(tb, binary, "-f", dir, "--pki", authority, "--caller", "web=shop/front")
	client, server := box.Clients["web.shop:80"], box.Servers[app.String()]
	return faces{
		client: client.Listen, server: server.Listen,
		caller: func(alpn ...string) *tls.Config {
			return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: alpn, Certificates: []tls.Certificate{own}, InsecureSkipVerify: true}
		},
		processes: []pair.Process{client, server},
	}
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
