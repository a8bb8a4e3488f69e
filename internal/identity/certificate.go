// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of what a peer may present.
const (
	maxChain       = 8       // certificates
	maxCertificate = 1 << 14 // bytes of one
	minRSABits     = 2048
	minECDSABits   = 256
)

// uriTag is the context tag of uniformResourceIdentifier in a GeneralName (RFC 5280 4.2.1.6).
const uriTag = 6

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// FromCertificate returns the identity that a leaf carries, if it may carry one (X509-SVID 2, 4 and 5.2): exactly one
// URI name, not a CA, digitalSignature, neither keyCertSign nor cRLSign. It does not verify the chain; VerifyPeer does.
func FromCertificate(cert *x509.Certificate) (ID, error) {
	switch {
	case cert.IsCA:
		return ID{}, errors.New("certificate is a CA's, not a workload's")
	case cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return ID{}, errors.New("certificate lacks the key usage digitalSignature")
	case cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return ID{}, errors.New("certificate has the key usage keyCertSign or cRLSign, which a workload's must not")
	}
	if err := checkKey(cert.PublicKey); err != nil {
		return ID{}, err
	}
	uri, err := onlyURI(cert)
	if err != nil {
		return ID{}, err
	}
	return Parse(uri)
}

// onlyURI returns the one URI of the certificate's names, as it is spelled there: the parsed url.URL could have been
// normalised on the way.
func onlyURI(cert *x509.Certificate) (string, error) {
	var uris []string
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(subjectAltName) {
			continue
		}
		var names asn1.RawValue
		rest, err := asn1.Unmarshal(ext.Value, &names)
		if err != nil || len(rest) != 0 || names.Tag != asn1.TagSequence {
			return "", errors.New("certificate's subject alternative names are malformed")
		}
		for in := names.Bytes; len(in) > 0; {
			var name asn1.RawValue
			if in, err = asn1.Unmarshal(in, &name); err != nil {
				return "", errors.New("certificate's subject alternative names are malformed")
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == uriTag {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	if len(uris) != 1 {
		return "", fmt.Errorf("certificate has %d URI names: want exactly one", len(uris))
	}
	return uris[0], nil
}

func checkKey(key any) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < minECDSABits {
			return fmt.Errorf("certificate has an ECDSA key of %d bits: at least %d", bits, minECDSABits)
		}
		return nil
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return fmt.Errorf("certificate has an RSA key of %d bits: at least %d", k.N.BitLen(), minRSABits)
		}
		return nil
	default:
		return fmt.Errorf("certificate has a key of type %T: want ECDSA, Ed25519 or RSA", key)
	}
}

// VerifyPeer verifies what a TLS peer presented, DER and leaf first, against the roots at the time now, and returns the
// leaf and its identity. usage is what the leaf must be for: x509.ExtKeyUsageClientAuth of a caller,
// x509.ExtKeyUsageServerAuth of a server. Stricter than X509-SVID 4.4, a leaf must list the usage: crypto/x509 alone
// takes a leaf that lists none, or any, for everything.
//
// It does not compare the identity with anything: the caller decides whose it must be.
func VerifyPeer(roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage, rawCerts [][]byte) (ID, *x509.Certificate, error) {
	fail := func(err error) (ID, *x509.Certificate, error) { return ID{}, nil, err }
	if roots == nil {
		return fail(errors.New("no trust roots")) // nil would mean the roots of the system
	}
	if len(rawCerts) == 0 || len(rawCerts) > maxChain {
		return fail(fmt.Errorf("peer presented %d certificates: want 1 to %d", len(rawCerts), maxChain))
	}
	certs := make([]*x509.Certificate, len(rawCerts))
	for i, raw := range rawCerts {
		if len(raw) > maxCertificate {
			return fail(fmt.Errorf("peer presented a certificate of %d bytes: at most %d", len(raw), maxCertificate))
		}
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			return fail(fmt.Errorf("parse the peer's certificate %d: %w", i, err))
		}
		certs[i] = cert
	}
	leaf := certs[0]
	id, err := FromCertificate(leaf)
	if err != nil {
		return fail(err)
	}
	if !slices.Contains(leaf.ExtKeyUsage, usage) {
		return fail(fmt.Errorf("certificate of %s lacks the extended key usage for %s", id, usageName(usage)))
	}
	intermediates := x509.NewCertPool()
	for _, cert := range certs[1:] {
		intermediates.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	}); err != nil {
		return fail(fmt.Errorf("verify the certificate of %s: %w", id, err))
	}
	return id, leaf, nil
}

func usageName(usage x509.ExtKeyUsage) string {
	switch usage {
	case x509.ExtKeyUsageClientAuth:
		return "clients"
	case x509.ExtKeyUsageServerAuth:
		return "servers"
	default:
		return fmt.Sprintf("usage %d", usage)
	}
}
