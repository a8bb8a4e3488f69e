// SPDX-License-Identifier: Apache-2.0

// Package testpki makes certificate authorities and workload certificates for tests of the data path.
package testpki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
)

// Authority is a CA of workloads.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

var serial atomic.Int64

// NewAuthority makes a CA.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(serial.Add(1)),
		Subject:               pkix.Name{CommonName: "test workload CA"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	return &Authority{sign(t, template, template, key, key), key}
}

// Roots returns a pool of this CA alone.
func (a *Authority) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// Issue makes a leaf for an identity.
func (a *Authority) Issue(t testing.TB, id identity.ID, notAfter time.Time) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	leaf := sign(t, &x509.Certificate{
		SerialNumber:          big.NewInt(serial.Add(1)),
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              notAfter,
		URIs:                  []*url.URL{id.URL()},
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.Certificate, key, a.key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Credentials returns credentials of an identity that trust this CA and last an hour.
func (a *Authority) Credentials(t testing.TB, id identity.ID) *Credentials {
	t.Helper()
	c := &Credentials{}
	c.SetCertificate(a.Issue(t, id, time.Now().Add(time.Hour)))
	c.roots.Store(a.Roots())
	return c
}

// Credentials are what a proxy presents and trusts. They can be changed while in use.
type Credentials struct {
	certificate atomic.Pointer[tls.Certificate]
	roots       atomic.Pointer[x509.CertPool]
}

// Certificate returns the current leaf.
func (c *Credentials) Certificate() *tls.Certificate { return c.certificate.Load() }

// SetCertificate renews the leaf.
func (c *Credentials) SetCertificate(cert *tls.Certificate) { c.certificate.Store(cert) }

// Roots returns the current roots.
func (c *Credentials) Roots() *x509.CertPool { return c.roots.Load() }

// Identity makes an ID of the trust domain cluster.local.
func Identity(namespace, serviceAccount string) identity.ID {
	return identity.ID{TrustDomain: "cluster.local", Namespace: namespace, ServiceAccount: serviceAccount}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
