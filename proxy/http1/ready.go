// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/heddle-mesh/heddle/proxy/socket"
)

// ready reads from the socket below a connection once something is there, and looks at it. What it needs for that of a TCP
// connection it makes once, so that nothing is allocated for a message.
type ready struct {
	tcp  *net.TCPConn // that raw is of
	raw  syscall.RawConn
	try  func(fd uintptr) bool // tried
	wake func(fd uintptr) bool // woken
	look func(fd uintptr)      // looked
	once func(fd uintptr)      // taken

	buf  *buffer // what was read
	size int     // to be asked for
	n    int
	err  error
	into []byte   // to be read into once
	send []byte   // to be sent before anything is waited for, or nil
	to   net.Conn // for send
	sent int
	// unsent is what sending failed with.
	unsent error
	woke   bool
	some   bool // what look saw
}

// under returns the connection that reads and writes the same bytes, below what is around it; nil while something that was
// read is in between.
func under(c net.Conn) net.Conn {
	for {
		around, ok := c.(socket.Around)
		if !ok {
			return c
		}
		if c = around.Under(); c == nil {
			return nil
		}
	}
}

// find makes what waiting on a TCP connection needs.
func (r *ready) find(c *net.TCPConn) error {
	if r.tcp == c {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	r.tcp, r.raw = c, raw
	r.try, r.wake, r.look, r.once = r.tried, r.woken, r.looked, r.taken
	return nil
}

// read waits until there is something to be read and reads it into a buffer that it makes then. Of what it does not know it
// returns no buffer, or when there is something.
func (r *ready) read(c net.Conn, size int) (buf *buffer, n int, err error) {
	below := under(c)
	tcp, ok := below.(*net.TCPConn)
	switch {
	case below == nil:
		return nil, 0, nil
	case !ok:
		return nil, 0, socket.Wait(below)
	}
	if err = r.find(tcp); err == nil {
		r.buf, r.size, r.n, r.err = nil, size, 0, nil
		err = r.raw.Read(r.try)
	}
	buf, n = r.buf, r.n
	r.buf = nil
	switch {
	case n > 0:
		return buf, n, nil
	case err == nil:
		err = r.err
	}
	buf.free()
	return nil, 0, err
}

// tried reads, if there is something. Where something is to be sent first it sends that, and has the poller waited for: the
// answer cannot be here, and what comes from now on is not missed, because waiting had begun before.
func (r *ready) tried(fd uintptr) bool {
	if r.send != nil {
		r.sent, r.unsent = r.to.Write(r.send)
		r.send, r.err = nil, r.unsent
		return r.err != nil
	}
	if r.buf == nil {
		r.buf = newBuffer(r.size)
	}
	if r.take(fd, r.buf.b) {
		return true
	}
	r.buf.free()
	r.buf = nil
	return false
}

// take reads once. It returns false if nothing is there.
func (r *ready) take(fd uintptr, p []byte) bool {
	n, done, err := socket.ReadNow(fd, p)
	r.n, r.err = n, err
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = &net.OpError{
			Op: "read", Net: "tcp", Source: r.tcp.LocalAddr(), Addr: r.tcp.RemoteAddr(), Err: os.NewSyscallError("read", err),
		}
	}
	return done
}

// readNow reads what is there, and does not wait. It knows TCP alone.
func (r *ready) readNow(c net.Conn, p []byte) (int, error) {
	tcp, ok := under(c).(*net.TCPConn)
	if !ok {
		return 0, nil
	}
	err := r.find(tcp)
	if err == nil {
		r.into, r.n, r.err = p, 0, nil
		err = r.raw.Control(r.once)
		r.into = nil
	}
	if err != nil {
		return 0, err
	}
	return r.n, r.err
}

func (r *ready) taken(fd uintptr) { r.take(fd, r.into) }

// wait waits until reading gives something: bytes, the end or an error. Of what it does not know it says so at once.
func (r *ready) wait(c net.Conn) error {
	below := under(c)
	tcp, ok := below.(*net.TCPConn)
	switch {
	case below == nil:
		return nil
	case !ok:
		return socket.Wait(below)
	}
	if err := r.find(tcp); err != nil {
		return err
	}
	r.woke = false
	return r.raw.Read(r.wake)
}

// woken looks once, because the poller tells of what comes and not of what is there, and then believes the poller.
func (r *ready) woken(fd uintptr) bool {
	if r.woke {
		return true
	}
	r.woke = true
	some, _ := socket.Readable(fd)
	return some
}

// quiet says whether nothing can be read now, neither bytes nor an end nor an error. What it does not know is quiet.
func (r *ready) quiet(c net.Conn) bool {
	switch c := under(c).(type) {
	case nil:
		return false
	case interface{ Quiet() bool }: // mesh TLS
		return c.Quiet()
	case *net.TCPConn:
		r.some = true
		return r.find(c) == nil && r.raw.Control(r.look) == nil && !r.some // Control does not mind deadlines
	case interface{ NetConn() net.Conn }: // TLS that holds nothing back which it has read to its end
		return r.quiet(c.NetConn())
	}
	return true
}

func (r *ready) looked(fd uintptr) { r.some, _ = socket.Readable(fd) }
