// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
)

// Failure is why a request or connection to an endpoint failed.
type Failure struct {
	Reason refusal.Reason
	// Undelivered says that the application cannot have seen any of it, so that it may be sent again whatever it is.
	Undelivered bool
	Err         error
}

// Error gives the reason and what failed underneath.
func (f *Failure) Error() string { return string(f.Reason) + ": " + f.Err.Error() }

// Unwrap returns what failed underneath.
func (f *Failure) Unwrap() error { return f.Err }

// errNoCertificate is what a handshake fails with before the agent has a certificate.
var errNoCertificate = errors.New("the proxy has no certificate yet")

// errPeer marks failures of the peer's identity.
var errPeer = errors.New("peer identity")

// dial opens a connection and, towards a workload, makes it mesh TLS, all in a time. It returns when the connection must take no new
// request any more: when the first of both leaves expires, when plaintext ends, or the zero time. Errors are *Failure.
func (e *Endpoint) dial(ctx context.Context, alpn string, timeout time.Duration) (net.Conn, time.Time, error) {
	o := &e.registry.options
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := o.Dial(ctx, "tcp", e.Address.String())
	if err != nil {
		return nil, time.Time{}, &Failure{refusal.ConnectFailed, true, fmt.Errorf("connecting to %v: %w", e.Address, err)}
	}
	conn = socket.Cheap(conn)
	if !e.MTLS() {
		var expires time.Time
		if e.Plaintext && e.PlaintextUntil != 0 {
			expires = time.UnixMilli(e.PlaintextUntil)
		}
		return conn, expires, nil
	}
	secured, expires, err := e.secure(ctx, conn, alpn)
	if err == nil {
		return secured, expires, nil
	}
	conn.Close()
	reason := refusal.ConnectFailed
	switch {
	case errors.Is(err, errPeer):
		reason = refusal.PeerIdentity
	case errors.Is(err, errNoCertificate):
		reason = refusal.NotReady
	}
	return nil, time.Time{}, &Failure{reason, true, fmt.Errorf("mesh TLS with %v: %w", e.Address, err)}
}

// secure does the handshake. Sessions are never resumed, so every connection proves both identities anew.
func (e *Endpoint) secure(ctx context.Context, conn net.Conn, alpn string) (net.Conn, time.Time, error) {
	credentials, now := e.registry.options.Credentials, e.registry.options.Clock
	own := credentials.Certificate()
	if own == nil {
		return nil, time.Time{}, errNoCertificate
	}
	offered := []string{alpn}
	if also, ok := foreign[alpn]; ok {
		offered = append(offered, also)
	}
	var ends time.Time // of the peer's leaf: the certificate itself would stay as long as the connection
	client := socket.Client(conn, &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           offered,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil },
		InsecureSkipVerify:   true, // because names are SPIFFE IDs: VerifyPeerCertificate judges the chain and the identity
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			peer, err := e.judge(credentials.Roots(), now(), raw)
			if err == nil {
				ends = peer.NotAfter
			}
			return err
		},
		// Records that grow are for pages in browsers.
		DynamicRecordSizingDisabled: true,
	}, e.registry.options.Budget)
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, time.Time{}, err
	}
	if got := client.ConnectionState().NegotiatedProtocol; !slices.Contains(offered, got) {
		return nil, time.Time{}, fmt.Errorf("it does not speak %s", alpn)
	}
	if own.Leaf != nil && own.Leaf.NotAfter.Before(ends) {
		ends = own.Leaf.NotAfter
	}
	return client, ends, nil
}

// judge accepts the endpoint's own identity alone.
func (e *Endpoint) judge(roots *x509.CertPool, now time.Time, raw [][]byte) (*x509.Certificate, error) {
	if roots == nil {
		return nil, errNoCertificate
	}
	id, leaf, err := identity.VerifyPeer(roots, now, x509.ExtKeyUsageServerAuth, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPeer, err)
	}
	if id != e.Identity {
		return nil, fmt.Errorf("%w: it proved %v and must be %v", errPeer, id, e.Identity)
	}
	return leaf, nil
}
