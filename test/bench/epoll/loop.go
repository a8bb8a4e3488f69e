// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package epoll is an event loop of one thread over TCP sockets on loopback. The bench's origin and generator ride on it
// because what they use of a processor is missing where a proxy's saturation is looked for, and because a goroutine that
// waits for its turn would be measured as the proxy's latency.
package epoll

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Handler gets the events of a connection, one at a time.
type Handler interface {
	// Data gets bytes as they come. They are valid during the call.
	Data(c *Conn, p []byte)
	// Closed is the last event, unless Close was called. The error is io.EOF if the peer closed.
	Closed(c *Conn, err error)
}

// Loop is an event loop. All is called by one goroutine.
type Loop struct {
	fd        int
	listeners map[int]func(*Conn) Handler
	conns     []*Conn // by descriptor
	dirty     []*Conn
	events    [512]unix.EpollEvent
	timeout   unix.Timespec
	buf       []byte
}

// readSize is what one read takes at most.
const readSize = 256 << 10

// New makes a Loop.
func New() (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// Timeouts would come 50 µs late otherwise. It is this thread's: callers lock theirs.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("timer slack: %w", err)
	}
	return &Loop{fd: fd, listeners: map[int]func(*Conn) Handler{}, buf: make([]byte, readSize)}, nil
}

// Listen takes connections at an address and asks accept for the handler of each.
func (l *Loop) Listen(addr netip.AddrPort, accept func(*Conn) Handler) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return fmt.Errorf("listen on %v: %w", addr, err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return fmt.Errorf("listen on %v: %w", addr, err)
	}
	l.listeners[fd] = accept
	return l.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN)
}

// Dial connects. On loopback that is done before it returns.
func (l *Loop) Dial(addr netip.AddrPort, h Handler) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", addr, err)
	}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 10}),
		unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}),
	)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("dial %v: %w", addr, err)
	}
	c := &Conn{loop: l, fd: fd}
	return c, l.add(c, h)
}

func (l *Loop) add(c *Conn, h Handler) error {
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("no delay: %w", err)
	}
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, max(64, len(l.conns)))...)
	}
	c.handler = h
	l.conns[c.fd] = c
	return l.watch(unix.EPOLL_CTL_ADD, c.fd, unix.EPOLLIN)
}

func (l *Loop) watch(op, fd int, events uint32) error {
	if err := unix.EpollCtl(l.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil { //nolint:gosec // a descriptor
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

// Poll flushes what was written, waits for events, for so long at most, and handles them.
func (l *Loop) Poll(wait time.Duration) error {
	l.flush()
	if len(l.dirty) > 0 {
		wait = 0
	}
	n, err := l.wait(max(wait, 0))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, e := range l.events[:max(n, 0)] {
		fd := int(e.Fd)
		if accept, ok := l.listeners[fd]; ok {
			if err := l.accept(fd, accept); err != nil {
				return err
			}
			continue
		}
		c := l.conns[fd]
		if c == nil {
			continue
		}
		if e.Events&unix.EPOLLOUT != 0 {
			c.flush()
		}
		if e.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 && c.handler != nil {
			c.read(l.buf)
		}
	}
	l.flush()
	return nil
}

func (l *Loop) accept(fd int, accept func(*Conn) Handler) error {
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		c := &Conn{loop: l, fd: conn}
		if err := l.add(c, accept(c)); err != nil {
			return err
		}
	}
}

// flush sends what is written at the time. What that brings about is left to the next turn.
func (l *Loop) flush() {
	batch := len(l.dirty)
	for i := range batch {
		c := l.dirty[i]
		c.dirty = false
		c.flush()
	}
	l.dirty = slices.Delete(l.dirty, 0, batch)
}

// Close closes every connection, without an event, and the loop.
func (l *Loop) Close() error {
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
	for fd := range l.listeners {
		_ = unix.Close(fd)
	}
	return unix.Close(l.fd)
}

// errClosed is what a handler is told of a peer that closed.
var errClosed = io.EOF

// Loopback returns the address of a port on 127.0.0.1.
func Loopback(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(net.IPv4(127, 0, 0, 1).To4())), uint16(port)) //nolint:gosec // a port
}
