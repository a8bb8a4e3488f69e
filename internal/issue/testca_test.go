// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// ca is a certificate authority that works as cert-manager's CA issuer does: it copies the request's names byte by byte
// and takes the usages from the CertificateRequest.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newCA(t testing.TB, name string) *ca {
	t.Helper()
	return newCAFor(t, name, newKey(t), time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
}

func newCAFor(t testing.TB, name string, key crypto.Signer, from, until time.Time) *ca {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	return &ca{cert: create(t, template, template, key.Public(), key), key: key}
}

// leaf signs with the names of a request and whatever change makes of the template.
func (c *ca) leaf(t testing.TB, csr *x509.CertificateRequest, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(t), NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, ext := range csr.Extensions {
		if ext.Id.Equal(oidSubjectAltName) {
			ext.Critical = true
			template.ExtraExtensions = append(template.ExtraExtensions, ext)
		}
	}
	if change != nil {
		change(template)
	}
	return create(t, template, c.cert, csr.PublicKey, c.key)
}

func (c *ca) pem() []byte { return toPEM(c.cert) }

func create(t testing.TB, template, parent *x509.Certificate, public any, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func toPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// request makes a CSR in DER.
func request(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func uris(t testing.TB, values ...string) []*url.URL {
	t.Helper()
	out := make([]*url.URL, len(values))
	for i, v := range values {
		u, err := url.Parse(v)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = u
	}
	return out
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// names makes the value of a subjectAltName extension out of raw names.
func names(t testing.TB, values ...asn1.RawValue) []byte {
	t.Helper()
	return marshal(t, values)
}

func uriName(value string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(value)}
}
