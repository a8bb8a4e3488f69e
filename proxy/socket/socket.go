// SPDX-License-Identifier: Apache-2.0

// Package socket is what the proxy does with connections below any protocol: it waits for bytes without holding a buffer,
// carries many records of mesh TLS per system call, copies from one connection to another, in the kernel where it can,
// and ends connections by a reset.
package socket

import (
	"net"
	"syscall"
)

// Around is implemented by connections around another one.
type Around interface {
	// Under returns the connection underneath while reading and writing that is the same; nil while something has been
	// read of it that is still to be returned.
	Under() net.Conn
}

// Waiter waits for bytes of one connection. It is for the goroutine that reads.
type Waiter struct {
	conn net.Conn
	tcp  *net.TCPConn // that raw is of
	raw  syscall.RawConn
	try  func(uintptr) bool // w.readable
	woke bool
}

// NewWaiter makes a Waiter, one for as long as the connection lives.
func NewWaiter(c net.Conn) *Waiter {
	w := &Waiter{conn: c}
	w.try = w.readable
	return w
}

// Wait waits until reading gives something: a byte, the end or an error. No buffer of the proxy's is held meanwhile. It
// fails as a read would that is past its deadline, or on a closed connection. Of what it does not know, such as a pipe, it
// says at once that there is something.
func (w *Waiter) Wait() error {
	switch c := inner(w.conn).(type) {
	case *TLS:
		return c.Wait()
	case *net.TCPConn:
		if w.tcp != c {
			raw, err := c.SyscallConn()
			if err != nil {
				return err
			}
			w.tcp, w.raw = c, raw
		}
		w.woke = false
		return w.raw.Read(w.try)
	}
	return nil
}

// readable looks once, because the poller tells of what comes and not of what is there, and then believes the poller.
func (w *Waiter) readable(fd uintptr) bool {
	if w.woke {
		return true
	}
	w.woke = true
	return readable(fd)
}

// readable says whether a read would not block.
func readable(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// Quiet says whether nothing is there to be read, no end and no error either: whether a connection whose peer owes nothing
// is good for another request. It does not wait. What it does not know is quiet.
func Quiet(c net.Conn) bool {
	switch c := inner(c).(type) {
	case nil:
		return false
	case *TLS:
		return c.quiet()
	case *net.TCPConn:
		raw, err := c.SyscallConn()
		if err != nil {
			return false
		}
		quiet := false
		err = raw.Control(func(fd uintptr) { quiet = !readable(fd) })
		return err == nil && quiet
	}
	return true
}

// Reset closes a connection so that its peer sees that it broke: by RST, and without close_notify. What can't be reset is
// closed.
func Reset(c net.Conn) {
	for {
		switch at := c.(type) {
		case *net.TCPConn:
			at.SetLinger(0) //nolint:errcheck // then it is closed in good order
			at.Close()
			return
		case *records:
			defer at.source.close()
			c = at.Conn
		case interface{ NetConn() net.Conn }: // TLS, and what is around another connection
			c = at.NetConn()
		default:
			c.Close()
			return
		}
	}
}

// inner returns the innermost connection that reads and writes the same bytes; nil while something is in between.
func inner(c net.Conn) net.Conn {
	for {
		around, ok := c.(Around)
		if !ok {
			return c
		}
		if c = around.Under(); c == nil {
			return nil
		}
	}
}
