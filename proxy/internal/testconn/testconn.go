// SPDX-License-Identifier: Apache-2.0

// Package testconn makes connections for tests.
package testconn

import (
	"net"
	"testing"
)

// TCP returns both ends of a connection over loopback, the one that was accepted and the one that dialled. They are closed
// when the test ends.
func TCP(tb testing.TB) (accepted, dialled *net.TCPConn) {
	tb.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	if dialled, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr)); err != nil { //nolint:forcetypeassert // it is one
		tb.Fatal(err)
	}
	if accepted, err = l.AcceptTCP(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { accepted.Close(); dialled.Close() })
	return accepted, dialled
}
