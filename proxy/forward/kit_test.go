// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
	testpair "github.com/heddle-mesh/heddle/test/pair"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cart = "cart.shop"

var (
	cartIP = netip.MustParseAddr("10.96.0.1")
	web    = testpki.Identity("shop", "web")
	shop   = testpki.Identity("shop", "cart")
)

// recorder is an Observer that remembers.
type recorder struct{ testpair.Events }

// wait returns the first event that is wanted, when it has come.
func (r *recorder) wait(t *testing.T, what string, wanted func(observe.Event) bool) observe.Event {
	t.Helper()
	var found observe.Event
	eventually(t, "event "+what, func() bool {
		events := r.All()
		i := slices.IndexFunc(events, wanted)
		if i >= 0 {
			found = events[i]
		}
		return i >= 0
	})
	return found
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatal("never: " + what)
		}
	}
}

// proxy is one direction of a proxy, with what it stands on.
type proxy struct {
	testing.TB
	tables      *table.Store
	upstreams   *upstream.Registry
	server      forward.Server
	credentials *testpki.Credentials
	events      *recorder
}

// settings of a proxy; the zero value is good.
type settings struct {
	limits      limits.Set
	upstream    upstream.Options
	credentials *testpki.Credentials
	clock       func() time.Time
	observer    observe.Observer // instead of a recorder
	budget      *limits.Budget
	count       limits.Counter
}

// start runs one direction of a proxy with an identity until the test ends.
func start(t testing.TB, ca *testpki.Authority, id identity.ID, inbound bool, s settings) *proxy {
	t.Helper()
	s.upstream.Budget = s.budget
	p := &proxy{TB: t, events: &recorder{}, credentials: s.credentials}
	if p.credentials == nil {
		p.credentials = ca.Credentials(t, id)
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	s.upstream.Credentials, s.upstream.Clock = p.credentials, s.clock
	p.upstreams = upstream.NewRegistry(s.upstream)
	if s.observer == nil {
		s.observer = p.events
	}
	p.tables = table.New(table.Options{Upstreams: p.upstreams, Observer: s.observer, Hold: 200 * time.Millisecond})
	options := forward.Options{
		Tables: p.tables, Upstreams: p.upstreams, Credentials: p.credentials, Observer: s.observer, Log: logr.Discard(),
		Clock: s.clock, Peek: listener.Peek, Limits: s.limits, Budget: s.budget, Count: s.count,
	}
	if inbound {
		p.server = forward.NewInbound(options)
	} else {
		p.server = forward.NewOutbound(options)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.server.Shutdown(ctx)
		p.upstreams.Close()
	})
	p.apply(meshconfig.MeshName, &meshconfig.Mesh{
		TrustDomain: "cluster.local", WorkloadRoots: [][]byte{ca.Certificate.Raw}, Networks: []string{"10.0.0.0/8"},
	})
	return p
}

// listen takes connections as if they had been going to an address, and returns where.
func (p *proxy) listen(destination netip.AddrPort) netip.AddrPort {
	p.Helper()
	return accept(p.TB, func(c net.Conn) {
		rest := p.server.Serve(p.Context(), &forward.Conn{
			Peeker: listener.Peek(c), Source: addrOf(c.RemoteAddr()), Destination: destination,
		})
		for rest != nil {
			rest = rest()
		}
	})
}

func addrOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// accept gives each connection to serve, in a goroutine, and closes what is left when the test ends.
func accept(t testing.TB, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				serve(c)
				c.Close()
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return addrOf(l.Addr())
}

// apply applies a section.
func (p *proxy) apply(name meshconfig.Name, m proto.Message) {
	p.Helper()
	if err := meshconfig.Validate(name, m); err != nil {
		p.Fatal(err)
	}
	if err := p.tables.Apply(name, m); err != nil {
		p.Fatal(err)
	}
}

// policy puts a policy for all ports in force.
func (p *proxy) policy(mtls meshconfig.MTLSMode, action meshconfig.Action, rules ...*meshconfig.AuthorizationRule) {
	p.Helper()
	p.policyOf(&meshconfig.PortPolicy{Mtls: mtls, DefaultAction: action, Rules: rules})
}

func (p *proxy) policyOf(policy *meshconfig.PortPolicy) {
	p.Helper()
	p.apply(meshconfig.InboundName("a"), &meshconfig.Inbound{DefaultPolicy: policy})
	p.apply(meshconfig.BindingName("u-1"), &meshconfig.Binding{
		PodUid: "u-1", Pod: "shop/cart-0", Identity: shop.String(), Inbound: "inbound/a", Workload: "cart",
	})
}

// Short names of what policies and ports hold.
const (
	strict     = meshconfig.MTLSMode_MTLS_MODE_STRICT
	permissive = meshconfig.MTLSMode_MTLS_MODE_PERMISSIVE
	disabled   = meshconfig.MTLSMode_MTLS_MODE_DISABLED
	allow      = meshconfig.Action_ACTION_ALLOW
	deny       = meshconfig.Action_ACTION_DENY

	undeclared = meshconfig.Protocol_PROTOCOL_UNSPECIFIED
	asHTTP     = meshconfig.Protocol_PROTOCOL_HTTP1
	asHTTP2    = meshconfig.Protocol_PROTOCOL_HTTP2
	asTCP      = meshconfig.Protocol_PROTOCOL_TCP
)

// endpoints applies the endpoints of port 80 of a service, in one shard.
func (p *proxy) endpoints(service string, id identity.ID, addresses ...netip.AddrPort) {
	p.Helper()
	section := &meshconfig.Endpoints{Service: service, Shards: 1}
	for _, a := range addresses {
		e := &meshconfig.Endpoint{
			Address: a.Addr().String(), Pod: "shop/cart-0", Workload: "cart",
			Ports: []*meshconfig.EndpointPort{{ServicePort: 80, Port: uint32(a.Port())}},
		}
		if !id.IsZero() {
			e.Identity = id.String()
		}
		section.Endpoints = append(section.Endpoints, e)
	}
	p.apply(meshconfig.EndpointsName(service, 0), section)
}

// service makes port 80 of a service known, at cartIP, with one backend after another, each of a weight.
func (p *proxy) service(protocol meshconfig.Protocol, change func(*meshconfig.ServicePort), weights ...uint32) {
	p.Helper()
	port := &meshconfig.ServicePort{Port: 80, Protocol: protocol}
	for i, w := range weights {
		port.Backends = append(port.Backends, &meshconfig.WeightedBackend{
			Name: fmt.Sprint("v", i+1), Service: backend(i), Port: 80, Weight: w,
		})
	}
	if change != nil {
		change(port)
	}
	p.apply(meshconfig.AddressName(cartIP), &meshconfig.Address{Address: cartIP.String(), Service: cart})
	p.apply(meshconfig.RoutesName(cart), &meshconfig.Routes{Service: cart, Ports: []*meshconfig.ServicePort{port}})
}

// backend names the service of a backend; the first is the root service.
func backend(i int) string {
	if i == 0 {
		return cart
	}
	return fmt.Sprintf("cart-v%d.shop", i+1)
}

// pair is a client-side and a server-side proxy, with an application behind.
type pair struct {
	*testing.T
	ca     *testpki.Authority
	client *proxy
	server *proxy
	inside netip.AddrPort // of the server-side proxy
	at     netip.AddrPort // where the client's application finds the service
}

// newPair runs an application's address behind two proxies; the service's port is of a protocol.
func newPair(t *testing.T, protocol meshconfig.Protocol, app netip.AddrPort, s settings) *pair {
	t.Helper()
	ca := testpki.NewAuthority(t)
	p := &pair{T: t, ca: ca, client: start(t, ca, web, false, s), server: start(t, ca, shop, true, settings{limits: s.limits, clock: s.clock, budget: s.budget})}
	p.server.policyOf(&meshconfig.PortPolicy{Mtls: strict, DefaultAction: allow, Protocol: protocol})
	p.inside = p.server.listen(app)
	p.client.service(protocol, nil, 1)
	p.client.endpoints(cart, shop, p.inside)
	p.at = p.client.listen(netip.AddrPortFrom(cartIP, 80))
	return p
}

// httpApp runs an application of HTTP/1.1 and HTTP/2 with prior knowledge.
func httpApp(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = protocols(true, true)
	s.Start()
	t.Cleanup(s.Close)
	return addrOf(s.Listener.Addr())
}

func protocols(http1, http2 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(http1)
	p.SetUnencryptedHTTP2(http2)
	return p
}

// clientOf returns a client of one version of HTTP that finds every host at an address.
func clientOf(t *testing.T, at netip.AddrPort, http2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Protocols: protocols(!http2, http2), DisableCompression: true, ExpectContinueTimeout: 10 * time.Second,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// call is a request and what became of it.
type call struct {
	method, path, body string
	header             http.Header
}

// do sends a request to host "cart" and returns the answer, its body read.
func (c call) do(t *testing.T, client *http.Client) (*http.Response, string) {
	t.Helper()
	if c.method == "" {
		c.method = "GET"
	}
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	r, err := http.NewRequestWithContext(t.Context(), c.method, "http://cart"+c.path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

func (c call) status(t *testing.T, client *http.Client, want int) string {
	t.Helper()
	response, body := c.do(t, client)
	if response.StatusCode != want {
		t.Errorf("%s %s: status %d, want %d: %s", c.method, c.path, response.StatusCode, want, body)
	}
	return body
}
