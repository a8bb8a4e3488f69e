// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/limits"
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/socket"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// secure ends mesh TLS and carries what is inside, unless it is HTTP: that is returned.
func (k *call) secure(ctx context.Context) *served {
	conn, why := k.handshake(ctx)
	if why != nil {
		k.report(why)
		return nil
	}
	k.content = k.in.Peek(conn)
	c := k.inside(ctx, conn.ConnectionState().NegotiatedProtocol)
	if c == nil {
		k.content.Close()
	}
	return c
}

// inside carries what is inside mesh TLS of which the handshake has named the protocol, unless it is HTTP.
func (k *call) inside(ctx context.Context, name string) *served {
	switch name {
	case upstream.ALPNHTTP1, upstream.PlainHTTP1:
		return k.http(HTTP1)
	case upstream.ALPNHTTP2, upstream.PlainHTTP2:
		return k.http(HTTP2)
	case upstream.ALPNTCP:
		return k.tcp(ctx, Opaque)
	}
	protocol, err := k.look(ctx, k.in.Limits.Grace)
	if err != nil {
		k.report(&refusal.Error{Reason: refusal.CallerGone, Cause: err})
		return nil
	}
	return k.carry(ctx, protocol)
}

// handshake makes the caller prove who it is.
func (k *call) handshake(ctx context.Context) (*socket.TLS, *refusal.Error) {
	ctx, cancel := context.WithTimeout(ctx, k.in.Limits.Handshake)
	defer cancel()
	conn := socket.Server(k.conn.Peeker, k.config(), k.in.Budget)
	if err := conn.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			k.in.Count.Exceeded(limits.Handshake)
		}
		k.linger()
		return nil, &refusal.Error{Reason: refusal.TLSFailed, Cause: err}
	}
	if k.peer == nil {
		return nil, refusal.Newf(refusal.TLSFailed, "the caller presented no certificate")
	}
	return conn, nil
}

// linger lets the alert that says what is wrong reach the caller: closing a connection of which something is unread resets
// it, which may overtake the alert.
func (k *call) linger() {
	const wait, most = time.Second, 64 << 10
	if k.conn.CloseWrite() != nil {
		return
	}
	k.conn.SetReadDeadline(time.Now().Add(wait)) //nolint:errcheck // the read tells
	io.CopyN(io.Discard, k.conn.Peeker, most)    //nolint:errcheck // it is given up
}

// config is that of one handshake. Sessions are not resumed, so that every connection proves the caller's identity anew.
func (k *call) config() *tls.Config {
	// Of a caller that takes either version, the one that the application certainly speaks.
	first, second := upstream.PlainHTTP1, upstream.PlainHTTP2
	if speaksHTTP2(k.policy.Protocol) {
		first, second = second, first
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{upstream.ALPNHTTP1, upstream.ALPNHTTP2, upstream.ALPNTCP, upstream.ALPNDetect, first, second},
		SessionTicketsDisabled: true,
		// Records that grow are for pages in browsers.
		DynamicRecordSizingDisabled: true,
		ClientAuth:                  tls.RequireAnyClientCert, // VerifyPeerCertificate judges it
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if own := k.in.Credentials.Certificate(); own != nil {
				return own, nil
			}
			return nil, errors.New("the proxy has no certificate yet")
		},
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error { return k.verify(raw) },
	}
}

// verify accepts every identity of the mesh's trust domain.
func (k *call) verify(raw [][]byte) error {
	roots, mesh := k.in.Credentials.Roots(), k.in.Tables.Mesh()
	if roots == nil || mesh == nil {
		return errors.New("the proxy has no trust roots yet")
	}
	id, leaf, err := identity.VerifyPeer(roots, k.in.Clock(), x509.ExtKeyUsageClientAuth, raw)
	if err != nil {
		return err
	}
	if id.TrustDomain != mesh.TrustDomain {
		return fmt.Errorf("%v is not of trust domain %s", id, mesh.TrustDomain)
	}
	k.peer, k.expires = &id, leaf.NotAfter
	return nil
}
