// SPDX-License-Identifier: Apache-2.0

// Package socket is what the proxy does with connections below any protocol: it waits for bytes without holding a buffer,
// carries many records of mesh TLS per system call, copies from one connection to another, in the kernel where it can,
// and ends connections by a reset.
package socket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Around is implemented by connections around another one, of which they may have read something ahead.
type Around interface {
	// NetConn returns the connection underneath. Writing that one is the same.
	NetConn() net.Conn
	// Under returns it too while reading it is the same, and nil while something was read of it that is still to be
	// returned. It is for the goroutine that reads.
	Under() net.Conn
}

// Wait waits until reading gives something: a byte, the end or an error. No buffer of the proxy's is held meanwhile. It
// fails as a read would that is past its deadline, or on a closed connection. Of what it does not know, such as a pipe, it
// says at once that there is something. It is for the goroutine that reads.
func Wait(c net.Conn) error {
	switch c := inner(c).(type) {
	case *TLS:
		return c.wait()
	case *net.TCPConn:
		return waitTCP(c)
	}
	return nil
}

func waitTCP(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var broken error
	waited := raw.Read(func(fd uintptr) bool {
		var ready bool
		ready, broken = Readable(fd)
		return ready
	})
	if waited != nil {
		return waited
	}
	return fault("read", c, broken)
}

// Rest waits until there may be something to be read, the end or an error; reading tells. It needs little of the stack: a
// goroutine that does little else keeps the 2 KiB that it began with. Of what it does not know it returns at once.
func Rest(c net.Conn) {
	c = inner(c)
	if t, ok := c.(*TLS); ok {
		if t.tells() || t.records.here() > 0 {
			return
		}
		c = inner(t.records.Conn)
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Read(stirs) //nolint:errcheck // reading tells
	}
}

// stirs is Readable for who needs little of the stack.
func stirs(fd uintptr) bool { return sysPeek(fd) != syscall.EAGAIN }

// Readable says whether a read of a socket would not block. An error is told once: reading afterwards gives an end.
func Readable(fd uintptr) (bool, error) {
	for {
		switch errno := sysPeek(fd); errno {
		case 0:
			return true, nil
		case syscall.EAGAIN:
			return false, nil
		case syscall.EINTR:
		default:
			return true, errno
		}
	}
}

// fault is an error of a system call as package net has it; nil and io.EOF stay what they are.
func fault(op string, c net.Conn, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // it is that itself
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
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

// inner returns the innermost connection that reads the same bytes; nil while something is to be returned before.
func inner(c net.Conn) net.Conn {
	for {
		outer, ok := c.(Around)
		if !ok {
			return c
		}
		if c = outer.Under(); c == nil {
			return nil
		}
	}
}
