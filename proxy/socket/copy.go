// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"io"
	"net"

	"github.com/heddle-mesh/heddle/internal/limits"
)

// Copy carries bytes from one connection to another until that ends, and says how many it wrote. Between TCP connections
// they stay in the kernel. While nothing comes it holds nothing.
func Copy(to, from net.Conn, budget *limits.Budget) (total int64, err error) {
	to = Beneath(to)
	for {
		in := inner(from)
		if in != nil {
			n, err := copyInner(to, in, budget)
			return total + n, eof(err)
		}
		n, err := first(to, from, budget)
		if total += n; err != nil {
			return total, eof(err)
		}
	}
}

func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// first carries what a wrapper has read and not yet returned.
func first(to io.Writer, from io.Reader, budget *limits.Budget) (int64, error) {
	buffer := borrow(budget)
	defer giveBack(budget, buffer)
	n, err := from.Read(buffer)
	return write(to, buffer[:n], err)
}

// write writes what a read gave, with its error.
func write(to io.Writer, b []byte, err error) (int64, error) {
	if len(b) == 0 {
		return 0, err
	}
	n, failed := to.Write(b)
	if failed != nil {
		err = failed
	}
	return int64(n), err
}

func copyInner(to, from net.Conn, budget *limits.Budget) (int64, error) {
	if secured, ok := from.(*TLS); ok {
		return copyTLS(to, secured, budget)
	}
	if in, ok := from.(*net.TCPConn); ok {
		switch out := to.(type) {
		case *TCP:
			return copyTCP(out.TCPConn, in, budget)
		case *net.TCPConn:
			return copyTCP(out, in, budget)
		}
	}
	source := newSource(from, 4*recordPlaintext, budget)
	var total int64
	for {
		if err := source.fill(); err != nil {
			return total, err
		}
		n, err := write(to, source.in, nil)
		source.release()
		if total += n; err != nil {
			return total, err
		}
	}
}

func copyTCP(to, from *net.TCPConn, budget *limits.Budget) (total int64, err error) {
	s, err := newSplicer(to, from, budget)
	for err == nil {
		var n int64
		n, err = s.carry()
		total += n
	}
	return total, err
}

func copyTLS(to net.Conn, from *TLS, budget *limits.Budget) (total int64, err error) {
	for err == nil {
		if err = from.wait(); err != nil {
			return total, err
		}
		buffer := borrow(budget)
		var n int
		n, err = from.Read(buffer)
		var wrote int64
		wrote, err = write(to, buffer[:n], err)
		giveBack(budget, buffer)
		total += wrote
	}
	return total, err
}
