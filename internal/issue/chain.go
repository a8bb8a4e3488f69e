// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Bounds of what an issuer returns.
const (
	maxChainPEM  = 64 << 10
	maxChain     = 6 // certificates
	clockSkew    = time.Minute
	lifetimeSlop = time.Hour // how much longer than the maximum an issuer may make a leaf
)

// expected is what an issued certificate must be.
type expected struct {
	id    identity.ID
	key   *ecdsa.PublicKey
	roots *x509.CertPool
	now   time.Time
}

// issuedChain is a certificate that was checked: leaf first, without the root.
type issuedChain struct {
	id   identity.ID
	der  [][]byte
	leaf *x509.Certificate
	// anchors are the roots that the chain leads to, more than one when a root was renewed with its key.
	anchors []*x509.Certificate
}

// verify checks what the issuer returned. The proxies would refuse a bad chain later, one by one and less readably.
func (e *expected) verify(chainPEM []byte) (*issuedChain, error) {
	certs, err := parseChain(chainPEM)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	if err := e.checkLeaf(leaf); err != nil {
		return nil, err
	}
	for len(certs) > 1 && isSelfSigned(certs[len(certs)-1]) {
		certs = certs[:len(certs)-1]
	}
	intermediates := x509.NewCertPool()
	chain := &issuedChain{leaf: leaf}
	for i, cert := range certs {
		if i > 0 {
			intermediates.AddCert(cert)
		}
		chain.der = append(chain.der, cert.Raw)
	}
	now := e.now
	if leaf.NotBefore.After(now) {
		now = leaf.NotBefore // within clockSkew, see checkLeaf
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots:         e.roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("it does not chain to a workload root: %w", err)
	}
	for _, path := range paths {
		chain.anchors = append(chain.anchors, path[len(path)-1])
	}
	return chain, nil
}

func (e *expected) checkLeaf(leaf *x509.Certificate) error {
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !key.Equal(e.key) {
		return errors.New("it has another key than the request")
	}
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return err
	}
	if id != e.id {
		return fmt.Errorf("it is for %s: want %s", id, e.id)
	}
	for _, ext := range leaf.Extensions {
		if ext.Id.Equal(oidSubjectAltName) {
			if _, err := onlyURI(ext.Value); err != nil {
				return err
			}
		}
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if !slices.Contains(leaf.ExtKeyUsage, usage) {
			return errors.New("it lacks one of the extended key usages server auth and client auth")
		}
	}
	switch {
	case leaf.NotBefore.After(e.now.Add(clockSkew)):
		return fmt.Errorf("it is valid only from %s on", leaf.NotBefore.Format(time.RFC3339))
	case !leaf.NotAfter.After(e.now):
		return fmt.Errorf("it expired at %s", leaf.NotAfter.Format(time.RFC3339))
	case leaf.NotAfter.After(e.now.Add(MaxLeafDuration + lifetimeSlop)):
		return fmt.Errorf("it is valid until %s, longer than the %s for which a replaced root is kept", leaf.NotAfter.Format(time.RFC3339), MaxLeafDuration)
	}
	return nil
}

// parseChain reads PEM that must hold certificates and nothing else.
func parseChain(in []byte) ([]*x509.Certificate, error) {
	if len(in) > maxChainPEM {
		return nil, fmt.Errorf("it has %d bytes of PEM: at most %d", len(in), maxChainPEM)
	}
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(in); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("it holds something that is not a certificate in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", len(certs), err)
		}
		if certs = append(certs, cert); len(certs) > maxChain {
			return nil, fmt.Errorf("it holds more than %d certificates", maxChain)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return certs, nil
}

func isSelfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil
}
