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
		Zone: "a",
	}
}

func sampleEndpoint() *meshconfig.Endpoint {
	return &meshconfig.Endpoint{
		Address: "10.1.2.3", Identity: checkout, Zone: "a", Pod: "shop/checkout-0", Workload: "checkout", Terminating: true,
		Subsets: []string{"0123456789ab"}, ZoneHints: []string{"a", "b"},
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
			RateLimits: []*meshconfig.RateLimit{{
				Name: "shop/checkout/slow", Requests: 10, Interval: 1000, Burst: 20, PerCaller: true,
				From: []*meshconfig.Caller{{Namespaces: []string{"shop"}}}, To: []*meshconfig.Operation{{Methods: []string{"POST"}}},
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
		Query:   []*meshconfig.HeaderMatch{{Type: meshconfig.HeaderMatch_TYPE_EXACT, Name: "Version", Value: "2"}},
		Hosts:   []string{"*.example.com"},
		Callers: []*meshconfig.Caller{{Identities: []string{checkout}}},
	}
	backends := []*meshconfig.WeightedBackend{
		{Name: "v1", Service: "checkout-v1.shop", Port: 80, Weight: 90},
		{Name: "v2", Service: "checkout-v2.shop", Port: 80, Weight: 10, Subset: "0123456789ab"},
	}
	return &meshconfig.Routes{Service: "checkout.shop", Ports: []*meshconfig.ServicePort{{
		Port: 80, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1, Backends: backends,
		Routes: []*meshconfig.Route{
			{
				Name: "cart", Matches: []*meshconfig.Match{match}, RequestTimeout: 1500, TryTimeout: 500, IdleTimeout: 100,
				Retry: sampleRetry(), Filters: sampleFilters(),
			},
			{Name: "rest", Filters: &meshconfig.Filters{Redirect: &meshconfig.Redirect{
				Scheme: "https", Host: "shop.example.com", Port: 8443, Path: &meshconfig.PathRewrite{Value: "/"}, Status: 301,
			}}},
		},
		Rules:      []*meshconfig.SplitRule{{Name: "canary", Matches: []*meshconfig.Match{match}, Backends: backends}},
		Stickiness: &meshconfig.Stickiness{By: meshconfig.Stickiness_BY_COOKIE, Name: "user", Ttl: 60000},
		Faults: []*meshconfig.Fault{{
			Name: "shop/checkout/slow", Matches: []*meshconfig.Match{match}, Percent: 1, Delay: 100, HttpStatus: 503, ExpiresAt: 1_780_000_000_000,
		}},
	}}, Clusters: []*meshconfig.Cluster{{Service: "checkout-v1.shop"}, sampleCluster()}, RetryBudget: &meshconfig.RetryBudget{Percent: 20, MinPerSecond: 3}}
}

func sampleRetry() *meshconfig.Retry {
	return &meshconfig.Retry{
		Attempts: 2, On: []meshconfig.RetryCondition{meshconfig.RetryCondition_RETRY_CONDITION_RESET}, Codes: []uint32{502, 503},
		GrpcCodes: []uint32{14}, BackoffBase: 25, BackoffMax: 250, Idempotency: meshconfig.Idempotency_IDEMPOTENCY_ALWAYS,
	}
}

func sampleFilters() *meshconfig.Filters {
	return &meshconfig.Filters{
		RequestHeaders: &meshconfig.HeaderFilter{
			Remove: []string{"x-debug"}, Set: []*meshconfig.HeaderValue{{Name: "X-Shop", Value: "a"}}, Add: []*meshconfig.HeaderValue{{Name: "Via", Value: "b"}},
		},
		ResponseHeaders: &meshconfig.HeaderFilter{Remove: []string{"server"}},
		RewriteHost:     "cart.example.com", RewritePath: &meshconfig.PathRewrite{Prefix: true, Value: "/v2"},
		Mirror: &meshconfig.Mirror{Backend: &meshconfig.WeightedBackend{Name: "v3", Service: "checkout-v3.shop", Port: 80}, Percent: 5},
	}
}

func sampleCluster() *meshconfig.Cluster {
	return &meshconfig.Cluster{
		Service: "checkout-v2.shop", ConnectTimeout: 250,
		Balancing: &meshconfig.Balancing{
			Policy: meshconfig.BalancingPolicy_BALANCING_POLICY_CONSISTENT_HASH, SlowStart: 1000, IgnoreLocality: true,
			Hash: []*meshconfig.HashKey{{By: meshconfig.HashKey_BY_HEADER, Name: "x-user"}},
		},
		Outlier: &meshconfig.Outlier{
			ConsecutiveFailures: 5, ConsecutiveConnectFailures: 3, SuccessRatePercent: 50, Window: 10000, MinRequests: 50, LatencyFactor: 300,
			BaseEjection: 5000, MaxEjection: 60000, MaxEjectedPercent: 10, PanicPercent: 50,
		},
		Breaker: &meshconfig.Breaker{
			MaxConnections: 1, MaxPending: 2, MaxRequests: 3, MaxRetries: 4, EndpointMaxConnections: 5, EndpointMaxRequests: 6, Adaptive: true,
		},
		HealthCheck: &meshconfig.HealthCheck{
			Type: meshconfig.HealthCheck_TYPE_HTTP, Path: "/ready", Host: "checkout", Headers: []*meshconfig.HeaderValue{{Name: "X-Check", Value: "1"}},
			Codes: []uint32{200}, Body: "ok", GrpcService: "shop.Checkout", Interval: 5000, Timeout: 500, HealthyThreshold: 1, UnhealthyThreshold: 3,
			Ports: []uint32{80}, Http2Ports: []uint32{80},
		},
	}
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
