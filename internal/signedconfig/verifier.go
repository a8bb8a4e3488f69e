// SPDX-License-Identifier: Apache-2.0

package signedconfig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"
)

// MaxSkew is how far the clock of the operator may be ahead.
const MaxSkew = 5 * time.Minute

// maxCachedChains bounds the chains that a Verifier remembers: the signer's, its successor's, and some to spare.
const maxCachedChains = 8

// Check says how much Verify looks at.
type Check int

// The checks. FromStore leaves out dates alone: expiry must never become an outage.
const (
	OnArrival Check = iota // from a stream: everything
	FromStore              // kept earlier, after an OnArrival: signature, signer, mesh ID and audience
)

// Verifier verifies envelopes. Set its fields before the first use and leave them: when the roots change, make another.
// It may be used concurrently. It remembers the chains that it verified, so that an envelope costs one Ed25519.
type Verifier struct {
	Roots     *x509.CertPool // of the config CA, and of no other
	MeshID    string
	Audiences []string         // that are the receiver's own; empty accepts none
	Clock     func() time.Time // nil: time.Now

	mu     sync.Mutex
	chains map[[sha256.Size]byte]window
}

// window is when a chain is valid as a whole.
type window struct{ notBefore, notAfter time.Time }

func (w window) holds(at time.Time) bool { return !at.Before(w.notBefore) && !at.After(w.notAfter) }

// Verify decodes and verifies an envelope. Its error is always an *Error. What is returned may be trusted, but may be
// older than what the receiver has: see Floors.
func (v *Verifier) Verify(data []byte, check Check) (*Statement, error) {
	e, err := Decode(data)
	if err != nil {
		return nil, err
	}
	if err := v.VerifyEnvelope(e, check); err != nil {
		return nil, err
	}
	return &e.Statement, nil
}

// VerifyEnvelope verifies what Decode returned.
func (v *Verifier) VerifyEnvelope(e *Envelope, check Check) error {
	now := v.now()
	if err := v.verifySigner(e, check, now); err != nil {
		return err
	}
	public, ok := e.Signer().PublicKey.(ed25519.PublicKey)
	if !ok || !ed25519.Verify(public, preAuthEncoding(e.signed), e.signature) {
		return refuse(ReasonSignature, "the signature is not the signer's over this statement")
	}
	if e.MeshID != v.MeshID {
		return refuse(ReasonMeshID, "for mesh %q: this is mesh %q", e.MeshID, v.MeshID)
	}
	if !slices.Contains(v.Audiences, e.Audience) {
		return refuse(ReasonAudience, "for %q: this is %q", e.Audience, v.Audiences)
	}
	if check == FromStore {
		return nil
	}
	if now.After(e.NotAfter) {
		return refuse(ReasonExpired, "section %s expired at %s, it is %s", e.Section, stamp(e.NotAfter), stamp(now))
	}
	if e.IssuedAt.After(now.Add(MaxSkew)) {
		return refuse(ReasonNotYetValid, "section %s was issued at %s, it is %s", e.Section, stamp(e.IssuedAt), stamp(now))
	}
	return nil
}

func (v *Verifier) now() time.Time {
	if v.Clock == nil {
		return time.Now()
	}
	return v.Clock()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// verifySigner verifies that the chain is the config signer's. Verified chains are remembered; what is not valid is not,
// so that nobody can push the good ones out without a certificate of the config CA.
func (v *Verifier) verifySigner(e *Envelope, check Check, now time.Time) error {
	v.mu.Lock()
	w, known := v.chains[e.chainID]
	v.mu.Unlock()
	at := now
	if nb := e.Signer().NotBefore; at.Before(nb) && !nb.After(now.Add(MaxSkew)) {
		at = nb // a signer that was renewed this minute, by a clock that is ahead of ours
	}
	if known && (check == FromStore || w.holds(at)) {
		return nil
	}
	if err := checkSigner(e.Signer()); err != nil {
		return refuse(ReasonSigner, "%v", err)
	}
	if v.Roots == nil {
		return refuse(ReasonSigner, "no config roots") // nil would mean the roots of the system
	}
	times := []time.Time{at}
	if check == FromStore {
		// Dates do not matter, but crypto/x509 wants one: any at which all of the chain is valid will do.
		times = []time.Time{e.IssuedAt, e.Signer().NotBefore, e.Signer().NotAfter, now}
	}
	var err error
	for _, at := range times {
		if w, err = chainWindow(e.Chain, v.Roots, at); err == nil {
			v.remember(e.chainID, w)
			return nil
		}
	}
	return signerError(err, e.Signer(), now)
}

func (v *Verifier) remember(id [sha256.Size]byte, w window) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.chains == nil || len(v.chains) >= maxCachedChains {
		v.chains = make(map[[sha256.Size]byte]window, maxCachedChains)
	}
	v.chains[id] = w
}

// chainWindow verifies a chain at a time and returns when it is valid. All that was presented must be used.
func chainWindow(chain []*x509.Certificate, roots *x509.CertPool, at time.Time) (window, error) {
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	verified, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return window{}, err
	}
	for _, path := range verified {
		if len(path) < len(chain) || !slices.EqualFunc(path[:len(chain)], chain, (*x509.Certificate).Equal) {
			continue
		}
		w := window{path[0].NotBefore, path[0].NotAfter}
		for _, cert := range path[1:] {
			if cert.NotBefore.After(w.notBefore) {
				w.notBefore = cert.NotBefore
			}
			if cert.NotAfter.Before(w.notAfter) {
				w.notAfter = cert.NotAfter
			}
		}
		return w, nil
	}
	return window{}, errors.New("the chain holds certificates that it does not need")
}

func signerError(err error, signer *x509.Certificate, now time.Time) *Error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		if now.Before(signer.NotBefore) {
			return refuse(ReasonNotYetValid, "the signer is valid from %s, it is %s", stamp(signer.NotBefore), stamp(now))
		}
		return refuse(ReasonExpired, "the signer: %v", err)
	}
	return refuse(ReasonSigner, "%v", err)
}
