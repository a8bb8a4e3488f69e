// SPDX-License-Identifier: Apache-2.0

package signedconfig_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const (
	meshID  = "11111111-2222-3333-4444-555555555555"
	podUID  = "99999999-8888-7777-6666-555555555555"
	section = "routes/checkout.shop/*"
)

// authority is a CA with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func ed25519Key(t testing.TB) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecdsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t testing.TB, template *x509.Certificate, key crypto.Signer, by *authority) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
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

func newAuthority(t testing.TB, name string, by *authority) *authority {
	t.Helper()
	key := ed25519Key(t)
	return &authority{key: key, cert: issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
	}, key, by)}
}

// signerTemplate is a config signer's certificate of 30 days.
func signerTemplate() *x509.Certificate {
	return &x509.Certificate{
		DNSNames: []string{signedconfig.SignerName}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
	}
}

func newSigner(t testing.TB, ca *authority, change func(*x509.Certificate)) *signedconfig.Signer {
	t.Helper()
	template, key := signerTemplate(), ed25519Key(t)
	if change != nil {
		change(template)
	}
	signer, err := signedconfig.NewSigner(key, []*x509.Certificate{issue(t, template, key, ca)})
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func newVerifier(ca *authority) *signedconfig.Verifier {
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &signedconfig.Verifier{
		Roots: roots, MeshID: meshID, Clock: func() time.Time { return now },
		Audiences: []string{signedconfig.AudienceMesh, signedconfig.AudiencePod(podUID)},
	}
}

func statement() *signedconfig.Statement {
	return &signedconfig.Statement{
		Section: section, MeshID: meshID, Audience: signedconfig.AudienceMesh,
		Serial: signedconfig.Serial{Term: 3, Counter: 17}, IssuedAt: now, NotAfter: now.Add(time.Hour),
		PayloadType: "application/vnd.heddle.routes.v1+protobuf", Payload: []byte("\x0a\x0dcheckout.shop"),
	}
}

func sign(t testing.TB, signer *signedconfig.Signer, st *signedconfig.Statement) []byte {
	t.Helper()
	data, err := signer.Sign(st)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// reasonOf returns the reason of a refusal, or "" for none. Every refusal must be an *Error.
func reasonOf(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var refused *signedconfig.Error
	if !errors.As(err, &refused) || refused.Reason == "" || refused.Detail == "" {
		t.Fatalf("error %v of type %T: want an *Error with reason and detail", err, err)
	}
	return refused.Reason
}
