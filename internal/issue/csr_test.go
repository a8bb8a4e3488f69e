// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"strings"
	"testing"
)

const checkout = "spiffe://cluster.local/ns/shop/sa/checkout"

func TestHonestRequestsAreTaken(t *testing.T) {
	key := newKey(t)
	for name, template := range map[string]*x509.CertificateRequest{
		"one URI name": {URIs: uris(t, checkout)},
		"one URI name in a critical extension": {ExtraExtensions: []pkix.Extension{
			{Id: oidSubjectAltName, Critical: true, Value: names(t, uriName(checkout))},
		}},
		"signed with SHA-384": {URIs: uris(t, checkout), SignatureAlgorithm: x509.ECDSAWithSHA384},
	} {
		t.Run(name, func(t *testing.T) {
			csr, err := parseRequest(request(t, key, template))
			if err != nil {
				t.Fatal(err)
			}
			if csr.uri != checkout || !csr.key.Equal(key.Public()) {
				t.Errorf("got %q with key equal %t", csr.uri, csr.key.Equal(key.Public()))
			}
		})
	}
}

func TestOtherRequestsAreRefused(t *testing.T) {
	key := newKey(t)
	san := func(values ...asn1.RawValue) []pkix.Extension {
		return []pkix.Extension{{Id: oidSubjectAltName, Value: names(t, values...)}}
	}
	other := func(tag int, compound bool, value string) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: []byte(value)}
	}
	upn := marshal(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
	isCA := marshal(t, struct{ CA bool }{true})
	with := func(ext pkix.Extension) *x509.CertificateRequest {
		return &x509.CertificateRequest{ExtraExtensions: append(san(uriName(checkout)), ext)}
	}
	for name, tc := range map[string]struct {
		csr  *x509.CertificateRequest
		want Reason
	}{
		"no names":                  {&x509.CertificateRequest{}, ReasonExtension},
		"no names but an extension": {&x509.CertificateRequest{ExtraExtensions: san()}, ReasonNames},
		"two URIs":                  {&x509.CertificateRequest{URIs: uris(t, checkout, checkout)}, ReasonNames},
		"a DNS name as well":        {&x509.CertificateRequest{URIs: uris(t, checkout), DNSNames: []string{"heddle-operator.heddle-system.svc"}}, ReasonNames},
		"a DNS name alone":          {&x509.CertificateRequest{DNSNames: []string{"a.b"}}, ReasonNames},
		"an IP address as well":     {&x509.CertificateRequest{URIs: uris(t, checkout), IPAddresses: []net.IP{{10, 0, 0, 1}}}, ReasonNames},
		"an email as well":          {&x509.CertificateRequest{URIs: uris(t, checkout), EmailAddresses: []string{"a@b.c"}}, ReasonNames},
		"an otherName as well":      {&x509.CertificateRequest{ExtraExtensions: san(uriName(checkout), other(0, true, string(upn)))}, ReasonNames},
		"an otherName alone":        {&x509.CertificateRequest{ExtraExtensions: san(other(0, true, string(upn)))}, ReasonNames},
		"a directoryName as well":   {&x509.CertificateRequest{ExtraExtensions: san(uriName(checkout), other(4, true, "\x30\x00"))}, ReasonNames},
		"a name of an unknown kind": {&x509.CertificateRequest{ExtraExtensions: san(uriName(checkout), other(9, false, "x"))}, ReasonNames},
		"a very long URI":           {&x509.CertificateRequest{ExtraExtensions: san(uriName(checkout + strings.Repeat("a", 2048)))}, ReasonNames},
		"a CA":                      {with(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: isCA}), ReasonExtension},
		"a key usage":               {with(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 2, 4}}), ReasonExtension},
		"an extended key usage":     {with(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0}}), ReasonExtension},
		"an unknown extension":      {with(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}), ReasonExtension},
		"names twice":               {with(pkix.Extension{Id: oidSubjectAltName, Value: names(t, uriName(checkout))}), ReasonMalformed},
		"a common name":             {&x509.CertificateRequest{URIs: uris(t, checkout), Subject: pkix.Name{CommonName: "checkout"}}, ReasonSubject},
		"a bundle of attributes": {&x509.CertificateRequest{
			URIs: uris(t, checkout),
			Attributes: []pkix.AttributeTypeAndValueSET{{ //nolint:staticcheck // nothing else makes such a request
				Type:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 8},
				Value: [][]pkix.AttributeTypeAndValue{{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "x"}}},
			}},
		}, ReasonExtension},
	} {
		t.Run(name, func(t *testing.T) { refused(t, request(t, key, tc.csr), tc.want) })
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA 1024": weak, "RSA 2048": strong, "P-384": p384, "P-224": p224, "Ed25519": ed} {
		t.Run(name, func(t *testing.T) {
			refused(t, request(t, key, &x509.CertificateRequest{URIs: uris(t, checkout)}), ReasonKey)
		})
	}
}

func TestDamagedRequestsAreRefused(t *testing.T) {
	good := request(t, newKey(t), &x509.CertificateRequest{URIs: uris(t, checkout)})
	at := bytes.Index(good, []byte("checkout"))
	forged := bytes.Replace(good, []byte("checkout"), []byte("payments"), 1)
	challenge := challenged(t)
	for name, tc := range map[string]struct {
		der  []byte
		want Reason
	}{
		"nothing":                   {nil, ReasonMalformed},
		"PEM":                       {[]byte("-----BEGIN CERTIFICATE REQUEST-----"), ReasonMalformed},
		"truncated":                 {good[:at], ReasonMalformed},
		"bytes after the end":       {append(bytes.Clone(good), 0), ReasonMalformed},
		"another name, not signed":  {forged, ReasonSignature},
		"a challenge password":      {challenge, ReasonExtension},
		"over the bound":            {make([]byte, MaxCSR+1), ReasonTooLarge},
		"as large as the bound":     {make([]byte, MaxCSR), ReasonMalformed},
		"the names of a sequence's": {rawNames(t, []byte{0x31, 0}), ReasonMalformed},
		"bytes after the names":     {rawNames(t, append(names(t, uriName(checkout)), 5, 0)), ReasonNames},
	} {
		t.Run(name, func(t *testing.T) { refused(t, tc.der, tc.want) })
	}
}

// No byte of a request can be changed: the signature covers the body, and nothing else is left to change but itself.
func TestEveryFlippedByteIsRefused(t *testing.T) {
	good := request(t, newKey(t), &x509.CertificateRequest{URIs: uris(t, checkout)})
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if csr, err := parseRequest(bad); err == nil {
			t.Errorf("byte %d flipped: taken with %q", i, csr.uri)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(request(f, newKey(f), &x509.CertificateRequest{URIs: uris(f, checkout)}))
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := parseRequest(der)
		if err == nil && (csr.key == nil || csr.uri == "") {
			t.Errorf("taken without key or name: %x", der)
		}
		if _, ok := errors.AsType[*Refusal](err); err != nil && !ok {
			t.Errorf("not a refusal: %v", err)
		}
	})
}

func refused(t *testing.T, der []byte, want Reason) {
	t.Helper()
	csr, err := parseRequest(der)
	if err == nil {
		t.Fatalf("taken with %q: want a refusal, %s", csr.uri, want)
	}
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok || refusal.Reason != want || refusal.Detail == "" {
		t.Errorf("got %v: want %s", err, want)
	}
	if _, known := codes[want]; !known {
		t.Errorf("reason %s has no code", want)
	}
}

// rawNames makes a request with these bytes as its subjectAltName. crypto/x509 refuses most bad ones by itself.
func rawNames(t *testing.T, value []byte) []byte {
	t.Helper()
	return request(t, newKey(t), &x509.CertificateRequest{
		ExtraExtensions: []pkix.Extension{{Id: oidSubjectAltName, Value: value}},
	})
}

// challenged makes a request with a challengePassword (RFC 2985 5.4.1) beside the names. crypto/x509 can't make one
// and doesn't see it when it parses.
func challenged(t *testing.T) []byte {
	t.Helper()
	key := newKey(t)
	extensions := marshal(t, []pkix.Extension{{Id: oidSubjectAltName, Value: names(t, uriName(checkout))}})
	type value struct {
		ID     asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	body := marshal(t, struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []value `asn1:"tag:0,set"`
	}{
		Subject:   asn1.RawValue{FullBytes: []byte{0x30, 0}},
		PublicKey: asn1.RawValue{FullBytes: public},
		Attributes: []value{
			{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, []asn1.RawValue{{Tag: asn1.TagPrintableString, Bytes: []byte("secret")}}},
			{oidExtensionRequest, []asn1.RawValue{{FullBytes: extensions}}},
		},
	})
	digest := crypto.SHA256.New()
	digest.Write(body)
	signature, err := key.Sign(rand.Reader, digest.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return marshal(t, struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: body},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}
