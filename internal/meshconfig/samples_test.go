// SPDX-License-Identifier: Apache-2.0

package meshconfig_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

const checkout = "spiffe://cluster.local/ns/shop/sa/checkout"

// samples holds one valid payload of every kind, with every field set.
func samples(t testing.TB) map[meshconfig.Name]proto.Message {
	t.Helper()
	return map[meshconfig.Name]proto.Message{
		meshconfig.MeshName: &meshconfig.Mesh{
			TrustDomain: "cluster.local", WorkloadRoots: [][]byte{certificate(t, true)}, Networks: []string{"10.0.0.0/8", "fd00::/8"},
		},
		meshconfig.HeartbeatName:               &meshconfig.Heartbeat{At: 1_780_000_000_000},
		meshconfig.BindingName("u-1"):          sampleBinding(),
		meshconfig.InboundName("d1"):           sampleInbound(),
		meshconfig.RoutesName("checkout.shop"): sampleRoutes(),
		meshconfig.EndpointsName("checkout.shop", 3): &meshconfig.Endpoints{
			Service: "checkout.shop", Shard: 3, Shards: 4,
			Endpoints: []*meshconfig.Endpoint{sampleEndpoint()},
		},
		meshconfig.AddressName(netip.MustParseAddr("10.1.2.3")): sampleAddress(),
		meshconfig.AddressName(netip.MustParseAddr("10.96.0.7")): &meshconfig.Address{
			Address: "10.96.0.7", Service: "checkout.shop",
		},
		meshconfig.AddressName(netip.MustParseAddr("fd00::1")): &meshconfig.Address{Address: "fd00::1"},
	}
}

func sampleBinding() *meshconfig.Binding {
	return &meshconfig.Binding{
		PodUid: "u-1", Pod: "shop/checkout-0", Identity: checkout, Inbound: string(meshconfig.InboundName("d1")), Workload: "checkout",
	}
}

func sampleEndpoint() *meshconfig.Endpoint {
	return &meshconfig.Endpoint{
		Address: "10.1.2.3", Identity: checkout, Zone: "a", Pod: "shop/checkout-0", Workload: "checkout", Terminating: true,
		Ports: []*meshconfig.EndpointPort{
			{ServicePort: 80, Port: 8080},
			{ServicePort: 81, Port: 8081, Plaintext: true, PlaintextUntil: 1_780_000_000_000},
		},
	}
}

func sampleAddress() *meshconfig.Address {
	endpoint := sampleEndpoint()
	endpoint.Ports = nil
	return &meshconfig.Address{Address: "10.1.2.3", Pod: &meshconfig.PodAddress{
		Endpoint: endpoint, Plaintext: true, PlaintextUntil: 1_780_000_000_000,
		Ports: []*meshconfig.PodPort{{
			Port: 8080, Protocol: meshconfig.Protocol_PROTOCOL_GRPC, Service: "checkout.shop",
			Plaintext: true, PlaintextUntil: 1_780_000_000_000,
		}},
	}}
}

func sampleInbound() *meshconfig.Inbound {
	return &meshconfig.Inbound{
		DefaultPolicy: &meshconfig.PortPolicy{
			Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: meshconfig.Action_ACTION_ALLOW,
		},
		Ports: []*meshconfig.PortPolicy{{
			Port: 8080, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Service: "checkout.shop",
			Mtls: meshconfig.MTLSMode_MTLS_MODE_PERMISSIVE, PermissiveUntil: 1_780_000_000_000,
			DefaultAction: meshconfig.Action_ACTION_DENY,
			Rules: []*meshconfig.AuthorizationRule{{
				Name: "shop/checkout/web", Action: meshconfig.Action_ACTION_ALLOW,
				From: []*meshconfig.Caller{{Identities: []string{"*", checkout}}, {Namespaces: []string{"*", "shop"}}},
				To: []*meshconfig.Operation{{
					Ports: []uint32{8080}, Methods: []string{"*", "GET"}, Paths: []string{"*", "/", "/cart/*"},
				}},
			}},
		}},
	}
}

func sampleRoutes() *meshconfig.Routes {
	match := &meshconfig.Match{
		Path: &meshconfig.PathMatch{Type: meshconfig.PathMatch_TYPE_PREFIX, Value: "/cart"}, Method: "GET",
		Headers: []*meshconfig.HeaderMatch{
			{Type: meshconfig.HeaderMatch_TYPE_EXACT, Name: "x-canary", Value: "yes"},
			{Type: meshconfig.HeaderMatch_TYPE_REGEX, Name: "user-agent", Value: "curl/.*"},
		},
	}
	backends := []*meshconfig.WeightedBackend{
		{Name: "v1", Service: "checkout-v1.shop", Port: 80, Weight: 90},
		{Name: "v2", Service: "checkout-v2.shop", Port: 80, Weight: 10},
	}
	return &meshconfig.Routes{Service: "checkout.shop", Ports: []*meshconfig.ServicePort{{
		Port: 80, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Backends: backends,
		Routes: []*meshconfig.Route{
			{Name: "cart", Matches: []*meshconfig.Match{match}, RequestTimeout: 1500},
			{Name: "rest"},
		},
		Rules: []*meshconfig.SplitRule{{Name: "canary", Matches: []*meshconfig.Match{match}, Backends: backends}},
	}}}
}

func certificate(t testing.TB, ca bool) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_900_000_000, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
