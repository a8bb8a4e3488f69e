// SPDX-License-Identifier: Apache-2.0

package controlapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// Bounds of messages, in bytes. An envelope has at most 1 MiB (signedconfig.MaxEnvelopeSize); the rest is its wrapping.
const (
	MaxRequest  = 1 << 20
	MaxResponse = 1<<20 + 1<<10
)

// A connection on which nothing arrived for PingAfter is pinged, and given up PingTimeout later: a dead peer is noticed
// within ten seconds, on both sides.
const (
	PingAfter   = 5 * time.Second
	PingTimeout = 5 * time.Second
)

const (
	dialTimeout   = 5 * time.Second
	streamWindow  = 1 << 20
	connectWindow = 2 << 20
)

// Endpoint is how a proxy or a replica reaches the control server.
type Endpoint struct {
	Address     string           // host:port
	ServerName  string           // the exact DNS name that the server proves
	Roots       *x509.CertPool   // of the server's certificate
	Certificate *tls.Certificate // the caller's own; nil for IdentityService, which needs none
	Time        func() time.Time // nil: time.Now
}

// Client is an HTTP client with connections of its own. A caller makes one for each stream, so that a new stream is a new
// connection with the roots and certificates of now, and closes it afterwards.
type Client struct {
	*http.Client

	BaseURL string

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

var errClosed = errors.New("client is closed")

// Client returns a client that speaks HTTP/2 over TLS 1.3 to the endpoint and to nothing else.
func (e Endpoint) Client() *Client {
	c := &Client{BaseURL: "https://" + e.ServerName, conns: make(map[net.Conn]struct{})}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	c.Client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return c.dial(ctx, network, e.Address)
			},
			TLSClientConfig:     e.tls(),
			TLSHandshakeTimeout: dialTimeout,
			Protocols:           protocols,
			DisableCompression:  true,
			HTTP2: &http.HTTP2Config{
				SendPingTimeout: PingAfter, PingTimeout: PingTimeout,
				MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connectWindow,
			},
		},
	}
	return c
}

func (e Endpoint) tls() *tls.Config {
	roots := e.Roots
	if roots == nil {
		roots = x509.NewCertPool() // nil would mean the roots of the system
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: e.ServerName, Time: e.Time}
	if e.Certificate != nil {
		cfg.Certificates = []tls.Certificate{*e.Certificate}
	}
	return cfg
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = raw.Close()
		return nil, errClosed
	}
	c.conns[raw] = struct{}{}
	return raw, nil
}

// Close closes the connections, whatever goes on over them.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
	c.CloseIdleConnections()
}

// Config returns a client of ConfigService.
func (c *Client) Config() ConfigServiceClient {
	return NewConfigServiceClient(c, c.BaseURL, options()...)
}

// Identity returns a client of IdentityService.
func (c *Client) Identity() IdentityServiceClient {
	return NewIdentityServiceClient(c, c.BaseURL, options()...)
}

// options turns compression off: envelopes hardly shrink, and what is not unpacked needs no bound of its own.
func options() []connect.ClientOption {
	return []connect.ClientOption{connect.WithReadMaxBytes(MaxResponse), connect.WithAcceptCompression("gzip", nil, nil)}
}
