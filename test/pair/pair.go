// SPDX-License-Identifier: Apache-2.0

// Package pair runs a client-side and a server-side proxy in one process, joined by mutual TLS, with an application of
// the test's behind them. What is between the sockets is what ships: both directions of package forward with their tables,
// pools and certificates. The redirect is replaced by addresses that stand for what was dialled.
package pair

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
	"github.com/heddle-mesh/heddle/test/pki"
)

const service = "cart.shop"

var serviceIP = netip.MustParseAddr("10.96.0.1")

// Options say what runs. The zero value is a pair joined by mutual TLS whose port's protocol nobody declared.
type Options struct {
	// Protocol is the declared protocol of the port, on both sides.
	Protocol meshconfig.Protocol
	// Plaintext turns mTLS of the server side off.
	Plaintext bool
	// Alone leaves the server side out: the client side calls the application, in plaintext.
	Alone bool
	// Change edits the options of either side before it is made.
	Change func(o *forward.Options)
}

// Pair is two proxies that run.
type Pair struct {
	// Client is where the client's application finds the service.
	Client netip.AddrPort
	// Server is the server-side proxy.
	Server netip.AddrPort
	// Events are what each side reported.
	ClientEvents, ServerEvents *Events

	tb testing.TB
	ca *pki.CA
}

// New runs an application's address behind two proxies until the test ends.
func New(tb testing.TB, app netip.AddrPort, o Options) *Pair {
	tb.Helper()
	p := &Pair{tb: tb, ca: pki.NewCA(tb, "workloads"), ClientEvents: new(Events), ServerEvents: new(Events)}
	callee := id("cart")
	server := p.start(callee, observe.Inbound, p.ServerEvents, o)
	policy := &meshconfig.PortPolicy{
		Mtls: meshconfig.MTLSMode_MTLS_MODE_STRICT, DefaultAction: meshconfig.Action_ACTION_ALLOW, Protocol: o.Protocol,
	}
	endpoint := &meshconfig.Endpoint{Pod: "shop/cart-0", Workload: "cart", Identity: callee.String()}
	if o.Plaintext {
		policy.Mtls, endpoint.Identity = meshconfig.MTLSMode_MTLS_MODE_DISABLED, ""
	}
	server.apply(meshconfig.InboundName("a"), &meshconfig.Inbound{DefaultPolicy: policy})
	server.apply(meshconfig.BindingName("u-1"), &meshconfig.Binding{
		PodUid: "u-1", Pod: "shop/cart-0", Identity: callee.String(), Inbound: "inbound/a", Workload: "cart",
	})
	p.Server = server.listen(app)

	if o.Alone {
		p.Server, endpoint.Identity = app, ""
	}
	client := p.start(id("web"), observe.Outbound, p.ClientEvents, o)
	endpoint.Address = p.Server.Addr().String()
	endpoint.Ports = []*meshconfig.EndpointPort{{ServicePort: 80, Port: uint32(p.Server.Port())}}
	client.apply(meshconfig.AddressName(serviceIP), &meshconfig.Address{Address: serviceIP.String(), Service: service})
	client.apply(meshconfig.RoutesName(service), &meshconfig.Routes{Service: service, Ports: []*meshconfig.ServicePort{{
		Port: 80, Protocol: o.Protocol,
		Backends: []*meshconfig.WeightedBackend{{Name: "v1", Service: service, Port: 80, Weight: 1}},
	}}})
	client.apply(meshconfig.EndpointsName(service, 0), &meshconfig.Endpoints{
		Service: service, Shards: 1, Endpoints: []*meshconfig.Endpoint{endpoint},
	})
	p.Client = client.listen(netip.AddrPortFrom(serviceIP, 80))
	return p
}

// CallerTLS is the TLS of a caller with an identity of the mesh, towards Server.
func (p *Pair) CallerTLS(alpn ...string) *tls.Config {
	p.tb.Helper()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: alpn, Certificates: []tls.Certificate{*p.ca.Workload(p.tb, id("web"))},
		InsecureSkipVerify: true, // names are SPIFFE IDs, and who answers is not what is tested
	}
}

func id(account string) identity.ID {
	return identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: account}
}

// credentials are one certificate and one root.
type credentials struct {
	certificate *tls.Certificate
	roots       *x509.CertPool
}

func (c *credentials) Certificate() *tls.Certificate { return c.certificate }
func (c *credentials) Roots() *x509.CertPool         { return c.roots }

// side is one direction of a proxy.
type side struct {
	tb     testing.TB
	tables *table.Store
	server forward.Server
	limits limits.Set
	count  limits.Counter

	perSource int
}

func (p *Pair) start(id identity.ID, d observe.Direction, events *Events, o Options) *side {
	tb := p.tb
	own := &credentials{p.ca.Workload(tb, id), p.ca.Pool()}
	upstreams := upstream.NewRegistry(upstream.Options{Credentials: own, Clock: time.Now})
	s := &side{tb: tb, tables: table.New(table.Options{Upstreams: upstreams, Observer: events})}
	options := forward.Options{
		Tables: s.tables, Upstreams: upstreams, Credentials: own, Observer: events, Log: logr.Discard(), Clock: time.Now,
		Peek: listener.Peek,
	}
	if o.Change != nil {
		o.Change(&options)
	}
	s.limits, s.count = options.Limits, options.Count
	if d == observe.Inbound {
		s.perSource = s.limits.ConnectionsPerSource
		s.server = forward.NewInbound(options)
	} else {
		s.server = forward.NewOutbound(options)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.server.Shutdown(ctx) // it cuts
		upstreams.Close()
	})
	s.apply(meshconfig.MeshName, &meshconfig.Mesh{
		TrustDomain: id.TrustDomain, WorkloadRoots: [][]byte{p.ca.Certificate.Raw}, Networks: []string{"10.0.0.0/8"},
	})
	return s
}

func (s *side) apply(name meshconfig.Name, m proto.Message) {
	s.tb.Helper()
	if err := meshconfig.Validate(name, m); err != nil {
		s.tb.Fatal(err)
	}
	if err := s.tables.Apply(name, m); err != nil {
		s.tb.Fatal(err)
	}
}

// listen takes connections at a new loopback address as if they had been going to another one, until the test ends.
func (s *side) listen(destination netip.AddrPort) netip.AddrPort {
	s.tb.Helper()
	open, err := (&net.ListenConfig{}).Listen(s.tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		s.tb.Fatal(err)
	}
	l := listener.New(open, listener.Options{
		Server: s.server, Events: entrance{s.tb},
		Log:                 funcr.New(func(_, line string) { s.tb.Log(line) }, funcr.Options{}),
		OriginalDestination: func(*net.TCPConn) (netip.AddrPort, error) { return destination, nil },
		MaxConnections:      s.limits.Connections, MaxPerSource: s.perSource, Count: s.count,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			s.tb.Error(err)
		}
	})
	s.tb.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return addrOf(open.Addr())
}

// entrance is listener.Events.
type entrance struct{ tb testing.TB }

func (entrance) Opened()                {}
func (entrance) Closed()                {}
func (entrance) Refused(refusal.Reason) {}
func (e entrance) Panicked()            { e.tb.Error("the proxy panicked") }

func addrOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// Listen gives each connection that is made to a new loopback address to serve, in a goroutine. When the test ends it
// closes what is left and waits for serve to return.
func Listen(tb testing.TB, serve func(context.Context, net.Conn)) netip.AddrPort {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				defer stop()
				defer func() { _ = c.Close() }()
				serve(ctx, c)
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		cancel()
		running.Wait()
	})
	return addrOf(l.Addr())
}

// Events is an observe.Observer that remembers the first ten thousand.
type Events struct {
	mu     sync.Mutex
	events []observe.Event
}

// Bind implements observe.Observer.
func (e *Events) Bind(observe.Labels) observe.Series { return e }

// Observe implements observe.Series.
func (e *Events) Observe(event *observe.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.events) < 10_000 { // a fuzz target makes more than anybody looks at
		kept := *event
		kept.Method, kept.Path = strings.Clone(event.Method), strings.Clone(event.Path) // they last as long as the call
		e.events = append(e.events, kept)
	}
}

// All returns what was observed, in its order.
func (e *Events) All() []observe.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events)
}
