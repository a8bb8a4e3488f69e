// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"io"
	"net"
	"sync"
	"syscall"
	"unsafe"
)

// TCP is a TCP connection that is read and written at less of the scheduler's cost. All else is that of the connection
// underneath.
type TCP struct {
	*net.TCPConn
	raw syscall.RawConn
}

// Cheap returns a TCP connection as one of *TCP, and any other as it is.
func Cheap(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	return &TCP{tcp, raw}
}

// NetConn implements Around.
func (c *TCP) NetConn() net.Conn { return c.TCPConn }

// Under implements Around.
func (c *TCP) Under() net.Conn { return c.TCPConn }

// most is how much is read or written by one call: the scheduler waits for that.
const most = large // four records of TLS at once

// transfer is one read or write.
type transfer struct {
	p    []byte
	all  [3]syscall.Iovec // instead of p
	left []syscall.Iovec  // of all
	n    int
	err  error

	read, write, writev func(uintptr) bool
}

var transfers = sync.Pool{New: func() any {
	t := &transfer{}
	t.read, t.write, t.writev = t.readOnce, t.writeAll, t.writeParts
	return t
}}

func (t *transfer) give() {
	t.p, t.all, t.left, t.n, t.err = nil, [3]syscall.Iovec{}, nil, 0, nil
	transfers.Put(t)
}

// Read implements net.Conn.
func (c *TCP) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return c.TCPConn.Read(p)
	}
	t, _ := transfers.Get().(*transfer)
	defer t.give()
	t.p = p[:min(len(p), most)]
	if err := c.raw.Read(t.read); err != nil {
		return 0, err
	}
	return t.n, fault("read", c.TCPConn, t.err)
}

func (t *transfer) readOnce(fd uintptr) bool {
	n, done, err := ReadNow(fd, t.p)
	t.n, t.err = n, err
	return done
}

// ReadNow reads from a socket that does not block. It returns bytes, or an error, such as io.EOF; or neither, and false,
// if nothing is there.
func ReadNow(fd uintptr, p []byte) (n int, done bool, err error) {
	for {
		n, errno := sysRead(fd, p)
		switch {
		case errno == 0 && n > 0:
			return n, true, nil
		case errno == 0:
			return 0, true, io.EOF
		case errno == syscall.EAGAIN:
			return 0, false, nil
		case errno != syscall.EINTR:
			return 0, true, errno
		}
	}
}

// Write implements net.Conn.
func (c *TCP) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return c.TCPConn.Write(p)
	}
	t, _ := transfers.Get().(*transfer)
	defer t.give()
	t.p = p
	err := c.raw.Write(t.write)
	if err == nil {
		err = fault("write", c.TCPConn, t.err)
	}
	return t.n, err
}

func (t *transfer) writeAll(fd uintptr) bool {
	for t.n < len(t.p) {
		n, errno := sysWrite(fd, t.p[t.n:min(len(t.p), t.n+most)])
		if done, again := t.wrote(n, errno); !again {
			return done
		}
	}
	return true
}

// wrote notes what a call has written. Again is to go on at once, done that it is over for an error.
func (t *transfer) wrote(n int, errno syscall.Errno) (done, again bool) {
	switch errno {
	case 0:
		t.n += n
		return false, true
	case syscall.EINTR:
		return false, true
	case syscall.EAGAIN:
		return false, false
	default:
		t.err = errno
		return true, false
	}
}

// WriteParts writes three parts as one, of which some may be empty, and says how many bytes it wrote.
func (c *TCP) WriteParts(first, second, third []byte) (int, error) {
	t, _ := transfers.Get().(*transfer)
	defer t.give()
	used := 0
	for _, p := range [...][]byte{first, second, third} {
		if len(p) > 0 {
			t.all[used].Base = &p[0]
			t.all[used].SetLen(len(p))
			used++
		}
	}
	t.left = t.all[:used]
	err := c.raw.Write(t.writev)
	if err == nil {
		err = fault("write", c.TCPConn, t.err)
	}
	return t.n, err
}

func (t *transfer) writeParts(fd uintptr) bool {
	for len(t.left) > 0 {
		before := t.n
		n, errno := sysWritev(fd, t.left)
		if done, again := t.wrote(n, errno); !again {
			return done
		}
		t.took(t.n - before)
	}
	return true
}

// took leaves out what was written.
func (t *transfer) took(n int) {
	for len(t.left) > 0 && n >= int(t.left[0].Len) {
		n -= int(t.left[0].Len)
		t.left = t.left[1:]
	}
	if n > 0 {
		first := &t.left[0]
		rest := unsafe.Slice(first.Base, first.Len)[n:]
		first.Base = &rest[0]
		first.SetLen(len(rest))
	}
}

// Beneath returns the connection that writes the same bytes, below what is around it but for what makes it cheap.
func Beneath(c net.Conn) net.Conn {
	for {
		if cheap, ok := c.(*TCP); ok {
			return cheap
		}
		around, ok := c.(Around)
		if !ok {
			return c
		}
		c = around.NetConn()
	}
}
