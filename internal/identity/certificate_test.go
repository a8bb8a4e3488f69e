// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heddle-mesh/heddle/internal/identity"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const (
	client = x509.ExtKeyUsageClientAuth
	server = x509.ExtKeyUsageServerAuth
	caller = "spiffe://cluster.local/ns/shop/sa/web"
)

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, template *x509.Certificate, parent *authority, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	key := newKey(t)
	return &authority{key: key, cert: issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}, parent, key)}
}

func leafTemplate() *x509.Certificate {
	uri, _ := url.Parse(caller)
	return &x509.Certificate{
		URIs: []*url.URL{uri}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{client, server},
		NotBefore:   now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
	}
}

// rawURIs makes a subjectAltName extension of URIs that url.URL would not hold.
func rawURIs(t *testing.T, uris ...string) []pkix.Extension {
	t.Helper()
	var names []asn1.RawValue
	for _, u := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}}
}

func TestVerifyPeerJudgesTheLeaf(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "root", nil)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	raw := func(uris ...string) func(*testing.T, *x509.Certificate) {
		return func(t *testing.T, c *x509.Certificate) {
			t.Helper()
			c.URIs, c.ExtraExtensions = nil, rawURIs(t, uris...)
		}
	}
	set := func(f func(*x509.Certificate)) func(*testing.T, *x509.Certificate) {
		return func(_ *testing.T, c *x509.Certificate) { f(c) }
	}
	cases := map[string]struct {
		change func(*testing.T, *x509.Certificate)
		want   string // part of the error; empty: accepted
	}{
		"a workload's leaf":               {set(func(*x509.Certificate) {}), ""},
		"a leaf with a DNS name too":      {set(func(c *x509.Certificate) { c.DNSNames = []string{"web.shop"} }), ""},
		"no names":                        {set(func(c *x509.Certificate) { c.URIs = nil }), "0 URI names"},
		"a DNS name alone":                {set(func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"web"} }), "0 URI names"},
		"two URIs":                        {raw(caller, caller), "2 URI names"},
		"an ID of another form":           {raw("spiffe://cluster.local/web"), "SPIFFE ID"},
		"a web address":                   {raw("https://cluster.local/ns/shop/sa/web"), "SPIFFE ID"},
		"a trust domain in upper case":    {raw("spiffe://Cluster.Local/ns/shop/sa/web"), "SPIFFE ID"},
		"a port":                          {raw("spiffe://cluster.local:1/ns/shop/sa/web"), "SPIFFE ID"},
		"a percent escape":                {raw("spiffe://cluster.local/ns/shop/sa/w%65b"), "SPIFFE ID"},
		"an empty query":                  {raw(caller + "?"), "SPIFFE ID"},
		"dot segments":                    {raw("spiffe://cluster.local/ns/shop/sa/x/../web"), "SPIFFE ID"},
		"a NUL in the name":               {raw(caller + "\x00.example"), "parse the peer's certificate"},
		"no key usage":                    {set(func(c *x509.Certificate) { c.KeyUsage = 0 }), "digitalSignature"},
		"key encipherment only":           {set(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), "digitalSignature"},
		"a key usage of CAs":              {set(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }), "keyCertSign or cRLSign"},
		"a CA":                            {set(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), "CA"},
		"the other side's usage":          {set(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{server} }), "extended key usage"},
		"code signing only":               {set(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), "extended key usage"},
		"any usage":                       {set(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), "extended key usage"},
		"no extended usage":               {set(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "extended key usage"},
		"an expired one":                  {set(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), "expired"},
		"one of tomorrow":                 {set(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), "not yet valid"},
		"a critical extension unknown":    {set(func(c *x509.Certificate) { c.ExtraExtensions = unknownCritical() }), "unhandled critical extension"},
		"a certificate of too many bytes": {set(func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", 1<<14) }), "at most"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := leafTemplate()
			c.change(t, template)
			der := createLeaf(t, template, root)
			id, leaf, err := identity.VerifyPeer(roots, now, client, [][]byte{der})
			if c.want == "" {
				if err != nil || id.String() != caller || leaf == nil {
					t.Fatalf("got %v, %v, %v", id, leaf, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one that says %q", err, c.want)
			}
			if !id.IsZero() || leaf != nil {
				t.Errorf("a refusal came with %v and %v", id, leaf)
			}
		})
	}
}

func unknownCritical() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
}

// createLeaf does not parse what it makes, because some cases are meant not to parse.
func createLeaf(t *testing.T, template *x509.Certificate, ca *authority) []byte {
	t.Helper()
	template.SerialNumber = big.NewInt(7)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, newKey(t).Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestVerifyPeerJudgesTheChain(t *testing.T) {
	t.Parallel()
	root, other := newAuthority(t, "root", nil), newAuthority(t, "root", nil) // the same name, another key
	middle := newAuthority(t, "middle", root)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	direct := createLeaf(t, leafTemplate(), root)
	below := createLeaf(t, leafTemplate(), middle)
	foreign := createLeaf(t, leafTemplate(), other)
	leafAsCA := &authority{key: newKey(t)}
	leafAsCA.cert = issue(t, leafTemplate(), root, leafAsCA.key)
	minted := createLeaf(t, leafTemplate(), leafAsCA)
	self := leafTemplate()
	selfKey := newKey(t)
	selfSigned := issue(t, self, nil, selfKey)

	cases := map[string]struct {
		roots *x509.CertPool
		chain [][]byte
		ok    bool
	}{
		"signed by a root":                         {roots, [][]byte{direct}, true},
		"signed by an intermediate":                {roots, [][]byte{below, middle.cert.Raw}, true},
		"an intermediate that is not presented":    {roots, [][]byte{below}, false},
		"a root of the same name with another key": {roots, [][]byte{foreign}, false},
		"another root presented beside":            {roots, [][]byte{foreign, other.cert.Raw}, false},
		"minted by another workload's leaf":        {roots, [][]byte{minted, leafAsCA.cert.Raw}, false},
		"signed by itself":                         {roots, [][]byte{selfSigned.Raw}, false},
		"no certificate":                           {roots, nil, false},
		"garbage":                                  {roots, [][]byte{[]byte("garbage")}, false},
		"a cut certificate":                        {roots, [][]byte{direct[:len(direct)-1]}, false},
		"nine certificates": {
			roots,
			[][]byte{direct, direct, direct, direct, direct, direct, direct, direct, direct},
			false,
		},
		"no roots at all": {nil, [][]byte{direct}, false},
		"an empty pool":   {x509.NewCertPool(), [][]byte{direct}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, usage := range []x509.ExtKeyUsage{client, server} {
				_, _, err := identity.VerifyPeer(c.roots, now, usage, c.chain)
				if (err == nil) != c.ok {
					t.Errorf("usage %v: got %v, want ok %t", usage, err, c.ok)
				}
			}
		})
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "root", nil)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA of 1024 bits": short, "ECDSA on P-224": p224} {
		cert := issue(t, leafTemplate(), root, key)
		if _, err := identity.FromCertificate(cert); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
