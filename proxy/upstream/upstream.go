// SPDX-License-Identifier: Apache-2.0

// Package upstream keeps what lives longer than a table: endpoints, the count of what they are doing, and the
// connections to them.
//
// An Endpoint is found by its Key in a Registry and held by the tables that name it. When the last table lets go, its
// idle connections are closed and busy ones are given a while to finish. Connections between workloads are TLS 1.3 with
// an ALPN name of the mesh, and the peer must prove exactly the identity of the Key.
//
// Locks: Registry.mu before a pool's, that before Endpoint.mu. No connection is closed under a pool's.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
)

// The ALPN names of mesh TLS. They tell the protocol before its first byte, and mesh TLS from an application's own.
const (
	ALPNHTTP1  = "heddle/h1"
	ALPNHTTP2  = "heddle/h2"
	ALPNTCP    = "heddle/tcp"
	ALPNDetect = "heddle/detect" // nobody declared the port's protocol, and the bytes did not tell it either
)

// The ALPN names that peers which are no proxies of ours have for the same; mesh TLS takes them too.
const (
	PlainHTTP1 = "http/1.1"
	PlainHTTP2 = "h2"
)

// foreign is the other name of a protocol; of most there is none.
var foreign = map[string]string{ALPNHTTP1: PlainHTTP1, ALPNHTTP2: PlainHTTP2}

// Version is a version of HTTP. The caller's is kept towards the endpoint, but for servers of which another is declared.
type Version int

// The versions.
const (
	HTTP1 Version = iota
	HTTP2
)

// Key names an endpoint and its state. Whatever changes how connections are made is part of it.
type Key struct {
	Address netip.AddrPort
	// Identity that the endpoint must prove; zero: it is not in the mesh, so it is dialled in plaintext.
	Identity identity.ID
	// Plaintext says that it is dialled in plaintext although it has an identity.
	Plaintext bool
	// PlaintextUntil is when that ends, in Unix milliseconds; 0: it does not.
	PlaintextUntil int64
	// Pod is "namespace/name", so that a pod which takes over an address inherits nothing; or empty.
	Pod string
}

// Credentials are the proxy's certificate and the roots that it trusts, asked at every handshake. Nil: none yet.
type Credentials interface {
	Certificate() *tls.Certificate
	Roots() *x509.CertPool
}

// Options are what a Registry needs. Credentials and Clock are required; zero values of the others mean the defaults.
type Options struct {
	Credentials Credentials
	// Clock judges certificates.
	Clock func() time.Time
	// Dial opens a TCP connection; a net.Dialer with keep-alive.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	ConnectTimeout time.Duration // of a TCP connection and its TLS handshake together; 5 s
	IdleTimeout    time.Duration // how long an unused connection is kept, less than servers keep it; 60 s
	VanishTimeout  time.Duration // how long an endpoint may acknowledge nothing of what is on its way to it; 1 min
	DrainTimeout   time.Duration // how long what is busy may go on when its endpoint has left; 30 s
	WaitTimeout    time.Duration // how long a request waits for a connection when no more may be opened; 5 s
	MaxConnections int           // open to one endpoint, of each version of HTTP; 1,024
	MaxDials       int           // being opened to one endpoint at a time; 64
	MaxWaiters     int           // requests that wait for a connection to one endpoint; 1,024

	// Limits bound what an endpoint's answers can take; Count counts what went over one. Zero values mean the defaults.
	Limits limits.Set
	Count  limits.Counter
	// Budget counts the bytes that wait in streams of HTTP/2; nil has no end.
	Budget *limits.Budget
}

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	}
	set(&o.ConnectTimeout, 5*time.Second)
	set(&o.IdleTimeout, time.Minute)
	set(&o.DrainTimeout, 30*time.Second)
	set(&o.WaitTimeout, 5*time.Second)
	set(&o.MaxConnections, 1024)
	set(&o.MaxDials, 64)
	set(&o.MaxWaiters, 1024)
	o.Limits = o.Limits.WithDefaults()
	if o.Count == nil {
		o.Count = limits.Nop{}
	}
	return o
}

// keepAlive finds a dead peer of a silent connection in 75 s, as socket.Watch does of one that is not.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 3}

func set[T int | time.Duration](value *T, to T) {
	if *value == 0 {
		*value = to
	}
}
