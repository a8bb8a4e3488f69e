// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/heddle-mesh/heddle/test/bench/peers"
	"github.com/heddle-mesh/heddle/test/bench/traffic"
)

// Idle connections: how many are opened, and for how long they are left alone.
const (
	idleConnections = 1000
	idleFor         = 60 * time.Second
	// pooledFor is how long the connections that a client side keeps to a server side are left alone. It is less, because
	// some pools close them after a minute.
	pooledFor = 45 * time.Second
)

// memory is what a peer holds. Bytes; 0 is unmeasured.
type memory struct {
	Peer string `json:"peer"`
	// Idle processes, 60 s after a few requests: one proxy in clear, and both sides of a pair.
	Plain  int64 `json:"plain"`
	Client int64 `json:"client"`
	Server int64 `json:"server"`
	// Connections are what each idle connection adds.
	Connections map[string]float64 `json:"connections"`
}

// Kinds of idle connections, in the order of the table.
var idleKinds = []idleKind{
	{name: "plain, of the application", topology: peers.Plain, size: "1k"},
	{name: "mTLS, server side", topology: peers.Pair, size: "1k", secure: true},
	{name: "mTLS, server side, after 1 MiB", topology: peers.Pair, size: "1m", secure: true},
	{name: "mTLS, client side", topology: peers.Pair, size: "1k", pooled: true},
	{name: "mTLS, client side, after 1 MiB", topology: peers.Pair, size: "1m", pooled: true},
}

type idleKind struct {
	name     string
	topology peers.Topology
	size     string
	secure   bool // dialled by us with mutual TLS
	pooled   bool // made by the client side, to the server side
}

// memories measures all peers at once, each with an instance for every figure: almost all of it is waiting.
func (r *run) memories(ctx context.Context) error {
	var group sync.WaitGroup
	var lock sync.Mutex
	note := func(peer, what string, err error) {
		if err != nil && !errors.Is(err, peers.ErrUnavailable) {
			r.report.problem(peer, "memory", what+": "+err.Error())
		}
	}
	var all []*memory
	for _, p := range r.chosen() {
		m := &memory{Peer: p.Name(), Connections: map[string]float64{}}
		all = append(all, m)
		start := func(what string, topology peers.Topology, measure func(*peers.Instance) error) {
			i, err := p.Start(r.site, topology)
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				note(p.Name(), what, err)
				return
			}
			r.report.started(p)
			group.Go(func() {
				defer i.Stop()
				err := measure(i)
				lock.Lock()
				defer lock.Unlock()
				note(p.Name(), what, err)
			})
		}
		for _, topology := range []peers.Topology{peers.Plain, peers.Pair} {
			start(string(topology), topology, func(i *peers.Instance) error { return r.idle(ctx, i, m, topology) })
		}
		for _, kind := range idleKinds {
			start(kind.name, kind.topology, func(i *peers.Instance) error {
				each, err := kind.measure(ctx, i)
				if err != nil {
					return err
				}
				lock.Lock()
				defer lock.Unlock()
				m.Connections[kind.name] = each
				return nil
			})
		}
	}
	group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, m := range all {
		r.report.addMemory(*m)
	}
	return nil
}

// idle takes the memory of processes that have done little and do nothing.
func (r *run) idle(ctx context.Context, i *peers.Instance, m *memory, topology peers.Topology) error {
	if err := ask(ctx, i.HTTP1.String(), "1k"); err != nil {
		return err
	}
	if err := pause(ctx, idleFor); err != nil {
		return err
	}
	client, err := resident(i.Client())
	if err != nil {
		return err
	}
	if topology == peers.Plain {
		m.Plain = client
		return nil
	}
	server, err := resident(i.Server())
	m.Client, m.Server = client, server
	return err
}

func resident(pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		n, err := traffic.Resident(pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask sends one request on a connection of its own.
func ask(ctx context.Context, addr, size string) error {
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return traffic.Ask(c, size, traffic.Sizes[size])
}

// measure returns what each idle connection adds to the memory of the process that it is measured on: what a number of
// connections holds more than a fifth of that number does, since the first ones bring heaps and pools with them.
func (k idleKind) measure(ctx context.Context, i *peers.Instance) (float64, error) {
	addr, pids, wait := i.HTTP1, i.Client, idleFor
	if k.secure {
		addr, pids = i.Inbound, i.Server
	}
	if k.pooled {
		wait = pooledFor
	}
	few, first, err := k.hold(ctx, i, addr, idleConnections/5)
	defer closeAll(few)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	before, err := resident(pids())
	if err != nil {
		return 0, err
	}
	more := idleConnections - len(few)
	if k.pooled {
		more = idleConnections // they take those that are there
	}
	many, second, err := k.hold(ctx, i, addr, more)
	defer closeAll(many)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, wait); err != nil {
		return 0, err
	}
	after, err := resident(pids())
	if err != nil {
		return 0, err
	}
	if !k.pooled {
		return float64(after-before) / float64(second), nil
	}
	now, err := pooled(i)
	if err == nil && now < idleConnections/2 {
		err = fmt.Errorf("the pool keeps %d of %d connections for %v", now, idleConnections, wait)
	}
	return float64(after-before) / float64(now-first), err
}

// hold opens connections and returns how many there are. Where the proxy makes them, the callers' are closed.
func (k idleKind) hold(ctx context.Context, i *peers.Instance, addr netip.AddrPort, n int) ([]net.Conn, int, error) {
	opening.Lock() // one after the other, or 5 GiB would be under way
	defer opening.Unlock()
	conns, err := k.open(ctx, i, addr, n)
	if err != nil || !k.pooled {
		return conns, len(conns), err
	}
	closeAll(conns)
	n, err = pooled(i)
	return nil, n, err
}

// opening is held while connections are opened.
var opening sync.Mutex

// open opens connections and has each carry an answer. Those of a client side carry theirs at the same time, so that each
// needs a connection of its own to the server side.
func (k idleKind) open(ctx context.Context, i *peers.Instance, addr netip.AddrPort, n int) ([]net.Conn, error) {
	var conns []net.Conn
	for range n {
		c, err := k.dial(ctx, i, addr)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
		if !k.pooled {
			if err := traffic.Ask(c, k.size, traffic.Sizes[k.size]); err != nil {
				return conns, err
			}
		}
	}
	if !k.pooled {
		return conns, nil
	}
	errs := make(chan error, len(conns))
	path := fmt.Sprintf("hold-%d-%d-%s/%s", n, addr.Port(), k.size, k.size)
	for _, c := range conns {
		go func() { errs <- traffic.Ask(c, path, traffic.Sizes[k.size]) }()
		if err := pause(ctx, handshakeGap); err != nil { // no burst of handshakes, which is not what is measured
			return conns, err
		}
	}
	var first error
	for range conns {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return conns, first
}

// handshakeGap is the time that a proxy has for each new connection.
const handshakeGap = 3 * time.Millisecond

func (k idleKind) dial(ctx context.Context, i *peers.Instance, addr netip.AddrPort) (net.Conn, error) {
	if !k.secure {
		return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr.String())
	}
	config, err := i.Credentials.Config()
	if err != nil {
		return nil, err
	}
	return traffic.DialTLS(ctx, addr.String(), config)
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}
