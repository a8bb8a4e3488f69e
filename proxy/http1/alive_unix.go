// SPDX-License-Identifier: Apache-2.0

//go:build unix

package http1

import (
	"net"
	"syscall"
)

// socket looks at the socket below a connection. It is made once, so that looking does not allocate.
type socket struct {
	raw    syscall.RawConn
	look   func(fd uintptr)
	silent bool
	known  bool
}

// quiet says whether nothing can be read from the socket below a connection, and it has not ended.
func (s *socket) quiet(c net.Conn) bool {
	if !s.known {
		s.known = true
		s.raw = rawConn(c)
		s.look = func(fd uintptr) {
			var b [1]byte
			for {
				_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
				if err == syscall.EINTR {
					continue
				}
				s.silent = err == syscall.EAGAIN
				return
			}
		}
	}
	if s.raw == nil {
		return true
	}
	s.silent = false
	// Control, not Read: it does not look at the deadline.
	err := s.raw.Control(s.look)
	return err == nil && s.silent
}

// rawConn finds the socket, also below TLS.
func rawConn(c net.Conn) syscall.RawConn {
	for c != nil {
		if s, ok := c.(syscall.Conn); ok {
			raw, err := s.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		}
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = below.NetConn()
	}
	return nil
}
