// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"net"
	"net/netip"
	"sync"
)

// limiter lets each source have so many connections at a time, so that nobody who can reach the pod keeps the kubelet
// out. More are closed at once.
type limiter struct {
	net.Listener
	max int

	mu   sync.Mutex
	open map[netip.Addr]int
}

func newLimiter(l net.Listener, most int) *limiter {
	return &limiter{Listener: l, max: most, open: make(map[netip.Addr]int)}
}

// Accept implements net.Listener.
func (l *limiter) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok {
			return c, nil // a Unix socket: only the proxy's container reaches it
		}
		source := a.AddrPort().Addr().Unmap()
		if l.take(source) {
			return &limited{Conn: c, release: sync.OnceFunc(func() { l.giveBack(source) })}, nil
		}
		_ = c.Close()
	}
}

func (l *limiter) take(source netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source] >= l.max {
		return false
	}
	l.open[source]++
	return true
}

func (l *limiter) giveBack(source netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source]--; l.open[source] == 0 {
		delete(l.open, source)
	}
}

type limited struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limited) Close() error {
	c.release()
	return c.Conn.Close()
}
