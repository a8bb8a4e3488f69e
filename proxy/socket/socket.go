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

// Wait waits until reading gives something: a byte, the end or an error. No buffer of the proxy's is held meanwhile. It
// fails as a read would that is past its deadline, or on a closed connection. Of what it does not know, such as a pipe, it
// says at once that there is something. It is for the goroutine that reads.
func Wait(c net.Conn) error {
	switch c := inner(c).(type) {
	case *TLS:
		return c.wait()
	case *net.TCPConn:
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		woke := false
		return raw.Read(func(fd uintptr) bool {
			// It looks once, because the poller tells of what comes and not of what is there, and then believes the poller.
			if !woke {
				woke = true
				return readable(fd)
			}
			return true
		})
	}
	return nil
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
