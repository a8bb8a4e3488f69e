// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// pipeSize is what Linux gives a pipe. The kernel counts what is in it as the proxy's memory.
const pipeSize = 64 << 10

// pipe is what splice(2) needs in between. While it is empty it can be anybody's.
type pipe struct{ read, write int }

// spare are empty pipes. More than it holds are closed: few are in use at a time, as they are given back while nothing
// comes.
var spare = make(chan pipe, 32)

// takePipe fails when there are no files left, or no budget; then the bytes are copied.
func takePipe(budget *limits.Budget) (pipe, bool) {
	if !budget.Take(pipeSize) {
		return pipe{}, false
	}
	select {
	case p := <-spare:
		return p, true
	default:
	}
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		budget.Give(pipeSize)
		return pipe{}, false
	}
	return pipe{fds[0], fds[1]}, true
}

// give gives a pipe back; one that still holds something is closed.
func (p pipe) give(empty bool, budget *limits.Budget) {
	budget.Give(pipeSize)
	if empty {
		select {
		case spare <- p:
			return
		default:
		}
	}
	syscall.Close(p.read)
	syscall.Close(p.write)
}

// splicer carries bytes from one TCP connection to another through a pipe, which it takes when something is there. Where
// it can't, it copies. It is for one goroutine.
type splicer struct {
	to, from     *net.TCPConn
	source       *source
	in, out      syscall.RawConn
	fill, drain  func(uintptr) bool // s.fillPipe, s.drainPipe
	budget       *limits.Budget
	pipe         pipe
	held, copies bool // a pipe is; bytes have to be copied
	n            int  // bytes in the pipe
	err          error
}

func newSplicer(to, from *net.TCPConn, budget *limits.Budget) (*splicer, error) {
	s := &splicer{to: to, from: from, budget: budget}
	var err error
	if s.in, err = from.SyscallConn(); err != nil {
		return nil, err
	}
	if s.out, err = to.SyscallConn(); err != nil {
		return nil, err
	}
	s.fill, s.drain = s.fillPipe, s.drainPipe
	return s, nil
}

// carry carries what is there, once it is.
func (s *splicer) carry() (n int64, err error) {
	s.n, s.err, s.copies = 0, nil, false
	defer s.release()
	err = s.in.Read(s.fill)
	switch {
	case err != nil:
		return 0, err
	case s.copies:
		return s.copy()
	case s.err != nil:
		return 0, s.err
	}
	carried := int64(s.n)
	if err = s.out.Write(s.drain); err == nil {
		err = s.err
	}
	return carried - int64(s.n), err
}

func (s *splicer) release() {
	if s.held {
		s.pipe.give(s.n == 0, s.budget)
		s.held = false
	}
}

// fillPipe is called when there may be something; false waits until there is.
func (s *splicer) fillPipe(fd uintptr) bool {
	if s.pipe, s.held = takePipe(s.budget); !s.held {
		s.copies = true
		return true
	}
	n, err := splice(int(fd), s.pipe.write, pipeSize)
	switch err {
	case nil:
		if s.n = n; n == 0 {
			s.err = io.EOF
		}
		return true
	case unix.EAGAIN: //nolint:errorlint // it is an Errno
		s.release()
		return false
	case unix.EINVAL, unix.ENOSYS: // this kernel can't, or not with this
		s.copies = true
	default:
		s.err = s.fault("read", s.from, err)
	}
	s.release()
	return true
}

// drainPipe is called when the other side may take something.
func (s *splicer) drainPipe(fd uintptr) bool {
	for s.n > 0 {
		n, err := splice(s.pipe.read, int(fd), s.n)
		switch {
		case err == unix.EAGAIN: //nolint:errorlint // it is an Errno
			return false
		case err != nil:
			s.err = s.fault("write", s.to, err)
			return true
		}
		s.n -= n
	}
	return true
}

func splice(from, to, most int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(n), err
		}
	}
}

func (s *splicer) fault(op string, c net.Conn, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("splice", err)}
}

// copy carries through a buffer instead.
func (s *splicer) copy() (int64, error) {
	s.release()
	if s.source == nil {
		s.source = newSource(s.from, large, s.budget)
	}
	if err := s.source.fill(); err != nil {
		return 0, err
	}
	defer s.source.release()
	return write(s.to, s.source.in, nil)
}
