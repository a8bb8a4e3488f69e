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
	"github.com/heddle-mesh/heddle/proxy/refusal"
	"github.com/heddle-mesh/heddle/proxy/upstream"
)

// secure ends mesh TLS and carries what is inside.
func (k *call) secure(ctx context.Context) {
	conn, why := k.handshake(ctx)
	if why != nil {
		k.report(why)
		return
	}
	k.content = k.in.Peek(conn)
	defer k.content.Close()
	switch conn.ConnectionState().NegotiatedProtocol {
	case upstream.ALPNHTTP1, upstream.PlainHTTP1:
		k.http(ctx, HTTP1)
	case upstream.ALPNHTTP2, upstream.PlainHTTP2:
		k.http(ctx, HTTP2)
	case upstream.ALPNTCP:
		k.tcp(ctx, Opaque)
	default:
		protocol, err := detect(ctx, k.content, k.in.Limits.Grace)
		if err != nil {
			k.report(&refusal.Error{Reason: refusal.CallerGone, Cause: err})
			return
		}
		k.carry(ctx, protocol)
	}
}

// handshake makes the caller prove who it is.
func (k *call) handshake(ctx context.Context) (*tls.Conn, *refusal.Error) {
	ctx, cancel := context.WithTimeout(ctx, k.in.Limits.Handshake)
	defer cancel()
	conn := tls.Server(k.conn.Peeker, k.config())
	if err := conn.HandshakeContext(ctx); err != nil {
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
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{
			upstream.ALPNHTTP1, upstream.ALPNHTTP2, upstream.ALPNTCP, upstream.ALPNDetect, upstream.PlainHTTP2, upstream.PlainHTTP1,
		},
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert, // VerifyPeerCertificate judges it
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
