// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
	"github.com/heddle-mesh/heddle/proxy/admin"
	"github.com/heddle-mesh/heddle/proxy/agent"
	"github.com/heddle-mesh/heddle/proxy/capture"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/listener"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/telemetry"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// proxy is everything that runs.
type proxy struct {
	config *config
	log    logr.Logger
	clock  func() time.Time

	agent        *agent.Agent
	tables       *table.Store
	callees      *upstream.Registry // what the workload calls
	applications *upstream.Registry // the workload itself
	out          *forward.Outbound
	in           *forward.Inbound
	drain        *listener.Drain
	locals       *listener.Locals
	budget       *limits.Budget // of both directions, for buffers
	files        *limits.Budget // of both directions
	// maxConnections is what each direction may carry.
	maxConnections int
	metrics        *telemetry.Metrics
	accessLog      *telemetry.AccessLog
	server         *admin.Server
	socket         *admin.Socket
}

// newProxy wires the proxy. Nothing runs yet.
func newProxy(c *config, log logr.Logger, accessLog io.Writer) (*proxy, error) {
	p := &proxy{
		config: c, log: log, clock: time.Now,
		accessLog: telemetry.NewAccessLog(c.accessLog, accessLog),
	}
	p.metrics = telemetry.New(telemetry.Options{Version: version, Log: p.accessLog})
	p.locals = listener.NewLocals(c.podIPs, p.clock)
	var err error
	p.agent, err = agent.New(agent.Options{
		ControlAddress: c.controlAddress, ControlServerName: c.controlName, MeshID: c.meshID,
		ID: c.identity, PodUID: c.podUID, Version: version,
		RootsDir: c.rootsDir, TokenFile: c.tokenFile, StateDir: c.stateDir,
		Apply:       func(name meshconfig.Name, m proto.Message) error { return p.tables.Apply(name, m) },
		Remove:      func(name meshconfig.Name) { p.tables.Remove(name) },
		Rejected:    p.metrics.ConfigRejected,
		Health:      func() []agent.ServiceHealth { return serviceHealth(p.tables.Ailing(p.clock())) },
		Terminating: func() { p.beginDrain("the operator says that the pod is being deleted") },
		Clock:       p.clock, Log: log.WithName("agent"),
	})
	if err != nil {
		return nil, fmt.Errorf("set up the agent: %w", err)
	}
	p.wireTraffic()
	p.wireAdmin()
	return p, nil
}

// serviceHealth is what the operator is told of services.
func serviceHealth(list []table.Ailing) []agent.ServiceHealth {
	out := make([]agent.ServiceHealth, 0, len(list))
	for _, a := range list {
		out = append(out, agent.ServiceHealth{Service: a.Service, Ejected: a.Out, BudgetExhausted: a.Exhausted})
	}
	return out
}

// wireTraffic makes both directions. They have registries of their own, because they dial the pod differently: what the
// workload sends to itself passes its own inbound side, which dials the application.
func (p *proxy) wireTraffic() {
	memory := debug.SetMemoryLimit(-1) // it asks
	p.budget, p.files = limits.NewBudget(bufferMemory(p.config.limits.Memory, memory)), fileBudget()
	p.maxConnections = maxConnections(p.config.limits.Connections, memory)
	registry := func(dial func(context.Context, string, string) (net.Conn, error)) *upstream.Registry {
		return upstream.NewRegistry(upstream.Options{
			Credentials: p.agent.Identity(), Clock: p.clock, Dial: dial,
			Limits: p.config.limits, Count: p.metrics, Budget: p.budget,
		})
	}
	p.callees, p.applications = registry(p.dialCallee), registry(nil)
	p.tables = table.New(table.Options{Upstreams: p.callees, Observer: p.metrics, Log: p.log.WithName("table")})
	options := func(upstreams *upstream.Registry, name string) forward.Options {
		return forward.Options{
			Tables: p.tables, Upstreams: upstreams, Credentials: p.agent.Identity(), Observer: p.metrics,
			Log: p.log.WithName(name), Clock: p.clock, Peek: listener.Peek,
			Limits: p.config.limits, Count: p.metrics, Budget: p.budget,
		}
	}
	p.out = forward.NewOutbound(options(p.callees, "outbound"))
	p.in = forward.NewInbound(options(p.applications, "inbound"))
	p.drain = listener.NewDrain(p.in, p.out)
}

// dialCallee dials what the workload calls. An address of the pod itself is dialled so that the redirect takes the
// connection to the inbound side.
func (p *proxy) dialCallee(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 3,
	}}
	dst, err := netip.ParseAddrPort(address)
	switch {
	case p.config.fixed != nil:
		address = p.config.fixed.find(address)
	case err == nil && p.locals.Contains(dst.Addr()):
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(capture.SelfSource(dst.Addr()), 0))
	}
	return dialer.DialContext(ctx, network, address)
}

func (p *proxy) wireAdmin() {
	p.metrics.Watch(telemetry.State{
		Clock: p.clock,
		Serial: func() (epoch uint32, term, counter uint64) {
			s := p.agent.Serial()
			return s.Epoch, s.Term, s.Counter
		},
		Heartbeat:         p.agent.Heartbeat,
		CertificateExpiry: p.agent.Identity().Expiry,
		Connected:         p.agent.Connected,
		Ready:             func() bool { return p.ready() == nil },
		Draining:          p.drain.Draining,
	})
	p.metrics.WatchDefences(p.tables.Tallies)
	p.server = admin.NewServer(admin.Options{
		Ready: p.ready,
		// What can't go on ends the process, so one that answers lives.
		Live:    func() error { return nil },
		Metrics: p.metrics.Gatherer(), Scraped: p.metrics.ApplicationScraped,
		Probes: p.config.probes, Scrape: p.config.scrape, PodIP: p.config.podIPs[0],
		Log: p.log.WithName("admin"),
	})
	p.socket = admin.NewSocket(admin.SocketOptions{
		Config: p.showConfig, Certificates: p.showCertificates, Envelope: p.agent.Envelope, Log: p.log.WithName("admin"),
		Drain: func(ctx context.Context) int {
			p.beginDrain("asked on the admin socket")
			_ = p.drain.Wait(ctx) // what still runs is told
			return p.in.Active()
		},
	})
}

func (p *proxy) ready() error {
	if p.drain.Draining() {
		return errors.New("draining")
	}
	return p.agent.Ready()
}

func (p *proxy) beginDrain(why string) {
	if !p.drain.Draining() {
		p.log.Info("Draining", "why", why, "running", p.in.Active())
	}
	p.drain.Begin()
}

// listenerOptions are those of one direction.
func (p *proxy) listenerOptions(d observe.Direction) listener.Options {
	o := listener.Options{
		Server: p.out, Events: p.metrics.Connections(d), Log: p.log.WithName(d.String()),
		Local: p.locals.Contains, OwnPorts: []uint16{p.config.ports.outbound, p.config.ports.inbound},
		MaxConnections: p.maxConnections, Files: p.files, Count: p.metrics,
	}
	if d == observe.Inbound {
		// Outbound there is one source, the pod.
		o.Server, o.OnlyLocal, o.MaxPerSource = p.in, true, p.config.limits.ConnectionsPerSource
	}
	return o
}

// bufferMemory is what may wait in buffers: half of the memory that Go may use, at most.
func bufferMemory(limit int, memory int64) int { return int(min(int64(limit), memory/2)) }

// spareFiles are for all else than connections that are carried.
const spareFiles = 256

// fileBudget is what the connections of both directions may open.
func fileBudget() *limits.Budget {
	var rlimit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rlimit); err != nil {
		return nil
	}
	return limits.NewBudget(int(min(max(rlimit.Cur, spareFiles+2)-spareFiles, math.MaxInt32))) //nolint:gosec // it has 31 bits
}

// maxConnections is what each direction may carry, by the limit and by the memory that Go may use. Between workloads a
// connection takes some 50 KiB, TLS and HTTP on both sides: who opens too many is refused and doesn't take the proxy, and
// so all others, down for want of memory.
func maxConnections(limit int, memory int64) int {
	const (
		each  = 64 << 10
		least = 256
	)
	return int(min(int64(limit), max(memory/each, least)))
}
