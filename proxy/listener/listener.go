// SPDX-License-Identifier: Apache-2.0

// Package listener takes the connections that package capture redirects: it accepts them, learns where they were going,
// tells their protocol by their first bytes when asked, and hands them to package forward. It also ends them in order
// when the pod goes away.
package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/capture"
	"github.com/heddle-mesh/heddle/proxy/forward"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// NotRedirected is why a listener refuses a connection to one of the proxy's own ports, or inbound to an address that
// isn't the pod's: forwarding it would come back for ever, or let a neighbour on the wire send through the pod.
const NotRedirected refusal.Reason = "not_redirected"

// filesEach is what a connection takes: its own, and the one on the other side of the proxy.
const filesEach = 2

// Events counts what happens to connections before forward has them. It must be safe for concurrent use.
type Events interface {
	Opened()
	Closed()
	Refused(refusal.Reason)
	Panicked()
}

// Options say how a Listener treats connections. Server, Events and Log are required.
type Options struct {
	Server forward.Server
	Events Events
	Log    logr.Logger
	// OriginalDestination tells where a connection was going; nil asks the kernel.
	OriginalDestination func(*net.TCPConn) (netip.AddrPort, error)
	// Local says whether an address is the pod's own; nil: none is.
	Local func(netip.Addr) bool
	// OnlyLocal refuses what was going to any other address: inbound.
	OnlyLocal bool
	// OwnPorts of a local address are never an original destination.
	OwnPorts []uint16
	// MaxConnections is how many are carried at a time, and MaxPerSource how many of them from one address; 0 is that of
	// limits.Default, for addresses none. One more is reset at once, so that its caller can try another endpoint.
	MaxConnections, MaxPerSource int
	// Files are what all listeners may open, two for each connection; nil has no end. A connection that finds none is reset
	// as those over MaxConnections.
	Files *limits.Budget
	// Count counts those; nil counts nothing.
	Count limits.Counter
}

// Listener is one accept loop and the connections that came from it.
type Listener struct {
	net.Listener
	opts        Options
	connections atomic.Int64
	sources     sources
	watch       socket.Watch
	carried     sync.WaitGroup
}

// Listen opens a port on all addresses of both families.
func Listen(ctx context.Context, port uint16) (net.Listener, error) {
	// A dead peer is noticed within two minutes, on a connection that may otherwise be silent for ever; where something is
	// on its way to it, socket.Watch does that.
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4,
	}}
	l, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: a container of the pod uses port %d, which is the proxy's: change the container's", err, port)
	}
	return l, err
}

// New makes a Listener of an open port.
func New(l net.Listener, opts Options) *Listener {
	if opts.OriginalDestination == nil {
		opts.OriginalDestination = capture.OriginalDestination
	}
	if opts.MaxConnections == 0 {
		opts.MaxConnections = limits.Default().Connections
	}
	if opts.Count == nil {
		opts.Count = limits.Nop{}
	}
	return &Listener{Listener: l, opts: opts, sources: sources{most: opts.MaxPerSource}}
}

// Run accepts connections until the port is closed (Close), and returns when all that it accepted have ended. When ctx
// ends it closes the port and cuts the connections.
func (l *Listener) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		l.watch.Close()
	})
	defer stop()
	err := l.accept(ctx)
	l.carried.Wait()
	return err
}

func (l *Listener) accept(ctx context.Context) error {
	var wait backoff
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case isShortage(err):
			// Nothing is accepted until something else has let go: trying at once again would only burn time.
			l.opts.Log.Error(err, "Can't accept a connection, trying again", "address", l.Addr().String())
			if !wait.sleep(ctx) {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("accept on %v: %w", l.Addr(), err)
		}
		wait = 0
		l.admit(ctx, c)
	}
}

// isShortage says whether an accept failed for want of what others may give back.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM)
}

// admit starts to carry a connection, or refuses it.
func (l *Listener) admit(ctx context.Context, c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		l.refuse(c, refusal.Overloaded, errors.ErrUnsupported)
		return
	}
	if l.connections.Add(1) > int64(l.opts.MaxConnections) {
		l.connections.Add(-1)
		l.opts.Count.Exceeded(limits.Connections)
		l.refuse(c, refusal.Overloaded, nil)
		return
	}
	if !l.opts.Files.Take(filesEach) {
		l.connections.Add(-1)
		l.opts.Count.Exceeded(limits.Connections)
		l.refuse(c, refusal.Overloaded, nil)
		return
	}
	source := remote(c).Addr()
	if !l.sources.enter(source) {
		l.connections.Add(-1)
		l.opts.Files.Give(filesEach)
		l.opts.Count.Exceeded(limits.ConnectionsPerSource)
		l.refuse(c, refusal.Overloaded, nil)
		return
	}
	l.opts.Events.Opened()
	l.watch.Add(tcp)
	a := &admitted{listener: l, conn: tcp, source: source}
	l.carried.Go(func() {
		defer a.pause()
		a.rest = l.carry(ctx, tcp)
	})
}

// admitted is a connection that is carried.
type admitted struct {
	listener *Listener
	conn     *net.TCPConn
	source   netip.Addr
	rest     forward.Rest // what goes on with it
}

// wake goes on with a connection that rests.
func (a *admitted) wake() {
	rest := a.rest
	a.rest = nil
	defer a.pause()
	a.rest = rest()
}

// pause is run when a goroutine has done what there was to do. One that rests goes on in another one: Go never makes a stack
// as small again as that of a new goroutine, and to carry a request, or to shake hands, takes several times as much.
func (a *admitted) pause() {
	l := a.listener
	if p := recover(); p != nil {
		// One connection's fault is not the others'.
		l.opts.Events.Panicked()
		l.opts.Log.Error(fmt.Errorf("panic: %v", p), "Dropped a connection for a fault of the proxy", "stack", string(debug.Stack()))
	}
	if a.rest != nil {
		l.carried.Go(a.wake)
		return
	}
	l.watch.Remove(a.conn)
	_ = a.conn.Close()
	l.connections.Add(-1)
	l.opts.Files.Give(filesEach)
	l.sources.leave(a.source)
	l.opts.Events.Closed()
}

func (l *Listener) carry(ctx context.Context, c *net.TCPConn) forward.Rest {
	dst, err := l.opts.OriginalDestination(c)
	if err != nil {
		l.refuse(c, NotRedirected, err)
		return nil
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	local := l.opts.Local != nil && l.opts.Local(dst.Addr())
	if local && slices.Contains(l.opts.OwnPorts, dst.Port()) {
		l.refuse(c, NotRedirected, fmt.Errorf("port %d is the proxy's own", dst.Port()))
		return nil
	}
	if l.opts.OnlyLocal && !local {
		l.refuse(c, NotRedirected, fmt.Errorf("%v is not an address of this pod", dst.Addr()))
		return nil
	}
	return l.opts.Server.Serve(ctx, &forward.Conn{Peeker: Peek(socket.Cheap(c)), Source: remote(c), Destination: dst})
}

func remote(c net.Conn) netip.AddrPort {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
}

// refuse resets the connection.
func (l *Listener) refuse(c net.Conn, reason refusal.Reason, err error) {
	l.opts.Events.Refused(reason)
	l.opts.Log.V(1).Info("Refused a connection", "reason", string(reason), "source", c.RemoteAddr().String(), "err", err)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// Connections is how many are being carried.
func (l *Listener) Connections() int { return int(l.connections.Load()) }

// backoff doubles from 5 ms to a second.
type backoff time.Duration

// sleep returns false when ctx ended first.
func (b *backoff) sleep(ctx context.Context) bool {
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(time.Second))
	timer := time.NewTimer(time.Duration(*b))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
