// SPDX-License-Identifier: Apache-2.0

package signedconfig

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
)

// Signer signs statements with the config signer's key. It holds no mutable state.
type Signer struct {
	key   crypto.Signer
	chain [][]byte
	leaf  *x509.Certificate
}

// NewSigner takes an Ed25519 key and its certificate, followed by intermediates without the root. It refuses a pair
// that no Verifier would take.
func NewSigner(key crypto.Signer, chain []*x509.Certificate) (*Signer, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("config signer: %d certificates: want 1 to %d", len(chain), maxChain)
	}
	if err := checkSigner(chain[0]); err != nil {
		return nil, fmt.Errorf("config signer: %w", err)
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("config signer: key of type %T: want Ed25519", key.Public())
	}
	if !public.Equal(chain[0].PublicKey) {
		return nil, errors.New("config signer: the key is not the certificate's")
	}
	s := &Signer{key: key, leaf: chain[0]}
	for i, cert := range chain {
		if len(cert.Raw) > maxCertificate {
			return nil, fmt.Errorf("config signer: certificate %d of %d bytes: at most %d", i, len(cert.Raw), maxCertificate)
		}
		s.chain = append(s.chain, cert.Raw)
	}
	return s, nil
}

// NotAfter is when the signer's certificate expires; nothing that it signs lasts longer.
func (s *Signer) NotAfter() time.Time { return s.leaf.NotAfter }

// Certificate returns the signer's certificate.
func (s *Signer) Certificate() *x509.Certificate { return s.leaf }

// Sign returns the envelope of a statement. A NotAfter that is zero or after the signer's is lowered to the signer's, in
// the envelope; st is not changed.
func (s *Signer) Sign(st *Statement) ([]byte, error) {
	capped := *st
	if capped.NotAfter.IsZero() || capped.NotAfter.After(s.leaf.NotAfter) {
		capped.NotAfter = s.leaf.NotAfter
	}
	statement, err := capped.encode()
	if err != nil {
		return nil, fmt.Errorf("sign section %.80q: %w", st.Section, err)
	}
	// crypto.Hash(0) asks for pure Ed25519 (RFC 8032 5.1), which hashes the message itself.
	signature, err := s.key.Sign(rand.Reader, preAuthEncoding(statement), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("sign section %s: %w", st.Section, err)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(
		&WireEnvelope{Statement: statement, Signature: signature, Chain: s.chain})
	if err != nil {
		return nil, fmt.Errorf("encode the envelope of section %s: %w", st.Section, err)
	}
	if len(data) > MaxEnvelopeSize {
		return nil, fmt.Errorf("envelope of section %s has %d bytes: at most %d", st.Section, len(data), MaxEnvelopeSize)
	}
	return data, nil
}

// checkSigner says whether a certificate is one of a config signer, whoever issued it.
func checkSigner(cert *x509.Certificate) error {
	switch {
	case cert.PublicKeyAlgorithm != x509.Ed25519:
		return fmt.Errorf("certificate has a key of type %s: want Ed25519", cert.PublicKeyAlgorithm)
	case cert.IsCA || cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return errors.New("certificate is a CA's")
	case cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("certificate lacks the key usage digitalSignature")
	case !slices.Contains(cert.DNSNames, SignerName):
		return fmt.Errorf("certificate has the DNS names %q: want %q", cert.DNSNames, SignerName)
	}
	return nil
}
