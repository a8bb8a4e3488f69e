// SPDX-License-Identifier: Apache-2.0

//go:build soak

package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/proxy/admin"
	"github.com/heddle-mesh/heddle/test/pair"
)

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// service is one that callers call, with the addresses of its endpoints. That of several backends has a split.
type service struct {
	name, protocol string // appProtocol
	endpoints      []string
	port           uint16
}

// mesh is a sandbox, with the files that it reads.
type mesh struct {
	*testing.T
	dir      string
	services []*service
	box      *pair.Sandbox
	edits    int
}

// start runs four services: web, which is split between web-a and web-b, api, rpc and raw.
func start(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{T: t, dir: t.TempDir()}
	two, one := []string{"127.0.0.11", "127.0.0.12"}, []string{"127.0.0.13"}
	web := serveHTTP(t, append(two[:2:2], one...))
	m.services = []*service{
		{"web", "http1", nil, web},
		{"web-a", "http1", two, web},
		{"web-b", "http1", one, web},
		{"api", "kubernetes.io/h2c", two, serveHTTP(t, two)},
		{"rpc", "grpc", two, serveGRPC(t, two)},
		{"raw", "tcp", two, serveTCP(t, two)},
	}
	var yaml strings.Builder
	for _, s := range m.services {
		fmt.Fprintf(&yaml, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {ports: [{name: x, port: 80, appProtocol: %s}]}\n", s.name, s.protocol)
	}
	m.write("services.yaml", yaml.String())
	m.endpoints(2)
	m.split(50)
	args := []string{"-f", m.dir}
	for _, name := range []string{"web", "api", "rpc", "raw"} {
		args = append(args, "--caller", name+"=shop/front")
	}
	m.box = pair.StartSandbox(t, binary(t), args...)
	return m
}

func binary(tb testing.TB) string {
	tb.Helper()
	path := *heddle
	if !filepath.IsAbs(path) {
		path = filepath.Join("../..", path)
	}
	path, err := filepath.Abs(path)
	check(tb, err)
	return path
}

// write replaces a file as a whole, so that it is never read half written.
func (m *mesh) write(name, text string) {
	m.Helper()
	hidden := filepath.Join(m.dir, "."+name+".new")
	check(m, os.WriteFile(hidden, []byte(text), 0o600))
	check(m, os.Rename(hidden, filepath.Join(m.dir, name)))
}

// endpoints lets each service have so many of its endpoints, and at least one unless that is 0.
func (m *mesh) endpoints(n int) {
	m.Helper()
	var yaml strings.Builder
	for _, s := range m.services {
		have := s.endpoints[:min(n, len(s.endpoints))]
		if s.endpoints == nil || len(have) == 0 {
			continue
		}
		fmt.Fprintf(&yaml, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %[1]s-1, namespace: shop, labels: {kubernetes.io/service-name: %[1]s}}\n"+
			"addressType: IPv4\nports: [{name: x, port: %[2]d}]\nendpoints:\n", s.name, s.port)
		for _, address := range have {
			fmt.Fprintf(&yaml, "- addresses: [%s]\n", address)
		}
	}
	m.write("endpoints.yaml", yaml.String())
}

// split changes the weights, and a policy that denies none of those who call.
func (m *mesh) split(weight int) {
	m.Helper()
	m.edits++
	m.write("split.yaml", fmt.Sprintf("apiVersion: mesh.heddle.io/v1alpha1\nkind: TrafficSplit\nmetadata: {name: web, namespace: shop}\nspec:\n"+
		"  service: {name: web}\n  backends:\n  - {name: a, service: {name: web-a}, weight: %d}\n  - {name: b, service: {name: web-b}, weight: %d}\n", weight, 100-weight))
	m.write("policy.yaml", fmt.Sprintf("apiVersion: mesh.heddle.io/v1alpha1\nkind: MeshPolicy\nmetadata: {name: shop, namespace: shop}\nspec:\n"+
		"  targetRef: {kind: Namespace}\n  authorization:\n    defaultAction: Deny\n    rules:\n    - {name: front, action: Allow, from: [{serviceAccounts: [front]}]}\n"+
		"    - {name: edit-%d, action: Allow, from: [{serviceAccounts: [nobody-%d]}]}\n", m.edits%7, m.edits))
}

// churn changes the config ten times a second and the endpoints once a second, until stop is closed.
func (m *mesh) churn(stop <-chan struct{}) {
	m.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			m.split(50)
			m.endpoints(2)
			return
		case <-tick.C:
		}
		m.split(1 + rand.IntN(99))
		if i%10 == 0 {
			m.endpoints(1 + i/10%2)
		}
	}
}

// at is where a service is called.
func (m *mesh) at(name string) string {
	m.Helper()
	p, ok := m.box.Clients[name+".shop:80"]
	if !ok {
		m.Fatalf("there is no %s among %v", name, m.box.Clients)
	}
	return p.Listen.String()
}

// proxies are all proxies, by names for people. One may have several endpoints.
func (m *mesh) proxies() map[string]pair.Process {
	names := make(map[int]string)
	all := make(map[string]pair.Process)
	for service, p := range m.box.Clients {
		all["client of "+service] = p
	}
	for _, endpoint := range slices.Sorted(maps.Keys(m.box.Servers)) {
		p := m.box.Servers[endpoint]
		if names[p.PID] == "" {
			names[p.PID] = "server of " + endpoint
			all[names[p.PID]] = p
		}
	}
	return all
}

// idle waits until a proxy has nothing to do, that is until what it holds does not change any more, and says what that is.
func idle(ctx context.Context, p pair.Process) (last admin.Runtime, err error) {
	client := admin.NewClient(fmt.Sprintf("/proc/%d/cwd/state/admin.sock", p.PID))
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for same, tries := 0, 0; same < 4 && tries < 60; tries++ {
		now, err := client.Runtime(ctx)
		if err != nil {
			return last, err
		}
		same++
		if now.Goroutines != last.Goroutines || now.Descriptors != last.Descriptors {
			same = 0
		}
		last = now
		<-tick.C
	}
	return last, nil
}

// listen listens at one port of several addresses.
func listen(tb testing.TB, addresses []string) (uint16, []net.Listener) {
	tb.Helper()
	for {
		all := make([]net.Listener, 0, len(addresses))
		port := uint16(10_000 + rand.IntN(20_000)) // outside of the range from which the kernel takes ports for others
		for _, address := range addresses {
			l, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(address), port).String())
			if err != nil {
				break
			}
			all = append(all, l)
		}
		if len(all) == len(addresses) {
			return port, all
		}
		for _, l := range all {
			l.Close()
		}
	}
}
