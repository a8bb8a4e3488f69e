// SPDX-License-Identifier: Apache-2.0

package testconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Memory returns both ends of a connection that is all in memory, so that waiting on it is waiting in a bubble of synctest.
// Unlike a net.Pipe it ends one direction at a time, can be reset, and holds up to window bytes each way that nobody has
// read yet, as sockets do: who writes more waits.
func Memory(window int) (near, far *Conn) {
	in, out := newWay(window), newWay(window)
	return &Conn{in: in, out: out}, &Conn{in: out, out: in}
}

// Conn is one end of a connection in memory.
type Conn struct{ in, out *way }

// way is one direction.
type way struct {
	mu      sync.Mutex
	changed sync.Cond
	held    []byte
	window  int
	ended   bool // who writes has ended it
	left    bool // who reads has closed
	broken  bool
	read    deadline
	write   deadline
}

func newWay(window int) *way {
	w := &way{window: window}
	w.changed.L = &w.mu
	return w
}

// deadline of one end of a way.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set sets a deadline of the way's.
func (w *way) set(d *deadline, t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; !t.IsZero() && !d.passed() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changed.Broadcast()
		})
	}
	w.changed.Broadcast()
}

// change changes the way, and wakes who waits.
func (w *way) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.changed.Broadcast()
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	w := c.in
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.left:
			return 0, fault("read", net.ErrClosed)
		case w.read.passed():
			return 0, fault("read", os.ErrDeadlineExceeded)
		case w.broken:
			return 0, fault("read", syscall.ECONNRESET)
		case len(w.held) > 0:
			n := copy(p, w.held)
			w.held = w.held[n:]
			w.changed.Broadcast()
			return n, nil
		case w.ended:
			return 0, io.EOF
		}
		w.changed.Wait()
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (n int, err error) {
	w := c.out
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.ended:
			return n, fault("write", net.ErrClosed)
		case w.write.passed():
			return n, fault("write", os.ErrDeadlineExceeded)
		case w.broken:
			return n, fault("write", syscall.ECONNRESET)
		case w.left:
			return n, fault("write", syscall.EPIPE)
		case len(p) == 0:
			return n, nil
		}
		if room := min(w.window-len(w.held), len(p)); room > 0 {
			w.held = append(w.held, p[:room]...)
			p, n = p[room:], n+room
			w.changed.Broadcast()
			continue
		}
		w.changed.Wait()
	}
}

// CloseWrite ends what is written; reading goes on.
func (c *Conn) CloseWrite() error {
	c.out.change(func() { c.out.ended = true })
	return nil
}

// Close implements net.Conn. The peer reads what was written and then the end.
func (c *Conn) Close() error {
	c.out.change(func() { c.out.ended = true })
	c.in.change(func() { c.in.left = true })
	c.stop()
	return nil
}

// Reset closes the connection so that the peer's reading and writing fails from now on.
func (c *Conn) Reset() {
	for _, w := range []*way{c.in, c.out} {
		w.change(func() { w.broken = true })
	}
	c.Close()
}

// stop has the deadlines of a closed end wake nobody.
func (c *Conn) stop() {
	c.in.set(&c.in.read, time.Time{})
	c.out.set(&c.out.write, time.Time{})
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.set(&c.in.read, t)
	c.out.set(&c.out.write, t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.set(&c.in.read, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.set(&c.out.write, t)
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return address{} }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return address{} }

// address is where both ends are.
type address struct{}

func (address) Network() string { return "memory" }
func (address) String() string  { return "127.0.0.1:1" }

func fault(op string, err error) error {
	return &net.OpError{Op: op, Net: "memory", Source: address{}, Addr: address{}, Err: err}
}
