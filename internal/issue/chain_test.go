// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
)

func TestWhatTheIssuerReturnsIsChecked(t *testing.T) {
	authority, stranger := newCA(t, "workload CA"), newCA(t, "another CA")
	key := newKey(t)
	csr := parse(t, request(t, key, &x509.CertificateRequest{URIs: uris(t, checkout)}))
	otherKey := parse(t, request(t, newKey(t), &x509.CertificateRequest{URIs: uris(t, checkout)}))
	intermediateKey := newKey(t)
	intermediate := &ca{key: intermediateKey, cert: create(t, &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "intermediate"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, authority.cert, intermediateKey.Public(), authority.key)}
	change := func(f func(*x509.Certificate)) []byte { return toPEM(authority.leaf(t, csr, f)) }

	for name, tc := range map[string]struct {
		chain []byte
		want  int // certificates; 0 is a refusal
	}{
		"a leaf of the CA":             {change(nil), 1},
		"with the root, which is left": {toPEM(authority.leaf(t, csr, nil), authority.cert), 1},
		"over an intermediate":         {toPEM(intermediate.leaf(t, csr, nil), intermediate.cert), 2},
		"a minute ahead of our clock":  {change(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(50 * time.Second) }), 1},
		"intermediate left out":        {toPEM(intermediate.leaf(t, csr, nil)), 0},
		"of another CA":                {toPEM(stranger.leaf(t, csr, nil)), 0},
		"with another key":             {toPEM(authority.leaf(t, otherKey, nil)), 0},
		"expired":                      {change(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Millisecond) }), 0},
		"valid only later":             {change(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(10 * time.Minute) }), 0},
		"for ten years":                {change(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10 * 365 * 24 * time.Hour) }), 0},
		"a CA itself":                  {change(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), 0},
		"without client auth":          {change(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), 0},
		"without digitalSignature":     {change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), 0},
		"with another name": {change(func(c *x509.Certificate) {
			c.ExtraExtensions = nil
			c.URIs = uris(t, "spiffe://cluster.local/ns/shop/sa/payments")
		}), 0},
		"with a DNS name too": {change(func(c *x509.Certificate) {
			c.ExtraExtensions = nil
			c.URIs = uris(t, checkout)
			c.DNSNames = []string{"a.b"}
		}), 0},
		"nothing":                       {nil, 0},
		"no certificate":                {[]byte("-----BEGIN X-----\nAAAA\n-----END X-----\n"), 0},
		"something after":               {append(change(nil), "trailing"...), 0},
		"too much":                      {make([]byte, maxChainPEM+1), 0},
		"more than a chain":             {toPEM(authority.leaf(t, csr, nil), authority.cert, authority.cert, authority.cert, authority.cert, authority.cert, authority.cert), 0},
		"a certificate that isn't one":  {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0},
		"a chain in the wrong order":    {toPEM(intermediate.cert, intermediate.leaf(t, csr, nil)), 0},
		"a leaf with an unknown anchor": {toPEM(stranger.leaf(t, csr, nil), stranger.cert), 0},
	} {
		t.Run(name, func(t *testing.T) {
			pool := x509.NewCertPool()
			pool.AddCert(authority.cert)
			id, err := identity.Parse(checkout)
			if err != nil {
				t.Fatal(err)
			}
			want := &expected{id: id, key: &key.PublicKey, roots: pool, now: time.Now()}
			chain, err := want.verify(tc.chain)
			switch {
			case tc.want == 0 && err == nil:
				t.Fatal("taken: want it refused")
			case tc.want == 0:
				return
			case err != nil:
				t.Fatal(err)
			}
			if len(chain.der) != tc.want || len(chain.anchors) != 1 || !chain.anchors[0].Equal(authority.cert) {
				t.Errorf("got %d certificates and anchors %v: want %d, and the CA", len(chain.der), chain.anchors, tc.want)
			}
		})
	}
}

func parse(t *testing.T, der []byte) *x509.CertificateRequest {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}
