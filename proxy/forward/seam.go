// SPDX-License-Identifier: Apache-2.0

// Package forward carries one connection end to end: it finds out where a connection goes, speaks its protocol, decides
// by policy, picks endpoints, and reports what happened.
//
// # The seam
//
// Package listener accepts connections, learns their original destination and hands each over as a Conn, undetected: only
// forward knows whether a port's protocol is declared, so it calls Conn.Detect when, and as long as, it needs to. The
// engines of HTTP behind forward can be replaced without the listener, the tables or the pools knowing.
//
//	out, in := forward.NewOutbound(options), forward.NewInbound(options)
//	// for every accepted connection, in a goroutine of the listener:
//	rest := out.Serve(ctx, &forward.Conn{Peeker: listener.Peek(c), Source: src, Destination: dst})
//	for rest != nil { // in another goroutine, or in the same
//		rest = rest()
//	}
package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/observe"
	"github.com/heddle-mesh/heddle/proxy/table"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// Protocol is what the first bytes of a connection are.
type Protocol uint8

// The protocols that a Peeker tells apart.
const (
	Unknown Protocol = iota // too few bytes yet to say
	HTTP1                   // a method that RFC 9110 and its registry know, or another token, and a space, as in "GET /"
	HTTP2                   // the first bytes of the preface of RFC 9113, section 3.4: "PRI * HTTP/2.0"
	TLS                     // a ClientHello that is not mesh TLS
	MeshTLS                 // a ClientHello that offers an ALPN name which begins with "heddle/"
	Opaque                  // anything else, or an end without a byte
)

// String names the protocol as logs do.
func (p Protocol) String() string {
	return [...]string{"unknown", "http1", "http2", "tls", "mesh_tls", "tcp"}[p]
}

// Peeker is a connection whose first bytes can be looked at without taking them: Read returns them again.
type Peeker interface {
	net.Conn
	// Detect waits until the first bytes are conclusive and says what they are. When ctx ends first it returns Unknown and
	// no error, promptly, and may be called again later; Read may follow either way. An end of the stream before the bytes
	// are conclusive is Opaque; another failure of the connection is an error. It holds at most a bounded number of bytes
	// and is never called while a Read runs.
	Detect(ctx context.Context) (Protocol, error)
	// ServerName is whom the TLS that Detect found is for (SNI), or empty: the caller says so, and nothing proves it.
	ServerName() string
	// Buffered is how many bytes were looked at and not yet read.
	Buffered() int
	// CloseWrite sends the end of the stream, or close_notify, and leaves the other direction open.
	CloseWrite() error
}

// Conn is an accepted connection, before a byte of it was taken.
type Conn struct {
	Peeker
	Source      netip.AddrPort // the caller
	Destination netip.AddrPort // where it wanted to go before the redirect (SO_ORIGINAL_DST), unmapped
}

// Credentials are the proxy's certificate and the roots that it trusts; package agent has them. Both are asked at every
// handshake, so a renewal applies to new connections and leaves open ones alone. Nil means that there is none yet.
type Credentials interface {
	Certificate() *tls.Certificate
	Roots() *x509.CertPool
}

// Options are what both directions need. All but Limits, Count and Budget are required.
type Options struct {
	Tables    *table.Store
	Upstreams *upstream.Registry
	// Credentials are presented to callers, and their roots judge callers.
	Credentials Credentials
	Observer    observe.Observer
	Log         logr.Logger
	// Clock is the proxy's one clock.
	Clock func() time.Time
	// Peek makes the content of a mesh TLS connection detectable, for ALPN heddle/detect.
	Peek func(net.Conn) Peeker
	// Limits bound what callers can take. Zero fields mean the defaults.
	Limits limits.Set
	// Count counts what goes over a limit; nil counts nothing.
	Count limits.Counter
	// Budget counts the bytes that wait in buffers of both directions; nil: Limits.Memory of this direction's own.
	Budget *limits.Budget
}

// Rest goes on with a connection, as Serve does. It must be called, once, and had best be in a new goroutine: it waits, and
// its stack need not grow for that.
type Rest func() Rest

// Server is what the listener sees of either direction.
type Server interface {
	// Serve carries the connection until it ends, and closes it: then it returns nil. One that waits for its caller may
	// rest before. Whoever calls closes the TCP connection when ctx ends.
	Serve(ctx context.Context, c *Conn) Rest
	// Drain asks callers to leave: HTTP/1.1 answers say "Connection: close" and HTTP/2 connections get GOAWAY. Connections
	// that come later are served all the same. It does not wait and may be called twice.
	Drain()
	// Active is how many requests, and connections that are not HTTP, are being carried.
	Active() int
	// Shutdown drains, waits until Active is 0 or ctx ends, and cuts what is left.
	Shutdown(ctx context.Context) error
}
