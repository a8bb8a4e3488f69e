// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/test/gen"
	"github.com/heddle-mesh/heddle/test/shop/paymentsapi"
)

const webIdentity = "URI=spiffe://cluster.local/ns/shop/sa/web"

// Objects go in, a request comes out, and the server sees who calls.
func TestObjectsInARequestOut(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	headless := gen.Service(namespace, "peers", gen.Headless(), gen.Selector("app", "cart"), gen.Port("http", httpPort, httpPort))
	undeclared := gen.Service(namespace, "any", gen.ClusterIP("10.96.0.9"), gen.Selector("app", "any"),
		gen.Port("a", 80, httpPort), gen.Port("b", 70, tcpPort))
	m.apply(headless, undeclared, gen.ServiceProfile(namespace, "cart-v2", "cart-v2", gen.Protocol(80, v1alpha1.ProtocolHTTP1)))
	m.run(pod("old", 4, 1, gen.Unmeshed()), pod("any", 9, 1))
	m.apply(service("old", 4))
	m.settle()
	web := m.workload("shop/web-1")
	one, two := web.client(), web.client2()

	for what, c := range map[string]struct {
		client         *client
		url            string
		by, proto, who string
	}{
		"HTTP/1.1 to a Service":               {one, "http://cart.shop/a", "cart-1", "HTTP/1.1", webIdentity},
		"HTTP/2 to a Service of HTTP":         {two, "http://cart.shop/a", "cart-1", "HTTP/2.0", webIdentity},
		"HTTP/2 to a Service of HTTP/1.1":     {two, "http://cart-v2.shop/a", "cart-v2-1", "HTTP/1.1", webIdentity},
		"HTTP/1.1 to a headless Service":      {one, "http://peers.shop:8080/a", "cart-1", "HTTP/1.1", webIdentity},
		"HTTP/1.1 to a pod":                   {one, "http://10.0.3.1:8080/a", "cart-v2-1", "HTTP/1.1", webIdentity},
		"HTTP/2 to a pod of HTTP/1.1":         {two, "http://10.0.3.1:8080/a", "cart-v2-1", "HTTP/1.1", webIdentity},
		"HTTP/1.1 to a port nobody declared":  {one, "http://any.shop/a", "any-1", "HTTP/1.1", webIdentity},
		"HTTP/2 to a port nobody declared":    {two, "http://any.shop/a", "any-1", "HTTP/2.0", webIdentity},
		"HTTP/1.1 to a workload without mesh": {one, "http://old.shop/a", "old-1", "HTTP/1.1", ""},
	} {
		t.Run(what, func(t *testing.T) {
			got := c.client.get(c.url, callerHeader, "URI=spiffe://cluster.local/ns/shop/sa/forged")
			if c.who == "" {
				got.caller = "" // nobody vouches for it
			}
			if got.served() != nil || got.by != c.by || got.proto != c.proto || got.caller != c.who || got.body != "/a" {
				t.Errorf("got %v, proto %s, caller %q: want %+v", got, got.proto, got.caller, c)
			}
		})
	}
	t.Run("gRPC to a Service", func(t *testing.T) { callsAndStreams(t, two.payments("cart.shop:90")) })
	for what, host := range map[string]string{
		"TCP to a Service, whose server speaks first": "cart.shop:70", "TCP to a port nobody declared": "any.shop:70",
		"TCP to a pod": "10.0.3.1:6379", "TCP to a workload without mesh": "old.shop:70",
	} {
		t.Run(what, func(t *testing.T) {
			l, err := web.lines(host)
			check(t, err)
			check(t, l.ask("one"))
			check(t, l.ask("two"))
			check(t, l.Close())
		})
	}
	await(t, "the connections are counted as mTLS", func() bool {
		secured := func(name string) float64 {
			return m.workload(name).sidecar().metric("heddle_tcp_connections_total", "direction=inbound", "mtls=true")
		}
		return secured("shop/cart-1") == 1 && secured("shop/any-1") == 1 && secured("shop/cart-v2-1") == 1
	})
}

// callsAndStreams makes a unary call and a stream.
func callsAndStreams(t *testing.T, payments paymentsapi.PaymentsClient) {
	t.Helper()
	paid, err := payments.Charge(t.Context(), connect.NewRequest(&paymentsapi.ChargeRequest{Cents: 1}))
	check(t, err)
	if paid.Msg.GetReceipt() != "cart-1" || paid.Msg.GetCaller() != webIdentity {
		t.Errorf("got %v", paid.Msg)
	}
	stream := payments.Watch(t.Context())
	for range 3 {
		check(t, stream.Send(&paymentsapi.ChargeRequest{Cents: 1}))
		got, err := stream.Receive()
		check(t, err)
		if got.GetReceipt() != "cart-1" || got.GetCaller() != webIdentity {
			t.Errorf("got %v", got)
		}
	}
	check(t, stream.CloseRequest())
	check(t, stream.CloseResponse())
}

// A workload outside the mesh is refused under Strict, and told why.
func TestAPlaintextCallerIsRefused(t *testing.T) {
	t.Parallel()
	m := shop(t, settings{})
	m.run(pod("old", 4, 1, gen.Unmeshed()))
	m.settle()
	got := m.workload("shop/old-1").client().get("http://10.0.2.1:8080/")
	if got.status != http.StatusForbidden || got.reason != "plaintext_refused" || !strings.Contains(got.body, "MeshPolicy") {
		t.Errorf("got %v", got)
	}
}
