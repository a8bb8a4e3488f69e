// SPDX-License-Identifier: Apache-2.0

// Package forward carries one connection end to end: it finds out where a connection goes, speaks its protocol, decides
// by policy, picks endpoints, and reports what happened.
//
// # The seam
//
// Package listener accepts connections, learns their original destination and hands each over as a Conn, undetected: only
// forward knows whether a port's protocol is declared, so it calls Conn.Detect when, and as long as, it needs to. The
// HTTP engine behind forward rides on net/http and can be replaced without the listener, the tables or the pools knowing.
//
//	out, in := forward.NewOutbound(options), forward.NewInbound(options)
//	// for every accepted connection, in a goroutine of the listener:
//	out.Serve(ctx, &forward.Conn{Peeker: listener.Peek(c), Source: src, Destination: dst})
package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"github.com/go-logr/logr"

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

// Options are what both directions need. All but Limits are required.
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
	Peek   func(net.Conn) Peeker
	Limits Limits
}

// Limits bound what one caller can take. Zero values mean the defaults.
type Limits struct {
	// HeaderBytes bounds the header of a request, and of an answer; 128 KiB.
	HeaderBytes int
	// FirstByte is how long an inbound connection may stay silent where the caller speaks first; 10 s.
	FirstByte time.Duration
	// Header is how long the header of a request may take from its first byte, and a TLS handshake; 10 s.
	Header time.Duration
	// Idle is how long a connection of HTTP may wait for the next request; 10 minutes. Outbound also for the first.
	Idle time.Duration
	// HalfClosed is how long a TCP connection that one side has ended may carry nothing; 1 hour. One that is open both
	// ways may be silent for ever: TCP keep-alive finds dead peers.
	HalfClosed time.Duration
	// Grace is how long a port that nobody declared is given to see its caller speak before its server is dialled, so that
	// the server may speak first; 20 ms.
	Grace time.Duration
	// ReplayBytes bounds the bytes of a request's body that are held for a second try; 64 KiB.
	ReplayBytes int
	// Streams bounds the concurrent streams of one HTTP/2 connection; 250.
	Streams int
}

func (l Limits) withDefaults() Limits {
	set(&l.HeaderBytes, 128<<10)
	set(&l.FirstByte, 10*time.Second)
	set(&l.Header, 10*time.Second)
	set(&l.Idle, 10*time.Minute)
	set(&l.HalfClosed, time.Hour)
	set(&l.Grace, 20*time.Millisecond)
	set(&l.ReplayBytes, 64<<10)
	set(&l.Streams, 250)
	return l
}

func set[T int | time.Duration](value *T, to T) {
	if *value == 0 {
		*value = to
	}
}

// Server is what the listener sees of either direction.
type Server interface {
	// Serve carries the connection until it ends, and closes it. It returns when ctx ends, too: that cuts the connection.
	Serve(ctx context.Context, c *Conn)
	// Drain asks callers to leave: HTTP/1.1 answers say "Connection: close" and HTTP/2 connections get GOAWAY. Connections
	// that come later are served all the same. It does not wait and may be called twice.
	Drain()
	// Active is how many requests, and connections that are not HTTP, are being carried.
	Active() int
	// Shutdown drains, waits until Active is 0 or ctx ends, and cuts what is left.
	Shutdown(ctx context.Context) error
}
