// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/agent"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// workload is a pod that runs.
type workload struct {
	mesh *mesh
	pod  *corev1.Pod
	ip   netip.Addr
	app  *application
	door *door  // its way to the operator
	dir  string // what is mounted into the proxy's container

	mu    sync.Mutex
	proxy *proxy // nil: it does not run
}

func newWorkload(m *mesh, p *corev1.Pod) *workload {
	m.Helper()
	w := &workload{mesh: m, pod: p, ip: netip.MustParseAddr(p.Status.PodIP), app: newApplication(m.T, p.Name)}
	if !w.meshed() {
		for port, found := range w.app.ports {
			m.network.set(netip.AddrPortFrom(w.ip, port), found)
		}
		return w
	}
	w.dir, w.door = m.TempDir(), newDoor(m.T)
	w.door.lead(m.replicas[0].address)
	for name, data := range map[string][]byte{
		"operator.pem": m.serving.PEM(), "config.pem": m.config.PEM(), "token": []byte(p.UID + "\n"),
	} {
		check(m, os.WriteFile(filepath.Join(w.dir, name), data, 0o600))
	}
	return w
}

func (w *workload) meshed() bool { return len(w.pod.Spec.InitContainers) > 0 }

// running returns the proxy, or nil.
func (w *workload) running() *proxy {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proxy
}

// sidecar returns the proxy; it fails the test when none runs.
func (w *workload) sidecar() *proxy {
	w.mesh.Helper()
	p := w.running()
	if p == nil {
		w.mesh.Fatalf("the proxy of %s does not run", w.pod.Name)
	}
	return p
}

func (w *workload) awaitReady() {
	w.mesh.Helper()
	if !w.meshed() {
		return
	}
	p := w.sidecar()
	if !comes(func() bool { return p.agent.Ready() == nil }) {
		w.mesh.Fatalf("%s is not ready: %v", w.pod.Name, p.agent.Ready())
	}
}

// proxy is what the proxy's container runs: cmd/proxy wires the same.
type proxy struct {
	*workload

	agent        *agent.Agent
	tables       *table.Store
	callees      *upstream.Registry
	applications *upstream.Registry
	out          *forward.Outbound
	in           *forward.Inbound
	drain        *listener.Drain
	metrics      *telemetry.Metrics

	ctx     context.Context
	stop    func()
	group   sync.WaitGroup
	guard   sync.Mutex
	stopped bool
	doors   map[netip.AddrPort]string // for the application's calls, by original destination
}

// startProxy starts the proxy's container.
func (w *workload) startProxy() *proxy {
	m := w.mesh
	m.Helper()
	p := &proxy{
		workload: w, metrics: telemetry.New(telemetry.Options{Version: "test"}),
		doors: make(map[netip.AddrPort]string),
	}
	var err error
	p.agent, err = agent.New(agent.Options{
		ControlAddress: w.door.address(), ControlServerName: serverName, MeshID: meshID,
		ID: idOf(w.pod), PodUID: string(w.pod.UID), Version: "test",
		RootsDir: w.dir, TokenFile: filepath.Join(w.dir, "token"), StateDir: filepath.Join(w.dir, "state"),
		Apply:    func(name meshconfig.Name, message proto.Message) error { return p.tables.Apply(name, message) },
		Remove:   func(name meshconfig.Name) { p.tables.Remove(name) },
		Rejected: p.metrics.ConfigRejected, Log: m.log.WithName(w.pod.Name),
		Terminating: func() { p.drain.Begin() },
	})
	check(m, err)
	registry := func(dial func(context.Context, string, string) (net.Conn, error)) *upstream.Registry {
		return upstream.NewRegistry(upstream.Options{Credentials: p.agent.Identity(), Clock: time.Now, Dial: dial})
	}
	p.callees, p.applications = registry(m.network.dial), registry(p.dialApplication)
	observer := &complaints{Observer: p.metrics, of: w.pod.Name}
	m.Cleanup(func() { observer.print(m.T) })
	p.tables = table.New(table.Options{Upstreams: p.callees, Observer: observer, Log: m.log})
	p.metrics.WatchDefences(p.tables.Tallies)
	options := func(upstreams *upstream.Registry) forward.Options {
		return forward.Options{
			Tables: p.tables, Upstreams: upstreams, Credentials: p.agent.Identity(), Observer: observer, Log: m.log,
			Clock: time.Now, Peek: listener.Peek,
		}
	}
	p.out, p.in = forward.NewOutbound(options(p.callees)), forward.NewInbound(options(p.applications))
	p.drain = listener.NewDrain(p.in, p.out)
	p.run()
	w.mu.Lock()
	w.proxy = p
	w.mu.Unlock()
	return p
}

// run starts what runs until stop.
func (p *proxy) run() {
	m := p.mesh
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	p.stop = sync.OnceFunc(func() {
		p.mu.Lock()
		p.proxy = nil
		p.mu.Unlock()
		p.guard.Lock()
		p.stopped = true
		p.guard.Unlock()
		for port := range p.app.ports {
			m.network.set(netip.AddrPortFrom(p.ip, port), "")
		}
		cancel()
		p.group.Wait()
		_, _ = p.out.Shutdown(ctx), p.in.Shutdown(ctx)
		p.callees.Close()
		p.applications.Close()
	})
	m.Cleanup(p.stop)
	p.group.Go(func() { _ = p.agent.Run(ctx) })
	p.group.Go(func() { p.tables.Run(ctx, p.agent) })
	for port := range p.app.ports {
		to := netip.AddrPortFrom(p.ip, port)
		l := listen(m)
		p.carry(l, observe.Inbound, to)
		m.network.set(to, l.Addr().String())
	}
}

// carry takes the connections of a port as if they had been going to an address.
func (p *proxy) carry(l net.Listener, d observe.Direction, to netip.AddrPort) {
	options := listener.Options{
		Server: p.out, Events: p.metrics.Connections(d), Log: p.mesh.log, OnlyLocal: d == observe.Inbound,
		Local:               func(ip netip.Addr) bool { return ip == p.ip },
		OriginalDestination: func(*net.TCPConn) (netip.AddrPort, error) { return to, nil },
	}
	if d == observe.Inbound {
		options.Server = p.in
	}
	p.group.Go(func() { _ = listener.New(l, options).Run(p.ctx) })
}

var errStopped = errors.New("the proxy does not run")

// call opens a connection as the application does, towards an address of the cluster.
func (p *proxy) call(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	door, err := p.doorTo(to)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, "tcp", door)
}

func (p *proxy) doorTo(to netip.AddrPort) (string, error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	if p.stopped {
		return "", errStopped
	}
	if p.doors[to] == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		p.carry(l, observe.Outbound, to)
		p.doors[to] = l.Addr().String()
	}
	return p.doors[to], nil
}

// dialled names the addresses that the application called.
func (p *proxy) dialled() []meshconfig.Name {
	p.guard.Lock()
	defer p.guard.Unlock()
	var out []meshconfig.Name
	for to := range p.doors {
		out = append(out, meshconfig.AddressName(to.Addr()))
	}
	return out
}

// dialApplication is how the inbound side reaches the application of its own pod.
func (p *proxy) dialApplication(ctx context.Context, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, p.app.ports[at.Port()])
}

// held is what the agent holds, by section; heartbeats are left out.
func (p *proxy) held() map[meshconfig.Name]agent.Section {
	out := make(map[meshconfig.Name]agent.Section)
	for _, s := range p.agent.Dump().Sections {
		if s.Name != meshconfig.HeartbeatName {
			out[s.Name] = s
		}
	}
	return out
}

// metric sums the series of a metric of the proxy that have all of these labels, "name=value".
func (p *proxy) metric(name string, labels ...string) float64 {
	p.mesh.Helper()
	families, err := p.metrics.Gatherer().Gather()
	check(p.mesh, err)
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, series := range f.GetMetric() {
			have := make(map[string]bool)
			for _, l := range series.GetLabel() {
				have[l.GetName()+"="+l.GetValue()] = true
			}
			all := true
			for _, want := range labels {
				all = all && have[want]
			}
			if all {
				sum += series.GetCounter().GetValue() + series.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// rejected is how much config was refused for a reason, by the metric.
func (p *proxy) rejected(reason string) int {
	p.mesh.Helper()
	return int(p.metric("heddle_config_rejected_total", "reason="+reason))
}
