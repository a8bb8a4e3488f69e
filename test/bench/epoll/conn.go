// SPDX-License-Identifier: Apache-2.0

//go:build linux

package epoll

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a connection of a Loop.
type Conn struct {
	loop    *Loop
	fd      int
	handler Handler // nil once closed
	dirty   bool
	armed   bool // waits for the socket to take more
	lingers bool
	queue   [][]byte // what is to be sent, in order, before own
	own     []byte   // what was copied
	sent    int      // of the first
}

// Write copies p and sends it when the events at hand are handled, together with all else that was written.
func (c *Conn) Write(p []byte) {
	c.own = append(c.own, p...)
	c.touch()
}

// Buffer returns the buffer that Write appends to, to be appended to and given back to SetBuffer.
func (c *Conn) Buffer() []byte { return c.own }

// SetBuffer takes the buffer back.
func (c *Conn) SetBuffer(p []byte) {
	c.own = p
	c.touch()
}

// WriteStatic sends p as Write does, without a copy: p never changes. It is not mixed with Write on one connection.
func (c *Conn) WriteStatic(p []byte) {
	c.queue = append(c.queue, p)
	c.touch()
}

// Pending tells whether something that was written waits for the socket.
func (c *Conn) Pending() bool { return c.armed }

func (c *Conn) touch() {
	if !c.dirty && c.handler != nil {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// flush sends what the socket takes.
func (c *Conn) flush() {
	if c.handler == nil {
		return
	}
	for {
		p, last := c.own, true
		if len(c.queue) > 0 {
			p, last = c.queue[0], false
		}
		p = p[c.sent:]
		if len(p) > 0 {
			n, errno := raw(unix.SYS_WRITE, c.fd, p)
			switch {
			case errno == unix.EAGAIN:
				c.arm(true)
				return
			case errno != 0:
				c.fail(fmt.Errorf("write: %w", errno))
				return
			}
			if c.sent += n; n < len(p) {
				continue
			}
		}
		c.sent = 0
		if last {
			c.own = c.own[:0]
			break
		}
		if c.queue = c.queue[1:]; len(c.queue) == 0 {
			c.queue = nil
		}
	}
	c.arm(false)
}

func (c *Conn) arm(on bool) {
	if c.armed == on {
		return
	}
	c.armed = on
	events := uint32(unix.EPOLLIN)
	if on {
		events |= unix.EPOLLOUT
	}
	_ = c.loop.watch(unix.EPOLL_CTL_MOD, c.fd, events)
}

func (c *Conn) read(buf []byte) {
	n, errno := raw(unix.SYS_READ, c.fd, buf)
	switch {
	case errno == unix.EAGAIN:
	case errno != 0:
		c.fail(fmt.Errorf("read: %w", errno))
	case n == 0 && c.lingers:
		c.lingers = false
		c.Deafen()
	case n == 0:
		c.fail(errClosed)
	default:
		c.handler.Data(c, buf[:n])
	}
}

func (c *Conn) fail(err error) {
	if h := c.handler; h != nil {
		c.Close()
		h.Closed(c, err)
	}
}

// Linger keeps the connection when its peer has sent its last byte. No event follows until the peer closes it.
func (c *Conn) Linger() { c.lingers = true }

// Deafen reads nothing more of the connection. No event follows until the peer closes it.
func (c *Conn) Deafen() { _ = c.loop.watch(unix.EPOLL_CTL_MOD, c.fd, 0) }

// Close closes the connection. No event follows.
func (c *Conn) Close() {
	if c.handler == nil {
		return
	}
	c.handler = nil
	c.loop.conns[c.fd] = nil
	_ = unix.Close(c.fd)
}

// raw reads or writes without telling the scheduler of it: these calls never block.
func raw(trap uintptr, fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno //nolint:gosec // at most len(p)
}

// wait is epoll_pwait2, which takes nanoseconds.
func (l *Loop) wait(d time.Duration) (int, error) {
	l.timeout = unix.NsecToTimespec(int64(d))
	var n uintptr
	var errno syscall.Errno
	if d == 0 {
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)),
			uintptr(unsafe.Pointer(&l.timeout)), 0, 0)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)),
			uintptr(unsafe.Pointer(&l.timeout)), 0, 0)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil //nolint:gosec // at most len(events)
}
