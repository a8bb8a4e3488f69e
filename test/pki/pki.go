// SPDX-License-Identifier: Apache-2.0

// Package pki makes the certificates that tests need: those that cert-manager makes in a cluster.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// CA is a certificate authority.
type CA struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

var serials atomic.Int64

// NewCA returns a CA with an ECDSA P-256 key, as those of servers and workloads have.
func NewCA(tb testing.TB, name string) *CA {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	return newCA(tb, name, key)
}

// NewConfigCA returns a CA with an Ed25519 key, as that of the config signer has.
func NewConfigCA(tb testing.TB, name string) *CA {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(tb, err)
	return newCA(tb, name, key)
}

func newCA(tb testing.TB, name string, key crypto.Signer) *CA {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	cert, err := x509.ParseCertificate(der)
	must(tb, err)
	return &CA{Certificate: cert, key: key}
}

// Pool returns a pool with the CA alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return pool
}

// PEM returns the CA's certificate as a ConfigMap holds it.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw})
}

// Issue signs a certificate for a key. An empty lifetime becomes an hour ago to an hour from now.
func (ca *CA) Issue(tb testing.TB, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	tb.Helper()
	cert, err := ca.issue(template, public)
	must(tb, err)
	return cert
}

func (ca *CA) issue(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	t := *template
	t.SerialNumber = big.NewInt(serials.Add(1))
	if t.NotBefore.IsZero() {
		t.NotBefore, t.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	t.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, &t, ca.Certificate, public, ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Server returns a certificate of a control server, which is its client certificate too.
func (ca *CA) Server(tb testing.TB, dnsName string) *tls.Certificate {
	tb.Helper()
	return ca.pair(tb, &x509.Certificate{
		DNSNames: []string{dnsName}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// Workload returns a workload's certificate.
func (ca *CA) Workload(tb testing.TB, id identity.ID) *tls.Certificate {
	tb.Helper()
	return ca.pair(tb, workload(id))
}

// WorkloadUntil returns a workload's certificate of a given lifetime.
func (ca *CA) WorkloadUntil(tb testing.TB, id identity.ID, notBefore, notAfter time.Time) *tls.Certificate {
	tb.Helper()
	template := workload(id)
	template.NotBefore, template.NotAfter = notBefore, notAfter
	return ca.pair(tb, template)
}

func workload(id identity.ID) *x509.Certificate {
	return &x509.Certificate{
		URIs: []*url.URL{id.URL()}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// SignRequest signs what a proxy asks for, as the identity service does, and returns the chain, DER and leaf first.
func (ca *CA) SignRequest(der []byte, id identity.ID, notBefore, notAfter time.Time) ([][]byte, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	template := workload(id)
	template.NotBefore, template.NotAfter = notBefore, notAfter
	cert, err := ca.issue(template, request.PublicKey)
	if err != nil {
		return nil, err
	}
	return [][]byte{cert.Raw}, nil
}

func (ca *CA) pair(tb testing.TB, template *x509.Certificate) *tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	cert := ca.Issue(tb, template, key.Public())
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// Signer returns a config signer whose certificate is valid for a lifetime; for zero ones an hour.
func (ca *CA) Signer(tb testing.TB, notBefore, notAfter time.Time) *signedconfig.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(tb, err)
	cert := ca.Issue(tb, &x509.Certificate{
		DNSNames: []string{signedconfig.SignerName}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: notBefore, NotAfter: notAfter,
	}, key.Public())
	signer, err := signedconfig.NewSigner(key, []*x509.Certificate{cert})
	must(tb, err)
	return signer
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
