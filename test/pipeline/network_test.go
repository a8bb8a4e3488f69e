// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
)

// network is that of the pods: it says where a pod's address and port are found on loopback.
type network struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]string
}

func newNetwork() *network { return &network{ports: make(map[netip.AddrPort]string)} }

// set says where an address is found; "" takes it away.
func (n *network) set(at netip.AddrPort, found string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if found == "" {
		delete(n.ports, at)
		return
	}
	n.ports[at] = found
}

// dial is Dial of upstream.Options.
func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	found, ok := n.ports[at]
	n.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(at), Err: syscall.ECONNREFUSED}
	}
	return new(net.Dialer).DialContext(ctx, network, found)
}

// listen opens a port on loopback.
func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(tb, err)
	return l
}

// door is a Service in front of the operator's replicas: it forwards each new connection to where it leads at the time.
type door struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	to    string
	conns map[net.Conn]struct{}
}

func newDoor(tb testing.TB) *door {
	tb.Helper()
	d := &door{listener: listen(tb), conns: make(map[net.Conn]struct{})}
	d.wg.Go(d.serve)
	tb.Cleanup(func() {
		_ = d.listener.Close()
		d.lead("")
		d.wg.Wait()
	})
	return d
}

func (d *door) address() string { return d.listener.Addr().String() }

// lead cuts all connections and sends new ones elsewhere; "" is nowhere.
func (d *door) lead(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
	for c := range d.conns {
		_ = c.Close()
	}
	clear(d.conns)
}

func (d *door) serve() {
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return
		}
		if far := d.open(near); far != nil {
			d.wg.Go(func() { d.copy(near, far) })
			d.wg.Go(func() { d.copy(far, near) })
		}
	}
}

// open connects to where the door leads now, or closes the connection.
func (d *door) open(near net.Conn) (far net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.to != "" {
		if far, err := net.Dial("tcp", d.to); err == nil {
			d.conns[near], d.conns[far] = struct{}{}, struct{}{}
			return far
		}
	}
	_ = near.Close()
	return nil
}

func (d *door) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, to)
	delete(d.conns, from)
}
