// SPDX-License-Identifier: Apache-2.0

package table

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/internal/testpki"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	cart  = "cart.shop"
	green = "green.shop"
)

var (
	cartIP = netip.MustParseAddr("10.96.0.1")
	podIP  = netip.MustParseAddr("10.1.0.9")
)

// subscriptions is a Subscriber that remembers.
type subscriptions struct {
	mu    sync.Mutex
	names map[meshconfig.Name]bool
}

func (s *subscriptions) Want(names ...meshconfig.Name)   { s.note(true, names) }
func (s *subscriptions) Unwant(names ...meshconfig.Name) { s.note(false, names) }

func (s *subscriptions) note(wanted bool, names []meshconfig.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.names[n] = wanted
	}
}

// wanted returns what is subscribed to, sorted.
func (s *subscriptions) wanted() []meshconfig.Name {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []meshconfig.Name
	for n, wanted := range s.names {
		if wanted {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// mesh is a Store in a synctest bubble, with what it works with.
type mesh struct {
	*testing.T
	*Store
	upstreams *upstream.Registry
	wants     *subscriptions
	network   *network
}

// network connects to every address but those that are down. From one that is lost nothing comes.
type network struct {
	mu     sync.Mutex
	down   map[string]bool
	dialed map[string]int
	lost   string
	took   time.Duration // to give up on the one that is lost, for who did last
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	begun := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialed[address]++
	if n.lost == address {
		n.mu.Unlock()
		<-ctx.Done()
		n.mu.Lock()
		n.took = time.Since(begun)
		return nil, ctx.Err()
	}
	if n.down[address] {
		return nil, errors.New("it is down")
	}
	near, far := net.Pipe()
	far.Close()
	return near, nil
}

func (n *network) set(address string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[address] = down
}

func (n *network) count(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed[address]
}

// inBubble runs a test on a Store that knows the mesh section.
func inBubble(t *testing.T, options Options, test func(*mesh)) {
	t.Helper()
	roots := [][]byte{testpki.NewAuthority(t).Certificate.Raw}
	synctest.Test(t, func(t *testing.T) {
		n := &network{down: map[string]bool{}, dialed: map[string]int{}}
		options.Upstreams = upstream.NewRegistry(upstream.Options{Clock: time.Now, Dial: n.dial})
		options.Observer = observe.Nothing{}
		m := &mesh{t, New(options), options.Upstreams, &subscriptions{names: map[meshconfig.Name]bool{}}, n}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { m.Store.Run(ctx, m.wants) })
		m.apply(meshconfig.MeshName, &meshconfig.Mesh{
			TrustDomain: "cluster.local", WorkloadRoots: roots, Networks: []string{"10.0.0.0/8", "fd00::/8"},
		})
		synctest.Wait() // it runs
		test(m)
		cancel()
		wg.Wait()
		m.upstreams.Close()
	})
}

func (m *mesh) apply(name meshconfig.Name, section proto.Message) {
	m.Helper()
	if err := meshconfig.Validate(name, section); err != nil {
		m.Fatal(err)
	}
	if err := m.Apply(name, section); err != nil {
		m.Fatal(err)
	}
}

func (m *mesh) address(ip netip.Addr, service string) {
	m.Helper()
	m.apply(meshconfig.AddressName(ip), &meshconfig.Address{Address: ip.String(), Service: service})
}

// routes applies a table of port 80 in which every backend has a weight of 1.
func (m *mesh) routes(service string, backends ...string) {
	m.Helper()
	m.apply(meshconfig.RoutesName(service), routesOf(service, backends...))
}

func routesOf(service string, backends ...string) *meshconfig.Routes {
	port := &meshconfig.ServicePort{Port: 80, Protocol: meshconfig.Protocol_PROTOCOL_HTTP1}
	for _, b := range backends {
		port.Backends = append(port.Backends, &meshconfig.WeightedBackend{Name: b, Service: b, Port: 80, Weight: 1})
	}
	return &meshconfig.Routes{Service: service, Ports: []*meshconfig.ServicePort{port}}
}

// endpoints applies one shard.
func (m *mesh) endpoints(service string, shard, shards uint32, ips ...string) {
	m.Helper()
	section := &meshconfig.Endpoints{Service: service, Shard: shard, Shards: shards}
	for _, ip := range ips {
		section.Endpoints = append(section.Endpoints, &meshconfig.Endpoint{
			Address: ip, Ports: []*meshconfig.EndpointPort{{ServicePort: 80, Port: 8080}},
		})
	}
	m.apply(meshconfig.EndpointsName(service, shard), section)
}

func (m *mesh) lookup(ip netip.Addr, port uint16) *Destination {
	m.Helper()
	d, err := m.Lookup(m.Context(), netip.AddrPortFrom(ip, port))
	if err != nil {
		m.Fatal(err)
	}
	return d
}

// refused looks up what must be refused, and returns how long that took.
func (m *mesh) refused(ip netip.Addr, port uint16, reason refusal.Reason) time.Duration {
	m.Helper()
	start := time.Now()
	_, err := m.Lookup(m.Context(), netip.AddrPortFrom(ip, port))
	var refused *refusal.Error
	if !errors.As(err, &refused) || refused.Reason != reason {
		m.Errorf("lookup of %v: %v, want %s", ip, err, reason)
	}
	return time.Since(start)
}

// reach lists where requests to a destination go, over all of its backends.
func reach(d *Destination) []string {
	list := []string{}
	if p := d.Port(); p != nil {
		seen := map[*Backend]bool{}
		for i := range uint64(64) {
			choice := p.Connection()
			b, _ := choice.Backend(&evaluate.Request{}, i<<58)
			if seen[b] {
				continue
			}
			seen[b] = true
			for _, member := range b.Cluster.Endpoints().Members() {
				list = append(list, member.Endpoint.Address.String())
			}
		}
	}
	slices.Sort(list)
	return list
}

func (m *mesh) reaches(d *Destination, want ...string) {
	m.Helper()
	if got := reach(d); !slices.Equal(got, append([]string{}, want...)) {
		m.Errorf("%v reaches %v, want %v", d.Address, got, want)
	}
}
