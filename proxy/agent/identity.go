// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/signedconfig"
)

// Identity is who the pod is: its certificate, which is renewed while the proxy runs, and the roots that other workloads
// are judged by. Connections keep the certificate that they began with; new ones take the newest.
type Identity struct {
	id    identity.ID
	store *store
	clock func() time.Time
	log   logr.Logger
	issue issuer

	certificate atomic.Pointer[tls.Certificate]
	roots       atomic.Pointer[x509.CertPool]
	rootCerts   atomic.Pointer[[]*x509.Certificate] // of roots

	mu      sync.Mutex
	changed chan struct{} // closed when the certificate changes
	again   chan struct{} // of size 1: renew now
	trouble error         // of the last attempt; nil after a success
	doubted time.Time     // when the operator last refused the certificate; zero after it accepted one
}

// issuer sends a CSR, DER, and returns the chain, DER and leaf first.
type issuer func(ctx context.Context, csr []byte) ([][]byte, error)

func newIdentity(id identity.ID, s *store, clock func() time.Time, log logr.Logger, issue issuer) *Identity {
	return &Identity{
		id: id, store: s, clock: clock, log: log, issue: issue,
		changed: make(chan struct{}), again: make(chan struct{}, 1),
	}
}

// ID returns the SPIFFE ID of the pod.
func (i *Identity) ID() identity.ID { return i.id }

// Certificate returns the newest certificate, with its Leaf set, or nil before the first. It may have expired.
func (i *Identity) Certificate() *tls.Certificate { return i.certificate.Load() }

// Roots returns the workload roots of the mesh section in force, or nil before the first.
func (i *Identity) Roots() *x509.CertPool { return i.roots.Load() }

// Expiry returns when the certificate ends; the zero time before the first.
func (i *Identity) Expiry() time.Time {
	if c := i.Certificate(); c != nil {
		return c.Leaf.NotAfter
	}
	return time.Time{}
}

// check returns why the pod has no valid certificate, or nil.
func (i *Identity) check(now time.Time) error {
	err := errors.New("none yet")
	if c := i.Certificate(); c != nil {
		if err = i.verify(c.Certificate, now); err == nil {
			return nil
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.trouble != nil {
		return fmt.Errorf("%w: %w", err, i.trouble)
	}
	return err
}

// verify says whether a chain is the pod's and valid, by the workload roots if they are known.
func (i *Identity) verify(chain [][]byte, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("parse the certificate: %w", err)
	}
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return err
	}
	if id != i.id {
		return fmt.Errorf("the certificate is of %s, this pod is %s", id, i.id)
	}
	if leaf.NotBefore.After(now) && leaf.NotBefore.Sub(now) <= signedconfig.MaxSkew {
		now = leaf.NotBefore // the clock of the operator is ahead
	}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("the certificate is valid from %s to %s", leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	roots := i.Roots()
	if roots == nil {
		return nil
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, _, err := identity.VerifyPeer(roots, now, usage, chain); err != nil {
			return err
		}
	}
	return nil
}

// setRoots takes the workload roots of a mesh section. A certificate that does not chain to them is renewed at once.
func (i *Identity) setRoots(ders [][]byte) {
	pool := x509.NewCertPool()
	var certs []*x509.Certificate
	for _, der := range ders {
		if cert, err := x509.ParseCertificate(der); err == nil { // meshconfig.Validate has parsed it
			pool.AddCert(cert)
			certs = append(certs, cert)
		}
	}
	i.roots.Store(pool)
	i.rootCerts.Store(&certs)
	if c := i.Certificate(); c != nil && i.verify(c.Certificate, i.clock()) != nil {
		i.renewNow()
	}
}

// refused says that the operator does not take the certificate: another is asked for, at most once a minute, and taken
// even if it does not chain to the roots that are held. So a proxy that missed a change of the CA comes back.
func (i *Identity) refused() {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock()
	if now.Sub(i.doubted) < maxPause {
		return
	}
	i.doubted = now
	i.renewNow()
}

// accepted says that the operator takes the certificate.
func (i *Identity) accepted() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.doubted = time.Time{}
}

func (i *Identity) renewNow() {
	select {
	case i.again <- struct{}{}:
	default:
	}
}

// usable says whether the certificate held is valid, and not one that the operator refuses.
func (i *Identity) usable(now time.Time) bool {
	i.mu.Lock()
	doubted := i.doubted
	i.mu.Unlock()
	c := i.Certificate()
	return c != nil && doubted.IsZero() && i.verify(c.Certificate, now) == nil
}

// set makes a certificate the newest.
func (i *Identity) set(c *tls.Certificate) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.certificate.Store(c)
	close(i.changed)
	i.changed = make(chan struct{})
}

// await returns a certificate that the operator can accept, as soon as there is one; nil when the context ends. It need
// not chain to the roots that are held: those may be what is out of date.
func (i *Identity) await(ctx context.Context) *tls.Certificate {
	for {
		i.mu.Lock()
		changed := i.changed
		i.mu.Unlock()
		if c := i.Certificate(); c != nil && i.clock().Before(c.Leaf.NotAfter) {
			return c
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// load takes the certificate that is kept. One that is wrong is removed.
func (i *Identity) load() {
	data, err := i.store.identity()
	if data == nil && err == nil {
		return
	}
	var c *tls.Certificate
	if err == nil {
		c, err = parseIdentity(data)
	}
	if err == nil {
		var id identity.ID
		if id, err = identity.FromCertificate(c.Leaf); err == nil && id != i.id {
			err = fmt.Errorf("it is of %s, this pod is %s", id, i.id)
		}
	}
	if err != nil {
		i.log.Error(errors.Join(err, i.store.removeIdentity()), "the kept certificate is of no use; a new one is asked for")
		return
	}
	i.set(c)
}

// parseIdentity reads the key and chain of one file, and checks that they belong together.
func parseIdentity(data []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("read the kept certificate: %w", err)
	}
	return &pair, nil
}

// formatIdentity writes what parseIdentity reads.
func formatIdentity(key *ecdsa.PrivateKey, chain [][]byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, cert := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	}
	return out, nil
}
